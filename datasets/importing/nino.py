"""NiNo's published trajectories: raw memory maps of float16, runs × states × parameters.

Knyazev et al. (2024, arXiv 2409.04434) publish four sets of training runs as files without a
header: the numbers alone, run by run, state by state, the parameters in the order of
``named_parameters()``; a file ``…_metrics.dat`` beside has losses and accuracies, runs × states ×
metrics, in float16 too. What the four are is known here by the files' names; of others the shape
must be told. Language models lie in two parts, ``_p1`` and ``_p2``, with one file of metrics.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.files.tensor_files import open_tensors
from weightcast.datasets.importing.imported import Imported
from weightcast.datasets.networks.naming import guess_tensors, is_buffer, natural_key
from weightcast.datasets.trajectory import Floats, Metadata, TensorInfo, Trajectory

_HALF = np.dtype("<f2")
_ALL_METRICS = ("test_loss", "test_accuracy", "train_loss", "train_accuracy")
#: What a file of metrics has, by how many numbers it has for a state.
_METRICS = {1: ("train_loss",), 4: _ALL_METRICS}
_SHAPE = re.compile(r"([0-9]{1,9})\s*[x×,]\s*([0-9]{1,9})\s*[x×,]\s*([0-9]{1,12})")
#: Left free on the disk.
_SPARE = 100 * 2**20

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Published:
    """One of the published sets.

    Attributes
    ----------
    runs : int
        In each of its parts.
    states : int
    every : int
        Optimizer steps from one state to the next.
    shapes : dict of str to tuple of int
    """

    runs: int
    states: int
    every: int
    shapes: Shapes


def _convolutional(channels: int) -> Shapes:
    sizes = (channels, 16, 32, 32)
    shapes: Shapes = {}
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        shapes[f"fc.{2 * index}.weight"] = (fan_out, fan_in, 3, 3)
        shapes[f"fc.{2 * index}.bias"] = (fan_out,)
    return shapes | {"fc.8.weight": (10, 32), "fc.8.bias": (10,)}


def _gpt2(width: int, layers: int) -> Shapes:
    shapes: Shapes = {
        "transformer.wte.weight": (50_257, width),
        "transformer.wpe.weight": (1024, width),
    }
    for index in range(layers):
        for leaf, fan_in, fan_out in (
            ("ln_1", 0, width),
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("ln_2", 0, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            name = f"transformer.h.{index}.{leaf}"
            shapes[f"{name}.weight"] = (fan_in, fan_out) if fan_in else (fan_out,)
            shapes[f"{name}.bias"] = (fan_out,)
    return shapes | {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}


PUBLISHED = {
    "fm-16": Published(300, 2688, 4, _convolutional(1)),
    "c10-16": Published(300, 2513, 4, _convolutional(3)),
    "lm1b-3-24": Published(100, 124, 200, _gpt2(24, 3)),
    "lm1b-2-32": Published(100, 124, 200, _gpt2(32, 2)),
}


@dataclass(frozen=True)
class _File:
    """A memory map: where its numbers are, and what they are of."""

    path: Path
    runs: int
    states: int
    parameters: int
    every: int
    known: bool

    def place(self, run: int, state: int) -> int:
        """Return where a state begins, in bytes."""
        return _HALF.itemsize * (run * self.states + state) * self.parameters


class _NinoSource:
    """Reads one run, at some of its states; NaN and infinity are refused as they are read."""

    def __init__(self, file: _File, run: int, states: Sequence[int]) -> None:
        self._file, self._run, self._states = file, run, states

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (self._file.path,)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        raw = np.empty(len(out), _HALF)
        state = self._states[snapshot]
        begin = self._file.place(self._run, state) + _HALF.itemsize * (tensor.offset + start)
        with self._file.path.open("rb") as file:
            file.seek(begin)
            if file.readinto(raw.data.cast("B") if raw.size else b"") != raw.nbytes:
                raise InputError(f"{self._file.path} ends inside run {self._run}; get it again")
        out[:] = raw
        if not np.isfinite(out).all():
            raise InputError(
                f"run {self._run} has NaN or infinity in {tensor.name} at state {state}"
            )


def import_nino(
    source: Path,
    out: Path,
    *,
    runs: Sequence[int] | None = None,
    every: int = 1,
    shape: str = "",
    like: Path | None = None,
    dataset: str | None = None,
    optimizer: str | None = None,
) -> list[Imported]:
    """Make trajectories of the runs in a memory map of NiNo's form.

    Parameters
    ----------
    source : Path
        E.g. ``fm-16.dat``.
    out : Path
        A folder, which gets ``RUN.safetensors`` for each; or for one run a ``.safetensors`` file.
    runs : sequence of int, optional
        Which; the first twelve by default.
    every : int
        Keep each so many-th state.
    shape : str
        E.g. ``"300x2688x14378"``, runs, states and parameters, where the name does not tell.
    like : Path, optional
        A file of tensors of the same network, for names and shapes.
    dataset : str, optional
        The set's name; the file's by default.
    optimizer : str, optional

    Returns
    -------
    list of Imported
        What was written. Runs with NaN or infinity are left out, and noted with the first.

    Raises
    ------
    InputError
        If sizes do not agree, a run does not exist, or none is whole.
    """
    with foreign(source, "a memory map of NiNo's form", "name another file"):
        if not source.is_file():
            raise InputError(f"there is no file {source}; --format nino-mmap takes one .dat file")
        file, known, part = _opened(source, shape)
        shapes, notes = _shapes(file, known, like)
        metrics, more = _metrics(file, source, part)
    chosen = list(runs) if runs is not None else list(range(min(12, file.runs)))
    _check_asked(file, chosen, every, out)
    states = range(0, file.states, every)
    _check_disk(file, len(chosen), len(states), out)
    notes += more
    notes.append("weights are float16: what moves by less than a two-thousandth of itself is lost")
    if not file.known:
        notes.append("steps are states: how many steps lie between is not known")
    name = dataset or re.sub(r"_p[0-9]+$", "", source.stem)
    made: list[Imported] = []
    for run in chosen:
        meta = Metadata(
            name,
            run + part * file.runs,
            optimizer=optimizer or ("adam" if file.known else "unknown"),
            source=f"imported from {source.name}, which NiNo's authors published"
            if file.known
            else f"imported from {source.name}",
            **_of_run(metrics, run, states),
        )
        tensors = guess_tensors(shapes, set(), set())
        steps = [file.every * state for state in states]
        trajectory = Trajectory(_NinoSource(file, run, states), tensors, steps, meta)
        one = out.suffix == ".safetensors"
        path = out if one else out / f"{meta.seed}.safetensors"
        try:
            write_stacked(trajectory, path)
        except InputError as error:
            notes.append(f"left out: {error}")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None
        else:
            made.append(Imported(path, trajectory, ()))
    if not made:
        raise InputError(f"{source}: no run is whole; {'; '.join(notes[-3:])}")
    made[0] = replace(made[0], notes=tuple(notes))
    return made


def _opened(source: Path, shape: str) -> tuple[_File, Published | None, int]:
    """Hold a file's size to its shape; return the file, what it is, and which part of it."""
    stem = source.stem.lower()
    number = re.search(r"_p([1-9])$", stem)
    known = PUBLISHED.get(re.sub(r"_p[1-9]$", "", stem))
    if shape:
        found = _SHAPE.fullmatch(shape.strip())
        if found is None or not all(map(int, found.groups())):
            raise InputError(
                f"--shape {shape[:60]} is not of the form RUNSxSTATESxPARAMETERS, "
                "e.g. 300x2688x14378"
            )
        runs, states, parameters = map(int, found.groups())
    elif known is not None:
        runs, states = known.runs, known.states
        parameters = sum(map(math.prod, known.shapes.values()))
    else:
        raise InputError(
            f"what {source.name} is does not follow from its name (known are "
            f"{', '.join(PUBLISHED)}); give its --shape, RUNSxSTATESxPARAMETERS"
        )
    size, needed = source.stat().st_size, _HALF.itemsize * runs * states * parameters
    if size != needed:
        raise InputError(
            f"{source} has {size:,} bytes, but {runs} runs × {states} states × {parameters:,} "
            f"parameters of float16 take {needed:,}; get it again, or give another --shape"
        )
    same = known is not None and parameters == sum(map(math.prod, known.shapes.values()))
    every = known.every if known is not None and same and states == known.states else 1
    file = _File(source, runs, states, parameters, every, same and every > 1)
    return file, known if same else None, int(number[1]) - 1 if number else 0


def _shapes(file: _File, known: Published | None, like: Path | None) -> tuple[Shapes, list[str]]:
    if like is None and known is not None:
        return known.shapes, []
    if like is None:
        return {"parameters": (file.parameters,)}, [
            "the parameters are one tensor: name a checkpoint of the network with --like to have "
            "them apart"
        ]
    opened = open_tensors(like)
    names = [
        n for n, e in opened.entries.items() if e.floating and not is_buffer(n) and not e.alias
    ]
    notes = []
    if like.suffix == ".safetensors":
        names.sort(key=natural_key)
        notes.append("tensors are in the order of their names: the format keeps no other")
    shapes = {name: opened.entries[name].shape for name in names}
    total = sum(map(math.prod, shapes.values()))
    if total != file.parameters:
        raise InputError(
            f"{like} has {total:,} parameters, and a state of {file.path.name} {file.parameters:,}"
        )
    return shapes, notes


def _metrics(
    file: _File, source: Path, part: int
) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Read the losses beside, each (runs, states); none where there is no file of them."""
    path = source.with_name(re.sub(r"_p[1-9]$", "", source.stem) + "_metrics.dat")
    if not path.is_file():
        return {}, [f"no losses: there is no {path.name} beside it"]
    # Of a set in parts the losses may be those of all of them.
    totals = [file.runs, 2 * file.runs] if re.search(r"_p[1-9]$", source.stem) else [file.runs]
    sizes = {
        _HALF.itemsize * total * file.states * count: (total, count)
        for total in totals
        for count in _METRICS
    }
    size = path.stat().st_size
    if size not in sizes:
        raise InputError(
            f"{path} has {size:,} bytes, which are not 1 or 4 float16 numbers for each of "
            f"{file.states} states of {file.runs} runs; get it again, or move it away"
        )
    total, count = sizes[size]
    if total == file.runs:
        part = 0
    begin = part * file.runs * file.states * count
    values = np.fromfile(
        path, _HALF, file.runs * file.states * count, offset=_HALF.itemsize * begin
    )
    values = values.reshape(file.runs, file.states, count).astype(np.float64)
    return {name: values[:, :, place] for place, name in enumerate(_METRICS[count])}, []


def _of_run(
    metrics: dict[str, np.ndarray[Any, Any]], run: int, states: Sequence[int]
) -> dict[str, Any]:
    return {name: tuple(map(float, values[run, list(states)])) for name, values in metrics.items()}


def _check_asked(file: _File, runs: Sequence[int], every: int, out: Path) -> None:
    if outside := [run for run in runs if run >= file.runs]:
        raise InputError(f"{file.path} has runs 0 to {file.runs - 1}, and no run {outside[0]}")
    if len(range(0, file.states, every)) < 2:
        raise InputError(
            f"--every {every} leaves one of {file.states} states; two are needed at the least"
        )
    if out.suffix == ".safetensors" and len(runs) > 1:
        raise InputError(
            f"--out {out} is one file, and {len(runs)} runs are to be imported; name a folder, or "
            "one run with --runs"
        )


def _check_disk(file: _File, runs: int, states: int, out: Path) -> None:
    folder = out.parent if out.suffix == ".safetensors" else out
    folder.mkdir(parents=True, exist_ok=True)
    needed = 4 * file.parameters * states * runs + _SPARE
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{runs} runs of {states} states take {needed / 2**20:,.0f} MiB, and "
            f"{free / 2**20:,.0f} MiB are free on the disk of {os.fspath(folder)}; take fewer "
            "--runs, or --every so many-th state"
        )
