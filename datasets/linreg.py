"""`linreg-sgd`: two-dimensional linear regression by mini-batch SGD, the paper's synthetic task.

Every run is a new problem and a new start. With features x ~ N(0, Σ), targets y = x·w* + ε and a
batch B_t of size b, the recurrence is

    w_{t+1} = w_t − η · (2/b) Σ_{i ∈ B_t} (x_i·w_t − y_i) x_i .

With the whole data as batch this is w_{t+1} = (I − 2ηH) w_t + 2ηH ŵ, H = XᵀX/N and ŵ the
least-squares solution: per eigendirection the linear update w_{i+1} = c w_i + d for which Shou et
al. (arXiv 2505.02714) show an exact linear forecast. Mini-batches add noise around it.

Per run: Σ = Q diag(s₁, s₂) Qᵀ with a random rotation Q and s log-uniform in [0.05, 1];
w* ~ N(0, I); w_0 ~ N(0, 4I); ε ~ N(0, 0.1²); N = 256 samples, b = 32, η = 0.05, 100 steps, every
step recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.trajectory import Floats, Metadata, TensorInfo, Trajectory

Doubles = NDArray[np.float64]

SAMPLES, BATCH, STEPS, RATE, NOISE = 256, 32, 100, 0.05, 0.1
RECIPE: dict[str, Any] = {
    "generator": "linreg",
    "samples": SAMPLES,
    "batch_size": BATCH,
    "steps": STEPS,
    "learning_rate": RATE,
    "noise": NOISE,
}


def _random(seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"linreg-sgd/{seed}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _problem(seed: int) -> tuple[Doubles, Doubles, Doubles]:
    """Draw one run's data: features (N, 2), targets (N,) and the true weights (2,)."""
    random = _random(seed, "problem")
    angle = random.uniform(0, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.exp(random.uniform(np.log(0.05), 0.0, size=2))
    x = random.standard_normal((SAMPLES, 2)) * np.sqrt(scale) @ rotation.T
    truth = random.standard_normal(2)
    y = x @ truth + NOISE * random.standard_normal(SAMPLES)
    return x, y, truth


class LinearRegressionLoss:
    """The mean squared error of one run's own data."""

    def __init__(self, recipe: Mapping[str, Any], seed: int) -> None:
        self._x, self._y, _ = _problem(seed)

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        """Return the mean squared error over all of the run's samples."""
        residual = self._x @ np.asarray(weights["weight"], dtype=np.float64).reshape(2) - self._y
        return float(residual @ residual / len(residual))

    def measure(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        """Return the training loss; the task has no test data."""
        return {"train_loss": self.train_loss(weights)}


def linreg_sgd(seed: int) -> Trajectory:
    """Generate one run of ``linreg-sgd``; the same seed gives the same numbers.

    Returns
    -------
    Trajectory
        One tensor ``weight`` of shape (1, 2), 101 snapshots. ``meta.truth`` holds the least-squares
        ``optimum`` that SGD hovers around and the ``true_weights`` that made the data.
    """
    x, y, truth = _problem(seed)
    random = _random(seed, "training")
    w = 2.0 * random.standard_normal(2)
    path = [w]
    for _ in range(STEPS):
        rows = random.choice(SAMPLES, size=BATCH, replace=False)
        residual = x[rows] @ w - y[rows]
        w = w - RATE * 2.0 / BATCH * residual @ x[rows]
        path.append(w)
    weights = np.asarray(path, dtype=np.float32).reshape(STEPS + 1, 1, 2)
    errors = x @ weights.reshape(-1, 2).T.astype(np.float64) - y[:, None]  # (N, T)
    meta = Metadata(
        dataset="linreg-sgd",
        seed=seed,
        recipe=dict(RECIPE),
        optimizer="sgd",
        hyperparameters={"momentum": 0.0},
        learning_rates=(RATE,) * STEPS,
        batch_size=BATCH,
        steps_per_epoch=SAMPLES // BATCH,
        train_loss=tuple((errors**2).mean(axis=0).tolist()),
        source="generated",
        licence="BSD-3-Clause",
        truth={
            "optimum": np.linalg.lstsq(x, y, rcond=None)[0].tolist(),
            "true_weights": truth.tolist(),
        },
    )
    return Trajectory.from_arrays(
        {"weight": weights}, range(STEPS + 1), meta, [TensorInfo("weight", (1, 2), "linear")]
    )
