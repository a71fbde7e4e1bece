"""`weightcast doctor`, and names that a shell completes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weightcast.bench.cli import completion
from weightcast.bench.cli.app import app
from weightcast.bench.commands import doctor
from weightcast.datasets import InputError


def fine() -> str:
    return "fine"


def not_here() -> str:
    raise doctor._NotHere("is not installed")


def crashes() -> str:
    raise OSError("libfoo.so:\nno such file")


@pytest.mark.parametrize(
    ("needed", "tried", "status", "works"),
    [
        (True, fine, "ok", True),
        (False, not_here, "not here", True),
        (False, crashes, "broken", True),
        (True, not_here, "not here", False),
        (True, crashes, "broken", False),
    ],
)
def test_when_something_is_amiss_then_only_what_is_needed_ends_with_one(
    monkeypatch: pytest.MonkeyPatch, needed: bool, tried: object, status: str, works: bool
) -> None:
    probe = doctor._Probe("part", needed, "a purpose", "mend it so", tried)  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "_basis", lambda data: [probe])
    monkeypatch.setattr(doctor, "_libraries", list)
    monkeypatch.setattr(doctor, "_optional", list)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == (0 if works else 1)
    assert ("mend it so" in done.output) == (status != "ok")
    assert ("does not work: part" in done.output) == (not works)
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    assert as_json.exit_code == done.exit_code
    found = json.loads(as_json.stdout)
    assert found["works"] is works
    assert [one["status"] for one in found["findings"]] == [status]
    assert "\n" not in found["findings"][0]["found"]


def test_when_a_folder_cannot_be_written_then_it_is_broken_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    assert doctor._writable(tmp_path / "a" / "b").startswith(f"{tmp_path / 'a' / 'b'} (yet to be")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        doctor._writable(tmp_path / "file" / "data")


def test_when_a_library_is_old_or_gone_then_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._library("numpy", "numpy>=2.0")
    with pytest.raises(RuntimeError, match=r"is older than 999"):
        doctor._library("numpy", "numpy>=999")
    with pytest.raises(doctor._NotHere):
        doctor._library("no-such-distribution", "no-such-distribution")
    assert doctor._release("2.13.0+cpu") > doctor._release("2.4") == doctor._release("2.4.0")


def test_when_there_is_no_fork_server_then_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "weightcast.bench.engine.processes.worker.Worker.call", lambda *_, **__: 1024
    )
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    assert "no fork server" in doctor._worker()


@pytest.mark.slow
def test_when_the_doctor_is_asked_then_all_is_tried_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weightcast.bench", "doctor", "--json", "--data", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert {"worker processes", "torch", "CUDA", "cluster", "language", "figures"} <= set(found)
    assert found["data folder"]["found"].startswith(str(tmp_path))
    assert all(one["mend"] for one in found.values() if one["status"] != "ok")


def test_when_a_name_is_begun_then_it_is_completed() -> None:
    assert completion.suites("quick") == ["quick"]
    assert completion.methods("lfd2,lfd2-") == ["lfd2,lfd2-grad", "lfd2,lfd2-ols"]
    assert "lfd2,lfd2" not in completion.methods("lfd2,lfd")
    assert completion.datasets("digits-mlp-s") == ["digits-mlp-sgd"]
    assert completion.datasets("no-such") == []


def test_when_a_shell_completes_then_verbs_and_names_come() -> None:
    bash, script = shutil.which("bash"), Path(sys.executable).with_name("weightcast")
    if bash is None or not script.exists():
        pytest.skip("needs bash and the installed script")
    asked = (
        'eval "$(weightcast --show-completion bash)"\n'
        "for words in 'weightcast do' 'weightcast run --suite paper-few-'; do\n"
        "COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
        '_weightcast_completion weightcast; echo "${COMPREPLY[*]}"\n'
        "done"
    )
    done = subprocess.run(
        [bash, "-c", asked], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout.split("\n") == ["doctor", "paper-few-digits", ""]
