"""Admission gates: what a data set must show before a ranking on it means anything.

A set that fails is kept and flagged, and left out of headline rankings. Runs that hardly move make
the last value near-perfect; runs whose loss spikes make steps gained meaningless; runs that share a
start end near one another, so that the mean displacement of other runs forecasts them: that is a
leak, not a forecast. Fine-tunes share their pretrained start by nature, so the last gate is not
for them; they form a track of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.trajectory import BLOCK_BYTES, Trajectory, block_ranges

#: Data sets with fewer runs are shown but not ranked.
FEWEST_RUNS = 6
LEAST_MOVEMENT = 0.05
#: Fine-tuning changes a network's function long before it changes much of its large weights.
LEAST_MOVEMENT_FROM_PRETRAINED = 0.005
LARGEST_SPIKE = 2.0
LEAST_STRANGENESS = 0.95
#: Tracks whose runs share their start by nature.
SHARED_START_TRACKS = ("fine-tune",)


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
    gates = [_movement_gate(movement(run), pretrained=bool(run.meta.pretrained))]
    spike = loss_spike(run)
    return gates if spike is None else [*gates, _spike_gate(spike)]


def set_gates(runs: Sequence[Trajectory], track: str = "main") -> list[Gate]:
    """Check a data set, by medians over its runs; one run with a loss that is not finite fails it.

    Parameters
    ----------
    runs : sequence of Trajectory
        With the same tensors and steps.
    track : str
        In `SHARED_START_TRACKS` the start is not checked, and less movement is enough.
    """
    gates = [
        Gate("enough-runs", len(runs) >= FEWEST_RUNS, len(runs), FEWEST_RUNS, "runs, at least"),
        _movement_gate(
            float(np.median([movement(run) for run in runs])),
            pretrained=track in SHARED_START_TRACKS,
        ),
    ]
    spikes = [spike for run in runs if (spike := loss_spike(run)) is not None]
    if spikes:
        # A median would pass over the one run that diverged.
        diverged = any(not np.isfinite(run.meta.train_loss).all() for run in runs)
        gates.append(_spike_gate(float("inf") if diverged else float(np.median(spikes))))
    if track not in SHARED_START_TRACKS and len(runs) > 2:
        strange = float(np.median(mean_displacement_errors(runs)))
        gates.append(
            Gate(
                "no-shared-start",
                strange >= LEAST_STRANGENESS,
                strange,
                LEAST_STRANGENESS,
                "error of the other runs' mean displacement over a run's own, at least",
            )
        )
    return gates


def movement(run: Trajectory) -> float:
    """Displacement from a sixth of the run to its end, over the weights' norm there."""
    early = _origin(run)
    moved, size = 0.0, 0.0
    for block in run.blocks([early, run.n_snapshots - 1]):
        first, last = block.values.astype(np.float64)
        moved += float(((last - first) ** 2).sum())
        size += float((first**2).sum())
    return float(np.sqrt(moved / size)) if size > 0 else 0.0


def loss_spike(run: Trajectory) -> float | None:
    """Largest train loss over the lowest before it; None where no loss was recorded.

    A loss that is not finite is the largest spike there is.
    """
    loss = np.asarray(run.meta.train_loss, dtype=np.float64)
    if len(loss) == 0:
        return None
    if not np.isfinite(loss).all():
        return float("inf")
    lowest = np.minimum.accumulate(loss)
    return float((loss / lowest).max()) if lowest[-1] > 0 else float("inf")


def mean_displacement_errors(
    runs: Sequence[Trajectory], max_bytes: int = BLOCK_BYTES
) -> NDArray[np.float64]:
    """Forecast each run by the mean displacement of the others, shape (runs,).

    The relative error at the last snapshot, from a sixth of the run on: about √(1 + 1/(R − 1)) for
    R independent runs, far less where they share a start.
    """
    count = len(runs)
    rows = [_origin(runs[0]), runs[0].n_snapshots - 1]
    gram = np.zeros((count, count))
    for info, start, stop in block_ranges(runs[0].tensors, 2 * count, max_bytes):
        moved = np.stack([np.diff(run.read(info, rows, start, stop), axis=0)[0] for run in runs])
        moved = moved.astype(np.float64)  # (runs, c)
        gram += moved @ moved.T
    own = np.diag(gram)
    others = gram.sum(axis=1) - own  # ⟨d_i, Σ_{j≠i} d_j⟩
    total = gram.sum() - 2 * others - own  # ‖Σ_{j≠i} d_j‖²
    error = own - 2 * others / (count - 1) + total / (count - 1) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(np.maximum(error, 0.0) / own)
    # A run that does not move at all fails the gate on movement; here it says nothing.
    return np.where(own > 0, relative, 1.0)


def _origin(run: Trajectory) -> int:
    """A sixth of the run: snapshot 10 of 60, a usual context."""
    return (run.n_snapshots - 1) // 6


def _movement_gate(share: float, *, pretrained: bool) -> Gate:
    least = LEAST_MOVEMENT_FROM_PRETRAINED if pretrained else LEAST_MOVEMENT
    return Gate(
        "movement",
        share >= least,
        share,
        least,
        "displacement from a sixth of the run to its end, over the weights' norm, at least",
    )


def _spike_gate(spike: float) -> Gate:
    return Gate(
        "no-spikes",
        spike <= LARGEST_SPIKE,
        spike,
        LARGEST_SPIKE,
        "largest train loss over the lowest before it, at most",
    )
