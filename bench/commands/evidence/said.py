"""Evidence in words: a table, a sentence, JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from weightcast.bench.commands.evidence.cases import FIT_RUNS, THIS_RUN
from weightcast.bench.commands.evidence.gather import Evidence
from weightcast.bench.commands.evidence.released import ReleasedRow
from weightcast.bench.commands.evidence.trials import LAST_VALUE, Trial
from weightcast.bench.commands.evidence.verdict import DO_NOT, NO_EVIDENCE, USE

_NONE = "–"
#: What the weights that a run reached are called among the methods.
_REACHED = "(training itself)"
_LOSSES = ("train loss", "of last value's")
_HEADS = {USE: "Use it", DO_NOT: "Do not use it", NO_EVIDENCE: "No evidence either way"}


def table(evidence: Evidence) -> list[dict[str, Any]]:
    """Return a row a method for this run, and one for the fit runs: geometric means."""
    rows = []
    for where in (THIS_RUN, FIT_RUNS):
        trials = [trial for trial in evidence.trials if trial.case.where == where]
        if not trials:
            continue
        cases = [case for case, _ in evidence.reached if case.where == where]
        label = _count(len(cases), "origin of this run" if where == THIS_RUN else "fit run")
        last = [t.train_loss for t in trials if t.method == LAST_VALUE]
        for method in dict.fromkeys(trial.method for trial in trials):
            mine = [trial for trial in trials if trial.method == method]
            if all(trial.why for trial in mine):  # a note says why
                continue
            losses = [trial.train_loss for trial in mine]
            errors = {key: [getattr(t, key) for t in mine] for key in ("rel_final", "rel_sum")}
            rows.append(_row(label, method, errors, losses, last))
        reached = [loss for case, loss in evidence.reached if case.where == where]
        if any(loss is not None for loss in reached):
            rows.append(_row(label, _REACHED, {"rel_final": [0], "rel_sum": [0]}, reached, last))
    empty = [key for key in _LOSSES if all(row[key] == _NONE for row in rows)]
    return [{key: value for key, value in row.items() if key not in empty} for row in rows]


def _row(
    label: str,
    method: str,
    errors: dict[str, list[Any]],
    losses: Sequence[float | None],
    last: Sequence[float | None],
) -> dict[str, Any]:
    ratios = [
        mine / theirs if mine is not None and theirs else None
        for mine, theirs in zip(losses, last, strict=True)
    ]
    return {
        "tried on": label,
        "method": method,
        **{key: _mean(values, ".3f") for key, values in errors.items()},
        **dict(zip(_LOSSES, (_mean(losses, ".4g"), _mean(ratios, ".3f")), strict=True)),
    }


def _mean(values: Iterable[float | None], form: str) -> str:
    """Write the geometric mean of what is known; of what is not, a dash."""
    known = [value for value in values if value is not None]
    if not known:
        return _NONE
    with np.errstate(divide="ignore"):
        return format(float(np.exp(np.mean(np.log(known)))), form)


def notes(evidence: Evidence) -> list[str]:
    """Say what was not tried or measured and why, a line each."""
    said, unmeasured = [], []
    for method in dict.fromkeys(trial.method for trial in evidence.trials):
        reasons = [trial.why for trial in evidence.trials if trial.method == method and trial.why]
        for why in dict.fromkeys(reasons):
            if evidence.why_no_loss and why.endswith(evidence.why_no_loss):
                unmeasured.append(method)
                continue
            said.append(f"{method} was not tried at {_count(reasons.count(why), 'origin')}: {why}")
    if evidence.trials and evidence.why_no_loss:
        without = f" and {', '.join(unmeasured)} not tried" if unmeasured else ""
        said.append(f"the train loss was not measured{without}: {evidence.why_no_loss}")
    if evidence.coordinates < evidence.of_coordinates:
        said.append(
            f"tried on a sample of {evidence.coordinates:,} of {evidence.of_coordinates:,} "
            f"coordinates, for {evidence.method} takes long"
        )
    return said


def sentence(evidence: Evidence) -> str:
    """Say in one sentence whether to use the forecast, how sure that is, and what is alike."""
    verdict = evidence.verdict
    head = _HEADS[verdict.word]
    if evidence.method == LAST_VALUE:
        return f"{_HEADS[DO_NOT]}: last-value is the checkpoint that you have."
    if verdict.word == USE and evidence.metric != "train_loss":
        head = "Measure its loss before you use it"
    parts = [f"{head}: {_found(evidence)}"]
    if verdict.word == USE and evidence.metric != "train_loss":
        parts.append("weights nearer to those to come may have a higher loss, which is not known")
    parts += [
        f"{name} did better at {wins} of {of}" for name, wins, of in evidence.ahead
        if name != LAST_VALUE
    ]  # fmt: skip
    parts.append(_benchmark(evidence))
    return "; ".join(parts) + "."


def _found(evidence: Evidence) -> str:
    """Say what was measured, with its uncertainty."""
    verdict, ratio = evidence.verdict, evidence.verdict.ratio
    if not ratio.known:
        return f"{_untried(evidence)}{_mend(evidence)}"
    what = "train loss" if evidence.metric == "train_loss" else "error in weights"
    far = f"{_count(evidence.horizon, 'snapshot')} ({_count(evidence.steps, 'step')}) ahead"
    said = f"{far} the {what} of {evidence.method} is {ratio.value:.2f}"
    if verdict.by_runs:
        said += (
            f" [{ratio.lower:.2f}, {ratio.upper:.2f}] of the last value's, with the 95 % interval "
            f"over {verdict.runs} runs"
        )
        if verdict.origins:
            said += f", and below it at {verdict.better} of {_count(verdict.origins, 'origin')} " \
                    "of this run"  # fmt: skip
        return said + (", which says the opposite" if verdict.contradicted else "")
    places = _count(verdict.origins, "origin") + " of this one run"
    others = verdict.runs - any(t.case.own_forecast for t in evidence.trials)
    if others:
        places += f" and on {_count(others, 'other run')}"
    if verdict.origins + others > 1:
        said += f" ({verdict.lowest:.2f} to {verdict.highest:.2f})"
    said += f" of the last value's at {places}"
    if verdict.origins > 1:
        said += ", and origins of one run are not independent"
    return said + _mend(evidence)


def _untried(evidence: Evidence) -> str:
    if not evidence.trials:
        return "the future is known nowhere that the method could be tried at"
    why = [t.why for t in evidence.trials if t.method == evidence.method and t.why]
    return why[0] if why else "the weights did not move where it was tried"


def _mend(evidence: Evidence) -> str:
    """Say what would be evidence, where there is none over runs."""
    if evidence.verdict.by_runs:
        return ""
    short = evidence.verdict.origins < 3 and 1 <= evidence.longest < evidence.horizon
    shorter = f"--horizon {evidence.longest} would have three origins, " if short else ""
    return f" ({shorter}three other runs with --fit an interval)"


def _benchmark(evidence: Evidence) -> str:
    """Name the benchmark's rows."""
    if not evidence.rows:
        return f"the benchmark has released no row of {evidence.method} on a network like this one"
    names = {"weights": "error in weights", "function": "train loss"}
    by_set: dict[str, list[ReleasedRow]] = {}
    for row in evidence.rows:
        by_set.setdefault(f"{row.dataset} (suite {row.folder}, context {row.context})", []).append(
            row
        )
    told = [
        f"on {place} {' and '.join(f'{row.ratio:.2f} in {names[row.tier]}' for row in rows)}"
        for place, rows in by_set.items()
    ]
    return f"in the benchmark it has {', '.join(told)}, 1 being the last value"


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Return all of it as plain values."""
    verdict = evidence.verdict
    return {
        "verdict": verdict.word,
        "sentence": sentence(evidence),
        "metric": evidence.metric,
        "why_no_loss": evidence.why_no_loss,
        "ratio": _plain(verdict.ratio.value),
        "ratio_lower": _plain(verdict.ratio.lower),
        "ratio_upper": _plain(verdict.ratio.upper),
        "ratio_lowest": _plain(verdict.lowest),
        "ratio_highest": _plain(verdict.highest),
        "runs": verdict.runs,
        "origins": verdict.origins,
        "origins_better": verdict.better,
        "ahead": [dict(zip(("method", "wins", "of"), a, strict=True)) for a in evidence.ahead],
        "coordinates": evidence.coordinates,
        "trials": [_trial(trial) for trial in evidence.trials],
        "reached": [
            {"run": str(case.run.path), "origin": case.origin, "train_loss": _plain(loss)}
            for case, loss in evidence.reached
        ],
        "benchmark": [row.to_json() for row in evidence.rows],
        "notes": notes(evidence),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    case = trial.case
    return {
        "method": trial.method,
        "run": str(case.run.path),
        "where": case.where,
        "origin": case.origin,
        "origin_step": int(case.run.run.steps[case.origin]),
        "fitted_on": [str(run.path) for run in case.train],
        "rel_final": trial.rel_final,
        "rel_sum": trial.rel_sum,
        "train_loss": _plain(trial.train_loss),
        "why": trial.why,
    }


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _count(number: int, what: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> _count(1, "fit run"), _count(3, "origin of this run")
    ('1 fit run', '3 origins of this run')
    """
    noun, _, rest = what.partition(" of ")
    plural = noun if number == 1 else f"{noun}s"
    return f"{number:,} {plural}{f' of {rest}' if rest else ''}"
