"""What `transformers.Trainer` logs beside its checkpoints, as metadata of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError


def read_trainer_state(folder: Path, steps: Sequence[int]) -> dict[str, Any]:
    """Read ``trainer_state.json`` and return what it says as fields of a `Metadata`.

    A snapshot's loss is the last one logged at its step or before; where the first snapshot comes
    before any log, the field is left out. The Trainer logs the mean training loss since its last
    log. A step's learning rate is the one logged next, or the last.

    Parameters
    ----------
    folder : Path
        The last checkpoint's, whose log is the whole run's.
    steps : sequence of int
        The snapshots' steps.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = folder / "trainer_state.json"
    if not path.is_file():
        return {}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        logs = [entry for entry in state["log_history"] if isinstance(entry["step"], int)]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged; remove it to import without its losses") from None
    fields: dict[str, Any] = {}
    for field, key in (
        ("train_loss", "loss"),
        ("test_loss", "eval_loss"),
        ("test_accuracy", "eval_accuracy"),
    ):
        values = _at(_logged(logs, key), steps)
        if values:
            fields[field] = values
    rates = _logged(logs, "learning_rate")
    if rates:
        fields["learning_rates"] = _spread(rates, steps[-1])
    epoch, done = state.get("epoch"), state.get("global_step")
    if isinstance(epoch, int | float) and isinstance(done, int) and epoch > 0 and done > 0:
        fields["steps_per_epoch"] = max(1, round(done / epoch))
    return fields


def _logged(logs: Sequence[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    found = {}
    for entry in logs:
        value = entry.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            found[entry["step"]] = float(value)
    return sorted(found.items())


def _at(logged: Sequence[tuple[int, float]], steps: Sequence[int]) -> tuple[float, ...]:
    """Return the last value logged at each step or before it; nothing if one has none."""
    values: list[float] = []
    position = 0
    for step in steps:
        while position < len(logged) and logged[position][0] <= step:
            position += 1
        if position == 0:
            return ()
        values.append(logged[position - 1][1])
    return tuple(values)


def _spread(rates: Sequence[tuple[int, float]], last: int) -> tuple[float, ...]:
    """Return one rate a step up to ``last``, each in force since the log before it."""
    values: list[float] = []
    for step, rate in rates:
        values += [rate] * (min(step, last) - len(values))
    return tuple(values + [rates[-1][1]] * (last - len(values)))
