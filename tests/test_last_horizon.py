"""Whether a task's last horizon is one of the others is the run's matter, not the methods'."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from weightcast.bench.results.horizons import horizon_labels

RUNS = 6
LOSSES = {"h5": 0.9, "h10": 0.8, "h20": 0.8, "last": 0.8}


def _cells(truth: dict[str, float]) -> pd.DataFrame:
    """Cells of methods that forecast the same from the horizon 10 on."""
    random = np.random.default_rng(0)
    rows = []
    for run in range(RUNS):
        scale = random.uniform(1, 2)
        told = {f"train_loss_{label}": loss * scale for label, loss in LOSSES.items()}
        told |= {f"train_loss_length_{label}": loss * scale for label, loss in LOSSES.items()}
        told |= {f"true_train_loss_{label}": loss * scale for label, loss in truth.items()}
        rows.append({"dataset": "a", "context": 10, "run": run, "status": "ok", **told})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("metric", ["train_loss", "train_loss_length"])
def test_when_forecasts_stand_still_and_the_run_goes_on_then_the_last_horizon_counts(
    metric: str,
) -> None:
    goes_on = {"h5": 0.7, "h10": 0.5, "h20": 0.3, "last": 0.1}
    assert horizon_labels(_cells(goes_on), metric) == ["h5", "h10", "h20", "last"]


@pytest.mark.parametrize("metric", ["train_loss", "train_loss_length"])
def test_when_the_last_horizon_is_the_twentieth_then_it_is_told_once(metric: str) -> None:
    ends = {"h5": 0.7, "h10": 0.5, "h20": 0.3, "last": 0.3}
    assert horizon_labels(_cells(ends), metric) == ["h5", "h10", "h20"]


def test_when_the_truth_was_not_measured_then_the_forecasts_tell() -> None:
    assert horizon_labels(_cells({}), "train_loss") == ["h5", "h10", "h20"]
