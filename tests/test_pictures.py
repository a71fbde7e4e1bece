"""Pictures are written short, and of many data sets not each has its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from weightcast.bench.loop.profile import Profile
from weightcast.bench.results.inference.friedman import Friedman
from weightcast.bench.results.tables import Results
from weightcast.reports.figures import draw, log_axis, tell
from weightcast.reports.palette import looks
from weightcast.reports.plots.critical import critical_plot
from weightcast.reports.plots.loop_profile import loop_profile_plot
from weightcast.reports.view import MOST_PICTURED, View

SVG = "{http://www.w3.org/2000/svg}"


def _picture() -> str:
    def paint(axes: Axes) -> None:
        log_axis(axes, "y", 0.1, 10)
        axes.set_ylabel("rotated")
        tell(axes.plot([0, 1, 2], [0.123456789, 1, 7.7], marker="o", ls="--"), "a", "0.123456 at 0")
        axes.scatter([0.333333, 1.77], [2, 3.1415926], marker="x")

    return str(draw("one", "A picture", paint))


def _elements(svg: str) -> list[ET.Element]:
    return list(
        ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)).iter()
    )


def test_when_a_picture_is_written_then_what_it_refers_to_is_there_and_nothing_else_is_named() -> (
    None
):
    elements = _elements(_picture())
    names = [element.get("id") for element in elements if element.get("id")]
    asked = {e.attrib["href"].removeprefix("#") for e in elements if "href" in e.attrib}
    for element in elements:
        asked |= set(re.findall(r"url\(#(.+)\)", " ".join(element.attrib.values())))
    assert set(names) == asked
    assert len(names) == len(set(names)) > 0


def test_when_a_picture_is_written_then_its_points_are_where_they_were() -> None:
    (line,) = (
        mark.find(f"{SVG}path")
        for mark in _elements(_picture())
        if mark.get("class") == "mark" and mark.get("data-method") == "a"
    )
    assert line is not None
    points = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", line.attrib["d"])
    left, right, bottom, top = 54, 440 - 12, 300 - 42, 12
    across = np.array([left + (right - left) * (0.1 + x) / 2.2 for x in (0, 1, 2)])
    up = np.log10([0.123456789, 1, 7.7]) / 2 + 0.5
    expected = np.stack([across, bottom - (bottom - top) * up], axis=1)
    assert np.array(points, float) == pytest.approx(expected, abs=0.006)


def test_when_a_picture_is_written_then_words_and_turned_words_stay() -> None:
    svg = _picture()
    assert "<title>a: 0.123456 at 0</title>" in svg
    turned = [e.get("transform", "") for e in _elements(svg) if e.text == "rotated"]
    assert len(turned) == 1
    assert turned[0].startswith("rotate(-90 ")


def _view(spreads: list[float]) -> View:
    rows: list[dict[str, Any]] = [
        {
            "label": label, "method": label, "dataset": f"set-{place:02}", "context": 10, "run": 0,
            "trained_on": f"set-{place:02}", "rotation": 0, "repeat": 0, "params": "{}",
            "track": "main", "split": "seeds", "tier": "weights", "status": "ok",
            "rel_sum": float(np.exp(sign * spread)), "rel_sum_sample": np.nan,
        }
        for place, spread in enumerate(spreads)
        for label, sign in (("a", 0.5), ("last-value", -0.5))
    ]  # fmt: skip
    empty = pd.DataFrame()
    return View(Results(Path("x"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], ""))


def test_when_tasks_are_few_then_all_have_pictures() -> None:
    view = _view([1.0] * MOST_PICTURED)
    assert view.pictured == view.tasks
    assert view.pictured_note == ""


def test_when_tasks_are_many_then_those_where_methods_differ_most_have_pictures() -> None:
    spreads = np.random.default_rng(0).permutation(np.linspace(0, 3, MOST_PICTURED + 9)).tolist()
    view = _view(spreads)
    widest = sorted(np.argsort(spreads)[-MOST_PICTURED:])
    assert [task.dataset for task in view.pictured] == [f"set-{place:02}" for place in widest]
    assert f"{MOST_PICTURED} of {MOST_PICTURED + 9} data sets" in view.pictured_note


def _told(svg: str) -> dict[str, set[str]]:
    """Return what the marks of a picture say, by method."""
    found: dict[str, set[str]] = {}
    for method, said in re.findall(r'data-method="([^"]*)"[^>]*><title>([^<]*)</title>', svg):
        found.setdefault(method, set()).add(said.removeprefix(f"{method}: "))
    return found


def test_when_mean_ranks_are_drawn_then_each_method_s_parts_say_whose_they_are() -> None:
    # Two of one mean rank, and a name that is another's beginning.
    names = ["a", "a-long", "b", "c"]
    ranks = np.array([1.5, 3.25, 1.5, 3.75])
    found = Friedman(names, 8, "run", 1, ranks, 5.0, 0.1, np.full((4, 4), 0.5), 1.0)
    svg = critical_plot("cd", "Mean ranks", found, looks(names))
    assert _told(str(svg)) == {
        name: {f"mean rank {rank:.2f}"} for name, rank in zip(names, ranks, strict=True)
    }
    assert str(svg).count('class="mark"') == 3 * len(names)


def test_when_profiles_are_drawn_then_each_line_says_how_much_it_solves() -> None:
    profiles = [Profile("a", (1.0, 1.05, 3.0)), Profile("b", (1.0, 1.3, 9.0))]
    svg = loop_profile_plot("profile", "Profiles", profiles, 4.0, looks(["a", "b"]))
    assert _told(str(svg))["a"] == {
        "33 % within 1, 67 % within 1.1, 67 % within 1.5, 67 % within 2 times the fastest"
    }
