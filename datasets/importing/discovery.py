"""Finding a run's checkpoints in a folder, and their order.

Three arrangements are known. Folders whose names carry a step number hold a file, or shards and
their index, under a name that the ecosystem uses (``checkpoint-500/model.safetensors``). Or files
carry the number themselves (``step_100.pt``, ``epoch=3.pth``, ``epoch=3-step=1200.ckpt``). Or the
branches of a model in Hugging Face's cache do (`hub_cache`). What counts as a step number is
`step_names`' affair; what is passed over is told, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign, read_json
from weightcast.datasets.files.tensor_file import ending
from weightcast.datasets.importing.hub_cache import branches
from weightcast.datasets.importing.step_names import (
    Numbered,
    of_one_stage,
    refuse_unsure_order,
    step_in,
)

#: Files in a numbered folder, the first that is there wins.
NAMES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "model.pt",
    "model.pth",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "model.npz",
)

_STATE = re.compile(r"^(optim|scheduler|scaler|rng|random_states|training_args)", re.IGNORECASE)
_SHARD = re.compile(r"[-_.]?[0-9]+[-_]of[-_][0-9]+$", re.IGNORECASE)
#: Endings of files beside checkpoints that nobody takes for one.
_OTHERS = re.compile(
    r"\.(json|jsonl|txt|log|md|csv|tsv|ya?ml|toml|png|jpe?g|pdf|svg|html|py|sh|ipynb|lock)$",
    re.IGNORECASE,
)
_MOST_INDEX_BYTES = 2**27


class Found(NamedTuple):
    """One checkpoint.

    Attributes
    ----------
    name : str
        The folder, file or branch that has its step.
    step : int
    unit : str
        What was counted.
    files : tuple of Path
        More than one: shards.
    places : dict of str, or None
        Of shards, the file that the index names for each tensor.
    """

    name: str
    step: int
    unit: str
    files: tuple[Path, ...]
    places: Mapping[str, str] | None = None


def find_checkpoints(folder: Path, stage: str = "") -> tuple[list[Found], dict[Path, str]]:
    """Find a folder's checkpoints, or those of a model in Hugging Face's cache.

    Parameters
    ----------
    folder : Path
    stage : str
        Which stage of training, where names have several.

    Returns
    -------
    found : list of Found
        In the order of their steps.
    passed_over : dict of Path to str
        What looks like a checkpoint and is not taken for one, and why.

    Raises
    ------
    InputError
        If there are fewer than two, if two have one step, if their order is not sure, or if the
        stage has yet to be chosen.
    """
    with foreign(folder, "a folder of checkpoints", "name another folder"):
        if not folder.is_dir():
            raise InputError(f"there is no folder of checkpoints at {folder}")
        places = branches(folder)
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if places is None:
            _refuse_loose_shards(entries, folder)
        places = places or {path: path for path in entries}
        numbers = {name: step_in(_stem(name, place)) for name, place in places.items()}
        passed_over = {
            name: why
            for name, place in places.items()
            if (why := _passed_over(place, numbers[name]))
        }
        files = {
            name: n
            for name, n in numbers.items()
            if n and name not in passed_over and _counts(places[name])
        }
        files = of_one_stage(files, stage, folder)
    _refuse_one_place(files, places, folder)
    folders = [name for name in files if places[name].is_dir()]
    loose = [path for path in files if path not in folders]
    if folders and loose:
        raise InputError(
            f"{folder} holds numbered folders ({clipped(folders[0].name)}) and numbered files "
            f"({clipped(loose[0].name)}); leave one kind in it"
        )
    if len(files) < 2:
        raise InputError(
            f"{folder} holds {len(files)} checkpoints with a step number in their names; two are "
            "needed, e.g. checkpoint-500/model.safetensors, step_100.pt or epoch=3.pth"
            + "".join(f"; {note}" for note in told(passed_over))
        )
    ordered = dict(sorted(files.items(), key=lambda item: item[1].step))
    if len({number.unit for number in ordered.values()}) == 1:
        refuse_equal_steps(((n.step, path) for path, n in ordered.items()), folder)
    _refuse_unsure(ordered, passed_over, folder)
    return [_found(name, places[name], number) for name, number in ordered.items()], passed_over


def _refuse_one_place(names: Iterable[Path], places: Mapping[Path, Path], folder: Path) -> None:
    """Refuse two branches that are one commit: their steps cannot both be right."""
    seen: dict[Path, Path] = {}
    for name in names:
        if (other := seen.setdefault(places[name], name)) != name:
            raise InputError(
                f"{folder}: the branches {clipped(other.name)} and {clipped(name.name)} are one "
                "commit; get one of them again, or remove it from refs"
            )


def told(passed_over: Mapping[Path, str]) -> list[str]:
    """Say what was passed over, a note for each reason."""
    notes = []
    for why in dict.fromkeys(passed_over.values()):
        names = [clipped(path.name) for path, reason in passed_over.items() if reason == why]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"passed over {', '.join(names[:3])}{more}: {why}")
    return notes


def refuse_equal_steps(steps: Iterable[tuple[int, Path]], folder: Path) -> None:
    """Refuse two checkpoints of one step, naming both."""
    seen: dict[int, Path] = {}
    for step, path in steps:
        if step in seen:
            one, other = (
                clipped(p.relative_to(folder).as_posix()) for p in sorted((seen[step], path))
            )
            raise InputError(
                f"{folder}: {one} and {other} are both step {step}; leave one of them in the folder"
            )
        seen[step] = path


def _stem(name: Path, place: Path) -> str:
    if place.is_dir() or name != place:
        return name.name
    end = ending(place)
    return name.name[: -len(end)] if end else name.stem


def _counts(path: Path) -> bool:
    return path.is_dir() or ending(path) is not None


def _model_in(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).exists()), None)


def _passed_over(path: Path, number: Numbered | None) -> str | None:
    """Say why a path is no checkpoint; None for one, and for what never looked like one."""
    if path.is_dir() or not path.exists():
        return _folder_passed_over(path, number)
    if ending(path) is None:
        if number is None or _OTHERS.search(path.name):
            return None
        return f"files that end in {clipped(path.suffix) or 'nothing'} are not read"
    if _STATE.match(path.name):
        return "not weights, by its name"
    return None if number else "no sure step number in its name"


def _folder_passed_over(path: Path, number: Numbered | None) -> str | None:
    if _model_in(path) is not None:
        return None if number else "no sure step number in its name"
    if number is None:
        return None
    if not path.exists():
        return "its files are not in the cache"
    named = ", ".join(name for name in NAMES if not name.endswith(".json"))
    return f"no model in it under a usual name ({named})"


def _refuse_loose_shards(entries: list[Path], folder: Path) -> None:
    shards = [path for path in entries if ending(path) and _SHARD.search(_stem(path, path))]
    if shards:
        raise InputError(
            f"{folder}: {', '.join(clipped(path.name) for path in shards[:2])} "
            f"{'are' if len(shards) > 1 else 'is'} of the shards of one checkpoint; put each "
            "checkpoint's shards and their index in a folder with its step, e.g. checkpoint-500, "
            "and name the folder around them"
        )


def _refuse_unsure(
    ordered: Mapping[Path, Numbered], passed_over: Mapping[Path, str], folder: Path
) -> None:
    """Refuse an order that the names do not settle."""
    refuse_unsure_order({path.name: number for path, number in ordered.items()}, folder)
    guess = next((path.name for path, number in ordered.items() if not number.told), None)
    odd = [p for p, why in passed_over.items() if "number" in why and re.search("[0-9]", p.name)]
    if guess and odd:
        raise InputError(
            f"{folder}: that {clipped(guess)} ends in its step is not sure beside "
            f"{clipped(odd[0].name)}; name them step_100 and so on, or move what is no checkpoint"
        )


def _found(name: Path, path: Path, number: Numbered) -> Found:
    file = _model_in(path) if path.is_dir() else path
    assert file is not None  # what holds no model was passed over
    if file.suffix != ".json":
        return Found(name.name, number.step, number.unit, (file,))
    places = _shard_places(file)
    files = tuple(file.parent / name for name in dict.fromkeys(places.values()))
    return Found(name.name, number.step, number.unit, files, places)


def _shard_places(path: Path) -> dict[str, str]:
    """Return the file of each tensor that an index of shards names; all of them must be there."""
    from weightcast.datasets.files.described import ShardIndex

    with foreign(path, "an index of shards", "save the checkpoint again"):
        places = ShardIndex.model_validate(read_json(path, _MOST_INDEX_BYTES)).weight_map
        for name in dict.fromkeys(places.values()):
            if Path(name).name != name:
                raise InputError(f"{path} names {clipped(name)}, which is outside its folder")
            if not (path.parent / name).is_file():
                shown = path.parent / clipped(name)
                raise InputError(f"{shown}, which {path.name} names, is missing")
    return places
