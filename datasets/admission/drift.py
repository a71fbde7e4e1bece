"""How much of a step between two snapshots is drift that lasts, and how much is noise.

No method can forecast what the next batches will draw. What it can forecast is what a step has in
common with those that follow, and how large that part is differs from data set to data set by more
than methods do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from weightcast.datasets.trajectory import Trajectory

#: Steps between snapshots that are compared are so many apart: neighbours share a snapshot.
LAG = 2


def drift_share(run: Trajectory, snapshots: Sequence[int]) -> float:
    """Return the share of steps' squared length that lasts.

    With steps d_t = w_{t+1} − w_t between the named snapshots it is

        mean_t ⟨d_t, d_{t+2}⟩ / mean_t ‖d_t‖².

    1 where all steps are the same, 0 where weights walk at random, and 0 as well where snapshots
    are drawn about weights that do not move: two steps without a common snapshot share no draw,
    where neighbours would give −1/2. Below 0 where weights go back and forth.

    Parameters
    ----------
    run : Trajectory
    snapshots : sequence of int
        In order, four or more.

    Returns
    -------
    float
        NaN with fewer snapshots, or where nothing moves.
    """
    if len(snapshots) < LAG + 2:
        return float("nan")
    steps = len(snapshots) - 1
    lengths = np.zeros(steps)
    lasting = np.zeros(steps - LAG)
    for block in run.blocks(snapshots):
        step = np.diff(block.values.astype(np.float64), axis=0)  # (steps, c)
        lengths += np.einsum("tc,tc->t", step, step)
        lasting += np.einsum("tc,tc->t", step[:-LAG], step[LAG:])
    total = float(lengths.mean())
    return float(lasting.mean()) / total if total > 0 else float("nan")


def drift_shares(runs: Iterable[Trajectory]) -> dict[str, float]:
    """Return a data set's shares, medians over its runs, before and after a sixth of the run.

    Returns
    -------
    dict
        ``early``, of the first sixth, a usual context; ``late``, of what is to be forecast from it.
        NaN where no run has the snapshots.
    """
    found: dict[str, list[float]] = {"early": [], "late": []}
    for run in runs:
        origin = (run.n_snapshots - 1) // 6
        found["early"].append(drift_share(run, range(origin + 1)))
        found["late"].append(drift_share(run, range(origin, run.n_snapshots)))
    return {
        when: float(np.median(known)) if (known := [s for s in shares if not np.isnan(s)])
        else float("nan")
        for when, shares in found.items()
    }  # fmt: skip
