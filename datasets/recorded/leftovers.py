"""What a recording that was broken off leaves: an unfinished file, and the state to go on from."""

from __future__ import annotations

from pathlib import Path

from weightcast.datasets.files.partial_file import remove_unlocked, unfinished_name


def state_name(path: Path) -> Path:
    """Return the hidden file that has the state of a trajectory's training."""
    return path.with_name(f".{path.name}.state")


def unfinished_bytes(path: Path) -> int:
    """Return the bytes of a trajectory that was broken off and can be gone on with, else 0."""
    left = unfinished_name(path)
    both = state_name(path).exists() and left.exists()
    return left.stat().st_size if both else 0


def clear_unfinished(folder: Path) -> None:
    """Remove what cannot be gone on with: halves without the other, and those of whole runs."""
    for state in folder.glob(".*.safetensors.state"):
        path = state.with_name(state.name.removeprefix(".").removesuffix(".state"))
        if path.exists() or not unfinished_name(path).exists():
            state.unlink(missing_ok=True)
    for left in folder.glob(".*.safetensors.unfinished"):
        path = left.with_name(left.name.removeprefix(".").removesuffix(".unfinished"))
        if not state_name(path).exists():
            remove_unlocked(left)
