"""What a forecast checkpoint has beside the weights that were forecast, and its train loss.

A network is more than its trained weights, and `load_state_dict` asks for all of it: buffers,
frozen parameters, the further names of tied ones. Batch-norm statistics belong to the weights they
were computed under: under others a network may be no better than chance.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from weightcast.datasets import InputError, Trajectory
from weightcast.datasets.evaluator import Evaluator, NetworkEvaluator, evaluator_for, is_statistic
from weightcast.datasets.files.checkpoint_writer import CheckpointWriter
from weightcast.datasets.files.state_dict import is_measurement
from weightcast.datasets.state import FLOATS, StateInfo
from weightcast.datasets.trajectory import Floats, State

#: What safetensors calls the types that a forecast can have → torch's names.
TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass
class Beside:
    """What was written and measured beside a forecast; see `WrittenForecast`."""

    batch_norm: str = "none"
    examples: int | None = None
    train_loss_origin: float | None = None
    train_loss_forecast: float | None = None


@dataclass(frozen=True)
class Contents:
    """What a checkpoint of a run's network holds, at one snapshot.

    Attributes
    ----------
    infos : tuple of StateInfo
        All of it, in its types.
    dtype : str
        torch's name of the trained parameters' type; of the widest where there are several.
    state : State
        Buffers, as they were.
    rest : State
        What else the run's own checkpoint has: what is not alike in all of them.
    """

    infos: tuple[StateInfo, ...]
    dtype: str
    state: State
    rest: State


def contents(run: Trajectory, n: int, dtype: str = "original") -> Contents:
    """List what a checkpoint of a run's network holds, and read what is not forecast.

    Parameters
    ----------
    run : Trajectory
    n : int
        The origin.
    dtype : str
        Of parameters: ``"original"``, as in the run's own checkpoints, float32 where it has none;
        or one of `TYPES`. Buffers keep their own.
    """
    checkpoint = run.checkpoint(n)
    types = {} if checkpoint is None else checkpoint.types
    asked = next((code for code, name in TYPES.items() if name == dtype), None)
    state = run.state(n)
    known = {info.name for info in run.tensors} | set(state) | set(run.fixed.aliases)
    rest, lost = {}, []
    for name in types.keys() - known:
        found = None if checkpoint is None else checkpoint.state(name)
        if found is None:
            lost.append(name)
        elif not is_measurement(name, found.shape):
            rest[name] = found
    if lost:
        _note(f"left out of the forecast: {', '.join(sorted(lost))}", "of types that numpy lacks")
    infos = [
        StateInfo(t.name, t.shape, asked or _own(types.get(t.name, "F32"))) for t in run.tensors
    ]
    widest = TYPES[max(infos, key=lambda info: info.itemsize).dtype]
    for name, values in (state | rest).items():
        info = StateInfo.of(name, values)
        infos.append(replace(info, dtype="BF16") if types.get(name) == "BF16" else info)
    infos += [
        replace(info, dtype=asked) if asked and info.dtype in FLOATS else info
        for info in run.fixed.infos
    ]
    return Contents(tuple(infos), widest, state, rest)


def _own(code: str) -> str:
    return code if code in FLOATS else "F32"


def write_beside(
    writer: CheckpointWriter, run: Trajectory, n: int, there: Contents, *, measure: bool
) -> Beside:
    """Complete a checkpoint whose weights are written, and measure it.

    Parameters
    ----------
    writer : CheckpointWriter
    run : Trajectory
    n : int
        The origin.
    there : Contents
    measure : bool
        Whether to measure the train loss at the origin and of the forecast, where the run's recipe
        can be rebuilt.
    """
    for info in run.fixed.infos:
        writer.write(info.name, 0, run.fixed.read(info))
    for name, values in (there.state | there.rest).items():
        writer.write(name, 0, values)
    found = Beside()
    statistics = {name: values for name, values in there.state.items() if is_statistic(name)}
    evaluator = None
    if run.meta.recipe and (measure or statistics):
        evaluator, why_not = evaluator_of(run)
        if evaluator is None:
            lost = "train loss was not measured" if measure else "statistics were not re-estimated"
            _note(f"the {lost}", why_not)
    if statistics:
        _settle(found, statistics, evaluator, writer, run)
    if measure and evaluator is not None:
        _measure(found, evaluator, writer, run, n)
    return found


def evaluator_of(run: Trajectory) -> tuple[Evaluator | None, str]:
    """Rebuild what measures the run, or say why that cannot be."""
    try:
        evaluator = evaluator_for(run.meta, with_test=False)
    except Exception as error:  # a recipe from elsewhere can fail anyhow
        return None, f"its recipe cannot be rebuilt here: {reason(error)}"
    return evaluator, "" if evaluator else "it has no recipe to rebuild the network and data from"


def reason(error: BaseException) -> str:
    """Say in one line what was raised."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _settle(
    found: Beside,
    statistics: State,
    evaluator: Evaluator | None,
    writer: CheckpointWriter,
    run: Trajectory,
) -> None:
    """Write batch-norm statistics of training data under the forecast weights, or keep them."""
    found.batch_norm = "kept"
    if isinstance(evaluator, NetworkEvaluator):
        try:
            estimated = evaluator.statistics(_weights(writer, run))
            for name in statistics:
                writer.write(name, 0, estimated[name])
        except Exception as error:  # a recipe from elsewhere may be of another network
            _note("batch-norm statistics were not re-estimated", reason(error))
        else:
            found.batch_norm, found.examples = "re-estimated", evaluator.estimated_on()
            return
    if not all(np.isfinite(values).all() for values in statistics.values()):
        _note("batch-norm statistics have NaN or infinity", "re-estimate them before use")


def _measure(
    found: Beside, evaluator: Evaluator, writer: CheckpointWriter, run: Trajectory, n: int
) -> None:
    try:
        losses = [
            evaluator.train_loss(weights) for weights in (run.snapshot(n), _weights(writer, run))
        ]
    except Exception as error:  # the forecast is there; it must not be lost for a figure
        _note("the train loss was not measured", reason(error))
        return
    found.train_loss_origin, found.train_loss_forecast = losses


def _weights(writer: CheckpointWriter, run: Trajectory) -> dict[str, Floats]:
    return {info.name: writer.read(info.name) for info in run.tensors}


def _note(what: str, why: str) -> None:
    print(f"note: {what}, {why}", file=sys.stderr)
