"""Draw skill in function against the size of the network, at each horizon, from released tables.

    python reports/published/skill_by_size.py reports/published/skill-by-size.png

A point a data set and method; bars are 95 % intervals over runs. Where a data set is in several
folders the first counts.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("sizes", "size-or-noise", "networks", "fine-tunes")
HORIZONS = {"h5": "5", "h10": "10", "h20": "20", "last": "the last"}
#: Method to its marker and colour.
METHODS = {
    "lfd2-ols": ("o", "#2a7fc9"),
    "damped-line": ("s", "#d9720a"),
    "lstm": ("v", "#c03a9a"),
    "logit-scale": ("_", "#30363d"),
}
LEAST = -1.0


class Point(NamedTuple):
    """A method's skill on one data set at one horizon, with the ends of its interval."""

    method: str
    dataset: str
    parameters: int
    horizon: str
    skill: tuple[float, float, float]


def read(folder: Path) -> Iterator[Point]:
    """Yield every point that the released tables have."""
    seen = set()
    for name in FOLDERS:
        if not (folder / name).is_dir():
            continue
        sizes = _sizes(folder / name)
        for row in _rows(folder / name):
            for label in HORIZONS:
                place = (row["method"], row["dataset"], label)
                if row["method"] not in METHODS or place in seen:
                    continue
                # Of a short run horizon 20 is the last, which is then told once.
                ends = [row.get(f"skill_{label}{end}", "") for end in ("", "_lower", "_upper")]
                if all(ends):
                    seen.add(place)
                    value, lower, upper = map(float, ends)
                    yield Point(*place[:2], sizes[row["dataset"]], label, (value, lower, upper))


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    tables = sorted(folder.glob("*-by-dataset.csv")) or [folder / "function.csv"]
    for path in tables:
        if path.name.startswith("weights"):
            continue
        for row in _table(path):
            if "dataset" not in row:  # one set, whose ranking is not taken apart
                (row["dataset"],) = {
                    column.removeprefix("error of ").partition(",")[0]
                    for column in row
                    if column.startswith("error of ")
                }
            yield row


def _sizes(folder: Path) -> dict[str, int]:
    shares = folder / "shares.csv"
    rows = _table(shares) if shares.exists() else _table(folder / "cells.csv")
    return {row["dataset"]: int(float(row["coordinates"])) for row in rows if row["coordinates"]}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw(points: list[Point], to: Path) -> None:
    """Draw a panel a horizon."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(HORIZONS), figsize=(11, 3.6), sharey=True)
    for axis, (label, spoken) in zip(axes, HORIZONS.items(), strict=True):
        axis.axhline(0, color="#30363d", linewidth=0.8)
        for place, (method, (marker, colour)) in enumerate(METHODS.items()):
            of = [p for p in points if p.method == method and p.horizon == label]
            # Sets of one size would hide each other.
            x = [p.parameters * (1 + 0.09 * (place - 1.5)) for p in of]
            value, lower, upper = ([max(LEAST, p.skill[end]) for p in of] for end in range(3))
            axis.vlines(x, lower, upper, color=colour, linewidth=1, alpha=0.6)
            axis.scatter(x, value, marker=marker, color=colour, s=26, label=method, zorder=3)
        axis.set(xscale="log", xlim=(1e3, 3e8), ylim=(LEAST - 0.05, 0.62), xlabel="parameters")
        axis.set_title(f"{spoken} snapshots ahead" if label != "last" else "the last snapshot")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_ylabel("skill in function (train loss)")
    marks, names = axes[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.legend(marks, names, loc="upper center", ncols=len(METHODS), frameon=False)
    figure.savefig(to, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw(list(read(Path(__file__).parent)), Path(sys.argv[1]))
