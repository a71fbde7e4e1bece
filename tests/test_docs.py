"""README and docs: every code block runs, and everything that has a name is documented.

A page is followed from top to bottom in a folder of its own: files that it shows are written there,
Python is executed, commands are run. Where a command would take minutes, the smallest run of the
same kind stands in for it (`at_a_tiny_size`); what is not run at all says why (`NOT_RUN`). That its
verb and options exist is held for every command.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import math
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from weightcast.bench.cli import main
from weightcast.bench.plan.loop_settings import LoopSettings
from weightcast.bench.plan.schema import keys_of
from weightcast.bench.plan.suite import MethodEntry, Shift, Suite, load_suite, suite_names
from weightcast.bench.results.cells import COMPUTE, IDENTITY
from weightcast.bench.scoring.metrics import WEIGHT_METRICS
from weightcast.datasets import all_datasets, get_dataset, registry
from weightcast.datasets.admission.drift import drift_shares
from weightcast.methods import all_methods
from weightcast.methods.forecaster import IMPLEMENTATIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PUBLISHED = ROOT / "reports" / "published"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

#: Pages whose commands together take more than a few seconds.
LONG = {"data-sets", "loop", "methods", "results", "suites", "writing-a-data-set"}

#: What is not run, as a pattern of the command or file, with the reason.
NOT_RUN = {
    r"^make (bench|test)$": "installs environments of its own; .ci/run runs make test",
    r"^pip install ": "installs from a package registry",
    r"my-idea|my-runs": "a package to install; test_new_package.py installs and runs it",
    r"^weightcast fetch ": "downloads; test_fetch.py runs it on packages of its own",
    r"^weightcast record (fashion|sentiment)": "trains for minutes on data that are fetched first",
    r"^weightcast info (fashion|austen)": "reads runs that those trainings leave",
    r"results/fine-tunes": "results on data sets that take hours to record",
    r"results/sizes": "records eight sets and runs sixteen methods for an hour",
    r"results/digits|--suite digits.toml": "records five sets and runs 26 methods on them",
    r"results/lengths|--suite lengths.toml": "records five sets; test_lengths.py measures one",
    r"^fine_tune_minilm\.py$": "fine-tunes what is fetched first; test_callbacks.py runs it",
    r"^fine_tune\.py$": "needs accelerate; test_callbacks.py runs it where that is installed",
    r"^python reports/published/": "writes a released table; test_findings.py holds it to runs",
    r"^dask |--scheduler |slurm_cluster": "needs a cluster; test_cluster.py runs on one",
}

_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block: its language, the file that it shows, and its text."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines()
        return [command for line in lines if (command := line.partition(" #")[0].strip())]


def blocks(page: Path) -> list[Block]:
    return [Block(*found.groups()) for found in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[str]:
    return [c for block in blocks(page) if block.language == "sh" for c in block.commands]


def why_not(text: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, text)), None)


class Reader:
    """Follows a page in a folder, with the commands that other pages ran already in mind."""

    def __init__(
        self, page: Path, folder: Path, suites: Path, done: dict[tuple[str, ...], Path]
    ) -> None:
        self.page, self.folder, self.suites, self.done = page, folder, suites, done
        self.names: dict[str, Any] = {}
        # A reader has the repository at hand, and what was released with it.
        (folder / "reports").symlink_to(ROOT / "reports")

    def follow(self, block: Block) -> None:
        if block.title is not None:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            code = compile(block.text, block.title or "block", "exec")
            if not self.is_for_a_command(block) and why_not(block.title or "") is None:
                exec(code, self.names)
        elif block.language == "toml":
            found = tomllib.loads(block.text)
            if block.title != "pyproject.toml":
                suite = Suite.model_validate(found)
                # A plugin's names are known once the command has loaded it.
                if not any("--plugin" in c and f"{block.title} " in c for c in commands(self.page)):
                    suite.resolve()
        elif block.language == "sh":
            for command in block.commands:
                self.run(command)

    def is_for_a_command(self, block: Block) -> bool:
        """Whether a command of the page is given the file, as a plugin, and so executes it."""
        return block.title is not None and any(block.title in c for c in commands(self.page))

    def run(self, command: str) -> None:
        words = shlex.split(command)
        if why_not(command):
            return
        assert words[0] == "weightcast", f"no reason is given why '{command}' is not run"
        arguments = at_a_tiny_size(words[1:], self.suites)
        shared = _trains(arguments) and not {"--plugin", "--data"} & set(arguments)
        out = self.folder / _value(arguments, "--out") if shared else self.folder
        earlier = self.done.get(tuple(arguments))
        if shared and earlier is not None and not out.exists():
            shutil.copytree(earlier, out)
            return
        ended, said = typed(arguments, self.folder)
        assert ended == 0, f"{command}\n{said}"
        if shared:
            kept = self.suites / str(len(self.done))
            self.done[tuple(arguments)] = Path(shutil.copytree(out, kept))


def typed(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run a command; what only reads runs in this process, which has the libraries loaded."""
    if _trains(arguments):
        done = subprocess.run(
            [sys.executable, "-c", "from weightcast.bench.cli import main; main()", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
    out = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        patch.setattr(sys, "argv", ["weightcast", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def at_a_tiny_size(arguments: list[str], suites: Path) -> list[str]:
    """Name the tiny suite for one of ours, the first of several data sets, and one seed."""
    arguments = list(arguments)
    for option in ("--suite", "--datasets"):
        if option in arguments:
            place = arguments.index(option) + 1
            value = arguments[place].split(",")[0]
            tiny = option == "--suite" and value in suite_names()
            arguments[place] = str(suites / f"{value}.toml") if tiny else value
    if arguments[0] == "audit":
        arguments = [word for word in arguments if word not in ("--fresh", "12")]
        arguments += ["--fresh", "4"]
    if arguments[0] == "record" and "--seeds" not in arguments:
        arguments += ["--seeds", "0"]
    return arguments


def _trains(arguments: list[str]) -> bool:
    return arguments[0] in ("run", "record") and "--dry-run" not in arguments


def _value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def _verbs() -> dict[str, Any]:
    import typer

    from weightcast.bench.cli.app import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def parsed(arguments: list[str]) -> None:
    """Read a command's options; what is misspelt raises."""
    verb = _verbs()[arguments[0]]
    verb.make_context(arguments[0], arguments[1:])


@pytest.fixture(scope="module")
def tiny_suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write each suite of ours with one shipped data set, few methods and short runs."""
    folder = tmp_path_factory.mktemp("suites")
    methods = [MethodEntry(name=name) for name in ("last-value", "lfd2-ols")]
    loop = LoopSettings(
        steps=24, spacing=2, context=4, horizon=2, optimizers={"sgd": [0.1, 0.2, 0.4]},
        training=2, calibration=2, validation=3, report=3, measure_every=2, measured=64,
        widenings=0,
    )  # fmt: skip
    for name in suite_names():
        tiny: dict[str, Any] = {"datasets": ["digits-mlp-sgd"], "shifts": [], "contexts": [10]}
        tiny["methods"] = methods[1:] if name.startswith("loop") else list(methods)
        whole = load_suite(name)
        tiny["train_runs"] = [1, 3] if whole.train_runs else []
        if whole.train_runs:  # with the baseline that pages rank them against
            tiny["methods"] += [entry for entry in whole.methods if entry.params == {"weight": 0.0}]
        suite = whole.model_copy(update=tiny | {"loop": loop, "windows": []})
        (folder / f"{name}.toml").write_text(suite.to_toml(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs_done() -> dict[tuple[str, ...], Path]:
    return {}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in LONG else [])
        for p in PAGES
        if blocks(p)
    ],
)
def test_when_a_page_is_followed_then_every_block_works(
    page: Path,
    tmp_path: Path,
    tiny_suites: Path,
    runs_done: dict[tuple[str, ...], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEIGHTCAST_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(registry, "_DATASETS", all_datasets())
    reader = Reader(page, tmp_path, tiny_suites, runs_done)
    for block in blocks(page):
        reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_when_a_command_is_shown_then_its_verb_and_options_exist(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command)
        if words[0] == "weightcast":
            parsed(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_when_a_page_has_a_block_then_its_language_is_one_that_is_followed(page: Path) -> None:
    fences = re.findall(r"^\s*```+(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page)), "a block that is not closed, or is indented"
    assert {block.language for block in blocks(page)} <= {"python", "sh", "toml", "csv"}


def test_when_nothing_is_left_out_without_use_then_each_reason_is_needed() -> None:
    shown = [block.title or "" for page in PAGES for block in blocks(page)]
    shown += [command for page in PAGES for command in commands(page)]
    unused = [p for p in NOT_RUN if not any(re.search(p, text) for text in shown)]
    assert not unused


def test_when_the_readme_is_opened_then_it_takes_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_when_the_readme_links_to_a_file_then_it_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    gone = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert targets
    assert not gone


def section(page: str, heading: str) -> str:
    """Return the text below a heading, to the next of its level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    level = heading.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^{level} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"docs/{page} has no section '{heading}'"
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of tables whose first cell is code, by that code without its value."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = cells[1:]
    return found


def test_when_the_command_line_has_a_verb_or_option_then_it_is_documented() -> None:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\S+)$", text, re.MULTILINE)) == set(_verbs())
    for name, verb in _verbs().items():
        there = {o for p in verb.params if p.param_type_name == "option" for o in p.opts}
        said = {key.split()[0] for key in rows(section("command-line.md", f"## {name}"))}
        assert {key for key in said if key.startswith("--")} == there - {"--help"}, name


def test_when_a_method_is_registered_then_its_row_says_what_it_is() -> None:
    table = rows((DOCS / "methods.md").read_text(encoding="utf-8"))
    for name, cls in all_methods().items():
        assert name in table, f"docs/methods.md has no row for {name}"
        _, knows, tuned, reference, row, tested = table[name]
        assert knows == cls.get_class_tag("provenance"), name
        assert re.findall(r"`([^`]+)`", tuned) == list(cls.param_grid), name
        assert reference == (cls.get_class_tag("reference") or "—"), name
        assert row == cls.get_class_tag("implementation"), name
        assert row in IMPLEMENTATIONS, name
        assert tested == (cls.get_class_tag("tested_against") or "—"), name


def test_when_a_data_set_is_registered_then_its_row_says_what_it_is() -> None:
    table = rows((DOCS / "data-sets.md").read_text(encoding="utf-8"))
    for name, dataset in all_datasets().items():
        assert name in table, f"docs/data-sets.md has no row for {name}"
        assert table[name][:2] == [str(len(dataset.seeds)), dataset.description], name


def test_when_a_suite_comes_with_the_package_then_it_is_documented() -> None:
    text = (DOCS / "suites.md").read_text(encoding="utf-8")
    assert set(suite_names()) <= set(rows(text))


@pytest.mark.parametrize(
    ("model", "heading"),
    [(Suite, "## A suite of your own"), (Shift, "### shifts"), (LoopSettings, "### loop")],
)
def test_when_a_suite_has_a_key_then_its_row_says_what_the_model_takes(
    model: Any, heading: str
) -> None:
    text = section("suites.md", heading).partition("\n### ")[0]
    said = {name: cells[:2] for name, cells in rows(text).items()}
    assert said == {
        key.name: [key.takes, f"`{key.default}`" if key.default else ""] for key in keys_of(model)
    }


def test_when_a_result_has_a_column_then_it_is_documented() -> None:
    metrics = set(rows((DOCS / "metrics.md").read_text(encoding="utf-8")))
    assert {*WEIGHT_METRICS, *COMPUTE} <= metrics
    assert set(IDENTITY) <= set(re.findall(r"`([^`]+)`", section("files.md", "## Exports")))


@pytest.mark.parametrize("name", ["bench", "datasets", "methods", "reports"])
def test_when_a_name_is_public_then_the_reference_has_it(name: str) -> None:
    module = importlib.import_module(f"weightcast.{name}")
    public = getattr(module, "__all__", [])
    if public:  # of a package, the builder lists what its __all__ names
        text = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
        assert f"::: weightcast.{name}\n" in text
    assert not [n for n in public if not getattr(module, n).__doc__]


def released(file: str, dataset: str = "") -> dict[str, dict[str, str]]:
    with (PUBLISHED / file).open(encoding="utf-8", newline="") as opened:
        found = list(csv.DictReader(opened))
    return {row["method"]: row for row in found if not dataset or row["dataset"] == dataset}


def shown(row: dict[str, str] | None, value: str, sign: str, missing: str) -> str:
    if row is None or not row[value]:
        return missing
    numbers = (format(float(row[f"{value}{end}"]), sign) for end in ("", "_lower", "_upper"))
    point, low, high = (number.replace("-", "−") for number in numbers)
    return f"{point} [{low}, {high}]"


def listed() -> dict[str, list[str]]:
    """Return what the list of released tables says of each folder."""
    return rows((PUBLISHED / "README.md").read_text(encoding="utf-8"))


def test_when_tables_are_released_then_their_folder_is_listed_with_what_is_in_it() -> None:
    folders = {path.name for path in PUBLISHED.iterdir() if path.is_dir()}
    assert set(listed()) == {name for name in folders if not name.startswith("loop-")}
    for name, (rankings, *_) in listed().items():
        files = {path.name for path in (PUBLISHED / name).glob("*.csv")}
        assert set(re.findall(r"`([^`]+\.csv)`", rankings)) == files, name


@pytest.mark.parametrize("name", listed())
def test_when_a_ranking_is_released_then_metric_medians_suite_and_machine_are_told(
    name: str,
) -> None:
    rankings, suite, machine = listed()[name]
    datasets = load_suite(str(PUBLISHED / name / "suite.toml")).datasets
    assert "`suite.toml`" in suite
    written = PUBLISHED / name / "environment.json"
    assert machine == ("`environment.json`" if written.exists() else "not recorded")
    for path in (PUBLISHED / name).glob("*.csv"):
        table = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        if "skill" not in table[0] or "dataset" in table[0]:  # taken apart
            continue
        assert {(row["tier"], bool(row["metric"])) for row in table} in (
            {("weights", True)},
            {("function", True)},
        )
        medians = [column for column in table[0] if column.startswith("error of ")]
        told = {column.removeprefix("error of ").partition(",")[0] for column in medians}
        assert told <= set(datasets)
        assert bool(medians) == ("medians were not recorded" not in rankings), path.name


@pytest.mark.parametrize(
    ("name", "at"), [("field", ("skill", "skill_h5", "skill_last")), ("digits", ("skill",))]
)
def test_when_a_skill_is_shown_then_it_is_the_released_one(name: str, at: tuple[str, ...]) -> None:
    weights, function = released(f"{name}/weights.csv"), released(f"{name}/function.csv")
    table = rows(section("results.md", f"## {name}"))
    assert list(table) == list(weights)
    for method, cells in table.items():
        own = [shown(function.get(method), column, "+.2f", "—") for column in at]
        assert cells == [shown(weights[method], "skill", "+.2f", "—"), *own], method


def test_when_the_field_is_spoken_of_then_its_tables_say_so() -> None:
    weights, function = released("field/weights.csv"), released("field/function.csv")
    text = " ".join(section("results.md", "## field").split())
    assert f"All {len(weights)} methods and references" in text
    assert set(weights) == {*all_methods()}
    order = [m for m in weights if m in all_methods()]
    assert order[:3] == ["lfd-full", "dlinear", "lstm"]
    best = max(function, key=lambda m: float(function[m]["skill"]))
    assert best == "logit-scale"
    low = float(function[best]["skill_lower"])
    assert all(float(row["skill_upper"]) < low for m, row in function.items() if m != best)
    assert f"({float(weights[best]['skill']):+.2f})".replace("-", "−") in text
    forecasters = [m for m in function if all_methods()[m].get_class_tag("role") != "reference"]
    first = sorted(forecasters, key=lambda m: -float(function[m]["skill"]))[:6]
    assert set(first) == {
        "exponential", "fixed-step", "aitken", "lfd2-ols", "merge-line", "annealed",
    }  # fmt: skip
    last = max(forecasters, key=lambda m: float(function[m]["skill_last"]))
    assert last == "lfd2-ols"
    for method in ("bema", "weight-merge", "svd-line", "quadratic"):
        assert float(weights[method]["skill_upper"]) < 0
        assert float(function[method]["skill_upper"]) < 0


def test_when_skills_at_best_lengths_are_shown_then_they_are_the_released_ones() -> None:
    function, beside = released("lengths/function.csv"), released("lengths/beside-fixed-step.csv")
    table = rows(section("results.md", "## lengths"))
    assert set(table) == set(function)
    for method, cells in table.items():
        own = [shown(function[method], name, "+.2f", "—") for name in ("skill", "skill_length")]
        assert cells == [*own, shown(beside[method], "skill", "+.2f", "—")], method


def test_when_the_readme_shows_a_skill_then_it_is_the_released_one_on_common_sets() -> None:
    weights, function = released("quick/weights-digits.csv"), released("quick/function.csv")
    table = rows((ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(table) == set(weights)
    assert [method for method in table if method in function] == list(function)
    at = ("skill", "skill_h5", "skill_last")
    for method, cells in table.items():
        own = [shown(function.get(method), name, "+.2f", "—") for name in at]
        assert cells == [shown(weights[method], "skill", "+.2f", "—"), *own], method


def test_when_ratios_of_paper_few_are_shown_then_they_are_the_released_ones() -> None:
    lines = [
        line for line in section("results.md", "## paper-few").splitlines() if "| `paper" in line
    ]
    assert len(lines) == 7
    for line in lines:
        (place, runs, *cells) = [cell.strip() for cell in line.split("|")[1:-1]]
        suite, tier = place.replace("`", "").split(", ")
        found = released(f"{suite}/beside-weight-0-{tier}-train-{runs}.csv")
        for weight, cell in zip(("0.1", "1.0", "10.0", "100.0"), cells, strict=True):
            row = found[f"lfd2-grad(weight={weight})"]
            ratio = [
                format(1 - float(row[f"skill{end}"]), ".3f") for end in ("", "_upper", "_lower")
            ]
            assert cell == "{} [{}, {}]".format(*ratio), (place, runs, weight)


def check_correlations(name: str) -> None:
    """See that a section of the results shows the released correlations."""
    with (PUBLISHED / name / "correlations.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    lines = section("results.md", f"## {name}").splitlines()
    for dataset in {row["dataset"] for row in found}:
        shown_rows = [line for line in lines if line.startswith(f"| {dataset} |")]
        for line, among in zip(shown_rows, ("all", "beating"), strict=True):
            own = [row for row in found if (row["dataset"], row["among"]) == (dataset, among)]
            expected = [f"{shown(row, 'rho', '+.2f', '')}, {row['methods']} methods" for row in own]
            assert [cell.strip() for cell in line.split("|")[3:-1]] == expected


def test_when_correlations_of_gains_are_shown_then_they_are_the_released_ones() -> None:
    with (PUBLISHED / "quick" / "correlations.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    for name in ("quick", "digits"):
        check_correlations(name)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    beating = [row for row in found if row["among"] == "beating"]
    for horizon in ("h5", "last"):
        for row in beating:
            if row["horizon"] == horizon:
                assert format(float(row["rho"]), "+.2f").replace("-", "−") in readme
    apart = {
        (row["dataset"], row["horizon"])
        for row in found
        if not float(row["rho_lower"]) < 0 < float(row["rho_upper"])
    }
    assert apart == {("digits-mlp-sgd", "h20"), ("digits-mlp-sgd", "last")}
    assert "on `digits-mlp-sgd` the 95 % interval excludes 0 at 20 and the last" in readme


def check_ratio(cell: str, row: dict[str, str], where: object) -> None:
    """See that a cell, e.g. ``0.77 [0.74, 0.80], faster; sees 7 %``, is of a released row."""
    estimate, _, sees = cell.partition("; ")
    ratio, end, verdict = estimate.partition("]")
    verdict = verdict.removeprefix(", ")
    assert ratio + end == shown(row, "ratio", ".2f", ""), where
    assert (verdict or "not distinguishable") == row["verdict"].partition(":")[0], where
    if sees:
        assert sees == f"sees {math.ceil(100 * float(row['smallest_saving']))} %", where


@pytest.mark.parametrize("readout", ["raw", "average"])
def test_when_a_ratio_of_loop_factors_is_shown_then_it_is_the_released_one(readout: str) -> None:
    raw, _, average = section("results.md", "## loop-factors").partition("moving average")
    pools = rows(raw if readout == "raw" else average)
    assert set(pools) == {folder.name for folder in (PUBLISHED / "loop-factors").iterdir()}
    for pool, cells in pools.items():
        found = released(f"loop-factors/{pool}/train-loss-{readout}.csv", "digits-mlp-sgd")
        methods = ("ols-line", "denoise-only", "lookahead", "null")
        for method, cell in zip(methods, cells[1:], strict=True):
            check_ratio(cell, found[method], (pool, method))


def test_when_a_ratio_of_loop_quick_is_shown_then_it_is_the_released_one() -> None:
    datasets = ("digits-mlp-sgd", "digits-cnn-sgd")
    columns = [
        released(f"loop-quick/train-loss-{readout}.csv", dataset)
        for dataset in datasets
        for readout in ("raw", "average")
    ]
    table = rows(section("results.md", "## loop-quick"))
    assert set(table) == set(columns[0])
    for method, cells in table.items():
        for cell, column in zip(cells, columns, strict=True):
            check_ratio(cell, column[method], method)


def test_when_a_ratio_of_loop_lengths_is_shown_then_it_is_the_released_one() -> None:
    columns = [
        released(f"{suite}/train-loss-{readout}.csv", "digits-mlp-sgd")
        for suite in ("loop-lengths", "loop-lengths-whole")
        for readout in ("raw", "average")
    ]
    table = rows(section("results.md", "## loop-lengths"))
    assert set(table) == set(columns[0])
    for method, cells in table.items():
        for cell, column in zip(cells, columns, strict=True):
            check_ratio(cell, column[method], method)


def test_when_a_ratio_of_loop_logits_is_shown_then_it_is_the_released_one() -> None:
    raw, average = (
        released(f"loop-logits/train-loss-{readout}.csv", "digits-mlp-sgd")
        for readout in ("raw", "average")
    )
    table = rows(section("results.md", "## loop-logits"))
    assert set(table) == set(raw) == set(average)
    for method, cells in table.items():
        for cell, column in zip(cells, (raw, average), strict=True):
            check_ratio(cell, column[method], method)
    for method in ("logit-scale", "line-search"):
        assert raw[method]["verdict"] == "slower"
        assert float(average[method]["ratio_lower"]) > 1
    base = released("loop-factors/base/train-loss-raw.csv", "digits-mlp-sgd")
    assert raw["ols-line"]["ratio"][:4] == base["ols-line"]["ratio"][:4]
    with (PUBLISHED / "loop-logits" / "jumps.csv").open(encoding="utf-8", newline="") as file:
        gains = {
            (row["optimizer"], float(row["learning_rate"]), int(row["step"])): float(
                row["median_gain"]
            )
            for row in csv.DictReader(file)
            if row["method"] == "logit-scale"
        }
    text = " ".join(section("results.md", "## loop-logits").split())
    first = {at[:2]: gain for at, gain in gains.items() if at[2] == 90}
    assert [round(100 * first[at]) for at in (("sgd", 0.3375), ("sgd", 1.139))] == [31, 0]
    assert [round(100 * first[at]) for at in (("adam", 0.01013), ("adam", 0.03417))] == [23, 7]
    assert "by 31 % at SGD's lowest rate" in text
    for optimizer, most in (("sgd", 5), ("adam", 10)):
        third = [gain for at, gain in gains.items() if at[0] == optimizer and at[2] == 270]
        assert round(100 * max(third)) == most


def test_when_a_ratio_of_loop_readout_is_shown_then_it_is_the_released_one() -> None:
    hard, _, easy = section("results.md", "## loop-readout").partition("To the easy target")
    for text, target in ((hard, ""), (easy, "easy-")):
        columns = [
            released(f"loop-readout/{target}train-loss-{readout}.csv", dataset)
            for dataset in ("digits-mlp-sgd", "digits-mlp-batch-8")
            for readout in ("raw", "tuned")
        ]
        table = rows(text)
        assert set(table) == set(columns[0])
        for method, cells in table.items():
            for cell, column in zip(cells, columns, strict=True):
                check_ratio(cell, column[method], method)


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for file in PUBLISHED.glob("loop*/**/*.csv")}),
    ids=lambda folder: str(folder.relative_to(PUBLISHED)),
)
def test_when_tables_of_the_loop_tier_are_released_then_suite_and_environment_lie_beside(
    folder: Path,
) -> None:
    suite = tomllib.loads((folder / "suite.toml").read_text(encoding="utf-8"))
    own = folder / "recipes.py"  # a plugin of recipes that are no data sets of ours
    more = re.findall(r'_recipe\("([^"]+)"', own.read_text("utf-8")) if own.exists() else []
    assert set(suite["datasets"]) <= {*all_datasets(), *more}
    assert suite["loop"]["optimizers"] == load_suite(suite["name"]).loop.optimizers
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert f"--suite {suite['name']} " in environment["command"]
    for file in set(folder.glob("*.csv")) - {folder / "jumps.csv"}:
        with file.open(encoding="utf-8", newline="") as opened:
            found = list(csv.DictReader(opened))
        assert {(row["metric"].replace("_", "-"), row["readout"]) for row in found} == {
            tuple(file.stem.removeprefix("easy-").rsplit("-", 1))
        }
        assert {row["dataset"] for row in found} == {*suite["datasets"], "pooled"}


SIZES = (
    "digits-mlp-sgd", "digits-mlp-adam", "digits-cnn-sgd", "digits-cnn-adam", "fashion-mlp-sgd",
    "fashion-mlp-adam",
)  # fmt: skip


def _by_dataset(name: str) -> dict[tuple[str, str], dict[str, str]]:
    with (PUBLISHED / "sizes" / name).open(encoding="utf-8", newline="") as file:
        return {(row["method"], row["dataset"]): row for row in csv.DictReader(file)}


def test_when_skills_by_size_are_shown_then_they_are_the_released_ones() -> None:
    text = section("results.md", "## sizes")
    _, weights, rest = text.split("<!-- table: sizes/", 2)
    function, length = rest.split("<!-- table: sizes/function-by-dataset.csv -->")
    length = length.partition("<!-- table: sizes/logit-scale")[0]
    for part, file, name in (
        (weights, "weights-by-dataset.csv", "skill"),
        (function, "function-by-dataset.csv", "skill"),
        (length, "function-by-dataset.csv", "skill_length"),
    ):
        found, table = _by_dataset(file), rows(part)
        assert len(table) >= 9
        for method, cells in table.items():
            assert cells == [shown(found[method, d], name, "+.2f", "—") for d in SIZES], method


def test_when_larger_logits_are_held_beside_forecasts_then_the_released_rows_say_so() -> None:
    function, scaled = map(_by_dataset, ("function-by-dataset.csv", "logit-scale-by-dataset.csv"))
    text = section("results.md", "## sizes").partition("sizes/logit-scale-by-dataset.csv")[2]
    shown_here = [shown(scaled["logit-scale", d], "skill", "+.2f", "—") for d in SIZES]
    assert rows(text)["logit-scale"] == shown_here

    def above(at: str) -> set[tuple[str, str]]:
        return {
            (m, d)
            for (m, d), row in function.items()
            if row[f"skill{at}"]
            and float(row[f"skill{at}"]) > float(scaled["logit-scale", d]["skill"])
        }

    for at in ("", "_h5", "_h10", "_h20", "_last"):
        assert above(at) <= {("snapshot-average", "fashion-mlp-adam")}, at
    average, base = function["snapshot-average", SIZES[-1]], scaled["logit-scale", SIZES[-1]]
    assert float(average["skill"]) - float(base["skill"]) == pytest.approx(0.004, abs=5e-4)
    assert float(average["skill_lower"]) < 0
    assert {d for _, d in above("_length")} == set(SIZES[4:])
    for d, more in zip(SIZES[4:], (0.02, 0.03), strict=True):
        best = float(function["merge-line", d]["skill_length"])
        assert best - float(scaled["logit-scale", d]["skill_length"]) == pytest.approx(
            more, abs=5e-3
        )
    # The recordings were made anew for it: what both runs have is the same.
    for d in SIZES:
        both = [float(found["line-search", d]["skill"]) for found in (function, scaled)]
        assert both[0] == pytest.approx(both[1], abs=1e-6)


def test_when_something_is_said_of_larger_networks_then_it_is_released() -> None:
    weights, function = (_by_dataset(f"{tier}-by-dataset.csv") for tier in ("weights", "function"))
    large = ("fashion-mlp-sgd", "fashion-mlp-adam")
    most = [
        float(row[f"skill_{at}"])
        for (_, dataset), row in function.items()
        for at in ("h5", "h10", "h20", "last")
        if dataset in large
    ]
    assert max(most) == pytest.approx(0.008, abs=5e-4)
    forecasts = [
        (float(row[f"skill_{at}_lower"]), float(row[f"skill_{at}_upper"]))
        for (method, dataset), row in function.items()
        for at in ("h5", "h10", "h20", "last")
        if dataset in large and method not in ("last-value", "line-search", "oracle-line")
    ]
    assert all(lower <= 0 for lower, _ in forecasts)
    assert max(upper for _, upper in forecasts) == pytest.approx(0.052, abs=5e-4)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    nearest = [max((float(weights[m, d]["skill"]), m) for m, e in weights if e == d) for d in large]
    assert {method for _, method in nearest} == {"lstm"}
    assert " and ".join(f"{skill:+.2f}" for skill, _ in nearest) in readme
    assert all(float(function["lfd2", d]["skill_upper"]) < 0 for d in large)


def test_when_skills_on_lstms_are_shown_then_they_are_the_released_ones() -> None:
    found = _by_dataset("lstm-by-dataset.csv")
    text = section("results.md", "## sizes").partition("lstm-by-dataset.csv")[2]
    table = rows(text)
    assert set(table) == {method for method, _ in found} - {"last-value"}
    at = [
        (dataset, name)
        for dataset in ("fashion-lstm-sgd", "fashion-lstm-adam")
        for name in ("skill", "skill_length")
    ]
    for method, cells in table.items():
        assert cells == [shown(found[method, d], name, "+.2f", "—") for d, name in at], method
    forecasts = [
        row for (method, _), row in found.items() if method in table and method != "line-search"
    ]
    assert all(float(row["skill_h5"]) < 0 for row in forecasts)


def test_when_lfd2_is_held_beside_its_peers_then_the_counts_are_those_released() -> None:
    weights, function = (_by_dataset(f"{tier}-by-dataset.csv") for tier in ("weights", "function"))

    def ahead(found: dict[tuple[str, str], dict[str, str]], peer: str) -> int:
        """Count the sets on which the farcaster is above a peer."""
        return sum(float(found["lfd2", d]["skill"]) > float(found[peer, d]["skill"]) for d in SIZES)

    for peer in ("introspection", "wnn"):
        assert (ahead(weights, peer), ahead(function, peer)) == (1, 6)
    assert ahead(function, "last-value") == 3
    for found in (weights, function):
        for d in SIZES:
            plain, regular = (found[m, d]["skill"] for m in ("lfd2-grad(weight=0.0)", "lfd2-grad"))
            assert abs(float(plain) - float(regular)) < 0.003
    text = section("results.md", "## sizes")
    assert "on five, in function `lfd2` is above both on all six, though on three of them" in text


def _size_or_noise(name: str) -> dict[tuple[str, str], dict[str, str]]:
    with (PUBLISHED / "size-or-noise" / name).open(encoding="utf-8", newline="") as file:
        return {(row.get("method", ""), row["dataset"]): row for row in csv.DictReader(file)}


def test_when_one_thing_is_changed_then_its_row_is_the_released_one() -> None:
    weights, function, shares = map(
        _size_or_noise, ("weights-by-dataset.csv", "function-by-dataset.csv", "shares.csv")
    )
    table = rows(section("results.md", "## size-or-noise"))
    assert list(table) == [
        *("digits-mlp-sgd", "digits-mlp-batch1024-sgd", "digits-mlp-batch4-sgd"),
        *("digits-mlp-wide-sgd", "digits-mlp-late-sgd", "digits-mlp-fast-sgd"),
        *("fashion-mlp-sgd", "fashion-mlp-narrow-sgd", "fashion-mlp-batch1024-sgd"),
        *("fashion-mlp-early-sgd", "fashion-mlp-slow-sgd", "fashion-mlp-few-sgd"),
    ]
    for dataset, (_, lasts, to_fall, nearer, *better) in table.items():
        share = shares["", dataset]
        early, late, fall = (
            float(share[key]) for key in ("share_early", "share_late", "fall_late")
        )
        assert (lasts, to_fall) == (f"{early:.2f}, {late:.2f}", f"{fall:.2f}"), dataset
        assert nearer == shown(weights["lstm", dataset], "skill", "+.2f", "—"), dataset
        assert better == [
            shown(function[method, dataset], "skill", "+.2f", "—")
            for method in ("lstm", "lfd2", "line-search", "logit-scale")
        ], dataset


def test_when_it_is_said_what_decides_then_the_released_rows_say_so() -> None:
    function, shares = map(_size_or_noise, ("function-by-dataset.csv", "shares.csv"))
    sets = [dataset for _, dataset in shares]
    digits = [dataset for dataset in sets if dataset.startswith("digits")]
    early, few, quiet = (f"fashion-mlp-{name}-sgd" for name in ("early", "few", "batch1024"))
    still = [dataset for dataset in sets if dataset not in (*digits, early)]

    def skill(method: str, dataset: str, at: str = "") -> float:
        return float(function[method, dataset][f"skill{at}"])

    def ends(method: str, datasets: list[str]) -> list[float]:
        found = [skill(method, dataset) for dataset in datasets]
        return [round(min(found), 2), round(max(found), 2)]

    assert ends("logit-scale", digits) == [0.34, 0.45]
    assert ends("lfd2", digits) == [0.25, 0.35]
    assert ends("logit-scale", still) == [0.01, 0.03]
    assert all(float(function["lfd2", dataset]["skill_upper"]) < 0 for dataset in still)
    assert [round(skill(m, early), 2) for m in ("logit-scale", "lfd2")] == [0.18, 0.11]
    assert round(float(shares["", few]["fall_late"]), 2) == 0.71
    assert shown(function["lfd2", few], "skill", "+.2f", "—") == "−0.20 [−0.26, −0.15]"
    fast = shown(function["lfd2", "digits-mlp-fast-sgd"], "skill", "+.2f", "—")
    assert fast == "+0.25 [+0.19, +0.27]"
    above = {m for (m, d), row in function.items() if d == quiet and float(row["skill_lower"]) > 0}
    assert above <= {"line-search", "logit-scale"}
    for at in ("", "_h5", "_h10", "_h20", "_last"):
        better = {(m, d) for m, d in function if skill(m, d, at) > skill("logit-scale", d, at)}
        assert {d for _, d in better} == {"digits-mlp-batch1024-sgd"}, at
    near = ("damped-line", "lstm", "introspection")
    for dataset, ahead in (("digits-mlp-batch1024-sgd", True), ("digits-mlp-batch4-sgd", False),
                           ("digits-mlp-sgd", False)):  # fmt: skip
        for method in near:
            assert (skill(method, dataset) > skill("lfd2", dataset)) is ahead, method
    least = min(float(function[m, "digits-mlp-batch1024-sgd"]["skill"]) for m in near)
    assert least > skill("logit-scale", "digits-mlp-batch1024-sgd")
    said = shown(function["merge-line", "fashion-mlp-sgd"], "skill_length", "+.2f", "—")
    assert said == "+0.03 [+0.02, +0.07]"
    others, scaled = map(_by_dataset, ("function-by-dataset.csv", "logit-scale-by-dataset.csv"))
    beaten = {d for m, d in function if skill(m, d) > skill("logit-scale", d)}
    beaten |= {
        d for (_, d), row in others.items()
        if float(row["skill"]) > float(scaled["logit-scale", d]["skill"])
    }  # fmt: skip
    kinds = _networks("function")
    beaten |= {d for m, d in kinds if _skill_of(kinds, m, d) > _skill_of(kinds, "logit-scale", d)}
    all_ = {*sets, *SIZES, *NETWORKS}
    average = {d for d in beaten if d != "digits-mlp-batch1024-sgd"}
    assert average == {"fashion-mlp-adam", "fashion-cnn-sgd", "austen-transformer-adam"}
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"on {len(all_ - beaten)} of {len(all_)} sets no method gains more than multi" in readme


NETWORKS = (
    "digits-mlp-momentum-cosine", "digits-transformer-sgd", "digits-transformer-adam",
    "fashion-cnn-sgd", "fashion-resnet8-sgd", "austen-transformer-adam",
)  # fmt: skip


def _networks(tier: str) -> dict[tuple[str, str], dict[str, str]]:
    path = PUBLISHED / "networks" / f"{tier}-by-dataset.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["method"], row["dataset"]): row for row in csv.DictReader(file)}


def _skill_of(table: dict[tuple[str, str], dict[str, str]], method: str, dataset: str) -> float:
    return float(table[method, dataset]["skill"])


def test_when_skills_on_other_networks_are_shown_then_they_are_the_released_ones() -> None:
    text = section("results.md", "## networks")
    shares, weights, function = text.split("<!-- table: networks/")
    with (PUBLISHED / "networks" / "shares.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            said = [f"{int(row['coordinates']):,}", row["runs"]]
            said += [f"{float(row[name]):.2f}" for name in ("share_late", "fall_late")]
            assert rows(shares)[row["dataset"]] == said
    for part, tier in ((weights, "weights"), (function, "function")):
        found, table = _networks(tier), rows(part)
        assert {*table, "last-value"} == {method for method, _ in found}
        for method, cells in table.items():
            own = [shown(found[method, d], "skill", "+.2f", "—") for d in NETWORKS]
            assert cells == own, method
    near, works = _networks("weights"), _networks("function")
    gains = [_skill_of(near, "lfd2", d) for d in NETWORKS]
    assert [round(100 * gain) for gain in (min(gains), max(gains))] == [3, 29]
    assert all(_skill_of(near, "lstm", d) > _skill_of(near, "lfd2", d) for d in NETWORKS)
    forecasters = {m for m, _ in works} - {"last-value", "line-search", "logit-scale"}
    clear = {
        d for d in NETWORKS for m in forecasters - {"snapshot-average"}
        if float(works[m, d]["skill_lower"]) > 0
    }  # fmt: skip
    assert clear == {"digits-mlp-momentum-cosine"}
    ahead = {
        (m, d) for d in NETWORKS for m in forecasters
        if _skill_of(works, m, d) > _skill_of(works, "logit-scale", d)
    }  # fmt: skip
    assert ahead == {("snapshot-average", d) for d in ("fashion-cnn-sgd", NETWORKS[-1])}
    for (method, dataset), points in zip(sorted(ahead), (0.2, 1.3), strict=True):
        more = _skill_of(works, method, dataset) - _skill_of(works, "logit-scale", dataset)
        assert round(100 * more, 1) == points


def test_when_the_share_of_a_step_that_lasts_is_shown_then_it_is_released() -> None:
    with (PUBLISHED / "sizes" / "shares.csv").open(encoding="utf-8", newline="") as file:
        found = {row["dataset"]: row for row in csv.DictReader(file)}
    text = section("results.md", "## sizes")
    for name, row in found.items():
        size, share = f"{int(row['coordinates']):,}", f"{float(row['share_late']):.2f}"
        assert f"| `{name}` | {size} | {share} |" in text
    for by in ("sgd", "adam"):  # these ship
        shipped = get_dataset(f"digits-mlp-{by}")
        measured = drift_shares([shipped.run(seed) for seed in shipped.seeds])["late"]
        assert measured == pytest.approx(float(found[shipped.name]["share_late"]), rel=1e-6)


def test_when_fine_tunes_are_spoken_of_then_every_number_is_a_released_one() -> None:
    def table(name: str) -> list[dict[str, str]]:
        with (PUBLISHED / "fine-tunes" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    weights, function = (
        {row["method"]: row for row in table(f"{tier}.csv")} for tier in ("weights", "function")
    )
    cells = table("cells.csv")

    def seconds(method: str, column: str) -> str:
        found = [float(r[column]) for r in cells if r["method"] == method and r[column]]
        return f"{statistics.median(found):.1f}" if found else "—"

    text = section("results.md", "## fine-tunes")
    told = rows(text)
    assert set(told) == set(weights) - {"last-value"} == set(function) - {"last-value"}
    for method, said in told.items():
        of = function[method]
        assert said == [
            shown(weights[method], "skill", "+.3f", "—"),
            *(shown(of, f"skill{at}", "+.3f", "—") for at in ("", "_h5", "_h20")),
            seconds(method, "fit_seconds"),
            seconds(method, "predict_seconds"),
        ], method
    network = [row for row in cells if row["tier"] == "function" and row["status"] == "ok"]
    falls, gains = [], []
    for row in network:
        origin = float(row["train_loss_origin"])
        if row["method"] == "last-value":
            falls.append(1 - float(row["true_train_loss_h20"]) / origin)
            assert 400 * float(row["seconds_per_step"]) == pytest.approx(12, abs=0.5)
        if row["method"] == "line-search":
            assert row["train_loss_h20"] == row["train_loss_h5"]
            assert float(row["train_loss_h20"]) == pytest.approx(origin, rel=1e-6)
        if row["method"] == "logit-scale":
            gains.append(1 - float(row["train_loss_h20"]) / origin)
    assert [round(100 * share) for share in (min(falls), max(falls))] == [33, 62]
    assert round(100 * statistics.mean(falls)) == 49
    assert round(100 * max(gains), 1) == 0.2
    assert sum(gain > 1e-5 for gain in gains) == 2
    slow = {row["method"]: row["reason"] for row in cells if row["status"] != "ok"}
    assert list(slow) == ["lfd2"]
    assert "240 s" in slow["lfd2"]
    for tier, most in (("weights", 0.02), ("function", 0.05)):
        found = _by_dataset(f"{tier}-by-dataset.csv")
        for d in SIZES:
            one, other = (float(found[m, d]["skill"]) for m in ("lfd2", "lfd2-ols"))
            assert abs(one - other) < most
