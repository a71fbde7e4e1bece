"""Update rules of the synthetic sets, as ``torch.optim`` defines them, in float64.

Weights are (..., d): a rule moves one point or many at a time. Its memory is a tuple of arrays that
broadcast against them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
State = tuple[Doubles, ...]


class Update(ABC):
    """One optimizer."""

    @property
    @abstractmethod
    def optimizer(self) -> str:
        """The optimizer's name in a run's metadata."""

    @property
    @abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """Its hyperparameters, the learning rate apart."""

    @abstractmethod
    def begin(self, dimension: int) -> State:
        """Return the memory before the first step."""

    @abstractmethod
    def step(
        self, w: Doubles, gradient: Doubles, rate: float | Doubles, state: State
    ) -> tuple[Doubles, State]:
        """Return the weights and the memory after one step.

        Parameters
        ----------
        w, gradient : ndarray, shape (..., d)
        rate : float or ndarray
        state : tuple of ndarray
        """


@dataclass(frozen=True)
class GradientDescent(Update):
    """w ← w − η g."""

    @property
    def optimizer(self) -> str:
        return "sgd"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"momentum": 0.0}

    def begin(self, dimension: int) -> State:
        return ()

    def step(
        self, w: Doubles, gradient: Doubles, rate: float | Doubles, state: State
    ) -> tuple[Doubles, State]:
        return w - rate * gradient, state


@dataclass(frozen=True)
class HeavyBall(Update):
    """v ← μ v + g, w ← w − η v (Polyak 1964, in ``torch.optim.SGD``'s form)."""

    momentum: float = 0.9

    @property
    def optimizer(self) -> str:
        return "sgd"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"momentum": self.momentum}

    def begin(self, dimension: int) -> State:
        return (np.zeros(dimension),)

    def step(
        self, w: Doubles, gradient: Doubles, rate: float | Doubles, state: State
    ) -> tuple[Doubles, State]:
        velocity = self.momentum * state[0] + gradient
        return w - rate * velocity, (velocity,)


@dataclass(frozen=True)
class Adam(Update):
    """Kingma and Ba's Adam (ICLR 2015), the divisor √v̂ + ε.

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← w − η m̂ / (√v̂ + ε), with
    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def optimizer(self) -> str:
        return "adam"

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {"betas": [self.beta1, self.beta2], "eps": self.epsilon}

    def begin(self, dimension: int) -> State:
        # The last entry counts steps; one element wide, so that stacked states broadcast too.
        return np.zeros(dimension), np.zeros(dimension), np.zeros(1)

    def step(
        self, w: Doubles, gradient: Doubles, rate: float | Doubles, state: State
    ) -> tuple[Doubles, State]:
        mean = self.beta1 * state[0] + (1 - self.beta1) * gradient
        square = self.beta2 * state[1] + (1 - self.beta2) * gradient**2
        count = state[2] + 1
        divisor = np.sqrt(square / (1 - self.beta2**count)) + self.epsilon
        return w - rate * mean / (1 - self.beta1**count) / divisor, (mean, square, count)
