"""Gates: what a single run must show before a ranking on it means anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from weightcast.datasets.trajectory import Trajectory


@dataclass(frozen=True)
class Gate:
    """One check.

    Attributes
    ----------
    name : str
    passed : bool
    value, limit : float
        What was found, and the limit it was held against.
    meaning : str
        One line.
    """

    name: str
    passed: bool
    value: float
    limit: float
    meaning: str

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self)


def run_gates(run: Trajectory) -> list[Gate]:
    """Check one run: that it moves after its first sixth, and that its loss does not spike."""
    early = (run.n_snapshots - 1) // 6
    moved, size = 0.0, 0.0
    for block in run.blocks([early, run.n_snapshots - 1]):
        first, last = block.values.astype(np.float64)
        moved += float(((last - first) ** 2).sum())
        size += float((first**2).sum())
    share = float(np.sqrt(moved / size)) if size > 0 else 0.0
    gates = [
        Gate(
            "movement", share >= 0.05, share, 0.05,
            "displacement from a sixth of the run to its end, over the weights' norm, at least",
        )
    ]  # fmt: skip
    loss = np.asarray(run.meta.train_loss, dtype=np.float64)
    if len(loss):
        spike = float((loss / np.minimum.accumulate(loss)).max()) if loss.min() > 0 else np.inf
        gates.append(
            Gate(
                "no-spikes", spike <= 2.0, spike, 2.0,
                "largest train loss over the lowest before it, at most",
            )
        )  # fmt: skip
    return gates
