"""`linreg-*`: two-dimensional linear regression, the synthetic task of Shou et al.

Every run is a new problem and a new start. With features x ~ N(0, Σ), targets y = x·w* + ε and a
batch B_t of size b, the gradient is

    g_t = (2/b) Σ_{i ∈ B_t} (x_i·w_t − y_i) x_i ,

and `linreg-sgd` is w_{t+1} = w_t − η g_t. With the whole data as batch (`linreg-gd`) this is
w_{t+1} = (I − 2ηH) w_t + 2ηH ŵ, H = XᵀX/N and ŵ the least-squares solution: per eigendirection the
linear update w_{i+1} = c w_i + d for which Shou et al. (arXiv 2505.02714) show an exact linear
forecast. Mini-batches add noise around it.

Per run: Σ = Q diag(s₁, s₂) Qᵀ with a random rotation Q and s log-uniform in [0.05, 1];
w* ~ N(0, I); w_0 ~ N(0, 4I); ε ~ N(0, 0.1²); N = 256 samples, 100 steps, every step recorded.

====================  ======  ====================================================================
set                   batch   update
====================  ======  ====================================================================
``linreg-sgd``        32      SGD, η = 0.05
``linreg-gd``         all     gradient descent, η = 0.05
``linreg-momentum``   32      heavy ball, v ← 0.9 v + g, w ← w − 0.005 v: the same rate in the long
                              run
``linreg-adam``       32      Adam, η = 0.05
``linreg-step``       32      SGD, η = 0.05, times 0.3 from step 30 on and again from step 60 on
``linreg-cosine``     32      SGD, η_t = 0.05 (1 + cos(π t / 100)) / 2
====================  ======  ====================================================================
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from weightcast.datasets.rates import constant, cosine, stepped
from weightcast.datasets.synthetic.generator import Generator
from weightcast.datasets.synthetic.problem import Problem, Rows
from weightcast.datasets.synthetic.updates import Adam, Doubles, GradientDescent, HeavyBall
from weightcast.datasets.trajectory import TensorInfo

SAMPLES, BATCH, STEPS, RATE, NOISE = 256, 32, 100, 0.05, 0.1


class LinearRegression(Problem):
    """The mean squared error of one run's own data.

    Parameters
    ----------
    x : ndarray, shape (N, 2)
    y : ndarray, shape (N,)
    true_weights : ndarray, shape (2,)
        What made the targets.
    """

    tensors: ClassVar[tuple[TensorInfo, ...]] = (TensorInfo("weight", (1, 2), "linear"),)
    samples: ClassVar[int] = SAMPLES
    settings: ClassVar[dict[str, Any]] = {"samples": SAMPLES, "noise": NOISE}

    def __init__(self, x: Doubles, y: Doubles, true_weights: Doubles) -> None:
        self.x = x
        self.y = y
        self.true_weights = true_weights

    @classmethod
    def draw(cls, random: np.random.Generator) -> Self:
        angle = random.uniform(0, np.pi)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        scale = np.exp(random.uniform(np.log(0.05), 0.0, size=2))
        x = random.standard_normal((SAMPLES, 2)) * np.sqrt(scale) @ rotation.T
        truth = random.standard_normal(2)
        return cls(x, x @ truth + NOISE * random.standard_normal(SAMPLES), truth)

    @classmethod
    def start(cls, random: np.random.Generator) -> Doubles:
        return 2.0 * random.standard_normal(2)

    def gradient(self, w: Doubles, rows: Rows = None) -> Doubles:
        if rows is None:
            return np.asarray(2.0 / SAMPLES * (w @ self.x.T - self.y) @ self.x)
        x, y = self.x[rows], self.y[rows]
        residual = (x @ w[..., None])[..., 0] - y  # (..., b)
        return np.asarray(2.0 / y.shape[-1] * (residual[..., None, :] @ x)[..., 0, :])

    def loss(self, w: Doubles) -> Doubles:
        residual = w @ self.x.T - self.y  # (..., N)
        return np.asarray((residual**2).mean(axis=-1))

    @property
    def optimum(self) -> Doubles:
        """The least-squares solution."""
        return np.asarray(np.linalg.lstsq(self.x, self.y, rcond=None)[0], dtype=np.float64)

    def truth(self) -> dict[str, Any]:
        return {**super().truth(), "true_weights": self.true_weights.tolist()}


LINREG_SGD = Generator(
    "linreg-sgd", "linreg", LinearRegression, GradientDescent(), constant(RATE, STEPS), BATCH
)
LINREG_GD = Generator(
    "linreg-gd", "linreg", LinearRegression, GradientDescent(), constant(RATE, STEPS)
)
LINREG_MOMENTUM = Generator(
    "linreg-momentum", "linreg", LinearRegression, HeavyBall(0.9), constant(RATE / 10, STEPS), BATCH
)
LINREG_ADAM = Generator(
    "linreg-adam", "linreg", LinearRegression, Adam(), constant(RATE, STEPS), BATCH,
    continuations=128,
)  # fmt: skip
LINREG_STEP = Generator(
    "linreg-step", "linreg", LinearRegression, GradientDescent(),
    stepped(RATE, STEPS, (30, 60), 0.3), BATCH,
)  # fmt: skip
LINREG_COSINE = Generator(
    "linreg-cosine", "linreg", LinearRegression, GradientDescent(), cosine(RATE, STEPS), BATCH
)
