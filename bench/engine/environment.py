"""`environment.json`: on what and with what the results were made."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from weightcast.bench.engine.store.stored import MachineRecord, first_fault
from weightcast.bench.privacy import command_without_folders
from weightcast.datasets.errors import InputError
from weightcast.datasets.files.partial_file import write_text

NAME = "environment.json"

PACKAGES = (
    "weightcast", "numpy", "scipy", "torch", "scikit-learn", "statsmodels", "sktime", "pandas",
    "scikit-base", "pebble", "distributed",
)  # fmt: skip


@functools.cache
def describe_machine(device: str = "cpu") -> str:
    """Describe what numbers and seconds depend on here, as JSON without names of hosts or users.

    It stands with every fit and cell, so a result folder knows when machines or versions are mixed
    in it. Of a GPU it speaks where the run used one, as ``device`` says.
    """
    import psutil

    machine = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }
    if device != "cpu":
        machine["gpu"] = _gpu_name()
    return json.dumps(machine, sort_keys=True)


def describe_environment(
    command: list[str], jobs: int, threads: int, device: str = "cpu", **settings: Any
) -> dict[str, Any]:
    """Describe the machine, the command line and how the workers are held."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"weightcast {command_without_folders(command)}",
        **json.loads(describe_machine(device)),
        "jobs": jobs,
        "threads_per_worker": threads,
        **settings,
    }


class Environment(MachineRecord):
    """What ``environment.json`` holds."""

    written: str = ""
    command: str = ""
    jobs: int | None = None
    threads_per_worker: int | None = None
    earlier: list[dict[str, Any]] = Field(default_factory=list)


def read_environment(folder: Path) -> dict[str, Any]:
    """Read ``environment.json``; empty where there is none.

    Raises
    ------
    InputError
        If it is not as `write_environment` writes it.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        Environment.model_validate(found)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    assert isinstance(found, dict)
    return found


def write_environment(folder: Path, environment: dict[str, Any]) -> None:
    """Write ``environment.json``, keeping what earlier runs into the folder said in ``earlier``."""
    before = read_environment(folder)
    earlier = [*before.pop("earlier", []), before] if before else []
    write_text(folder / NAME, json.dumps(environment | {"earlier": earlier}, indent=2) + "\n")


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is damaged: {why}; take it from a copy, or take it away: no result is lost"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _commit() -> str | None:
    """The project's commit, where it runs from a checkout or from an environment inside one."""
    folder = Path(__file__).parent
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An environment may lie in somebody else's repository, whose commit says nothing of ours.
    if top is None or not (Path(top) / "bench" / "engine" / Path(__file__).name).is_file():
        return None
    return _git(folder, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
