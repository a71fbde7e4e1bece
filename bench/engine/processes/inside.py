"""What any process that works on units does first: plugins, code that is the plan's, one thread."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from weightcast.bench.engine.processes.forks import THREADS
from weightcast.bench.engine.site import Setup
from weightcast.bench.plan.parameters import files_hash
from weightcast.datasets import InputError
from weightcast.datasets.errors import ChangedMeanwhile
from weightcast.datasets.registry import all_datasets
from weightcast.methods import all_methods, load_plugin, make_method
from weightcast.methods.adapter_name import is_adapter_name
from weightcast.methods.code import code_hash


def registered_by(plugins: Sequence[Path]) -> tuple[frozenset[str], ...]:
    """Return the methods that each plugin has registered in this process."""
    files: dict[str, str | None] = {
        name: getattr(sys.modules.get(cls.__module__), "__file__", None)
        for name, cls in all_methods().items()
    }
    return tuple(
        frozenset(name for name, file in files.items() if file == str(path.resolve()))
        for path in plugins
    )


def load_plugins(setup: Setup, method: str | None, datasets: Collection[str]) -> None:
    """Execute the plugin that has a method, and the others only where something lacks then.

    What a plugin does to its process when it is loaded is not to reach another plugin's method.
    """
    own: list[Path] = []
    if not _known(method):
        pairs = zip(setup.plugins, setup.methods, strict=False)
        own = [path for path, methods in pairs if method in methods]
        with suppress(InputError):  # it may need another one, which then comes before it
            _load(own)
    if not _known(method):
        _load(setup.plugins)
    elif not all_datasets().keys() >= set(datasets):
        _load([path for path in setup.plugins if path not in own])


def _known(method: str | None) -> bool:
    return method is None or is_adapter_name(method) or method in all_methods()


def _load(paths: Iterable[Path]) -> None:
    for path in paths:
        load_plugin(path)


def check_code(setup: Setup, method: str, code: str) -> None:
    """See that a method's code is here what it was when the plan was made.

    Raises
    ------
    ChangedMeanwhile
        If it is not.
    """
    if code_hash(type(make_method(method))) != code:
        raise ChangedMeanwhile(
            f"the code of {method} on this worker is not that of the client; install the same "
            "Weightcast on both"
            if setup.distrust
            else f"the code of {method} was changed while the run was under way; the same command "
            "runs it again"
        )


def check_files(method: str, params: str, files: str) -> None:
    """See that files which parameters name hold what they held when the plan was made.

    Raises
    ------
    ChangedMeanwhile
        If they do not.
    """
    if files and files_hash(method, params) != files:
        raise ChangedMeanwhile(
            f"a file that the parameters {params} of {method} name holds something else than when "
            "the run began; the same command runs it again"
        )


def pin_threads() -> int:
    """Hold the numerical libraries that are loaded to one thread; return the most any uses."""
    from threadpoolctl import threadpool_info, threadpool_limits

    threadpool_limits(THREADS)
    used = [library["num_threads"] for library in threadpool_info()]
    # Loading torch here would slow every worker that does without.
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(THREADS)
        used.append(torch.get_num_threads())
    return max(used, default=THREADS)
