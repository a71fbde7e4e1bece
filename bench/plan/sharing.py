"""What the test runs of a task share with the runs that were trained on.

In the main track that is the same everywhere: the recipe and the data, and nothing random. In the
others it is what the track is about, so it is looked up run by run instead of being believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from weightcast.datasets.admission.lineage import Lineage
from weightcast.datasets.trajectory import Trajectory

#: A run's traits by name, each a set of parts; an empty one is not known.
Traits = dict[str, frozenset[str]]
#: One of the four words below for each trait; empty where nobody looked.
Sharing = dict[str, str]

#: Every trait as a reader sees it.
TRAITS = {
    "recipe": "recipe",
    "data": "data",
    "start": "initial state",
    "tensors": "network tensors",
    "optimizer": "optimizer",
    "cadence": "cadence",
}
SHARED, PARTLY, APART, UNKNOWN = "shared", "partly", "not shared", "unknown"


def traits(run: Trajectory, origin: Lineage) -> Traits:
    """Return what two runs are compared in.

    Parameters
    ----------
    run : Trajectory
        As the task shows it: a window, say, or every second snapshot.
    origin : Lineage
        That of the whole run.
    """
    known = {
        "recipe": {origin.recipe if run.meta.recipe else ""},
        "data": {str(getattr(origin, "data", ""))},
        "start": {origin.start, *_starts(run)},
        "tensors": {f"{info.name} {info.shape}" for info in run.tensors},
        "optimizer": {run.meta.optimizer if run.meta.optimizer != "unknown" else ""},
        "cadence": {repr(np.diff(run.steps).tolist())},
    }
    return {name: frozenset(parts - {""}) for name, parts in known.items()}


def _starts(run: Trajectory) -> set[str]:
    """Hash each tensor's initial state: a fine-tune's head is its own, what it sits on is not.

    Tensors that start at one value throughout, zero mostly, do so in independent runs too.
    """
    return {
        hashlib.sha256(f"{name}\0".encode() + values.tobytes()).hexdigest()
        for name, values in run.initial().items()
        if values.size > 1 and values.min() < values.max()
    }


def find_sharing(rotations: Iterable[tuple[Sequence[Traits], Sequence[Traits]]]) -> Sharing:
    """Say of each trait whether test runs have it in common with a run that was trained on.

    Parameters
    ----------
    rotations : iterable of tuple
        The traits of the runs trained or validated on, and of those tested on.

    Examples
    --------
    >>> here, there = ({"optimizer": frozenset({name})} for name in ("sgd", "adam"))
    >>> find_sharing([([here], [here, here])])
    {'optimizer': 'shared'}
    >>> find_sharing([([here], [here, there])])
    {'optimizer': 'partly'}
    >>> find_sharing([([here], [there])])
    {'optimizer': 'not shared'}
    """
    found: dict[str, set[str]] = {}
    for trained_on, tested in rotations:
        for run in tested:
            for name, parts in run.items():
                word = _in_common(parts, {other[name] for other in trained_on})
                found.setdefault(name, set()).add(word)
    return {
        name: UNKNOWN if UNKNOWN in words else words.pop() if len(words) == 1 else PARTLY
        for name, words in sorted(found.items())
    }


def _in_common(parts: frozenset[str], others: set[frozenset[str]]) -> str:
    """Say how much of one run's trait is found in one of the other runs."""
    if not parts:
        return UNKNOWN
    if any(parts <= other for other in others):
        return SHARED
    if any(parts & other for other in others):
        return PARTLY
    return APART if all(others) else UNKNOWN


def sharing_line(found: Sharing) -> str:
    """Say in one line what training and test runs share.

    Examples
    --------
    >>> sharing_line({"data": "shared", "start": "not shared", "cadence": "unknown"})
    'training and test runs share data; not initial state; not known: cadence'
    """
    if not found:
        return "what training and test runs share was not noted with these results"

    def named(word: str) -> str:
        return ", ".join(spoken for name, spoken in TRAITS.items() if found.get(name) == word)

    parts = [f"training and test runs share {named(SHARED) or 'nothing'}"]
    for word, lead in ((PARTLY, "in part"), (APART, "not"), (UNKNOWN, "not known:")):
        if named(word):
            parts.append(f"{lead} {named(word)}")
    return "; ".join(parts)
