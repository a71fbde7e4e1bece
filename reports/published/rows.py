"""Write the rows of released rankings that `weightcast forecast` names beside a verdict.

    python reports/published/rows.py > bench/commands/evidence/released.csv

A line a method and data set: its median error there over the last value's, and the skill of its row
in the ranking. A test holds the file to what this writes.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

#: Where a method and a data set are in several, the first counts: it was run last, and on every
#: coordinate.
RANKINGS = (
    ("quick", "weights-every-coordinate.csv"),
    ("quick", "weights.csv"),
    ("quick", "function.csv"),
    ("sizes", "weights.csv"),
    ("sizes", "function.csv"),
    ("digits", "weights.csv"),
    ("digits", "function.csv"),
)
COLUMNS = (
    "folder", "tier", "metric", "method", "dataset", "context", "ratio",
    "sets", "skill", "skill_lower", "skill_upper",
)  # fmt: skip
_ERROR = "error of "


def main() -> None:
    """Write the rows to standard output."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    written = set()
    for folder, name in RANKINGS:
        with (Path(__file__).parent / folder / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        medians = [column for column in rows[0] if column.startswith(_ERROR)]
        last = next(row for row in rows if row["method"] == "last-value")
        for row in rows:
            for column in medians if row["skill"] and row["method"] != "last-value" else []:
                dataset, context = column.removeprefix(_ERROR).split(", context ")
                place = (row["tier"], row["method"], dataset, context)
                if not row[column] or place in written:
                    continue
                written.add(place)
                told = {key: row[key] for key in ("tier", "metric", "method")}
                skill = {
                    key: f"{float(row[key]):.4f}" for key in COLUMNS if key.startswith("skill")
                }
                ratio = f"{float(row[column]) / float(last[column]):.4f}"
                writer.writerow(
                    {"folder": folder, **told, "dataset": dataset, "context": context}
                    | {"ratio": ratio, "sets": len(medians), **skill}
                )


if __name__ == "__main__":
    main()
