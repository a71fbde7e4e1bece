"""Where units are worked on, and what every process there needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """Where a result was made: stands in every fit, cell and training run.

    Attributes
    ----------
    machine : str
        JSON; see `weightcast.bench.engine.environment.describe_machine`.
    jobs : int
        Processes at work side by side meanwhile.
    threads : int
        What each is held to.
    """

    machine: str = "{}"
    jobs: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Setup:
    """What every process of a run needs to know.

    Attributes
    ----------
    plugins : tuple of Path
    methods : tuple of frozenset of str
        What each plugin registers, as far as that is known.
    data : Path, optional
        Folder of recorded data sets.
    distrust : bool
        Whether this is another machine, where data may not be those of the plan.
    device : {"cpu", "cuda"}
        Where networks are measured.
    """

    plugins: tuple[Path, ...] = ()
    methods: tuple[frozenset[str], ...] = ()
    data: Path | None = None
    distrust: bool = False
    device: str = "cpu"
