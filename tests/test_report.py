"""The HTML report of small folders that the real engine has written."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightcast.bench.engine.environment import (
    describe_environment,
    describe_machine,
    write_environment,
)
from weightcast.bench.engine.events import Event
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import MethodEntry, Suite
from weightcast.bench.results.inference.charging import Unranked
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results, load_results
from weightcast.bench.scoring.border import desk
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import InputError
from weightcast.methods import all_methods, load_plugin, registry
from weightcast.reports.html import render_report
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.write import write_report

ATTACK = "<script>alert(1)</script>"
PLUGIN = f'''
from typing import Any, ClassVar

import numpy as np

from weightcast.methods import CoordinateForecaster, register


@register("always-fails")
class AlwaysFails(CoordinateForecaster):
    def fit(self, train, validation, task):
        raise ValueError("{ATTACK}")


@register("on-the-sample")
class OnTheSample(CoordinateForecaster):
    _tags: ClassVar[dict[str, Any]] = {{"sampled": True}}

    def predict_block(self, context, task):
        return np.repeat(context[:, -1:] * 1.01, len(task.horizons), axis=1)


@register("explodes")
class Explodes(CoordinateForecaster):
    _tags: ClassVar[dict[str, Any]] = {{"provenance": "zero-shot"}}

    def predict_block(self, context, task):
        return context[:, -1:] * np.power(10.0, task.horizons[None, :] / 3)
'''


def write_folder(folder: Path, plugin: Path, suite: Suite, worker: Worker) -> None:
    """Run a suite in this process and store it as `weightcast run` does."""
    suite = suite.resolve()
    site, stop = Site(describe_machine(), 2, 1), threading.Event()
    with Store(folder, create=True) as store:
        (folder / "suite.toml").write_text(suite.to_toml(), encoding="utf-8")
        write_environment(folder, describe_environment(["run", "--suite", suite.name], 2, 1))
        for fit in make_plan(suite, RunCache(None)):
            events: list[Event] = []
            unit = Unit(fit, fit.split.test)
            unit.run(worker, Setup((plugin,)), site, events.append, stop)
            store.add(events)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a plugin file; what workers change in this process is put back afterwards."""
    plugin = tmp_path_factory.mktemp("plugin") / "plugin.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    all_methods()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")
        patch.setattr(registry, "_METHODS", dict(registry._METHODS))
        patch.setattr(desk, "_desk", None)
        load_plugin(plugin)
        yield plugin


@pytest.fixture(scope="module")
def results(
    engine: Path, this_process: Worker, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    folder = tmp_path_factory.mktemp("results") / "small"
    methods = ["last-value", "last-two-line", "damped-line", "lfd2-ols"]
    suite = Suite(
        name="small",
        datasets=["linreg-sgd", "digits-mlp-sgd"],
        methods=[
            *(MethodEntry(name=name) for name in methods),
            MethodEntry(name="line-search"),
            MethodEntry(name="damped-line", params={"lags": [1, 5]}),
            *(MethodEntry(name=n) for n in ("always-fails", "on-the-sample", "explodes")),
        ],
    )
    write_folder(folder, engine, suite, this_process)
    return load_results(folder)


@pytest.fixture(scope="module")
def report(results: Results) -> str:
    return render_report(results)


class Elements(HTMLParser):
    """Collects every element's tag and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def narrowed(results: Results, **chosen: list[Any]) -> Results:
    """Keep only the given labels, data sets or runs of a result folder."""
    cells = results.cells
    for column, kept in chosen.items():
        cells = cells[cells[column].isin(kept)]
    there = set(zip(cells["label"], cells["dataset"], cells["context"], strict=True))
    sets = set(cells["dataset"])
    return replace(
        results,
        cells=cells.reset_index(drop=True),
        curves={key: curve for key, curve in results.curves.items() if key in there},
        examples=[
            e
            for e in results.examples
            if e["dataset"] in sets
            and (e["label"] == "" or (e["label"], e["dataset"], e["context"]) in there)
        ],
        failures=[
            f
            for f in results.failures
            if (f["label"], f["dataset"], f["context"]) in there and f["run"] in set(cells["run"])
        ],
    )


def test_when_opened_then_no_resource_comes_from_outside(report: str) -> None:
    for tag, attributes in Elements(report).found:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    assert re.findall(r"url\((?!#)", report) == []
    assert "@import" not in report
    assert "://" not in report


def test_when_many_pictures_share_the_page_then_ids_are_unique_and_known(report: str) -> None:
    elements = Elements(report).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', report)
    assert used
    assert {first or second for first, second in used} <= set(ids)
    pictures = [a for tag, a in elements if tag == "svg" and "aria-hidden" not in a]
    assert len(pictures) > 10
    assert all(a["role"] in ("img", "group") and a["aria-label"] for a in pictures)


def test_when_rendered_then_every_method_and_dataset_is_named(
    report: str, results: Results
) -> None:
    for name in [*set(results.cells["label"]), *set(results.cells["dataset"])]:
        assert name in report
    assert "damped-line(lags=[1, 5])" in report
    assert 'id="top"' in report
    for section in ("setting", "leaderboard", "function", "compute", "horizon", "examples"):
        assert f'<section id="{section}">' in report


def test_when_a_reason_holds_markup_then_it_is_escaped(report: str) -> None:
    assert ATTACK not in report
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;" in report
    scripts = [attributes for tag, attributes in Elements(report).found if tag == "script"]
    assert [each.get("type", "") for each in scripts] == ["application/json", ""]


def test_when_rendered_twice_then_the_page_is_the_same(results: Results, report: str) -> None:
    assert render_report(results) == report
    assert render_report(load_results(results.folder)) == report


def test_when_rendered_then_no_folder_of_this_machine_is_told(
    results: Results, report: str, engine: Path
) -> None:
    for place in (results.folder.parent, engine.parent, Path(desk.__file__).parent):
        assert str(place) not in report
    assert "File &#34;plugin.py&#34;" in report
    assert f"weightcast export {results.folder.name} cells.csv" in report
    environment = {**results.environment, "command": f"weightcast run --out {results.folder}"}
    page = render_report(replace(results, environment=environment))
    assert "<pre>weightcast run --out small</pre>" in page


def test_when_a_method_leads_then_the_verdict_has_its_skill(results: Results, report: str) -> None:
    first = rank_results(results).ranking.standings[0]
    verdict = re.search(r'<p class="verdict">(.*?)</p>', report, re.S)
    assert verdict is not None
    assert f"{first.method} leads with a skill of {first.skill.value:+.2f}" in verdict[1]


def test_when_all_cells_of_a_method_failed_then_it_stands_below_the_ranking(
    results: Results, report: str
) -> None:
    ranking = rank_results(results).ranking
    assert "always-fails" not in {s.method for s in ranking.standings}
    assert Unranked("always-fails", 212, 212) in ranking.unranked
    assert ">212 of 212</td>" in report
    assert "Not ranked: always-fails (212 of 212 cells failed)" in report
    assert "12 × <em>failed</em>" in report


def test_when_nothing_is_ranked_then_a_page_that_is_there_is_not_written_over(
    results: Results, tmp_path: Path
) -> None:
    few, page = narrowed(results, run=[0, 1, 2]), tmp_path / "report.html"
    write_report(few, page)
    page.write_text("a good page", encoding="utf-8")
    with pytest.raises(InputError, match="nothing here is ranked: no data set has enough runs"):
        write_report(few, page)
    assert page.read_text(encoding="utf-8") == "a good page"
    write_report(results, page)
    assert "leads with a skill" in page.read_text(encoding="utf-8")


def test_when_opened_then_only_the_pages_own_script_and_style_are_allowed(report: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', report)
    assert policy is not None
    assert "unsafe" not in policy[1]
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", report, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert not [tag for tag, attributes in Elements(report).found if "style" in attributes]


@pytest.mark.parametrize(
    "chosen",
    [
        {"label": ["last-value"]},
        {"label": ["last-value", "always-fails"]},
        {"label": ["last-value", "on-the-sample"]},
        {"label": ["lfd2-ols", "damped-line"]},
        {"label": ["always-fails"]},
        {"tier": ["weights"]},
        {"dataset": ["linreg-sgd"]},
        {"dataset": ["digits-mlp-sgd"]},
        {"run": [0, 1, 2]},
        {"run": [5]},
    ],
    ids=str,
)
def test_when_little_is_there_then_the_report_still_renders(
    results: Results, chosen: dict[str, list[Any]]
) -> None:
    few = narrowed(results, **chosen)
    page = render_report(few)
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(label in page for label in few.cells["label"])


def test_when_runs_are_too_few_then_medians_and_the_reason_are_shown(results: Results) -> None:
    page = render_report(narrowed(results, run=[0, 1, 2]))
    assert "Not ranked: no data set has enough runs to rank" in page
    assert "3 runs" in page


def test_when_nothing_failed_then_the_report_says_so(results: Results) -> None:
    assert "No cell failed." in render_report(narrowed(results, label=["last-value"]))


def test_when_the_folder_is_empty_then_an_input_error_says_so(results: Results) -> None:
    with pytest.raises(InputError, match="no results yet"):
        render_report(narrowed(results, label=[]))


def test_when_a_plugin_is_not_loaded_then_the_report_is_the_same(
    results: Results, report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {k: v for k, v in registry._METHODS.items() if k in ("last-value", "damped-line")}
    monkeypatch.setattr(registry, "_METHODS", ours)
    assert render_report(load_results(results.folder)) == report


def test_when_nothing_is_kept_of_a_method_then_its_provenance_is_unknown(results: Results) -> None:
    page = render_report(replace(results, methods={}))
    assert '<td class="word" data-sort="?">?</td>' in page


def test_when_machines_differ_then_the_report_warns(results: Results, report: str) -> None:
    assert "Mixed environments" not in report
    here = results.machines[0]
    # More or fewer workers are no other machine.
    earlier = {**results.environment, "jobs": 7}
    page = render_report(
        replace(results, environment={**results.environment, "earlier": [earlier]})
    )
    assert "Mixed environments" not in page
    other = {**here, "packages": {**here["packages"], "numpy": "1.0"}, "cells": 3}
    page = render_report(replace(results, machines=[here, other]))
    assert "Mixed environments" in page
    assert f"<li>numpy {np.__version__} ({here['cells']:,} cells) and 1.0 (3 cells)</li>" in page


def test_when_cells_failed_then_they_are_counted_by_status(results: Results, report: str) -> None:
    assert "<b>212 failed</b>" in report
    failures = [
        {**f, "status": "timeout"} if f["dataset"] == "digits-mlp-sgd" else f
        for f in results.failures
    ]
    page = render_report(replace(results, failures=failures))
    assert "<b>200 failed, 12 timeout</b>" in page
    assert "a fit or a cell took longer than --timeout" in page
    assert "Runs and stack of the worker" in page


def test_when_seconds_are_shown_then_what_they_hold_is_said(report: str) -> None:
    assert "or run with --timing to take them one at a time" in report
    said = re.search(r"the harness itself .*? takes a median, per cell, of (.*?)\.</p>", report)
    assert said is not None
    assert re.fullmatch(r"\S+ (ms|µs) on digits-mlp-sgd and \S+ (ms|µs) on linreg-sgd", said[1])
    assert "FLOPs per coordinate" in report


def test_when_environment_and_suite_are_lost_then_the_report_still_renders(
    results: Results,
) -> None:
    page = render_report(replace(results, environment={}, suite_toml="", examples=[], curves={}))
    assert "the folder has no environment.json" in page


def test_when_there_are_two_contexts_then_each_is_a_task(
    engine: Path, this_process: Worker, tmp_path: Path
) -> None:
    suite = Suite(
        name="contexts",
        datasets=["digits-mlp-sgd"],
        methods=[MethodEntry(name="last-value"), MethodEntry(name="last-two-line")],
        contexts=[10, 20],
    )
    write_folder(tmp_path / "contexts", engine, suite, this_process)
    page = render_report(load_results(tmp_path / "contexts"))
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    assert len(ids) == len(set(ids))
    assert "digits-mlp-sgd, context 10" in page
    assert "digits-mlp-sgd, context 20" in page


def test_when_the_truth_of_a_set_is_known_then_its_best_possible_error_ends_the_table(
    report: str,
) -> None:
    foot = re.search(r"<tfoot>.*?</tfoot>", report, re.S)
    assert foot is not None
    assert "best possible" in foot[0]
    # digits has no known truth; linreg-sgd has
    *_, digits, linreg = re.findall(r'<td class="number">(.*?)</td>', foot[0])
    assert digits == "—"
    assert 0.01 < float(linreg) < 0.05


def test_when_no_set_has_a_known_truth_then_no_row_claims_the_best_possible(
    results: Results,
) -> None:
    assert "<tfoot>" not in render_report(narrowed(results, dataset=["digits-mlp-sgd"]))


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_a_header_is_clicked_then_the_best_is_on_top_first(
    results: Results, report: str, tmp_path: Path
) -> None:
    board = rank_results(results).ranking.standings
    page = tmp_path / "report.html"
    script = """<script>
      const table = document.querySelector("#leaderboard table");
      const head = [...table.tHead.rows[0].cells].find((c) => c.textContent === "skill");
      const name = (row) => row.querySelector("th .name").textContent;
      const seen = [];
      for (let click = 0; click < 2; click++) {
        head.querySelector("button").click();
        seen.push(head.getAttribute("aria-sort") + " " + name(table.tBodies[0].rows[0]));
      }
      const shown = [...document.querySelectorAll("#leaderboard .panel:not(.away)")];
      seen.push(shown.length + " panel");
      document.title = seen.join("; ");
    </script></body>"""
    # The page's own policy would not let this script in.
    allowed = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", report, count=1)
    page.write_text(allowed.replace("</body>", script), encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert title is not None, done.stderr
    assert title[1] == (f"descending {board[0].method}; ascending {board[-1].method}; 1 panel")


def test_when_the_report_loads_then_pyplot_does_not() -> None:
    code = "import sys, weightcast.reports.html; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_methods_are_filtered_then_tables_address_and_download_follow(
    report: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = tmp_path / "report.html"
    path.write_text(report, encoding="utf-8")
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        wrong: list[str] = []
        asked: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{path.as_uri()}#leaderboard?methods=lfd2-ols")
        rows = page.locator("#leaderboard .panel:not(.away) > .scroll tbody tr:visible")
        assert [row.split("\n")[0].split("\t")[1] for row in rows.all_inner_texts()] == ["lfd2-ols"]
        page.fill("#filter", "damped")
        assert page.evaluate("location.hash") == "#leaderboard?methods=damped"
        with page.expect_download() as download:
            page.locator("#leaderboard .panel:not(.away) > .save").first.click()
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#,method,")
        assert [line.split(",")[1].strip('"') for line in lines[1:]] == [
            "damped-line(lags=[1",
            "damped-line",
            "best possible",
        ]
        with page.expect_download() as download:
            page.locator("figure .save").first.click()
        assert Path(download.value.path()).read_text(encoding="utf-8").startswith("<svg ")
        # What a page makes itself, to be saved, is no request to anywhere.
        assert [url for url in asked if not url.startswith(("blob:", path.as_uri()))] == []
        assert wrong == []
        browser.close()


def _asked(page: Any) -> list[list[str]]:
    """Return the table of what was picked, a list a row."""
    cells = "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    rows: list[list[str]] = page.locator("#asked tbody tr").evaluate_all(cells)
    return rows


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_another_metric_is_picked_then_table_and_picture_by_horizon_follow(
    report: str, results: Results, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = tmp_path / "report.html"
    path.write_text(report, encoding="utf-8")
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        page.select_option("#ask select[name=set]", "digits-mlp-sgd")
        for metric in ("rel_final", rank_results(results).metric):
            page.select_option("#ask select[name=metric]", metric)
            board = rank_results(results, metric=metric, datasets=["digits-mlp-sgd"])
            expected = {s.method: s.skill.value for s in board.ranking.standings}
            named = {row[1].removesuffix(" (reference)"): row[2] for row in _asked(page)}
            assert set(named) == set(expected)
            for method, value in expected.items():
                assert float(named[method].replace("−", "-")) == pytest.approx(value, abs=6e-4)
        said = page.locator("#asked-curves title").evaluate_all(
            "all => all.map(t => t.textContent)"
        )
        assert len(said) == len(_asked(page))
        best = next(iter(board.at_horizons))
        told = next(line for line in said if line.startswith(f"{best}: "))
        for label, skill in zip(board.horizons, board.at_horizons[best], strict=True):
            at = told.partition(f"{label.removeprefix('h')}: ")[2].partition(" ")[0]
            assert float(at.replace("−", "-")) == pytest.approx(skill.value, abs=6e-4)
        assert page.locator("#ask label", has_text="Track").is_hidden()
        page.goto(f"{path.as_uri()}#ask?tier=function&metric=test_loss")
        page.reload()
        assert page.locator("#ask select[name=metric]").input_value() == "test_loss"
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_numbers_are_asked_for_then_table_picture_and_address_follow(
    report: str, results: Results, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = tmp_path / "report.html"
    path.write_text(report, encoding="utf-8")
    headline = rank_results(results).metric
    board = rank_results(results, metric=headline, datasets=["digits-mlp-sgd"])
    expected = {s.method: s.skill.value for s in board.ranking.standings}
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path.as_uri())
        page.select_option("#ask select[name=set]", "digits-mlp-sgd")

        first = _asked(page)
        named = {row[1].removesuffix(" (reference)"): row[2] for row in first}
        assert set(named) == set(expected)
        for method, value in expected.items():
            assert float(named[method].replace("−", "-")) == pytest.approx(value, abs=6e-4)
        values = [float(row[2].replace("−", "-")) for row in first]
        assert values == sorted(values, reverse=True)
        marks = page.locator("#asked-picture .mark")
        assert marks.evaluate_all("all => all.map(m => m.dataset.method)") == [
            row[1].removesuffix(" (reference)") for row in first
        ]
        page.select_option("#ask select[name=at]", "last")
        page.fill("#filter", "lfd2-ols")
        address = page.evaluate("location.href")
        assert "set=digits-mlp-sgd" in address
        again = context.new_page()
        again.goto(address)
        assert _asked(again) == _asked(page)
        assert len(again.locator("#asked tbody tr:visible").all()) == 1
        with page.expect_download() as download:
            page.locator("#ask .save").first.click()
        lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
        assert lines[0] == '#,method,skill,"95 %, from",to'
        assert lines[1].split(",")[1] == "lfd2-ols"
        # What an address asks for and is not there is the first that can be picked, shown as such.
        again.goto(f"{path.as_uri()}#ask?tier=none&set=none&at=none")
        again.reload()
        picked = [again.locator(f"#ask select[name={name}]") for name in ("tier", "set", "at")]
        assert [one.input_value() for one in picked] == ["weights", "", ""]
        assert wrong == []
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(path.as_uri())
        assert plain.locator("#ask").is_hidden()
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_marks_are_pointed_at_or_stepped_through_then_they_say_what_they_show(
    report: str, results: Results, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = tmp_path / "report.html"
    path.write_text(report, encoding="utf-8")
    told = {
        f"{s.method}: skill {fixed(s.skill.value, signed=True)} {interval(s.skill, signed=True)}"
        for s in rank_results(results).ranking.standings
    }
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path.as_uri())
        tip, forest = page.locator("#tip"), page.locator("#leaderboard .drawn").first
        marks = forest.locator(".mark")
        assert tip.is_hidden()
        marks.last.hover()
        assert tip.inner_text() in told
        page.mouse.move(0, 0)
        assert tip.is_hidden()
        # The keys go through all methods, each once, and come back to the first.
        marks.first.focus()
        seen = []
        for _ in told:
            seen.append(tip.inner_text())
            page.keyboard.press("ArrowRight")
        assert set(seen) == told
        assert tip.inner_text() == seen[0]
        page.keyboard.press("Escape")
        assert tip.is_hidden()
        # A number that lies on its place takes no pointer away from it.
        map_ = page.locator('#horizon svg[aria-label^="Skill in"] .mark').first
        map_.scroll_into_view_if_needed()
        page.wait_for_timeout(200)
        map_.hover()
        method = map_.get_attribute("data-method")
        assert method is not None
        assert tip.inner_text().startswith(f"{method}: ")
        points = page.locator('svg[aria-label^="Gain in function against"] .mark title')
        named = {text.split(": ", 1)[1].split(",")[0] for text in points.all_text_contents()}
        assert named == {"digits-mlp-sgd"}
        page.fill("#filter", "lfd2-ols")
        faint = page.locator(".mark.faint").evaluate_all("all => all.map(m => m.dataset.method)")
        kept = page.locator(".mark:not(.faint)").evaluate_all(
            "all => all.map(m => m.dataset.method)"
        )
        # Rows of the correlations' maps are data sets, and stay.
        assert set(kept) - set(results.cells["dataset"]) == {"lfd2-ols"}
        assert "digits-mlp-sgd" in kept
        assert "digits-mlp-sgd" not in faint
        assert "damped-line" in faint
        assert wrong == []
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
def test_when_the_window_is_narrow_then_only_frames_scroll_and_keys_reach_them(
    report: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = tmp_path / "report.html"
    # A data set's name is as long as its author likes.
    path.write_text(report.replace("digits-mlp-sgd (", f"{'long-' * 12}sgd ("), encoding="utf-8")
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 700})
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        page.wait_for_timeout(200)
        hidden = """all => all.filter(one => one.scrollWidth > one.clientWidth + 1 &&
            !one.hasAttribute("tabindex")).map(one => one.textContent.slice(0, 60))"""
        assert page.locator("pre, .scroll, .drawn").evaluate_all(hidden) == []
        page.emulate_media(media="print")
        assert page.locator("#ask .picks").is_hidden()
        browser.close()


def test_when_headings_are_stepped_through_then_no_level_is_left_out(report: str) -> None:
    tags = [tag for tag, _ in Elements(report).found]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_when_axe_looks_at_the_report_then_it_finds_nothing_wrong(
    report: str, tmp_path: Path, accessibility: Callable[..., list[str]], scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report, encoding="utf-8")
    assert accessibility(path, scheme, width) == []
