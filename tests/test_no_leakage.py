"""A forecaster cannot reach a snapshot after the origin.

Every object that a method is handed is walked through everything it refers to, as the garbage
collector sees it, array bases and buffers included. Nowhere may there be a later snapshot, a path,
or a run to read one from.

There is one exception, `oracle-line`: the best point of a line is defined by the truth, so it
cannot be had without. Only references of the package itself are told it, as a copy that serves one
forecast and keeps one number a horizon; no leaderboard counts them as competitors
(`tests/test_classical.py`).
"""

from __future__ import annotations

import gc
import io
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import (
    ForecastTask,
    History,
    InputError,
    Trajectory,
    get_dataset,
    make_task,
)
from weightcast.datasets import history as history_module
from weightcast.datasets.files.context_file import ContextFile
from weightcast.datasets.files.stacked import StackedSource
from weightcast.datasets.trajectory import MemorySource
from weightcast.methods import (
    CoordinateForecaster,
    NetworkForecaster,
    OneLookForecaster,
    all_methods,
    make_method,
)
from weightcast.methods.oracle_line import OracleLine

CONTEXT = 10


def _reachable(*roots: object) -> Iterator[object]:
    """Walk all that objects refer to; code and classes are the same for every run, so not them."""
    pending, seen = list(roots), set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(
            thing, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType
        ):
            continue
        seen.add(id(thing))
        yield thing
        pending += gc.get_referents(thing)
        if isinstance(thing, np.ndarray):
            pending.append(thing.base)
        if hasattr(thing, "__dict__"):
            pending.append(vars(thing))
        if isinstance(thing, types.MethodType):
            pending.append(thing.__self__)


def _future_values(run: Trajectory) -> set[float]:
    """Numbers that occur after the origin and not before it."""
    after = np.concatenate(
        [run.read(t, range(CONTEXT + 1, run.n_snapshots)).ravel() for t in run.tensors]
    )
    before = np.concatenate([run.read(t, range(CONTEXT + 1)).ravel() for t in run.tensors])
    return set(after.tolist()) - set(before.tolist())


def _leaks(run: Trajectory, *handed: object) -> list[str]:
    future = _future_values(run)
    later_losses = set(run.meta.train_loss[CONTEXT + 1 :]) | set(run.meta.test_loss)
    found = []
    for thing in _reachable(*handed):
        if isinstance(thing, Trajectory | StackedSource | MemorySource):
            found.append(f"a {type(thing).__name__}")
        if isinstance(thing, Path) or (isinstance(thing, str) and ".safetensors" in thing):
            found.append(f"the path {thing}")
        if isinstance(thing, np.ndarray) and thing.dtype.kind == "f":
            values = set(thing.ravel().astype(float).tolist())
            if values & future or values & later_losses:
                found.append(f"an array of shape {thing.shape}")
        if isinstance(thing, memoryview | bytes | bytearray):
            raw = bytes(thing)
            usable = np.frombuffer(raw[: len(raw) // 4 * 4], np.float32)
            if set(usable.astype(float).tolist()) & future:
                found.append(f"{len(raw)} raw bytes")
        if isinstance(thing, io.IOBase):
            if not isinstance(thing.name, int):  # type: ignore[attr-defined]
                found.append(f"the named file {thing.name}")  # type: ignore[attr-defined]
            held = os.pread(thing.fileno(), os.fstat(thing.fileno()).st_size, 0)
            if set(np.frombuffer(held, np.float32).astype(float).tolist()) & future:
                found.append(f"a file of {len(held)} bytes")
        if isinstance(thing, float) and thing in later_losses:
            found.append(f"the loss {thing}")
    return found


class _Spy:
    """What methods were handed."""

    def __init__(self) -> None:
        self.handed: list[Any] = []


class SpyOnBlocks(CoordinateForecaster):
    """Keeps what it is handed."""

    def __init__(self, spy: Any = None) -> None:
        self.spy = spy
        super().__init__()

    def predict_block(self, context: np.ndarray, task: ForecastTask) -> np.ndarray:
        self.spy.handed += [context, task]
        return np.repeat(context[:, -1:], len(task.horizons), axis=1)


class SpyOnHistory(NetworkForecaster):
    """Keeps what it is handed; it may measure the train loss."""

    _tags = {"needs": ("train-loss",)}  # noqa: RUF012

    def __init__(self, spy: Any = None) -> None:
        self.spy = spy
        super().__init__()

    def predict(self, history: History, task: ForecastTask) -> dict[str, np.ndarray]:
        assert history.loss is not None
        history.loss(history.last)
        self.spy.handed += [history, task]
        return {}


class SpyAtALook(OneLookForecaster):
    """Keeps what it is handed, at the look and after it."""

    def __init__(self, spy: Any = None) -> None:
        self.spy = spy
        super().__init__()

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        self.spy.handed += [history, task]
        return SpyOnBlocks(self.spy)


@pytest.mark.parametrize("in_memory", [history_module.IN_MEMORY, 0])
@pytest.mark.parametrize("dataset", ["digits-mlp-adam", "linreg-sgd"])
@pytest.mark.parametrize("method", [SpyOnBlocks, SpyOnHistory, SpyAtALook])
def test_when_a_method_is_asked_for_a_forecast_then_nothing_leads_past_the_origin(
    dataset: str, method: Any, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "IN_MEMORY", in_memory)
    run = get_dataset(dataset).run(2)
    training = get_dataset(dataset).run(0)
    task = make_task(training, CONTEXT, block_bytes=4000)
    spy = _Spy()
    list(ForecastStream(method(spy), run, task))
    assert spy.handed
    assert _leaks(run, *spy.handed) == []
    if in_memory == 0 and method is not SpyOnBlocks:
        assert any(isinstance(thing, io.IOBase) for thing in _reachable(*spy.handed))


def test_when_a_file_holds_what_comes_later_then_this_walk_finds_it() -> None:
    run = get_dataset("digits-mlp-adam").run(2)
    assert _leaks(run, ContextFile(run, CONTEXT + 2))
    assert _leaks(run, ContextFile(run, CONTEXT + 1)) == []


def test_when_tags_are_read_then_oracle_line_alone_asks_for_the_truth_and_as_a_reference() -> None:
    asking = {n for n, cls in all_methods().items() if "truth" in cls.get_class_tag("needs")}
    assert asking == {"oracle-line"}
    assert all_methods()["oracle-line"].get_class_tag("role") == "reference"


@pytest.mark.parametrize("role", ["forecaster", "reference"])
@pytest.mark.parametrize("base", [CoordinateForecaster, NetworkForecaster, OracleLine])
def test_when_a_plugin_asks_for_the_truth_then_it_is_refused(base: type[Any], role: str) -> None:
    shown = []

    class Curious(base):  # type: ignore[misc]
        _tags = {"needs": ("truth",), "role": role}  # noqa: RUF012

        def with_truth(self, pairs: object) -> Any:
            shown.append(pairs)
            return self

    run = get_dataset("digits-mlp-sgd").run(0)
    with pytest.raises(InputError, match="Curious asks for the truth"):
        list(ForecastStream(Curious(), run, make_task(run, CONTEXT)))
    assert shown == []


def test_when_an_instance_changes_its_tags_then_it_is_told_nothing() -> None:
    class Sly(SpyOnBlocks):
        def with_truth(self, pairs: object) -> Any:
            raise AssertionError("it was shown the truth")

    run, spy = get_dataset("digits-mlp-sgd").run(0), _Spy()
    method = Sly(spy).set_tags(needs=("truth",), role="reference")
    list(ForecastStream(method, run, make_task(run, CONTEXT)))
    assert _leaks(run, *spy.handed) == []


def test_when_oracle_line_has_forecast_then_the_method_itself_knows_no_more_than_before() -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    method = make_method("oracle-line")
    before = dict(vars(method))
    stream = ForecastStream(method, run, make_task(run, CONTEXT))
    assert any(np.any(block.forecast != block.last[:, None]) for block in stream)
    assert vars(method) == before
    assert _leaks(run, method) == []


def test_when_a_run_ends_before_the_last_horizon_then_oracle_line_says_so() -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    task = make_task(run, CONTEXT)
    longer = ForecastTask(
        **{**vars(task), "horizons": np.arange(1, 60, dtype=np.float32), "tensor": None}
    )
    with pytest.raises(InputError, match="ends before the last horizon"):
        list(ForecastStream(make_method("oracle-line"), run, longer))


def test_when_a_run_itself_is_handed_over_then_this_walk_finds_it() -> None:
    # The test of the test: a view into a longer array, a trajectory, a closure over one.
    run = get_dataset("digits-mlp-adam").run(2)
    whole = run.read(run.tensors[0])
    assert _leaks(run, whole[: CONTEXT + 1])
    assert _leaks(run, [run])
    assert _leaks(run, {"loss": run.meta.train_loss[CONTEXT + 1]})


def test_when_a_history_is_made_then_it_has_the_train_loss_to_the_origin_and_no_test_loss() -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    assert history.train_loss.tolist() == list(run.meta.train_loss[: CONTEXT + 1])
    assert not any("test" in name for name in vars(history))
    assert history.loss is None
    for info in run.tensors:
        np.testing.assert_array_equal(
            history.weights[info.name].reshape(CONTEXT + 1, -1), run.read(info, range(CONTEXT + 1))
        )


def test_when_a_method_writes_to_its_context_then_only_its_own_copy_changes() -> None:
    class Vandal(CoordinateForecaster):
        def predict_block(self, context: np.ndarray, task: ForecastTask) -> np.ndarray:
            context[:] = 7.0
            return np.full((len(context), len(task.horizons)), 7.0, np.float32)

    run = get_dataset("digits-mlp-sgd").run(0)
    before = run.content_hash()
    for block in ForecastStream(Vandal(), run, make_task(run, CONTEXT)):
        places = slice(int(block.rows[0]), int(block.rows[-1]) + 1)
        np.testing.assert_array_equal(block.last, run.read(block.tensor, [CONTEXT])[0, places])
    assert run.content_hash() == before
