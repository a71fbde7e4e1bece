"""Arguments that cannot be: one line with what would do, exit status 2, and nothing was done."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands import arguments, record
from weightcast.datasets import InputError, get_dataset
from weightcast.datasets.files.stacked import write_stacked


def _refused(*words: object) -> str:
    """Run a verb in this process; return the one line with which it is refused."""
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="weightcast")
    assert done.exit_code == 2, (words, done.output, done.exception)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, (words, lines)
    assert lines[0].startswith("weightcast: ")
    return lines[0]


NUMBERS = {
    "--timeout": (["nan", "-nan", "inf", "-inf", "0", "-0.0", "-1", "1e300", "4e7"], "31,622,400"),
    "--jobs": (["0", "-1", str(10**20), str(-(10**20)), "4097"], "1 to 4,096"),
    "--max-memory": (["0", "-5", "1", "199", str(10**20), str(10**10)], "200 to 1,000,000,000"),
}


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [(option, value, says) for option, (values, says) in NUMBERS.items() for value in values],
)
def test_when_a_number_of_run_is_out_of_range_then_the_range_is_named(
    option: str, value: str, says: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = _refused("run", "--suite", "quick", "--out", out, f"{option}={value}")
    assert option in said
    assert says in said
    assert not out.exists()


@pytest.mark.parametrize("option", ["--methods", "--datasets"])
@pytest.mark.parametrize("value", ["", ",", "  ", " , ,"])
def test_when_no_name_is_given_then_it_is_said(option: str, value: str, tmp_path: Path) -> None:
    said = _refused("run", "--suite", "quick", "--out", tmp_path / "out", option, value)
    assert f"{option} names none" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", str(-(10**20)), "100001", str(10**20)])
def test_when_a_horizon_is_out_of_range_then_the_range_is_named(value: str, tmp_path: Path) -> None:
    said = _refused(
        "forecast", "no-such-run", "--method", "last-value", f"--horizon={value}",
        "--out", tmp_path / "x.safetensors",
    )  # fmt: skip
    assert "--horizon" in said
    assert "1 to 100,000 snapshots" in said


@pytest.mark.parametrize("value", ["0", "-1", "61", str(10**20), str(-(10**20))])
def test_when_a_context_is_out_of_range_then_the_range_is_named(value: str, tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(get_dataset("digits-mlp-sgd").run(0), path)
    said = _refused(
        "forecast", path, "--method", "last-value", "--horizon", 3, f"--context={value}",
        "--out", tmp_path / "x.safetensors",
    )  # fmt: skip
    assert "a context is 1 to 60" in said
    assert [file.name for file in tmp_path.iterdir()] == ["0.safetensors"]


#: Each verb that writes, with the place for what it writes.
WRITES = {
    "run": ("run", "--suite", "quick", "--methods", "last-value", "--out", "OUT"),
    "leaderboard": ("leaderboard", "errors.csv", "--csv", "OUT"),
    "report": ("report", "results", "--out", "OUT"),
    "export": ("export", "results", "OUT"),
    "merge": ("merge", "results", "--out", "OUT"),
    "record": ("record", "digits-mlp-sgd", "--out", "OUT"),
    "import": ("import", "checkpoints", "--out", "OUT"),
    "forecast": ("forecast", "run", "--method", "last-value", "--horizon", "3", "--out", "OUT"),
}


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("place", ["file/x.safetensors", "file/a/b/x.csv", f"{'n' * 300}.csv"])
def test_when_nothing_can_be_written_there_then_it_is_said_first(
    verb: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    said = _refused(*(place if word == "OUT" else word for word in WRITES[verb]))
    assert "is not a folder" in said or "is no name for a file" in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("verb", ["leaderboard", "report", "export", "import"])
def test_when_a_file_is_to_be_written_and_a_folder_named_then_it_is_said(
    verb: str, tmp_path: Path
) -> None:
    said = _refused(*(tmp_path if word == "OUT" else word for word in WRITES[verb]))
    assert "is a folder" in said


@pytest.mark.parametrize("verb", ["run", "merge", "record", "forecast"])
def test_when_a_folder_is_to_be_written_and_a_file_named_then_it_is_said(
    verb: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    said = _refused(*(file if word == "OUT" else word for word in WRITES[verb]))
    assert "is a file; name a folder" in said


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--suite", "quick", "--out", "OUT", "--data"),
        ("run", "--suite", "quick", "--out", "OUT", "--skip-missing", "--data"),
        ("info", "digits-mlp-sgd", "--data"),
        ("fetch", "austen", "--from"),
    ],
)
@pytest.mark.parametrize("what", ["nothing", "file", f"{'n' * 300}"])
def test_when_a_folder_to_read_is_not_there_then_it_is_said(
    words: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    out = tmp_path / "out"
    said = _refused(*(out if word == "OUT" else word for word in words), tmp_path / what)
    assert ("is a file" if what == "file" else "is not there") in said
    assert not out.exists()


@pytest.mark.parametrize(
    "text", ["timeout = nan", "timeout = inf", "timeout = -1", f"jobs = {10**20}", "jobs = 0"]
)
def test_when_a_suite_has_such_a_number_then_its_key_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'name = "s"\ndatasets = ["linreg-gd"]\nmethods = ["last-value"]\n{text}\n', "utf-8"
    )
    said = _refused("run", "--suite", path, "--out", tmp_path / "out")
    assert text.partition(" ")[0] in said


@pytest.mark.parametrize("value", ["-1", str(2**63), str(-(2**70))])
def test_when_a_seed_is_no_seed_then_the_range_is_named(value: str, tmp_path: Path) -> None:
    said = _refused("import", tmp_path, "--out", tmp_path / "x.safetensors", f"--seed={value}")
    assert "--seed" in said


@pytest.mark.parametrize("value", ["0", "-3", str(10**20)])
def test_when_record_is_to_have_so_many_workers_then_the_range_is_named(value: str) -> None:
    assert "1 to 4,096" in _refused("record", "digits-mlp-sgd", f"--jobs={value}")


def test_when_workers_would_have_no_memory_to_start_in_then_fewer_are_named() -> None:
    with pytest.raises(InputError, match=r"--jobs 11: .* for 10 worker processes .* 1 to 10"):
        arguments.check_jobs("--jobs", 11, memory=10 * 200 * 10**6)
    arguments.check_jobs("--jobs", 10, memory=10 * 200 * 10**6)
    arguments.check_jobs("--jobs", 1, memory=10**6)


def test_when_any_number_is_drawn_then_it_is_taken_or_refused_in_one_line() -> None:
    draw = random.Random(0)
    for _ in range(300):
        value = draw.choice([-1, 1]) * draw.random() * 10.0 ** draw.randint(-20, 30)
        for check, given, good in (
            (arguments.check_seconds, value, 0 < value <= arguments.MOST_SECONDS),
            (arguments.check_jobs, int(value), 1 <= int(value) <= arguments.MOST_JOBS),
            (arguments.check_memory, int(value), 200 <= int(value) <= arguments.MOST_MEMORY),
            (arguments.check_horizon, int(value), 1 <= int(value) <= arguments.MOST_HORIZON),
        ):
            if good:
                check("--option", given)
            else:
                with pytest.raises(InputError) as caught:
                    check("--option", given)
                assert len(str(caught.value).splitlines()) == 1
    assert record.parse_seeds("0-3,7") == [0, 1, 2, 3, 7]
