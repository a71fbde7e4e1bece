"""A random problem whose optimum is known: what a synthetic run minimises."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.synthetic.updates import Doubles
from weightcast.datasets.trajectory import Floats, TensorInfo

#: Rows of the data that make up a batch, (b,) or (..., b); None for all of them.
Rows = NDArray[np.int64] | None


class Problem(ABC):
    """An objective over d weights.

    Attributes
    ----------
    tensors : tuple of TensorInfo
        The network's tensors; laid end to end they are the d weights.
    samples : int
        Rows of data that batches are drawn from; 0 where the objective has no data.
    settings : dict
        The family's constants, for a run's recipe.
    """

    tensors: ClassVar[tuple[TensorInfo, ...]]
    samples: ClassVar[int] = 0
    settings: ClassVar[dict[str, Any]] = {}

    @classmethod
    @abstractmethod
    def draw(cls, random: np.random.Generator) -> Self:
        """Draw a problem."""

    @classmethod
    @abstractmethod
    def start(cls, random: np.random.Generator) -> Doubles:
        """Draw w_0, shape (d,), knowing nothing of the problem."""

    @abstractmethod
    def gradient(self, w: Doubles, rows: Rows = None) -> Doubles:
        """Return the gradient of a batch's loss, unbiased for that of the whole.

        Parameters
        ----------
        w : ndarray, shape (..., d)
        rows : ndarray of int, shape (b,) or (..., b), optional
            The batch, the same or one for each of ``w``; all rows by default.

        Returns
        -------
        ndarray, shape (..., d)
        """

    @abstractmethod
    def loss(self, w: Doubles) -> Doubles:
        """Return the objective over all data, shape (...), at weights (..., d)."""

    @property
    @abstractmethod
    def optimum(self) -> Doubles:
        """The weights that minimise `loss`, shape (d,)."""

    @property
    def sha256(self) -> str:
        """SHA-256 over everything that was drawn."""
        digest = hashlib.sha256()
        for name, value in sorted(vars(self).items()):
            digest.update(f"\0{name}\0".encode())
            digest.update(np.ascontiguousarray(value).data)
        return digest.hexdigest()

    def truth(self) -> dict[str, Any]:
        """Return what is known of the problem, as plain values."""
        return {"optimum": self.optimum.tolist()}


class ProblemLoss:
    """The objective as the training loss of a run."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        """Return the objective over all of the run's data."""
        flat = [np.asarray(weights[info.name]).reshape(-1) for info in self._problem.tensors]
        return float(self._problem.loss(np.concatenate(flat).astype(np.float64)))

    def measure(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        """Return the training loss; a synthetic run has no test data."""
        return {"train_loss": self.train_loss(weights)}
