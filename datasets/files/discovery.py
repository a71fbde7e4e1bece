"""Finding a run's checkpoints in a folder, and their order.

Two arrangements are known. Folders whose names carry a step number hold a file, or shards and their
index, under a name that the ecosystem uses (``checkpoint-500/model.safetensors``). Or files carry
the number themselves (``step_100.pt``, ``epoch=3.pth``, ``epoch=3-step=1200.ckpt``). Of several
numbers in a name the one after "step" counts, else the one after "iter", else the one after
"epoch", else the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.tensor_files import ENDINGS

#: Files in a numbered folder, the first that is there wins.
NAMES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)

_NUMBERS = tuple(
    re.compile(rf"{word}[a-z]*[=_-]?(\d+)", re.IGNORECASE) for word in ("step", "iter", "epoch")
)
_STATE = re.compile(r"^(optim|scheduler|scaler|rng|random_states|training_args)", re.IGNORECASE)


class Found(NamedTuple):
    """One checkpoint: its step by name, what was counted, and its files (more than one: shards)."""

    step: int
    unit: str
    files: tuple[Path, ...]


def find_checkpoints(folder: Path) -> tuple[list[Found], list[Path]]:
    """Find a folder's checkpoints.

    Returns
    -------
    found : list of Found
        In the order of their steps.
    passed_over : list of Path
        Files of tensors that carry no step number.

    Raises
    ------
    InputError
        If there are fewer than two, if two have one step, or if the names count different things.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of checkpoints at {folder}")
    numbered: list[Found] = []
    loose: list[Found] = []
    passed_over: list[Path] = []
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    for path in entries:
        number = _number(path.name if path.is_dir() else path.stem)
        if path.is_dir():
            name = next((name for name in NAMES if (path / name).exists()), None)
            if name is not None and number is not None:
                numbered.append(Found(*number, _shards(path / name)))
        elif path.suffix in ENDINGS and not _STATE.match(path.name):
            if number is None:
                passed_over.append(path)
            else:
                loose.append(Found(*number, (path,)))
    if numbered and loose:
        raise InputError(
            f"{folder} holds numbered folders ({numbered[0].files[0].parent.name}) and numbered "
            f"files ({loose[0].files[0].name}); leave one kind in it"
        )
    found = sorted(numbered or loose)
    if len(found) < 2:
        raise InputError(
            f"{folder} holds {len(found)} checkpoints with a step number in their names; two are "
            "needed, e.g. checkpoint-500/model.safetensors, step_100.pt or epoch=3.pth"
        )
    units = {checkpoint.unit: checkpoint for checkpoint in found}
    if len(units) > 1:
        names = " and ".join(_label(checkpoint, folder) for checkpoint in units.values())
        raise InputError(f"{folder}: {names} count different things; name all alike")
    refuse_equal_steps(((c.step, c.files[0]) for c in found), folder)
    return found, passed_over


def refuse_equal_steps(steps: Iterable[tuple[int, Path]], folder: Path) -> None:
    """Refuse two checkpoints of one step, naming both."""
    seen: dict[int, Path] = {}
    for step, path in steps:
        if step in seen:
            one, other = (p.relative_to(folder).as_posix() for p in (seen[step], path))
            raise InputError(f"{folder}: {one} and {other} are both step {step}; remove one")
        seen[step] = path


def _label(checkpoint: Found, folder: Path) -> str:
    return checkpoint.files[0].relative_to(folder).as_posix()


def _number(name: str) -> tuple[int, str] | None:
    for pattern, unit in zip(_NUMBERS, ("step", "step", "epoch"), strict=True):
        if found := pattern.search(name):
            return int(found[1]), unit
    numbers = re.findall(r"\d+", name)
    return (int(numbers[-1]), "step") if numbers else None


def _shards(path: Path) -> tuple[Path, ...]:
    """Return a checkpoint's files: itself, or those that an index names."""
    if path.suffix != ".json":
        return (path,)
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = list(dict.fromkeys(places.values()))
        paths = tuple(path.parent / Path(name).name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is not an index of shards; save the checkpoint again") from None
    if not paths:
        raise InputError(f"{path} names no shards; save the checkpoint again")
    for shard in paths:
        if not shard.is_file():
            raise InputError(f"{shard}, which {path.name} names, is missing")
    return paths
