"""`logistic-sgd`: logistic regression on 20 features and a bias by mini-batch SGD.

Every run is a new problem and a new start. With z_i = x_i·w + β, σ(z) = 1 / (1 + e^{−z}) and labels
y_i ∈ {0, 1} the objective, the ridge a part of it, is

    L(w, β) = (1/N) Σ_i [ log(1 + e^{z_i}) − y_i z_i ] + (ρ/2) ‖w‖² ,

and a batch B_t of size b gives

    g_t = (1/b) Σ_{i ∈ B_t} (σ(z_i) − y_i) (x_i, 1) + ρ (w_t, 0),
    (w, β)_{t+1} = (w, β)_t − η g_t .

The optimum has no closed form; Newton's method finds it, and the ridge makes it unique and finite
even where the classes can be told apart.

Per run: x ~ N(0, Q diag(s) Qᵀ) with a random rotation Q and s log-uniform in [0.05, 1];
P(y = 1) = σ(x·w* + β*) with (w*, β*) ~ N(0, I); (w, β)_0 ~ N(0, 4I); N = 512, b = 32, ρ = 0.01,
η = 0.5, 100 steps, every step recorded.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from weightcast.datasets.rates import constant
from weightcast.datasets.synthetic.generator import Generator
from weightcast.datasets.synthetic.problem import Problem, Rows
from weightcast.datasets.synthetic.updates import Doubles, GradientDescent
from weightcast.datasets.trajectory import TensorInfo

FEATURES, SAMPLES, BATCH, STEPS, RATE, RIDGE = 20, 512, 32, 100, 0.5, 0.01


def _sigmoid(z: Doubles) -> Doubles:
    # tanh neither overflows nor warns.
    return 0.5 * (1 + np.tanh(0.5 * z))


class LogisticRegression(Problem):
    """The regularised mean logistic loss of one run's own data.

    Parameters
    ----------
    x : ndarray, shape (N, 21)
        Features, the last column ones.
    y : ndarray, shape (N,)
        Labels, 0 or 1.
    true_weights : ndarray, shape (21,)
        What made the labels.
    """

    tensors: ClassVar[tuple[TensorInfo, ...]] = (
        TensorInfo("weight", (1, FEATURES), "linear"),
        TensorInfo("bias", (1,), "bias"),
    )
    samples: ClassVar[int] = SAMPLES
    settings: ClassVar[dict[str, Any]] = {"samples": SAMPLES, "features": FEATURES, "ridge": RIDGE}

    def __init__(self, x: Doubles, y: Doubles, true_weights: Doubles) -> None:
        self.x = x
        self.y = y
        self.true_weights = true_weights
        self._ridge = np.full(FEATURES + 1, RIDGE)
        self._ridge[-1] = 0.0

    @classmethod
    def draw(cls, random: np.random.Generator) -> Self:
        rotation = np.linalg.qr(random.standard_normal((FEATURES, FEATURES)))[0]
        scale = np.exp(random.uniform(np.log(0.05), 0.0, size=FEATURES))
        features = random.standard_normal((SAMPLES, FEATURES)) * np.sqrt(scale) @ rotation.T
        x = np.column_stack([features, np.ones(SAMPLES)])
        truth = random.standard_normal(FEATURES + 1)
        y = (random.uniform(size=SAMPLES) < _sigmoid(x @ truth)).astype(np.float64)
        return cls(x, y, truth)

    @classmethod
    def start(cls, random: np.random.Generator) -> Doubles:
        return 2.0 * random.standard_normal(FEATURES + 1)

    def gradient(self, w: Doubles, rows: Rows = None) -> Doubles:
        if rows is None:
            residual = _sigmoid(self._scores(w)) - self.y  # (..., N)
            mean = np.einsum("...n,nd->...d", residual, self.x) / SAMPLES
        else:
            x, y = self.x[rows], self.y[rows]
            residual = _sigmoid((x @ w[..., None])[..., 0]) - y  # (..., b)
            mean = (residual[..., None, :] @ x)[..., 0, :] / y.shape[-1]
        gradient: Doubles = mean + self._ridge * w
        return gradient

    def loss(self, w: Doubles) -> Doubles:
        z = self._scores(w)
        fit = (np.logaddexp(0.0, z) - self.y * z).mean(axis=-1)
        return np.asarray(fit + 0.5 * (self._ridge * w**2).sum(axis=-1))

    def _scores(self, w: Doubles) -> Doubles:
        """Return z of every sample, shape (..., N)."""
        # einsum stays in one thread; for sizes like these BLAS's threads cost more than they save.
        scores: Doubles = np.einsum("...d,nd->...n", w, self.x)
        return scores

    @property
    def optimum(self) -> Doubles:
        """The minimiser, by Newton's method with halved steps wherever a full one overshoots."""
        w = np.zeros(FEATURES + 1)
        for _ in range(50):
            gradient = self.gradient(w)
            if np.linalg.norm(gradient) < 1e-12:
                break
            p = _sigmoid(self.x @ w)
            hessian = (self.x.T * (p * (1 - p))) @ self.x / SAMPLES + np.diag(self._ridge)
            step = np.linalg.solve(hessian, gradient)
            before, share = self.loss(w), 1.0
            while self.loss(w - share * step) > before and share > 1e-3:
                share /= 2
            w = w - share * step
        return w

    def truth(self) -> dict[str, Any]:
        return {**super().truth(), "true_weights": self.true_weights.tolist()}


LOGISTIC_SGD = Generator(
    "logistic-sgd", "logistic", LogisticRegression, GradientDescent(), constant(RATE, STEPS), BATCH
)
