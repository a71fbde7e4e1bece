"""What an import made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weightcast.datasets.trajectory import Trajectory


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes
    ----------
    path : Path
        The file that it wrote.
    run : Trajectory
    notes : tuple of str
        What was left out or assumed, a line each.
    """

    path: Path
    run: Trajectory
    notes: tuple[str, ...]
