"""`weightcast doctor`: what is installed, what each part needs, and whether it works when tried."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from weightcast.bench.progress.bar import size_text
from weightcast.datasets import InputError

#: Import names that are not the distribution's in small letters and underscores.
_IMPORTED = {
    "scikit-learn": "sklearn",
    "scikit-base": "skbase",
    "scikit-posthocs": "scikit_posthocs",
}
#: Seconds for a worker process to start, with the libraries that it loads.
_WORKER_STARTS = 120.0
#: Bytes on a disk below which recordings and results soon fill it.
_LITTLE = 2**30

Status = Literal["ok", "not here", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes
    ----------
    name : str
    needed : bool
        Whether nothing works without it; else ``for_what`` alone does not.
    status : str
        ``"ok"``, ``"not here"`` or ``"broken"``.
    found : str
        What there is, or what went wrong.
    for_what : str
    mend : str
        What to do where it is not well.
    """

    name: str
    needed: bool
    status: Status
    found: str
    for_what: str
    mend: str = ""

    @property
    def fatal(self) -> bool:
        """Whether Weightcast does not work for it."""
        return self.needed and self.status != "ok"


class _NotHere(Exception):
    """What is tried is not installed or not fetched."""


@dataclass(frozen=True)
class _Probe:
    name: str
    needed: bool
    for_what: str
    mend: str
    tried: Callable[[], str]

    def find(self) -> Finding:
        status: Status = "ok"
        mend = ""
        try:
            found = self.tried()
        except _NotHere as error:
            status, found, mend = "not here", str(error), self.mend
        except Exception as error:  # whatever a library does when it is loaded
            text = " ".join(str(error).split()) or "no reason given"
            said = text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
            status, found, mend = "broken", said[:300], self.mend
        return Finding(self.name, self.needed, status, found, self.for_what, mend)


def examine(data: Path | None = None) -> Iterator[Finding]:
    """Try one thing after the other.

    Parameters
    ----------
    data : Path, optional
        The data folder; the user's by default.
    """
    for probe in [*_basis(data), *_libraries(), *_optional()]:
        yield probe.find()


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """Return everything as plain values, with the versions of what a run depends on."""
    return {
        "works": not any(finding.fatal for finding in findings),
        "version": version("weightcast"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "findings": [asdict(finding) for finding in findings],
    }


def _basis(data: Path | None) -> list[_Probe]:
    from weightcast.datasets.dataset import default_data_folder
    from weightcast.datasets.fetching.fetch import cache_folder

    folder = data or default_data_folder()
    other = "name another folder with --data or $WEIGHTCAST_DATA, or free some space"
    return [
        _Probe("python", True, "everything", "install Python 3.11 or newer", _python),
        _Probe("worker processes", True, "run, check, forecast", "see docs/limits.md", _worker),
        _Probe(
            "temporary folder", True, "reading results", "set $TMPDIR to a folder to write to",
            lambda: _writable(Path(tempfile.gettempdir())),
        ),
        _Probe("data folder", True, "recordings", other, lambda: _writable(folder)),
        _Probe(
            "cache folder", False, "fetched data, hashes of large runs",
            "set $WEIGHTCAST_CACHE to a folder to write to", lambda: _writable(cache_folder()),
        ),
        _Probe(
            "memory of a cell", False, "the column peak_memory_bytes",
            "Linux alone tells it; the column stays empty", _peak,
        ),
    ]  # fmt: skip


def _libraries() -> list[_Probe]:
    lines = [line for line in requires("weightcast") or [] if "extra ==" not in line]
    return [
        _Probe(
            name, True, "everything", f"pip install '{line}'",
            lambda name=name, line=line: _library(name, line),  # type: ignore[misc]
        )
        for name, line in sorted((_distribution(line), line) for line in lines)
    ]  # fmt: skip


def _optional() -> list[_Probe]:
    return [
        _Probe(
            "CUDA", False, "run --device cuda", "install a torch for your GPU and its driver", _cuda
        ),
        _Probe("cluster", False, "run --scheduler", "pip install 'weightcast[cluster]'", _cluster),
        _Probe(
            "language", False, "the data sets sentiment-…", "pip install 'weightcast[language]'",
            _language,
        ),
        _Probe(
            "fetching by apt", False, f"weightcast fetch {_by('apt')}",
            "where there is no apt, get the files elsewhere and use weightcast fetch --from DIR",
            lambda: _programs("apt-get", "dpkg-deb"),
        ),
        _Probe(
            "fetching by pip", False, f"weightcast fetch {_by('pip', 'pip-source')}",
            "python -m ensurepip", _pip,
        ),
        _Probe("fetched data", False, "the data sets on them", "weightcast fetch NAME", _fetched),
        _Probe(
            "figures", True, "report, which needs no browser and no network to be written",
            "pip install --force-reinstall matplotlib", _figures,
        ),
    ]  # fmt: skip


def _by(*clients: str) -> str:
    from weightcast.datasets.fetching.materials import MATERIALS

    return ", ".join(sorted(name for name, one in MATERIALS.items() if one.client in clients))


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036  # whoever installs by hand may have another
        raise RuntimeError(f"{platform.python_version()} is too old")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _worker() -> str:
    """Start a process as a run does, and have it compute."""
    from weightcast.bench.engine.processes.forks import worker_context
    from weightcast.bench.engine.processes.limits import Limits, default_memory
    from weightcast.bench.engine.processes.worker import Worker

    context = worker_context()
    worker = Worker(context, Limits(_WORKER_STARTS, default_memory(1)))
    try:
        if worker.call(pow, 2, 10) != 1024:
            raise RuntimeError("a worker process gave a wrong answer")
    finally:
        worker.close()
    how = multiprocessing.get_all_start_methods()
    if "forkserver" in how:
        return "start by a fork server, with libraries loaded once"
    return "are spawned, each loading its libraries anew: this system has no fork server"


def _writable(folder: Path) -> str:
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".weightcast-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        raise InputError(f"{there} cannot be written to: {error.strerror}") from None
    free = shutil.disk_usage(there).free
    if free < _LITTLE:
        raise InputError(f"{folder}: only {size_text(free)} are free on its disk")
    made = "" if there == folder.absolute() else " (yet to be made)"
    return f"{folder}{made}, {size_text(free)} free"


def _peak() -> str:
    from weightcast.bench.scoring.memory import peak_memory

    with peak_memory() as peak:
        pass
    if peak.above_baseline is None:
        raise _NotHere("this system does not tell the peak of a stretch of work")
    return "is measured"


def _library(name: str, line: str) -> str:
    try:
        there = version(name)
    except PackageNotFoundError:
        raise _NotHere("is not installed") from None
    least = re.search(r">=\s*([\d.]+)", line)
    if least and _release(there) < _release(least[1]):
        raise RuntimeError(f"{there} is older than {least[1]}")
    importlib.import_module(_IMPORTED.get(name, name.replace("-", "_")))
    return there


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what marks a build or a candidate."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return tuple(numbers + [0] * (4 - len(numbers)))


def _distribution(line: str) -> str:
    return re.split(r"[^\w.-]", line, maxsplit=1)[0].lower()


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "no GPU or no driver for it" if built else "this torch is built without it"
        raise _NotHere(f"{why}; methods that are networks run on the CPU")
    total = float(torch.ones(64, 64, device="cuda").sum())
    if total != 64 * 64:
        raise RuntimeError("a sum on the GPU is wrong")
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _extra(extra: str) -> str:
    """See that what an extra asks for is installed and loads; return the versions."""
    lines = [
        line
        for line in requires("weightcast") or []
        if re.search(rf"extra == ['\"]{extra}['\"]", line)
    ]
    return ", ".join(
        f"{(name := _distribution(line))} {_library(name, line.partition(';')[0])}"
        for line in lines
    )


def _cluster() -> str:
    """Start a scheduler and a worker in this process, and have it compute."""
    versions = _extra("cluster")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        if client.submit(pow, 2, 10).result(timeout=60) != 1024:
            raise RuntimeError("a Dask worker gave a wrong answer")
    return f"{versions}; a scheduler and a worker start here"


def _language() -> str:
    return _extra("language")


def _programs(*names: str) -> str:
    lacking = [name for name in names if shutil.which(name) is None]
    if lacking:
        raise _NotHere(f"{' and '.join(lacking)} cannot be found")
    return ", ".join(names)


def _pip() -> str:
    if importlib.util.find_spec("pip") is None:
        raise _NotHere("this Python has no pip")
    return f"pip {version('pip')}"


def _fetched() -> str:
    from weightcast.datasets.fetching.fetch import fetched_files
    from weightcast.datasets.fetching.materials import MATERIALS

    here, lacking = [], []
    for name in sorted(MATERIALS):
        try:
            fetched_files(name)
            here.append(name)
        except InputError:
            lacking.append(name)
    if lacking:
        also = f"; here are {', '.join(here)}" if here else ""
        raise _NotHere(f"{', '.join(lacking)}{also}")
    return ", ".join(here)


def _figures() -> str:
    """Draw what a report is made of."""
    import io

    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1])
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg")
    if b"</svg>" not in drawn.getvalue():
        raise RuntimeError("matplotlib drew nothing")
    return "are drawn as SVG; the report needs a browser for nothing but reading it"
