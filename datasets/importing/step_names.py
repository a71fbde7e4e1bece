"""Step numbers read out of the names of checkpoints, where they are surely that.

A number counts if it follows a word for it: "step" or "iter", else "epoch", else "checkpoint" or
"ckpt" (``global_step_100``, ``epoch=3-step=1200``, ``step1000-tokens4B``). ``k``, ``M`` and ``B``
after it mean thousands, millions and billions. Without such a word a name's only number counts if
it stands alone at the name's end (``model-40``, ``0040``) in all names alike. What looks like a
number and is none, the end of a hash, a decimal, a date, is not guessed at; nor is the order of
names that differ in more than their step, two stages of a training for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped

_WORDS = (
    ("step", r"(?:global|train|training|optimizer)?[ _-]?steps?"),
    ("step", r"iter(?:ation)?s?"),
    ("epoch", r"epochs?|ep"),
    ("step", r"checkpoint|ckpt|chkpt"),
)
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
#: Steps that are counted for other ends: `warmup_steps=500`.
_OTHER_STEPS = re.compile(
    r"(warmup|max|num|total|save|eval|val|log|per|every|time|sub|mini|micro|inner)[ _-]?$", re.I
)
#: Words before numbers that may rise with the steps, or be anything.
_RISING = re.compile(r"^(epochs?|ep|tok|tokens?|samples?|examples?|images?|iters?|iterations?|)$")
#: Words before a lone number that is no step.
_NO_STEP = re.compile(
    r"(^|[ =_-])(seed|fold|rank|run|v|version|ver|stage|phase|part|shard|gpu|worker|trial|rep|top|"
    r"exp|experiment|layers?|dim|size|width|bs|batch[ _-]?size|year|date|time)$",
    re.IGNORECASE,
)
#: Words that name one of several trainings, one after the other, of a network.
_STAGE = re.compile(r"(?<![a-z])(stage|phase|ingredient)[ _-]?[0-9]+", re.IGNORECASE)
_MEASURES = re.compile(r"loss|acc|metric|score|ppl|perplexity|val|auc|f1|err|bleu|lr", re.I)
_PART = re.compile(
    r"(?P<word>[^\W\d_]*)[=_-]?(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<after>[a-z]*)", re.I
)
_DATE = re.compile(r"^(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$")
_TIMESTAMP_DIGITS = 10
_MOST = 2**63 - 1


class Numbered(NamedTuple):
    """A name with its step.

    Attributes
    ----------
    step : int
    unit : str
        ``"step"`` or ``"epoch"``.
    pattern : str
        The name without its numbers: what all names of a run have in common.
    others : tuple of (str, str)
        The word before and the digits of every other number, in the name's order.
    told : bool
        Whether a word for it stands before the step.
    stage : str
        What stands before that, where it names a stage of training: ``stage2-ingredient1`` of
        ``stage2-ingredient1-step1000``.
    """

    step: int
    unit: str
    pattern: str
    others: tuple[tuple[str, str], ...]
    told: bool = True
    stage: str = ""


def step_in(name: str) -> Numbered | None:
    """Read a name's step; None if no number in it is surely one.

    Examples
    --------
    >>> [step_in(name).step for name in ("step_20k", "step1000-tokens4B", "ckpt_000", "m-40")]
    [20000, 1000, 0, 40]
    >>> [step_in(name) for name in ("model-3f2a91", "model_0.25", "run-20240105", "step_20_000")]
    [None, None, None, None]
    """
    for unit, word in _WORDS:
        pattern = (
            rf"(?<![a-z])(?P<word>{word})[=_-]?(?P<number>[0-9]+)(?P<times>[kmb]?)(?![a-z0-9.])"
        )
        # A point before the ending is none within the number.
        found = [
            match
            for match in re.finditer(pattern, name + " ", re.IGNORECASE)
            if not _OTHER_STEPS.search(name[: match.start()])
        ]
        if len(found) > 1:
            return None
        if found:
            return _named(name, found[0], unit)
        if re.search(rf"(?<![a-z])(?:{word})[=_-]*[0-9]", name, re.IGNORECASE):
            return None  # a step, but a decimal or something else that is not understood
    return _alone(name)


def _named(name: str, match: re.Match[str], unit: str) -> Numbered | None:
    after = name[match.end() :]
    if re.match(r"[=_,-][0-9]", after):
        return None  # 20_000, or a range
    if match["word"].lower() in {"checkpoint", "ckpt", "chkpt"} and _strange(match["number"]):
        return None
    step = int(match["number"]) * _TIMES[match["times"].lower()]
    if len(match["number"]) > len(str(_MOST)) or step > _MOST:
        raise InputError(f"{clipped(name)}: no run has so many steps")
    before = name[: match.start()]
    pattern, others = _rest(before)
    later, more = _rest(after)
    stage = before.strip("-_. ") if _STAGE.search(before) else ""
    whole = f"{pattern}{match['word'].lower()}#{later}"
    return Numbered(step, unit, whole, others + more, stage=stage)


def _alone(name: str) -> Numbered | None:
    found = re.fullmatch(r"(?P<before>(?:.*[ =_-])?)(?P<number>[0-9]+)", name)
    if not found or re.search(r"[0-9]\.?$|(^|[ =_-])[0-9]+([ =_-]|$)", found["before"][:-1]):
        return None
    word = found["before"][:-1]
    if _strange(found["number"]) or _NO_STEP.search(word) or _MEASURES.search(word):
        return None
    return Numbered(int(found["number"]), "step", f"{found['before']}#", (), told=False)


def _strange(digits: str) -> bool:
    """Say whether digits are rather a date or a moment than a count."""
    return _DATE.match(digits) is not None or len(digits) >= _TIMESTAMP_DIGITS


def _rest(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    others = tuple((m["word"].lower(), m["number"] + m["after"]) for m in _PART.finditer(text))
    return _PART.sub(lambda m: f"{m['word']}#", text), others


def of_one_stage(names: Mapping[Path, Numbered], stage: str, folder: Path) -> dict[Path, Numbered]:
    """Return the names of one stage of training, which is asked for where there are several.

    Parameters
    ----------
    names : mapping of Path to Numbered
    stage : str
        What was asked for; empty for nothing.
    folder : Path
        Where they lie, for the message.

    Raises
    ------
    InputError
        With the choices, if there are several stages and none is asked for, or one that is not
        there.
    """
    counts: dict[str, int] = {}
    for number in names.values():
        counts[number.stage] = counts.get(number.stage, 0) + 1
    stages = sorted(name for name in counts if name)
    if stage and stage not in stages:
        said = ", ".join(map(clipped, stages)) or "none: no name has one before its step"
        raise InputError(f"{folder} has no stage {clipped(stage)}; stages there are {said}")
    if stage:
        return {path: number for path, number in names.items() if number.stage == stage}
    if len(counts) > 1 and stages:
        said = ", ".join(f"{clipped(name)} ({counts[name]} checkpoints)" for name in stages)
        rest = f", and {counts['']} of no stage" if "" in counts else ""
        raise InputError(
            f"{folder} holds several stages of training: {said}{rest}; choose one with "
            f"--stage {clipped(stages[0])}"
        )
    return dict(names)


def refuse_unsure_order(names: Mapping[str, Numbered], folder: Path) -> None:
    """Refuse names, in the order of their steps, that differ in more than the step.

    Parameters
    ----------
    names : mapping of str to Numbered
    folder : Path
        Where they lie, for the message.

    Raises
    ------
    InputError
        Naming two of them.
    """
    ordered = list(names.items())
    for (before, one), (after, other) in pairwise(ordered):
        if one.unit != other.unit:
            raise InputError(
                f"{folder}: {clipped(before)} and {clipped(after)} count different things; name "
                "all alike"
            )
        if one.pattern != other.pattern or not _in_order(one.others, other.others):
            raise InputError(
                f"{folder}: {clipped(before)} and {clipped(after)} differ in more than their step, "
                "so their order is not sure; leave checkpoints of one kind and stage in the folder"
            )


def _in_order(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> bool:
    return all(
        before == after
        or _MEASURES.search(word) is not None
        or (_RISING.match(word) is not None and _value(before) <= _value(after))
        for (word, before), (_, after) in zip(one, other, strict=True)
    )


def _value(text: str) -> float:
    found = re.match(r"([0-9.]+)([a-z]*)", text)
    if not found or found[2].lower() not in _TIMES:
        return float("nan")
    return float(found[1]) * _TIMES[found[2].lower()]
