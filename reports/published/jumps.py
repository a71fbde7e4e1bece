"""Write what jumps gain, by learning rate, out of a result folder of the loop tier.

    python reports/published/jumps.py results/loop-logits > reports/published/loop-logits/jumps.csv

A row a method, optimizer, learning rate and step: the median over runs of the share of the training
loss that the jump takes away at once. References alone, whose jumps are never refused.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

METHODS = ("line-search", "logit-scale")
COLUMNS = ("method", "optimizer", "learning_rate", "step", "runs", "median_gain")


def gains(loops: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the rows, in ascending order, of the loop tier's runs."""
    found = defaultdict(list)
    for row in loops:
        for jump in row["jumps"] if row["method"] in METHODS else ():
            if jump["before"]:
                place = (row["method"], row["optimizer"], row["learning_rate"], jump["step"])
                found[place].append(1 - jump["after"] / jump["before"])
    return [
        (*place, len(each), round(statistics.median(each), 6))
        for place, each in sorted(found.items())
    ]


def main(folder: str) -> None:
    """Write the rows of a folder to standard output."""
    from weightcast.bench.results.tables import load_results

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(gains(load_results(Path(folder)).loops))


if __name__ == "__main__":
    main(sys.argv[1])
