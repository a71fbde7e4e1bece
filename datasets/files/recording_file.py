"""The recording file: a run while it is being recorded, and what a killed process leaves of it.

A magic line, a JSON header with the tensors and metadata, then one record a snapshot: its length,
JSON with the step and what was measured since the last one, and all tensors' float32 numbers. It
grows at its end only, so it holds whole snapshots up to the moment of a kill; a record cut short is
passed over. It is no trajectory layout: `open_trajectory` refuses it, and ``weightcast import FILE
--out RUN.safetensors`` finishes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import Floats, Metadata, TensorInfo, Trajectory

MAGIC = b"weightcast-recording-1\n"


class Measured(NamedTuple):
    """What was measured since the snapshot before.

    Attributes
    ----------
    step : int
    loss : float or None
        The mean of the training losses reported.
    first_loss : float or None
        The first of them.
    learning_rates : list of [float, int]
        Each rate and for how many steps it was in force.
    seconds : float
        Time spent outside the recorder.
    """

    step: int
    loss: float | None
    first_loss: float | None
    learning_rates: list[list[float]]
    seconds: float


class RecordingWriter:
    """Append snapshots to a recording file.

    Parameters
    ----------
    path : Path
    tensors : sequence of TensorInfo
    meta : Metadata
        Of which only what is known before training counts.
    """

    def __init__(self, path: Path, tensors: Sequence[TensorInfo], meta: Metadata) -> None:
        self.path = path
        header = {"tensors": [asdict(t) for t in tensors], "metadata": asdict(meta)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb", buffering=0)
        self._put(MAGIC)
        self._put_json(header)

    def append(self, measured: Measured, arrays: Iterable[Floats]) -> None:
        """Write one snapshot, one float32 array a tensor in their order; all of it or nothing."""
        whole = self._file.tell()
        try:
            self._put_json(measured._asdict())
            for array in arrays:
                if array.size:
                    self._put(np.ascontiguousarray(array, dtype="<f4").reshape(-1).data.cast("B"))
        except BaseException:
            # The next record must not follow half a one: a reader could not find it.
            self._file.truncate(whole)
            self._file.seek(whole)
            raise

    def close(self) -> None:
        """Close the file; it stays where it is."""
        self._file.close()

    def _put_json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self._put(len(data).to_bytes(8, "little") + data)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


class RecordingSource:
    """Numbers in a recording file; the file is opened on first use, once in every process."""

    def __init__(self, path: Path, positions: Sequence[int]) -> None:
        self._path = path
        self._positions = list(positions)
        self._file: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""
        return (self._path,)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        position = self._positions[snapshot] + 4 * (tensor.offset + start)
        view = out.data.cast("B") if out.size else memoryview(b"")
        while view:
            got = os.preadv(self._file, [view], position)
            if got <= 0:
                raise InputError(f"{self._path} ends inside tensor {tensor.name}")
            view, position = view[got:], position + got

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_positions": self._positions, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def is_recording(path: Path) -> bool:
    """Say whether a file begins as a recording does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_recording(
    path: Path,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    optimizer: str | None = None,
) -> Trajectory:
    """Open a recording's whole snapshots as a trajectory; the last one may be cut short.

    Parameters
    ----------
    path : Path
    dataset, seed, optimizer
        Instead of what the recording says.

    Raises
    ------
    InputError
        If there is not one whole snapshot.
    """
    size = path.stat().st_size
    positions: list[int] = []
    measured: list[Measured] = []
    with path.open("rb") as file:

        def take_json() -> Any:
            length = file.read(8)
            data = file.read(int.from_bytes(length, "little")) if len(length) == 8 else b""
            return json.loads(data) if data else None

        try:
            file.seek(len(MAGIC))
            header = take_json()
            tensors = [TensorInfo(**{**t, "shape": tuple(t["shape"])}) for t in header["tensors"]]
            meta = Metadata(**{**header["metadata"], "learning_rates": ()})
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} ends in its header; nothing can be saved") from None
        width = 4 * sum(info.size for info in tensors)
        try:
            while (record := take_json()) is not None and file.tell() + width <= size:
                measured.append(Measured(**record))
                positions.append(file.tell())
                file.seek(width, os.SEEK_CUR)
        except (ValueError, TypeError):
            pass  # killed while it wrote this record's JSON
    if not measured:
        raise InputError(f"{path} holds no whole snapshot; nothing can be saved")
    meta = replace(
        _with_measured(meta, measured),
        dataset=meta.dataset if dataset is None else dataset,
        seed=meta.seed if seed is None else seed,
        optimizer=meta.optimizer if optimizer is None else optimizer,
    )
    return Trajectory(RecordingSource(path, positions), tensors, [m.step for m in measured], meta)


def _with_measured(meta: Metadata, measured: Sequence[Measured]) -> Metadata:
    later = measured[1:]
    # The first loss is computed at w_0, before the first update.
    losses = [m.loss for m in later]
    known = [loss for loss in losses if loss is not None]
    train_loss: tuple[float, ...] = ()
    if known and len(known) == len(losses) and later[0].first_loss is not None:
        train_loss = (later[0].first_loss, *known)
    rates: list[float] = []
    for m in later:
        for rate, count in m.learning_rates:
            rates += [rate] * int(count)
    # A schedule has a rate for every step; a resumed run does not know those before its start.
    steps = measured[-1].step
    counted = steps - measured[0].step
    return replace(
        meta,
        train_loss=train_loss,
        learning_rates=tuple(rates) if len(rates) == steps else (),
        seconds_per_step=sum(m.seconds for m in later) / counted if counted else None,
    )
