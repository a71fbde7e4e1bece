"""One killable process: what a call gives back, and what each way of misbehaving costs.

Calls run `exec` and `eval`, for a worker can import the standard library and not this file.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.child import SharedFile, serve
from weightcast.bench.engine.processes.forks import worker_context
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.worker import Stopped, Worker, WorkerEnded

IsGone = Callable[[set[int] | list[int]], bool]
Slack = Callable[[], AbstractContextManager[Callable[[], float]]]

#: What the product promises: a call ends within so many seconds of its limit.
PROMISED = 2.0
#: Room for the process itself and one library, little for more.
MEMORY = 400_000_000


@pytest.fixture(scope="module")
def context() -> BaseContext:
    return worker_context()


@pytest.fixture
def is_gone(alive: Callable[[int], bool], wait_for: Callable[..., bool]) -> IsGone:
    def gone(pids: set[int] | list[int]) -> bool:
        return wait_for(lambda: not any(alive(pid) for pid in pids), 10.0)

    return gone


@pytest.fixture
def worker(context: BaseContext) -> Iterator[Worker]:
    worker = Worker(context, Limits(timeout=60.0, max_memory=MEMORY))
    yield worker
    worker.close()


@pytest.fixture
def hasty(context: BaseContext) -> Iterator[Worker]:
    worker = Worker(context, Limits(timeout=1.0, max_memory=MEMORY))
    yield worker
    worker.close()


def _pid(worker: Worker) -> int:
    return worker.call(os.getpid)


def _ends(worker: Worker, code: str) -> Failure:
    """Run code that ends the process; see that the next call has another one."""
    with pytest.raises(WorkerEnded) as caught:
        worker.call(exec, code, {})
    assert worker.call(eval, "6 * 7") == 42
    return caught.value.failure


def test_when_a_call_returns_then_its_value_comes_back_from_the_same_process(
    worker: Worker,
) -> None:
    assert worker.call(divmod, 17, 5) == (3, 2)
    first = _pid(worker)
    assert first != os.getpid()
    assert _pid(worker) == first


@pytest.mark.parametrize("error", [ValueError, MemoryError, TimeoutError, SystemExit])
def test_when_the_function_raises_then_the_exception_comes_through_and_the_process_stays(
    worker: Worker, error: type[BaseException]
) -> None:
    first = _pid(worker)
    with pytest.raises(error, match="said so"):
        worker.call(exec, f"raise {error.__name__}('said so')", {})
    assert _pid(worker) == first


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import time\ndef hang():\n  while True: time.sleep(60)\nhang()", id="sleeps"),
        pytest.param("def hang():\n  while True: pass\nhang()", id="spins"),
        pytest.param(
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "def hang():\n  while True: time.sleep(60)\nhang()",
            id="ignores-sigterm",
        ),
        pytest.param(
            "import ctypes\ndef hang():\n  ctypes.PyDLL(None).sleep(3600)\nhang()",
            id="holds-the-lock-of-python",
        ),
    ],
)
def test_when_a_call_takes_too_long_then_it_ends_within_two_seconds_of_its_limit(
    hasty: Worker, code: str, slack: Slack
) -> None:
    assert hasty.call(abs, -1) == 1  # the start of a process is not the call's
    with slack() as times_longer:
        start = time.perf_counter()
        with pytest.raises(WorkerEnded) as caught:
            hasty.call(exec, code, {})
        took = time.perf_counter() - start
    assert 1.0 <= took < 1.0 + PROMISED * times_longer()
    failure = caught.value.failure
    assert failure.status == "timeout"
    assert failure.reason == "took longer than the limit of 1 s (--timeout)"
    assert "in hang" in failure.traceback
    assert hasty.call(eval, "6 * 7") == 42


def test_when_memory_is_taken_bit_by_bit_then_the_call_is_out_of_memory(worker: Worker) -> None:
    code = (
        "import time\n"
        "def take():\n"
        "  held = []\n"
        "  while True:\n"
        "    held.append(b'x' * 10_000_000)\n"
        "    time.sleep(0.01)\n"
        "take()"
    )
    # What holds the process to its limit may be the system's, too: then the function is told.
    try:
        ended = _ends(worker, code)
    except MemoryError:
        assert worker.call(eval, "6 * 7") == 42
        return
    assert ended.status == "out-of-memory"
    assert ended.reason == "its process passed the limit of 400 MB (--max-memory)"
    assert "in take" in ended.traceback


def test_when_memory_is_taken_that_python_does_not_count_then_the_call_is_out_of_memory(
    worker: Worker,
) -> None:
    # Shared pages are no data of the process, so no limit of the system's stands in the way.
    code = (
        "import mmap, time\n"
        "def take():\n"
        "  held = []\n"
        "  while True:\n"
        "    held.append(mmap.mmap(-1, 20_000_000))\n"
        "    held[-1].write(b'x' * 20_000_000)\n"
        "    time.sleep(0.01)\n"
        "take()"
    )
    ended = _ends(worker, code)
    assert ended.status == "out-of-memory"
    assert ended.reason == "its process passed the limit of 400 MB (--max-memory)"
    assert "in take" in ended.traceback


def test_when_one_allocation_is_far_too_large_then_it_is_refused_and_nothing_else_happens(
    worker: Worker,
) -> None:
    code = "import numpy\nnumpy.ones(10**11)"
    try:
        ended = _ends(worker, code)
    except MemoryError:  # of which numpy's is one
        return
    assert ended.status == "out-of-memory"


def test_when_the_process_is_hit_by_a_signal_then_its_name_and_stack_are_kept(
    worker: Worker,
) -> None:
    ended = _ends(worker, "import ctypes\ndef fall():\n  ctypes.string_at(0)\nfall()")
    assert (ended.status, ended.reason) == (
        "crashed",
        "its process was ended by SIGSEGV",
    )
    assert "in fall" in ended.traceback
    killed = _ends(worker, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert killed.status == "crashed"
    assert "SIGKILL, which the system sends where memory runs out" in killed.reason
    assert "in fall" not in killed.traceback


@pytest.mark.parametrize("code", [3, 0])
def test_when_the_process_exits_then_its_status_is_said_and_nobody_waits_for_the_limit(
    worker: Worker, code: int
) -> None:
    worker.call(abs, -1)
    start = time.perf_counter()
    ended = _ends(worker, f"import os\nos._exit({code})")
    assert (ended.status, ended.reason) == (
        "crashed",
        f"its process ended with status {code}",
    )
    assert time.perf_counter() - start < 30.0


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.5])
def test_when_a_process_dies_while_it_is_idle_then_the_next_call_has_a_new_one(
    worker: Worker, wait: float
) -> None:
    for _ in range(2):
        first = _pid(worker)
        os.kill(first, signal.SIGKILL)
        time.sleep(wait)
        assert _pid(worker) != first


def test_when_a_worker_is_killed_from_another_thread_then_the_call_is_stopped(
    worker: Worker, is_gone: IsGone
) -> None:
    first = _pid(worker)
    threading.Timer(0.3, worker.kill).start()
    start = time.perf_counter()
    with pytest.raises(Stopped):
        worker.call(time.sleep, 50.0)
    assert time.perf_counter() - start < 15.0
    assert is_gone([first])


def test_when_the_stop_event_is_set_then_only_a_call_that_was_given_it_is_stopped(
    worker: Worker, is_gone: IsGone
) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    first = _pid(worker)
    with pytest.raises(Stopped):
        worker.call(time.sleep, 50.0, stop=stop)
    assert is_gone([first])
    assert worker.call(eval, "6 * 7") == 42


def test_when_results_and_arguments_are_large_then_they_come_whole(worker: Worker) -> None:
    large = worker.call(eval, "bytes(range(256)) * 80_000")
    assert large == bytes(range(256)) * 80_000
    assert worker.call(len, large) == len(large)


def test_when_what_comes_back_cannot_be_pickled_then_the_call_fails_and_the_next_works(
    worker: Worker,
) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, WorkerEnded)):
        worker.call(eval, "lambda: 1")
    assert worker.call(eval, "6 * 7") == 42


def test_when_a_worker_is_closed_then_its_process_is_gone(
    context: BaseContext, is_gone: IsGone
) -> None:
    worker = Worker(context, Limits(60.0, MEMORY))
    first = _pid(worker)
    worker.close()
    assert is_gone([first])


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("while True: pass", id="spins"),
        pytest.param("import ctypes; ctypes.PyDLL(None).sleep(3600)", id="holds-the-lock"),
        pytest.param("", id="idle"),
    ],
)
def test_when_the_parent_is_killed_then_no_worker_is_left(code: str, is_gone: IsGone) -> None:
    script = (
        "import os, time\n"
        "from weightcast.bench.engine.processes.limits import Limits\n"
        "from weightcast.bench.engine.processes.worker import Worker\n"
        "from weightcast.bench.engine.processes.forks import worker_context\n"
        f"worker = Worker(worker_context(), Limits(60.0, {MEMORY}))\n"
        "print(worker.call(os.getpid), flush=True)\n"
        f"worker.call(exec, {code!r}, {{}})\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)  # now it is in the loop
        family = {pid, *(child.pid for child in psutil.Process(parent.pid).children(True))}
        assert len(family) >= 2  # the fork server and its worker
        parent.kill()
        parent.wait(timeout=300)
    assert is_gone(family)


def test_when_workers_are_given_up_as_they_start_then_nothing_is_said(tmp_path: Path) -> None:
    script = (
        "from weightcast.bench.engine.processes.forks import worker_context\n"
        "import gc\n"
        "if __name__ == '__main__':\n"
        "    context = worker_context()\n"
        "    for _ in range(20):\n"
        "        lock = context.Lock()\n"
        "        process = context.Process(target=id, args=(lock,))\n"
        "        process.start()\n"
        "        del lock  # what the process is to be handed is gone\n"
        "        gc.collect()\n"
        "        process.join()\n"
    )
    path = tmp_path / "starts.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.stderr == ""


class _Ends:
    """What ends the process that opens it, with the status of an orderly end."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os._exit, (0,)


#: Something that is never handed back: its process waits while it is being pickled.
ENDLESS = "type('Endless', (), {'__reduce__': lambda self: __import__('time').sleep(3600)})()"


def test_when_a_process_ends_before_its_call_begins_then_nobody_waits_for_it(
    worker: Worker,
) -> None:
    assert _pid(worker) != os.getpid()
    with pytest.raises(WorkerEnded, match="its process could not be reached"):
        worker.call(bool, _Ends())
    assert worker.call(eval, "6 * 7") == 42


def test_when_a_process_is_stuck_with_its_answer_then_its_limit_holds(
    hasty: Worker,
) -> None:
    with pytest.raises(WorkerEnded, match="took longer than the limit of 1 s"):
        hasty.call(eval, ENDLESS)
    assert hasty.call(eval, "6 * 7") == 42


def test_when_nobody_is_there_for_the_answer_then_the_process_ends_without_a_word(
    context: BaseContext, wait_for: Callable[..., bool]
) -> None:
    ours, theirs = context.Pipe()
    pid, begun, traces = context.RawValue("q", 0), context.RawValue("q", 0), SharedFile()
    process = context.Process(  # type: ignore[attr-defined]
        target=serve, args=(theirs, pid, begun, traces, 4 * 10**9)
    )
    process.start()
    theirs.close()
    ours.send_bytes(ForkingPickler.dumps((60.0, time.sleep, (0.5,))))
    assert wait_for(lambda: begun.value != 0)
    ours.close()
    process.join(60.0)
    # An uncaught exception, whose traceback goes to the terminal, is a status of 1.
    assert process.exitcode == 0
    traces.close()
