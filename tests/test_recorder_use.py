"""The recorder as people use it: with what they have at hand, and when things go wrong."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weightcast.datasets import InputError, TrajectoryRecorder, open_trajectory
from weightcast.datasets.importing.run import import_run


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def _left(path: Path) -> Path:
    return path.with_name(f".{path.name}.recording")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize(
    "half",
    [
        0.5, np.float16(0.5), np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([[0.5]]),
        Fraction(1, 2), Decimal("0.5"), torch.tensor(0.5), torch.tensor([0.5]),
        torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(0.5, dtype=torch.float16),
        torch.tensor(0.5, dtype=torch.float64, requires_grad=True), nn.Parameter(torch.tensor(0.5)),
    ],
    ids=repr,
)  # fmt: skip
def test_when_a_loss_is_any_librarys_number_then_its_mean_is_recorded(
    half: Any, path: Path
) -> None:
    with TrajectoryRecorder(_net(), path, every=2) as recorder:
        for one in (half, np.int32(1), torch.tensor(1), half):
            recorder.step(one)
    assert open_trajectory(path).meta.train_loss == (0.5, 0.75, 0.75)


@pytest.mark.parametrize(
    "loss",
    [
        torch.ones(3), np.ones(2), torch.empty(0), True, np.bool_(True), torch.tensor(True),
        torch.tensor(1j), 1j, "0.5", [0.5], {}, torch.tensor(1.0, device="meta"), ...
    ],
    ids=repr,
)  # fmt: skip
def test_when_a_loss_is_not_one_number_then_the_step_is_refused_and_recording_goes_on(
    loss: Any, path: Path
) -> None:
    with TrajectoryRecorder(_net(), path, every=1) as recorder:
        recorder.step(0.5)
        with pytest.raises(InputError, match="train_loss must be one number, not"):
            recorder.step(loss)
        recorder.step(0.25)
    run = open_trajectory(path)
    assert run.steps.tolist() == [0, 1, 2]
    assert run.meta.train_loss == (0.5, 0.5, 0.25)


def test_when_a_loss_tensor_is_used_again_then_what_was_reported_stays(path: Path) -> None:
    loss = torch.tensor(4.0)
    with TrajectoryRecorder(_net(), path, every=2) as recorder:
        for value in (4.0, 2.0):
            loss.fill_(value)
            recorder.step(loss)
            loss.zero_()
    assert open_trajectory(path).meta.train_loss == (4.0, 3.0)


@pytest.mark.parametrize(
    "two", [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2), torch.tensor([2]).int()]
)
def test_when_steps_and_seeds_are_any_librarys_whole_numbers_then_they_are_taken(
    two: Any, path: Path
) -> None:
    with TrajectoryRecorder(_net(), path, every=two, seed=two, first_step=two) as recorder:
        for _ in range(4):
            recorder.step()
    run = open_trajectory(path)
    assert run.steps.tolist() == [2, 4, 6]
    assert run.meta.seed == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("every", "seed", "first_step")
        for value in (2.0, True, np.bool_(True), torch.tensor(True), "2", np.ones(2, int), 2**63)
    ]
    + [("every", None), ("seed", None)],
)
def test_when_a_step_or_seed_is_no_whole_number_then_it_is_refused_before_anything_is_written(
    name: str, value: Any, path: Path
) -> None:
    with pytest.raises(InputError, match=f"{name} must be "):
        TrajectoryRecorder(_net(), path, **{"every": 1, name: value})
    assert list(path.parent.iterdir()) == []


def test_when_an_optimizer_has_settings_of_any_kind_then_those_that_are_numbers_are_recorded(
    path: Path,
) -> None:
    net = _net()
    betas = (torch.tensor(0.5), torch.tensor(0.75))
    optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.25), betas=betas)
    optimizer.param_groups[0] |= {"eps": np.float64(0.125), "odd": object(), "nan": float("nan")}
    with TrajectoryRecorder(net, path, every=1, optimizer=optimizer) as recorder:
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        recorder.step()
        # Some optimizers find their rate themselves.
        optimizer.param_groups[0]["lr"] = None
        recorder.step()
    meta = open_trajectory(path).meta
    assert meta.learning_rates in ((), (0.25, 0.25))
    assert meta.hyperparameters["betas"] == [0.5, 0.75]
    assert meta.hyperparameters["eps"] == 0.125
    assert not {"odd", "nan"} & set(meta.hyperparameters)
    with pytest.raises(InputError, match=r"optimizer must be a torch.optim.Optimizer, not list"):
        TrajectoryRecorder(net, path, every=1, optimizer=[], overwrite=True)  # type: ignore[arg-type]


def test_when_the_working_directory_changes_then_the_path_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = TrajectoryRecorder(_net(), "not/there/yet/run.safetensors", every=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recorder.step(0.5)
    recorder.close()
    assert list(Path.cwd().iterdir()) == []
    assert open_trajectory(tmp_path / "not/there/yet/run.safetensors").n_snapshots == 2


def _meta() -> nn.Module:
    return nn.Linear(3, 1, device="meta")


def _not_finite() -> nn.Module:
    net = _net()
    net[2].weight.data[0, 1] = float("inf")
    return net


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (_meta, "weight is on the meta device"),
        (lambda: nn.LazyLinear(3), "weight has no shape yet; run a batch"),
        (_not_finite, "2.weight has NaN or infinity at the start"),
        (lambda: _net().requires_grad_(False), "no trained floating-point parameter"),
        (lambda: _net().forward, "model must be a torch.nn.Module, not method"),
    ],
)
def test_when_a_start_fails_then_nothing_is_left_in_the_way_of_the_next(
    model: Callable[[], Any], says: str, path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        TrajectoryRecorder(model(), path, every=1)
    assert list(path.parent.iterdir()) == []
    TrajectoryRecorder(_net(), path, every=1).close()
    assert open_trajectory(path).n_snapshots == 1


def test_when_the_path_cannot_be_a_file_then_it_is_said_at_the_start(path: Path) -> None:
    path.mkdir()
    with pytest.raises(InputError, match=r"run.safetensors is a folder"):
        TrajectoryRecorder(_net(), path, every=1, overwrite=True)
    (path.parent / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written: "):
        TrajectoryRecorder(_net(), path.parent / "file" / "run.safetensors", every=1)


def test_when_two_recorders_have_one_path_then_the_second_is_refused_or_takes_over(
    path: Path,
) -> None:
    first = TrajectoryRecorder(_net(), path, every=1)
    with pytest.raises(InputError, match="is being recorded by another recorder of this process"):
        TrajectoryRecorder(_net(), path, every=1)
    first.step()
    second = TrajectoryRecorder(_net(), path, every=1, overwrite=True)
    with pytest.raises(ValueError, match="another one took over"):
        first.step()
    first.close()
    assert not path.exists()
    second.close()
    assert open_trajectory(path).n_snapshots == 1
    # One that is forgotten without being closed leaves what it recorded.
    third = TrajectoryRecorder(_net(), path, every=1, overwrite=True)
    del third
    gc.collect()
    path.unlink()
    with pytest.raises(InputError, match="was killed or broken off; save it with: weightcast impo"):
        TrajectoryRecorder(_net(), path, every=1)


OTHER = """
import os, sys, time
import torch
from weightcast.datasets import TrajectoryRecorder
recorder = TrajectoryRecorder(torch.nn.Linear(2, 2), sys.argv[1], every=1)
if os.fork() == 0:  # a worker that outlives the process
    print("ready", flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_when_another_process_records_a_path_then_it_is_left_alone_until_it_ends(
    path: Path,
) -> None:
    command = [sys.executable, "-c", OTHER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            for overwrite in (False, True):
                with pytest.raises(InputError, match="is being recorded by another process"):
                    TrajectoryRecorder(_net(), path, every=1, overwrite=overwrite)
            process.kill()
            process.wait(timeout=300)
            # Its own child still runs, and has the file open.
            with pytest.raises(InputError, match="was killed or broken off"):
                TrajectoryRecorder(_net(), path, every=1)
            TrajectoryRecorder(_net(), path, every=1, overwrite=True).close()
            assert open_trajectory(path).tensors[0].shape == (4, 3)
        finally:
            os.killpg(process.pid, 9)


def test_when_a_killed_start_left_no_snapshot_then_the_next_one_takes_its_place(
    path: Path,
) -> None:
    TrajectoryRecorder(_net(), path, every=1).abandon()
    left = _left(path)
    whole = left.read_bytes()
    for length in (0, 5, 23, 31, 40, len(whole) - 1):
        left.write_bytes(whole[:length])
        TrajectoryRecorder(_net(), path, every=1).close()
        path.unlink()
    left.write_text("notes of somebody else")
    with pytest.raises(InputError, match="remove it, or give overwrite=True"):
        TrajectoryRecorder(_net(), path, every=1)
    assert left.read_text() == "notes of somebody else"


def test_when_a_process_forks_then_the_recorder_does_nothing_in_the_child(path: Path) -> None:
    with TrajectoryRecorder(_net(), path, every=1) as recorder:
        recorder.step(1.0)
        child = os.fork()
        if child == 0:
            recorder.step(2.0)
            recorder.close()
            recorder.abandon()
            recorder.__exit__(ValueError, ValueError(), None)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        recorder.step(3.0)
    assert open_trajectory(path).meta.train_loss == (1.0, 1.0, 3.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_when_weights_are_no_longer_finite_then_it_is_said_once_and_what_was_good_is_kept(
    value: float, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = _net()
    recorder = TrajectoryRecorder(net, path, every=2)
    good = net[2].weight.detach().clone()
    for step in range(1, 13):
        broken = 5 <= step < 9 or step >= 11
        net[2].weight.data.copy_(good)
        if broken:
            net[2].weight.data[0, 2] = value
        recorder.step(torch.tensor(value) if broken else 0.5)
        assert len(caplog.records) == (0 if step < 6 else 1 if step < 12 else 2)
    said = caplog.records[0].getMessage()
    assert "2.weight has NaN or infinity at step 6: snapshots from here on are left out" in said
    recorder.close()
    assert "NaN or infinity from step 6 on; 4 snapshots are recorded, to step 10" in (
        caplog.records[-1].getMessage()
    )
    run = open_trajectory(path)
    assert run.steps.tolist() == [0, 2, 4, 10]
    run.check_finite()
    assert run.meta.not_finite_from == 6


def _unfreeze(net: nn.Sequential) -> None:
    net[0].bias.requires_grad_(True)


def _add(net: nn.Sequential) -> None:
    net.append(nn.Linear(1, 1))


def _remove(net: nn.Sequential) -> None:
    del net[2]


def _untie(net: nn.Sequential) -> None:
    net[3].weight = nn.Parameter(net[2].weight.detach().clone())


def _tie(net: nn.Sequential) -> None:
    net[2].bias = net[4].bias


def _reshape_buffer(net: nn.Sequential) -> None:
    net[1].running_mean = torch.zeros(5)


def _add_buffer(net: nn.Sequential) -> None:
    net[0].register_buffer("seen", torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_unfreeze, "parameter 0.bias was frozen at the first snapshot and is trained at step 2"),
        (_add, "was not there at the first snapshot and is trained"),
        (_untie, r"3.weight was tied to 2.weight at the first snapshot and is tied to nothing"),
        (_tie, r"4.bias was tied to nothing at the first snapshot and is tied to 2.bias"),
        (_remove, "at step 2; a trajectory needs a network that stays"),
        (_reshape_buffer, r"buffer 1.running_mean was \[4\] at the first snapshot and is \[5\]"),
        (_add_buffer, r"buffer 0.seen was not there at the first snapshot and is \[1\]"),
    ],
)
def test_when_the_network_changes_then_the_next_snapshot_says_what_did(
    change: Callable[[nn.Sequential], None], says: str, path: Path
) -> None:
    net = _net().extend([nn.Linear(4, 1), nn.Linear(1, 1)])
    net[3].weight = net[2].weight
    net[0].bias.requires_grad_(False)
    recorder = TrajectoryRecorder(net, path, every=2)
    recorder.step()
    change(net)
    with pytest.raises(InputError, match=says):
        recorder.step()
    recorder.close()
    assert open_trajectory(path).steps.tolist() == [0]


def test_when_a_parameter_is_frozen_later_then_it_is_still_followed(path: Path) -> None:
    net = _net()
    with TrajectoryRecorder(net, path, every=1) as recorder:
        net[0].requires_grad_(False)
        recorder.step()
        net[0].requires_grad_(True)
        recorder.step()
    run = open_trajectory(path)
    assert run.n_snapshots == 3
    assert "0.weight" in run.snapshot(1)


class Whole(nn.Module):
    """Buffers, a frozen part in half precision, ties of both kinds: what real networks have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(3, 2, dtype=torch.bfloat16).requires_grad_(False)
        self.twin = nn.Linear(3, 2, dtype=torch.bfloat16)
        self.twin.weight, self.twin.bias = self.frozen.weight, self.frozen.bias
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.ones(7), persistent=False)


def _checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return what a forecast of the last value writes."""
    from safetensors.torch import load_file

    from weightcast.bench.commands.forecast import forecast_run

    out = path.with_name("next.safetensors")
    forecast_run(path, "last-value", 1, out)
    return load_file(out)


def test_when_a_network_has_more_than_trained_weights_then_a_forecast_of_it_loads_strictly(
    path: Path,
) -> None:
    net = Whole()
    with TrajectoryRecorder(net, path, every=1) as recorder:
        net.norm(torch.randn(9, 4))
        recorder.step()
    run = open_trajectory(path)
    assert [info.name for info in run.tensors] == ["embed.weight", "norm.weight", "norm.bias"]
    assert run.state(0)["norm.num_batches_tracked"] == 0
    assert run.state(1)["norm.num_batches_tracked"] == 1
    assert run.state(1)["mask"].dtype == np.bool_
    assert [info.name for info in run.fixed.infos] == ["frozen.weight", "frozen.bias"]
    # Frozen parameters are there once, whatever the number of snapshots.
    again = Whole()
    for tensor in again.state_dict().values():
        tensor.zero_()
    assert str(again.load_state_dict(_checkpoint(path))) == "<All keys matched successfully>"
    for name, values in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], values, rtol=0, atol=0)


def test_when_frozen_parameters_are_not_wanted_then_they_are_left_out(path: Path) -> None:
    TrajectoryRecorder(Whole(), path, every=1, frozen=False).close()
    run = open_trajectory(path)
    assert run.fixed.infos == ()
    assert run.fixed.aliases == {"head.weight": "embed.weight"}


def test_when_a_buffer_has_a_type_that_files_lack_then_it_is_named_and_the_rest_recorded(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = _net()
    net.register_buffer("rotary", torch.ones(2, dtype=torch.complex64))
    TrajectoryRecorder(net, path, every=1).close()
    assert "not recorded, being torch.complex64: rotary" in caplog.text
    assert "1.running_mean" in open_trajectory(path).state(0)


def _compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="eager")  # type: ignore[return-value]


def _compiled_part(net: nn.Module) -> nn.Module:
    net[0] = torch.compile(net[0], backend="eager")  # type: ignore[operator, index]
    return net


@pytest.mark.parametrize(
    "wrap",
    [
        _compiled,
        _compiled_part,
        nn.DataParallel,
        lambda net: nn.DataParallel(_compiled(net)),
        lambda net: _compiled(nn.DataParallel(_compiled_part(net))),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_when_a_network_is_wrapped_then_its_forecast_loads_into_the_bare_one(
    wrap: Callable[[nn.Module], nn.Module], path: Path
) -> None:
    plain = [name for name, _ in _net().named_parameters()]
    with TrajectoryRecorder(wrap(_net()), path, every=1) as recorder:
        recorder.step()
    assert [info.name for info in open_trajectory(path).tensors] == plain
    assert str(_net().load_state_dict(_checkpoint(path))) == "<All keys matched successfully>"


def test_when_a_network_has_parts_that_are_called_like_wrappers_then_names_stay(
    path: Path,
) -> None:
    net = nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.Linear(2, 1)})
    TrajectoryRecorder(net, path, every=1).close()
    names = [info.name for info in open_trajectory(path).tensors]
    assert names == [name for name, _ in net.named_parameters()]


DDP = """
import sys, torch, torch.distributed as dist
from weightcast.datasets import TrajectoryRecorder
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}.store", rank=0, world_size=1)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
wrapped = torch.nn.parallel.DistributedDataParallel(net)
with TrajectoryRecorder(wrapped, sys.argv[1], every=1) as recorder:
    wrapped(torch.randn(5, 3)).sum().backward()
    recorder.step()
dist.destroy_process_group()
"""


def test_when_training_is_distributed_then_names_are_those_of_the_bare_network(
    path: Path,
) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch was built without distributed")
    subprocess.run([sys.executable, "-c", DDP, str(path)], check=True, timeout=300)
    run = open_trajectory(path)
    assert [info.name for info in run.tensors] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert run.state(1)["1.num_batches_tracked"] == 1


FULL = """
import resource, sys
import torch
from weightcast.datasets import InputError, TrajectoryRecorder
net = torch.nn.Linear(30, 30)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
limit(2000)
try:
    TrajectoryRecorder(net, sys.argv[1], every=1)
except InputError as error:
    print(error)
limit(resource.RLIM_INFINITY)
recorder = TrajectoryRecorder(net, sys.argv[1], every=1)
recorder.step(1.0)
limit(9000)
try:
    recorder.step(2.0)
except InputError as error:
    print(error)
limit(resource.RLIM_INFINITY)
recorder.step(3.0)
limit(1000)
try:
    recorder.close()
except InputError as error:
    print(error)
limit(resource.RLIM_INFINITY)
recorder.close()
"""


def test_when_the_disk_is_full_then_it_is_said_and_nothing_recorded_is_lost(path: Path) -> None:
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    start, during, end = done.stdout.splitlines()
    assert start == f"{path} cannot be recorded: File too large"
    assert during.startswith("the snapshot of step 2 was not recorded: File too large; what was")
    assert end.startswith(f"{path} was not written: ")
    assert end.endswith(f"; close again, or: weightcast import {_left(path)} --out {path}")
    run = open_trajectory(path)
    assert run.steps.tolist() == [0, 1, 3]
    assert run.meta.train_loss == (1.0, 1.0, 2.5)
    assert list(path.parent.iterdir()) == [path]


def test_when_the_name_is_taken_at_the_end_then_closing_again_saves_it(path: Path) -> None:
    recorder = TrajectoryRecorder(_net(), path, every=1)
    path.mkdir()
    with pytest.raises(InputError, match=r"was not written: .*; close again, or: weightc"):
        recorder.close()
    path.rmdir()
    recorder.close()
    assert open_trajectory(path).n_snapshots == 1


def test_when_a_recorder_is_made_in_a_loop_then_nothing_of_it_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for seed in range(20):
        recorder = TrajectoryRecorder(_net(), tmp_path / f"{seed}.safetensors", every=1, seed=seed)
        recorder.step()
        if seed % 2:
            recorder.close()
    del recorder
    gc.collect()
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_when_an_unclosed_recording_has_state_then_import_saves_all_of_it(path: Path) -> None:
    net = Whole()
    recorder = TrajectoryRecorder(net, path, every=1, dataset="whole")
    net.norm(torch.randn(9, 4))
    recorder.step(1.0)
    recorder.abandon()
    import_run(_left(path), path)
    run = open_trajectory(path)
    assert run.state(1)["norm.num_batches_tracked"] == 1
    assert str(Whole().load_state_dict(_checkpoint(path))) == "<All keys matched successfully>"
