"""How much of the training loss is still to fall: what the best forecast could gain.

A forecast of the weights to come lowers the loss by what training itself would lower it, at most
and by and large. Where that is little, an error of the forecast that elsewhere goes unseen costs
more than there is to be had.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from weightcast.datasets.trajectory import Trajectory


def loss_falls(runs: Iterable[Trajectory]) -> dict[str, float]:
    """Return by what share training lowers its loss, medians over runs, before and after a sixth.

    Returns
    -------
    dict
        ``early``, 1 − L_s / L_0 with s the snapshot at a sixth of the run, a usual origin;
        ``late``, 1 − L_end / L_s, what training gains after it. NaN where no run has recorded the
        loss.
    """
    found: dict[str, list[float]] = {"early": [], "late": []}
    for run in runs:
        losses = run.meta.train_loss
        # A run cut short by weights that are not finite has fewer snapshots than losses.
        if len(losses) < run.n_snapshots or min(losses[: run.n_snapshots]) <= 0:
            continue
        origin = (run.n_snapshots - 1) // 6
        found["early"].append(1 - losses[origin] / losses[0])
        found["late"].append(1 - losses[run.n_snapshots - 1] / losses[origin])
    return {
        when: float(np.median(falls)) if falls else float("nan") for when, falls in found.items()
    }
