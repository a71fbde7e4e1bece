"""What the page of findings says is what the released tables say."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PUBLISHED = PROJECT / "reports" / "published"
PAGE = (PROJECT / "docs" / "findings.md").read_text(encoding="utf-8")
EVIDENCE = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| `\S+\.csv` \|", line)
]
SIZES = (
    "digits-mlp-sgd", "digits-mlp-adam", "digits-cnn-sgd", "digits-cnn-adam", "fashion-mlp-sgd",
    "fashion-mlp-adam",
)  # fmt: skip

Key = tuple[str, str]


def _table(name: str) -> dict[Key, dict[str, str]]:
    with (PUBLISHED / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (alone,) = {
        column.removeprefix("error of ").partition(",")[0]
        for column in rows[0]
        if column.startswith("error of ")
    } or {""}
    return {(row["method"], row.get("dataset", alone)): row for row in rows}


def _skills(name: str, method: str) -> list[float]:
    table = _table(f"sizes/{name}-by-dataset.csv")
    return [float(table[method, dataset]["skill"]) for dataset in SIZES]


@pytest.mark.parametrize("cells", EVIDENCE, ids="-".join)
def test_when_a_row_is_shown_as_evidence_then_it_is_the_released_one(cells: list[str]) -> None:
    name, method, dataset, at, said = cells
    column = {"all": "skill", "last": "skill_last"}.get(at, f"skill_h{at}")
    row = _table(name)[method, dataset]
    point, lower, upper = (
        format(float(row[f"{column}{end}"]), "+.2f").replace("-", "−")
        for end in ("", "_lower", "_upper")
    )
    assert said == f"{point} [{lower}, {upper}]"


def test_when_a_claim_is_listed_then_a_section_speaks_of_it() -> None:
    links = re.findall(r"^\| \[[^]]+\]\(#([^)]+)\)", PAGE, re.MULTILINE)
    heads = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = [re.sub(r"[^\w ]", "", head).lower().replace(" ", "-") for head in heads]
    assert links
    assert links == anchors[: len(links)]
    assert len(EVIDENCE) > 30


def test_when_it_is_counted_on_how_many_sets_one_is_above_another_then_it_is_so() -> None:
    lfd2, damped = _skills("weights", "lfd2"), _skills("weights", "damped-line")
    assert min(lfd2) > 0
    assert sum(theirs > ours for theirs, ours in zip(damped, lfd2, strict=True)) >= 5
    for method in ("introspection", "wnn"):
        found = zip(_skills("weights", method), lfd2, strict=True)
        assert sum(theirs > ours for theirs, ours in found) == 5
        worse = zip(_skills("function", method), _skills("function", "lfd2"), strict=True)
        assert all(theirs < ours for theirs, ours in worse)
    table = _table("sizes/function-by-dataset.csv")
    for label in ("h5", "h10", "h20", "last"):
        ends = [table["lfd2", d][f"skill_{label}_{end}"] for d, end in zip(
            SIZES, ("lower", "lower", "", "", "upper", "upper"), strict=True) if end]  # fmt: skip
        digits, fashion = [float(end) for end in ends[:2]], [float(end) for end in ends[2:]]
        assert min(digits) > 0
        assert max(fashion) < 0.01


def test_when_skill_is_drawn_against_size_then_the_points_are_the_released_ones() -> None:
    script = runpy.run_path(str(PUBLISHED / "skill_by_size.py"))
    points = list(script["read"](PUBLISHED))
    assert len({(p.method, p.dataset, p.horizon) for p in points}) == len(points)
    assert {p.horizon for p in points} == set(script["HORIZONS"])
    by_place = {(p.method, p.dataset, p.horizon): p for p in points}
    sizes = _table("sizes/function-by-dataset.csv")
    for dataset in SIZES:
        point = by_place["lfd2-ols", dataset, "h5"]
        assert point.skill[0] == float(sizes["lfd2-ols", dataset]["skill_h5"])
        assert point.parameters in (2410, 3658, 109386)
    largest = max(points, key=lambda point: point.parameters)
    assert (largest.dataset, largest.parameters) == ("sentiment-distilbert-size-adamw", 66955010)
    assert (PROJECT / "docs" / "skill-by-size.png").stat().st_size > 10_000
