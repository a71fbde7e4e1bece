"""What `transformers.Trainer` logs beside its checkpoints, as metadata of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightcast.datasets.files.foreign import foreign, read_json

if TYPE_CHECKING:
    from weightcast.datasets.files.described import LoggedStep

_MOST_BYTES = 2**28


def read_trainer_state(folder: Path, steps: Sequence[int]) -> dict[str, Any]:
    """Read ``trainer_state.json`` and return what it says as fields of a `Metadata`.

    A snapshot's loss is the last one logged at its step or before; where the first snapshot comes
    before any log, the field is left out. The Trainer logs the mean training loss since its last
    log, NaN and infinity too: a run that diverged stays known as such. A step's learning rate is
    the one logged next, or the last; of runs too long for a rate a step there are none.

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
    from weightcast.datasets.files.described import MOST_RATES, LoggedRun

    path = folder / "trainer_state.json"
    with foreign(path, "a Trainer's log", "remove it to import without its losses"):
        if not path.is_file():
            return {}
        state = LoggedRun.model_validate(read_json(path, _MOST_BYTES))
        fields: dict[str, Any] = {}
        for field, key in (
            ("train_loss", "loss"),
            ("test_loss", "eval_loss"),
            ("test_accuracy", "eval_accuracy"),
        ):
            values = _at(_logged(state.log_history, key), steps)
            if values:
                fields[field] = values
        rates = _logged(state.log_history, "learning_rate")
        if rates and 0 < steps[-1] <= MOST_RATES:
            fields["learning_rates"] = _spread(rates, steps[-1])
        if state.epoch and state.global_step:
            fields["steps_per_epoch"] = max(1, round(state.global_step / state.epoch))
    return fields


def _logged(logs: Sequence[LoggedStep], key: str) -> list[tuple[int, float]]:
    """Return what was logged under a key, by step; a loss that is no number any more stays so."""
    found = {log.step: float(value) for log in logs if (value := getattr(log, key)) is not None}
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
