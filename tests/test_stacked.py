"""The stacked layout: whole files or none, read back as written, foreign ones refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from weightcast.datasets import InputError, Metadata, TensorInfo, Trajectory, open_trajectory
from weightcast.datasets.files.stacked import StackedWriter, StateInfo, write_stacked


@pytest.fixture
def run() -> Trajectory:
    random = np.random.default_rng(0)
    arrays = {
        "layer.weight": random.standard_normal((4, 2, 3)).astype(np.float32),
        "layer.bias": random.standard_normal((4, 3)).astype(np.float32),
        "empty": np.zeros((4, 0), np.float32),
        "scale": random.standard_normal(4).astype(np.float32),
    }
    meta = Metadata(
        "toy",
        7,
        recipe={"generator": "none"},
        learning_rates=(0.1, 0.1, 0.05, 0.05, 0.05, 0.1),
        train_loss=(3.0, 2.0, 1.0, 0.5),
        hyperparameters={"momentum": 0.9},
    )
    infos = [
        TensorInfo("layer.weight", (2, 3), "linear", 0),
        TensorInfo("layer.bias", (3,), "bias", 0),
        TensorInfo("empty", (0,), "other", 1),
        TensorInfo("scale", (), "other", 1, tied="scale"),
    ]
    return Trajectory.from_arrays(arrays, [0, 2, 3, 6], meta, infos)


def test_when_written_and_opened_then_everything_comes_back(
    run: Trajectory, tmp_path: Path
) -> None:
    write_stacked(run, tmp_path / "7.safetensors")
    again = open_trajectory(tmp_path / "7.safetensors")
    assert again.tensors == run.tensors
    assert again.meta == run.meta
    assert again.steps.tolist() == [0, 2, 3, 6]
    assert again.content_hash() == run.content_hash()


def test_when_the_safetensors_library_opens_it_then_it_sees_the_same_arrays(
    run: Trajectory, tmp_path: Path
) -> None:
    write_stacked(run, tmp_path / "7.safetensors")
    arrays = load_file(tmp_path / "7.safetensors")
    assert set(arrays) == {t.name for t in run.tensors}
    np.testing.assert_array_equal(arrays["layer.weight"].reshape(4, -1), run.read(run.tensors[0]))


def test_when_an_opened_run_is_pickled_then_it_reads_on(run: Trajectory, tmp_path: Path) -> None:
    write_stacked(run, tmp_path / "7.safetensors")
    opened = open_trajectory(tmp_path / "7.safetensors")
    opened.content_hash()
    assert pickle.loads(pickle.dumps(opened)).content_hash() == run.content_hash()


def test_when_writing_fails_half_way_then_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "set" / "0.safetensors"
    writer = StackedWriter(path, [TensorInfo("w", (2,))], [0, 1])

    def train() -> None:
        with writer:
            writer.write([np.zeros(2, np.float32)])
            raise RuntimeError("training diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        train()
    assert list(path.parent.iterdir()) == []


def test_when_a_killed_writer_left_a_partial_file_then_the_next_one_removes_it(
    run: Trajectory, tmp_path: Path
) -> None:
    stale = tmp_path / ".7.safetensors.99999.partial"
    stale.write_bytes(b"half")
    write_stacked(run, tmp_path / "7.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["7.safetensors"]


def test_when_snapshots_are_missing_then_the_file_is_not_finished(tmp_path: Path) -> None:
    with StackedWriter(tmp_path / "0.safetensors", [TensorInfo("w", (2,))], [0, 1]) as writer:
        writer.write([np.zeros(2, np.float32)])
        with pytest.raises(ValueError, match="1 of 2 snapshots"):
            writer.finish(Metadata("toy", 0))
    assert list(tmp_path.iterdir()) == []


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _foreign(path: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, path)


def _text(path: Path) -> None:
    path.write_text("not a trajectory at all, but long enough to be read as one", encoding="utf-8")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(4096))


def _lying(path: Path) -> None:
    header = {
        "__metadata__": {
            "format": "weightcast-stacked-1",
            "trajectory": json.dumps({"tensors": [], "steps": [0]}),
        }
    }
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_truncated, "truncated"),
        (_cut_header, "truncated or not a safetensors"),
        (_foreign, "does not say weightcast-stacked-1"),
        (_text, "is not a Weightcast trajectory"),
        (_empty, "truncated or not a safetensors"),
        (_zeros, "truncated or not a safetensors"),
        (_lying, r"is not a Weightcast trajectory \(tensors: List should have at least 1 item"),
    ],
)
def test_when_a_file_is_truncated_or_foreign_then_one_line_says_so(
    run: Trajectory, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "7.safetensors"
    write_stacked(run, path)
    spoil(path)
    with pytest.raises(InputError, match=says) as caught:
        open_trajectory(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_when_there_is_nothing_or_a_folder_then_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no trajectory"):
        open_trajectory(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        open_trajectory(tmp_path)


def _flip(path: Path, name: str, place: int) -> None:
    """Change one byte of a tensor."""
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    begin, _ = json.loads(raw[8 : 8 + length])[name]["data_offsets"]
    raw[8 + length + begin + place] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "place"), [("weight", 0), ("weight", 47), ("bias", 3), ("state/mean", 8)]
)
def test_when_one_bit_of_a_tensor_changed_then_verify_names_the_tensor(
    tmp_path: Path, name: str, place: int
) -> None:
    path = tmp_path / "0.safetensors"
    tensors = [TensorInfo("weight", (2, 3)), TensorInfo("bias", ())]
    states = [StateInfo("mean", (2,), "F64"), StateInfo("nothing", (0,), "I64")]
    with StackedWriter(path, tensors, [0, 1], states=states) as writer:
        for step in range(2):
            values = [np.full(t.shape, step, np.float32) for t in tensors]
            writer.write(values, [np.zeros(2), np.zeros(0, np.int64)])
        writer.finish(Metadata("toy", 0))
    assert open_trajectory(path).verify()
    _flip(path, name, place)
    with pytest.raises(InputError, match=f"the bytes of tensor {name} are not those"):
        open_trajectory(path).verify()


def test_when_a_file_has_no_checksums_then_it_opens_and_nothing_is_verified(
    run: Trajectory, tmp_path: Path
) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(run, path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    del header["__metadata__"]["checksums"]
    path.write_bytes(raw[:8] + json.dumps(header).encode().ljust(length) + raw[8 + length :])
    opened = open_trajectory(path)
    assert not opened.verify()
    assert opened.content_hash() == run.content_hash()
    assert not run.verify()  # it is in memory


MANY = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from weightcast.datasets import open_trajectory
runs = [open_trajectory(path) for path in sorted(Path(sys.argv[1]).iterdir())]
assert len(runs) == 300
for _ in range(2):
    for snapshot in range(4):
        for run in runs:
            assert run.snapshot(snapshot)["scale"] == runs[0].snapshot(snapshot)["scale"]
"""


def test_when_there_are_more_runs_than_a_process_may_have_open_then_all_are_read(
    run: Trajectory, tmp_path: Path
) -> None:
    write_stacked(run, tmp_path / "0.safetensors")
    for number in range(1, 300):
        shutil.copy(tmp_path / "0.safetensors", tmp_path / f"{number}.safetensors")
    subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], check=True)


def test_when_many_threads_read_many_files_then_each_gets_its_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightcast.datasets.files.lent_file.MOST_OPEN", 2)
    for number in range(6):
        arrays = {"w": np.full((3, 50), number, np.float32)}
        write_stacked(
            Trajectory.from_arrays(arrays, range(3), Metadata("toy", number)),
            tmp_path / f"{number}.safetensors",
        )
    runs = [open_trajectory(tmp_path / f"{number}.safetensors") for number in range(6)]
    wrong: list[int] = []

    def read() -> None:
        for _ in range(50):
            wrong.extend(
                run.meta.seed
                for run in runs
                if not (run.snapshot(1)["w"] == np.float32(run.meta.seed)).all()
            )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not wrong


def test_when_a_file_is_replaced_between_two_uses_then_its_numbers_are_not_mixed(
    run: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightcast.datasets.files.lent_file.MOST_OPEN", 1)
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for path in paths:
        write_stacked(run, path)
    first, second = (open_trajectory(path) for path in paths)
    first.snapshot(0)
    second.snapshot(0)
    write_stacked(run, paths[0])
    with pytest.raises(InputError, match="replaced or changed while it was in use"):
        first.snapshot(1)


def test_when_a_run_is_let_go_of_then_its_file_is_closed(run: Trajectory, tmp_path: Path) -> None:
    write_stacked(run, tmp_path / "0.safetensors")
    before = len(os.listdir("/proc/self/fd"))
    opened = open_trajectory(tmp_path / "0.safetensors")
    opened.snapshot(0)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del opened
    assert len(os.listdir("/proc/self/fd")) == before
