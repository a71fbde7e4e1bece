"""Learning rates over a run, one entry a step, as `torch.optim.lr_scheduler` gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def constant(rate: float, steps: int) -> tuple[float, ...]:
    """η_t = η."""
    return (rate,) * steps


def stepped(rate: float, steps: int, milestones: Sequence[int], factor: float) -> tuple[float, ...]:
    """η_t = η · factor^(number of milestones ≤ t): ``MultiStepLR``."""
    return tuple(rate * factor ** sum(t >= m for m in milestones) for t in range(steps))


def cosine(rate: float, steps: int) -> tuple[float, ...]:
    """η_t = η · (1 + cos(π t / T)) / 2: ``CosineAnnealingLR`` down to zero."""
    return tuple(rate * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps))
