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
        for digits in SIZES[:2]:
            assert float(table["lfd2", digits][f"skill_{label}_lower"]) > 0
        for clothes in SIZES[4:]:
            assert round(float(table["lfd2", clothes][f"skill_{label}"]), 2) <= 0


def test_when_sets_are_counted_in_function_then_the_released_rows_are_so_many() -> None:
    table: dict[Key, tuple[float, float, float]] = {}
    for folder in ("sizes", "size-or-noise", "networks"):
        for place, row in _table(f"{folder}/function-by-dataset.csv").items():
            ends = (float(row[f"skill{end}"]) for end in ("_lower", "", "_upper"))
            lower, value, upper = ends
            table.setdefault(place, (lower, value, upper))
    sets = sorted({dataset for _, dataset in table})
    lower, upper = ({d: table["lfd2", d][end] for d in sets} for end in (0, 2))
    gains, losses = {d for d in sets if lower[d] > 0}, {d for d in sets if upper[d] < 0}
    assert (len(sets), len(gains), len(losses)) == (22, 9, 8)
    assert gains - {"fashion-mlp-early-sgd"} == {d for d in sets if d.startswith("digits-mlp")}
    assert losses - {"austen-transformer-adam"} <= {d for d in sets if d.startswith("fashion")}
    assert "of `lfd2` on 22 sets: 9 confirmed, 8 **refuted**, 5 open" in PAGE
    above, clear = {}, {}
    for method in ("introspection", "wnn"):
        both = [d for d in sets if (method, d) in table]
        above[method] = [d for d in both if table["lfd2", d][1] > table[method, d][1]]
        clear[method] = [d for d in both if table["lfd2", d][0] > table[method, d][2]]
    assert set(sets) - set(above["introspection"]) == {"digits-mlp-batch1024-sgd"}
    assert len(above["wnn"]) == 12
    told = [len(clear[method]) for method in ("introspection", "wnn")]
    assert f"on {told[0]} and {told[1]} of them the intervals do not meet" in PAGE
    assert f"above them in 33 of 34 comparisons, clearly in {sum(told)}" in PAGE
    quiet = "digits-mlp-batch1024-sgd"
    assert table["introspection", quiet][0] > table["lfd2", quiet][2]
    forecasters = {m for m, _ in table} - {
        "last-value",
        "line-search",
        "logit-scale",
        "oracle-line",
    }
    others = ("fashion-cnn-sgd", "fashion-resnet8-sgd", "austen-transformer-adam")
    most = max(table[m, d][1] for m in forecasters for d in others if (m, d) in table)
    readme = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())
    assert f"a transformer on text the most is {100 * most:.0f} % (`networks`)" in readme


def test_when_jumps_are_told_then_the_script_takes_their_medians_of_references_alone() -> None:
    script = runpy.run_path(str(PUBLISHED / "jumps.py"))
    run = {"optimizer": "sgd", "learning_rate": 0.5}
    loops = [
        run | {"method": "logit-scale", "jumps": [{"step": 9, "before": 2.0, "after": after}]}
        for after in (1.0, 1.5, 2.0)
    ]
    loops.append(run | {"method": "ols-line", "jumps": [{"step": 9, "before": 1.0, "after": 9.0}]})
    assert script["gains"](loops) == [("logit-scale", "sgd", 0.5, 9, 3, 0.25)]
    with (PUBLISHED / "loop-logits" / "jumps.csv").open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) == script["COLUMNS"]


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
