"""Every method's colour, marker and dash: the same in all pictures and tables of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How a method is drawn; ``dash`` is in SVG's and matplotlib's common notation."""

    colour: str
    marker: str
    dash: tuple[float, ...] = ()


# All of them keep a contrast of 3 or more against white and against the dark background.
GREY = "#7d848c"
_BUILTIN = {
    "last-value": Look(GREY, "o", (1, 1.6)),
    "last-two-line": Look("#a9744f", "s"),
    "ols-line": Look("#a9744f", "^", (4, 1.6)),
    "damped-line": Look("#d9730d", "D"),
    "ar1": Look("#8a8f1c", "s"),
    "arima": Look("#8a8f1c", "v", (4, 1.6)),
    "lfd2": Look("#2f7ed8", "o"),
    "lfd2-ols": Look("#2f7ed8", "^", (4, 1.6)),
    "lfd2-grad": Look("#0c96a6", "s"),
    "lfd-full": Look("#6f66e0", "D"),
    "lstm": Look("#c2459b", "v"),
    "transformer": Look("#e03b3b", "o"),
    "line-search": Look("#2f9e44", "P"),
    "mean-displacement": Look("#2f9e44", "X", (1, 1.6)),
    "no-forecast": Look(GREY, "o"),
    "null": Look(GREY, "s", (4, 1.6)),
    "denoise-only": Look("#6b8e6b", "P"),
    "lookahead": Look("#8a8f1c", "X"),
}
_SPARE_COLOURS = ("#9a62d8", "#b5533c", "#5b8c85", "#d9579a", "#6d8f23", "#3f8fd0")
_SPARE_SHAPES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("X", (6, 1.6, 1, 1.6)),
    ("p", (2.5, 1.2)),
    ("h", ()),
    ("*", (1, 1)),
)


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Give each label its look.

    The package's methods have theirs in every report; with parameters, ``name(k=v)``, they keep
    their colour and change their shape.
    """
    chosen: dict[str, Look] = {}
    variants: Counter[str] = Counter()
    others = 0
    for label in sorted(set(labels)):
        name = label.partition("(")[0]
        if label in _BUILTIN:
            chosen[label] = _BUILTIN[label]
        elif name in _BUILTIN:
            shape = _SPARE_SHAPES[variants[name] % len(_SPARE_SHAPES)]
            chosen[label] = Look(_BUILTIN[name].colour, *shape)
            variants[name] += 1
        else:
            colour = _SPARE_COLOURS[others % len(_SPARE_COLOURS)]
            shape = _SPARE_SHAPES[others // len(_SPARE_COLOURS) % len(_SPARE_SHAPES)]
            chosen[label] = Look(colour, *shape)
            others += 1
    return chosen
