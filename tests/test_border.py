"""The border: what a method's process holds, what it is refused, and what crosses the pipe."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.site import Setup
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.tables import load_results
from weightcast.bench.scoring.border import wire
from weightcast.bench.scoring.border.answers import NO_NAME, Incoming, Readable, Session
from weightcast.bench.scoring.border.offers import Order, RunOffer
from weightcast.bench.scoring.border.sealed import Desk, GivenUp, SealedRun
from weightcast.bench.scoring.border.wire import BadMessage, Message, receive, send
from weightcast.bench.scoring.forecasting import ForecastBlock, ForecastStream
from weightcast.datasets import InputError, Trajectory, get_dataset, make_task
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.window import named_window
from weightcast.methods import load_plugin, make_method

CONTEXT = 10
SEED = 3


@pytest.fixture(scope="module")
def run() -> Trajectory:
    return get_dataset("digits-mlp-sgd").run(SEED)


class _AtBothEnds:
    """A session in this process: a thread answers, the test asks."""

    def __init__(self, session: Session) -> None:
        self.session = session
        ours, theirs = multiprocessing.Pipe()
        self.desk = Desk(ours, session.number)
        self.connection = ours
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                while True:
                    message = receive(connection, lambda: self.session.most)
                    send(connection, self.session.answer(message))
            except (OSError, EOFError, BadMessage):
                return


Open = Callable[..., tuple[Desk, RunOffer, Session]]


@pytest.fixture
def opened() -> Iterator[Open]:
    ends: list[_AtBothEnds] = []

    def open_(
        run: Trajectory, snapshots: int, take: list[ForecastBlock] | None = None, **more: Any
    ) -> tuple[Desk, RunOffer, Session]:
        readable = Readable(run, 0, snapshots, lambda: evaluator_for(run.meta))
        task = make_task(run, CONTEXT)
        incoming = [Incoming(run, task, more.get("sample"), ([] if take is None else take).append)]
        both = _AtBothEnds(Session(1, [readable], incoming))
        ends.append(both)
        return both.desk, readable.offer(0), both.session

    yield open_
    for both in ends:
        both.connection.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("window", [None, "late"])
def test_when_a_run_is_sealed_then_what_may_be_seen_is_the_same(
    run: Trajectory, window: str | None, at_once: bool, opened: Open
) -> None:
    part = named_window(run, window) if window else run
    desk, offer, _ = opened(part, CONTEXT + 1)
    sealed = SealedRun(desk, offer, at_once)
    assert sealed.steps.tolist() == part.steps[: CONTEXT + 1].tolist()
    rows = [0, 7, CONTEXT]
    for info, same in zip(part.tensors, sealed.tensors, strict=True):
        assert info == same
        np.testing.assert_array_equal(sealed.read(same, rows), part.read(info, rows))
        some = sealed.read(same, rows, 1, info.size - 1)
        np.testing.assert_array_equal(some, part.read(info, rows, 1, info.size - 1))
    for name, values in part.initial().items():
        np.testing.assert_array_equal(sealed.initial()[name], values)


def test_when_a_run_is_sealed_then_nothing_says_which_it_is(run: Trajectory, opened: Open) -> None:
    _, offer, _ = opened(run, CONTEXT + 1)
    assert (offer.meta.dataset, offer.meta.seed) == (NO_NAME, 0)
    assert offer.meta.train_loss == run.meta.train_loss[: CONTEXT + 1]
    for told in ("recipe", "data", "test_loss", "test_accuracy", "source", "truth"):
        assert not getattr(offer.meta, told)


def test_when_what_comes_after_the_origin_is_asked_for_then_it_is_refused(
    run: Trajectory, opened: Open
) -> None:
    desk, offer, session = opened(run, CONTEXT + 1)
    sealed = SealedRun(desk, offer, at_once=False)
    for snapshot in (CONTEXT + 1, run.n_snapshots - 1, run.n_snapshots, -1):
        with pytest.raises(InputError):
            sealed.read(sealed.tensors[0], [0, snapshot])
    with pytest.raises(InputError):
        sealed.read(sealed.tensors[0], [0], 0, sealed.tensors[0].size + 1)
    # The session goes on: a refusal is the method's to deal with.
    assert session.failure is None
    assert sealed.read(sealed.tensors[0], [0]).size == sealed.tensors[0].size


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("read", {"run": 1, "tensor": "1.weight", "snapshots": [0], "start": 0, "stop": 1}),
        ("read", {"run": -1, "tensor": "1.weight", "snapshots": [0], "start": 0, "stop": 1}),
        ("read", {"run": 0, "tensor": "none", "snapshots": [0], "start": 0, "stop": 1}),
        ("read", {"run": 0, "tensor": "1.weight", "snapshots": "0", "start": 0, "stop": 1}),
        ("read", {"run": 0, "tensor": "1.weight", "snapshots": [0], "start": 5, "stop": 1}),
        (
            "read",
            {"run": 0, "tensor": "1.weight", "snapshots": [0] * 10**5, "start": 0, "stop": 2048},
        ),
        ("read", {}),
        ("loss", {"run": 0, "names": ["1.weight"]}),
        ("score", {}),
        ("__class__", {}),
    ],
)
def test_when_what_is_asked_makes_no_sense_then_it_is_refused(
    run: Trajectory, opened: Open, word: str, values: dict[str, Any]
) -> None:
    desk, _, session = opened(run, CONTEXT + 1)
    with pytest.raises(InputError):
        desk.ask(word, values)
    assert session.failure is None


def test_when_a_loss_is_asked_for_then_it_is_the_runs_own_and_counted(
    run: Trajectory, opened: Open
) -> None:
    desk, offer, session = opened(run, CONTEXT + 1)
    loss, here = SealedRun(desk, offer, at_once=True).loss(), evaluator_for(run.meta)
    assert loss is not None
    assert here is not None
    for index in (0, CONTEXT):
        assert loss(run.snapshot(index)) == here.train_loss(run.snapshot(index))
    assert loss.evaluations == session.evaluations == 2
    assert desk.cpu_seconds == loss.cpu_elsewhere > 0
    with pytest.raises(InputError, match="one array a tensor"):
        loss({"1.weight": run.snapshot(0)["1.weight"]})


@pytest.mark.parametrize("sample", [None, np.array([1, 5, 2000, 2400])])
def test_when_a_forecast_crosses_then_its_blocks_are_those_that_were_made(
    run: Trajectory, opened: Open, sample: NDArray[np.int64] | None
) -> None:
    taken: list[ForecastBlock] = []
    desk, offer, session = opened(run, CONTEXT + 1, taken, sample=sample)
    method, task = make_method("last-two-line"), make_task(run, CONTEXT)
    blocks = list(ForecastStream(method, SealedRun(desk, offer, True), task, sample))
    for block in blocks:
        desk.hand_over(block, 0, most=4 * 50 * 100)
    assert session.incoming[0].missing() == ""
    if sample is None:
        assert len(taken) > len(blocks)  # in pieces
    for name in {info.name for info in run.tensors}:
        for of in ("rows", "last", "forecast"):
            there = [getattr(block, of) for block in taken if block.tensor.name == name]
            made = [getattr(block, of) for block in blocks if block.tensor.name == name]
            if made:
                np.testing.assert_array_equal(np.concatenate(there), np.concatenate(made))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"start": 0, "stop": 10}, "are forecast twice"),
        ({"start": 10, "stop": 20, "shape": (10, 49)}, "has shape"),
        ({"start": 10, "stop": 20, "value": np.nan}, "is not finite"),
        ({"start": 10, "stop": 10**6, "shape": (10, 50)}, "does not have"),
        ({"tensor": "none", "start": 10, "stop": 20}, "does not have"),
        ({"start": 10, "stop": 20, "dtype": np.float64}, "has shape"),
    ],
)
def test_when_a_block_is_none_then_the_session_fails_with_its_reason(
    run: Trajectory, opened: Open, block: dict[str, Any], reason: str
) -> None:
    desk, _, session = opened(run, CONTEXT + 1)
    first = {"number": 0, "tensor": "1.weight", "start": 0, "stop": 10}
    desk.ask("block", first, [np.zeros((10, 50), np.float32)])
    shape, value = block.pop("shape", (10, 50)), block.pop("value", 0.0)
    values = np.full(shape, value, block.pop("dtype", np.float32))
    with pytest.raises(GivenUp):
        desk.ask("block", {**first, **block}, [values])
    assert session.failure is not None
    assert session.failure.status == "invalid"
    assert reason in session.failure.reason
    with pytest.raises(GivenUp):  # nothing is answered any more
        desk.ask("block", {**first, "start": 20, "stop": 30}, [np.zeros((10, 50), np.float32)])


def test_when_blocks_are_left_out_then_the_forecast_is_not_whole(
    run: Trajectory, opened: Open
) -> None:
    desk, _, session = opened(run, CONTEXT + 1)
    values = {"number": 0, "tensor": "1.weight", "start": 5, "stop": 10}
    desk.ask("block", values, [np.zeros((5, 50), np.float32)])
    assert "5 of 2410 coordinates" in session.incoming[0].missing()


dtypes = st.sampled_from([np.dtype("<f4"), np.dtype("<f8")])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    st.text(max_size=10),
    st.dictionaries(st.text(max_size=5), plain, max_size=4),
    st.lists(
        arrays_of.arrays(dtypes, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=5)),
        max_size=3,
    ),
)
def test_when_a_message_is_sent_then_it_arrives_as_it_is(
    word: str, values: dict[str, Any], arrays: list[NDArray[Any]]
) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        send(ours, Message(word, values, arrays))
        got = receive(theirs, lambda: 10**6)
    assert (got.word, got.values) == (word, values)
    for sent, arrived in zip(arrays, got.arrays, strict=True):
        assert arrived.dtype == sent.dtype
        np.testing.assert_array_equal(arrived, sent)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"{}",
        b'["read", {}]',
        b'["read", {}, [["<f4", [1000000000000]]]]',
        b'["read", {}, [["<f4", [-1]]]]',
        b'["read", {}, [["<f4", [true]]]]',
        b'["read", {}, [["<f4", ["1"]]]]',
        b'["read", {}, [["|O", [1]]]]',
        b'["read", {}, [["<f4"]]]',
        b'["read", [], []]',
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps(["read", {}, [["<f4", [2**70]]]]).encode(),
    ],
)
def test_when_a_message_is_none_then_nothing_is_taken_for_it(head: bytes) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        ours.send_bytes(head)
        with pytest.raises(BadMessage):
            receive(theirs, lambda: 10**6)


def test_when_the_other_side_goes_in_the_middle_of_an_array_then_nobody_waits_for_it() -> None:
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        with ours:
            ours.send_bytes(b'["read", {}, [["<f4", [2]]]]')
            os.write(ours.fileno(), b"x" * 5)
        with pytest.raises(EOFError):
            receive(theirs, lambda: 10**6)


@pytest.mark.parametrize("direct", [True, False])
def test_when_an_array_is_larger_than_a_pipe_holds_then_it_comes_whole(
    direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_DIRECT", direct)
    array = np.random.default_rng(0).standard_normal((1000, 1001)).astype(np.float32)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        sending = threading.Thread(target=send, args=(ours, Message("m", {}, [array, array.T])))
        sending.start()
        got = receive(theirs, lambda: 10**8)
        sending.join()
    np.testing.assert_array_equal(got.arrays[0], array)
    np.testing.assert_array_equal(got.arrays[1], array.T)


def test_when_a_fit_is_ordered_then_the_order_names_no_data(tmp_path: Path) -> None:
    fit = _plan(tmp_path, ["lfd2"])[0]
    order = Order.of(Setup(data=tmp_path), fit)
    told = repr(order)
    for name in ("digits", str(tmp_path), "test", "train"):
        assert name not in told.replace(fit.key, "").replace(fit.code, "")


def _plan(tmp_path: Path, methods: list[str]) -> list[Fit]:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(methods=methods), encoding="utf-8")
    return make_plan(load_suite(str(path)).resolve(), RunCache(None))


SUITE = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = {methods}
contexts = [10]
rotations = 3
tiers = ["weights", "function"]
"""

#: Looks for bytes everywhere in its own process. It knows them with every bit turned over, and so
#: never holds what it looks for.
SEARCHER = '''
import json, os
from pathlib import Path
import numpy as np
from weightcast.methods import NetworkForecaster, register

HERE = Path({here!r})
PIECE = 2**22
fits = []


def regions():
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_ = line.split()
        if rights.startswith("rw"):
            yield [int(end, 16) for end in place.split("-")]


def search(needles):
    found = dict.fromkeys(needles, 0)
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for start, stop in regions():
            for at in range(start, stop, PIECE):
                try:
                    memory.seek(at)
                    piece = memory.read(min(PIECE + 64, stop - at))
                except (OSError, ValueError, OverflowError):
                    continue
                turned = np.invert(np.frombuffer(piece, np.uint8)).tobytes()
                for name, needle in needles.items():
                    found[name] += turned.count(needle)
    return found


@register("searcher")
class Searcher(NetworkForecaster):
    """Forecasts nothing; tells what is in its process."""

    _tags = {{"needs": ("train-loss",)}}

    def fit(self, train, validation, task):
        fits.append(task.seed)
        return self

    def predict(self, history, task):
        history.loss(history.last)
        # Later fits of a process are trained on runs that the first one was tested on.
        if fits == [task.seed]:
            turned = json.loads((HERE / "needles.json").read_text())[str(task.seed)]
            found = search({{name: bytes.fromhex(needle) for name, needle in turned.items()}})
            held = [f"/proc/self/fd/{{fd}}" for fd in os.listdir("/proc/self/fd")]
            files = [os.readlink(link) for link in held if os.path.lexists(link)]
            with open(HERE / "looks.jsonl", "a") as log:
                log.write(json.dumps([task.seed, found, files]) + "\\n")
        return {{}}
'''


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="looks into its memory on Linux")
def test_when_a_method_forecasts_then_nothing_of_the_future_is_anywhere_in_its_process(
    tmp_path: Path,
) -> None:
    plugin = tmp_path / "searcher.py"
    plugin.write_text(SEARCHER.format(here=str(tmp_path)), encoding="utf-8")
    needles = {}
    for fit in _plan(tmp_path, ["last-value"]):
        run = get_dataset("digits-mlp-sgd").run(fit.split.test[0])
        values = run.read(run.tensor_info("3.weight"))  # (T, c)
        wanted = {
            "seen, a snapshot": values[CONTEXT, 100:112],
            "seen, a coordinate": values[: CONTEXT + 1, 50],
            "future, a snapshot": values[CONTEXT + 1, 100:112],
            "future, a coordinate": values[CONTEXT + 1 : CONTEXT + 12, 50],
        }
        needles[fit.task_seed] = {
            name: bytes(255 - byte for byte in np.ascontiguousarray(some).tobytes()).hex()
            for name, some in wanted.items()
        }
    (tmp_path / "needles.json").write_text(json.dumps(needles), encoding="utf-8")
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.format(methods=["searcher"]), encoding="utf-8")
    load_plugin(plugin)
    assert run_suite(RunOptions(str(suite), tmp_path / "out", plugins=[plugin])) == {"ok": 12}
    looks = [json.loads(line) for line in (tmp_path / "looks.jsonl").read_text().splitlines()]
    assert looks
    for seed in {seed for seed, *_ in looks}:
        counts = [found for of, found, _ in looks if of == seed]
        # The search finds what is there.
        assert any(found["seen, a snapshot"] for found in counts)
        for found in counts:
            assert found["future, a snapshot"] == found["future, a coordinate"] == 0
    assert not [file for *_, files in looks for file in files if ".safetensors" in file]


#: Each takes another way round the rules.
CHEATS = '''
import gc, sys
import numpy as np
from weightcast.datasets import Trajectory
from weightcast.methods import CoordinateForecaster, NetworkForecaster, register


@register("reads-frames")
class ReadsFrames(CoordinateForecaster):
    """Looks for the run among the callers' variables, and whatever else there is."""

    def predict_block(self, context, task):
        held = []
        frame = sys._getframe(1)
        while frame is not None:
            held += [*frame.f_locals.values()]
            frame = frame.f_back
        held += [vars(thing).get("run") for thing in held if hasattr(thing, "__dict__")]
        held += [thing for thing in gc.get_objects() if isinstance(thing, Trajectory)]
        ahead = range(task.context + 1, task.context + 1 + len(task.horizons))
        for run in held:
            if isinstance(run, Trajectory):
                try:
                    values = run.read(task.tensor)[:, task.rows]
                    if np.array_equal(values[: task.context + 1], context.T):
                        return values[ahead].T.copy()
                except Exception:
                    pass
                try:
                    return run.read(task.tensor, ahead)[:, task.rows].T.copy()
                except Exception:
                    pass
        return np.repeat(context[:, -1:], len(task.horizons), axis=1)


@register("trains-on")
class TrainsOn(NetworkForecaster):
    """Looks for the network and the data behind the loss, and would train on."""

    _tags = {"needs": ("train-loss",)}

    def predict(self, history, task):
        import torch

        pending, seen = [history.loss], set()
        while pending:
            thing = pending.pop()
            if id(thing) in seen or isinstance(thing, type(sys)) or isinstance(thing, type):
                continue
            seen.add(id(thing))
            if isinstance(thing, torch.nn.Module | torch.Tensor):
                ahead = len(task.horizons)
                return {name: w[None].repeat(ahead, 0) + 1 for name, w in history.last.items()}
            referents = gc.get_referents(thing)
            pending += [it for it in referents if not callable(it) or hasattr(it, "__self__")]
        return {}
'''


def test_when_a_method_looks_for_the_run_or_the_network_then_it_is_the_last_value(
    tmp_path: Path,
) -> None:
    plugin = tmp_path / "cheats.py"
    plugin.write_text(CHEATS, encoding="utf-8")
    suite = tmp_path / "suite.toml"
    names = ["last-value", "reads-frames", "trains-on"]
    suite.write_text(SUITE.format(methods=names), encoding="utf-8")
    load_plugin(plugin)
    assert run_suite(RunOptions(str(suite), tmp_path / "out", plugins=[plugin])) == {"ok": 36}
    cells = load_results(tmp_path / "out").cells
    weights = cells[(cells["tier"] == "weights") & (cells["horizon_set"] == "common")]
    np.testing.assert_allclose(weights["rel_sum"], 1.0, rtol=1e-12)
