"""One's own checkpoints: what the ecosystem writes is recognised, what is wrong is named."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from weightcast.bench.commands.forecast import forecast_run
from weightcast.datasets import InputError, open_trajectory
from weightcast.datasets.admission.gates import run_gates, set_gates
from weightcast.datasets.importing.discovery import find_checkpoints
from weightcast.datasets.importing.run import import_run
from weightcast.datasets.importing.trainer_state import read_trainer_state
from weightcast.datasets.networks.naming import guess_tensors

State = dict[str, torch.Tensor]


def weightcast(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from weightcast.bench.cli import main; main()",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


def state_at(step: int, dtype: torch.dtype = torch.float32) -> State:
    """Return a small network's state dict: eleven layers, so that 10 must sort after 2."""
    draw = torch.Generator().manual_seed(step)
    state = {
        f"layer.{i}.weight": torch.randn(3, 2, generator=draw).to(dtype) for i in (0, 1, 2, 10)
    }
    state["norm.weight"] = torch.randn(3, generator=draw).to(dtype)
    state["norm.running_mean"] = torch.randn(3, generator=draw).to(dtype)
    state["norm.num_batches_tracked"] = torch.tensor(step)
    return state


NAMES = [*(f"layer.{i}.weight" for i in (0, 1, 2, 10)), "norm.weight"]
STEPS = [5, 40, 100]


def _plain(folder: Path, state: State, step: int) -> None:
    torch.save(state, folder / f"step_{step}.pt")


def _legacy(folder: Path, state: State, step: int) -> None:
    torch.save(state, folder / f"model-{step}.bin", _use_new_zipfile_serialization=False)


def _epochs(folder: Path, state: State, step: int) -> None:
    torch.save({"model": state, "epoch": step, "best": 0.5}, folder / f"epoch={step}.pth")


def _wrapped(folder: Path, state: State, step: int) -> None:
    torch.save({"state_dict": state, "optimizer": {"state": {}}}, folder / f"ck_{step:05}.pt")
    torch.save({"state": {0: state}}, folder / f"optimizer_{step:05}.pt")


def _lightning(folder: Path, state: State, step: int) -> None:
    torch.save(
        {
            "pytorch-lightning_version": "2.6.6",
            "global_step": step,
            "epoch": step // 10,
            "state_dict": state,
            "callbacks": {},
        },
        folder / f"epoch={step // 10}.ckpt",
    )


def _transformers(folder: Path, state: State, step: int) -> None:
    inner = folder / f"checkpoint-{step}"
    inner.mkdir()
    save_file(state, inner / "model.safetensors", metadata={"format": "pt"})
    torch.save({}, inner / "optimizer.pt")


def _transformers_bin(folder: Path, state: State, step: int) -> None:
    inner = folder / f"checkpoint-{step}"
    inner.mkdir()
    torch.save(state, inner / "pytorch_model.bin")


def _shard(folder: Path, state: State, step: int, stem: str, save: Callable[..., None]) -> None:
    name, ending = stem.rsplit(".", 1)
    inner = folder / f"checkpoint-{step}"
    inner.mkdir()
    places = {}
    for index, half in enumerate((list(state)[:3], list(state)[3:]), 1):
        file = f"{name}-0000{index}-of-00002.{ending}"
        save({key: state[key] for key in half}, inner / file)
        places |= dict.fromkeys(half, file)
    index_file = inner / f"{stem}.index.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")


def _sharded(folder: Path, state: State, step: int) -> None:
    _shard(folder, state, step, "model.safetensors", save_file)


def _sharded_bin(folder: Path, state: State, step: int) -> None:
    _shard(folder, state, step, "pytorch_model.bin", torch.save)


def _flat_safetensors(folder: Path, state: State, step: int) -> None:
    save_file(state, folder / f"step{step}.safetensors")


LAYOUTS = [
    _plain, _legacy, _epochs, _wrapped, _lightning, _transformers, _transformers_bin, _sharded,
    _sharded_bin, _flat_safetensors,
]  # fmt: skip


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-run"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("write", LAYOUTS)
def test_when_an_ecosystems_checkpoints_are_imported_then_their_numbers_come_back(
    folder: Path, tmp_path: Path, write: Callable[[Path, State, int], None]
) -> None:
    for step in STEPS:
        write(folder, state_at(step), step)
    made = import_run(folder, tmp_path / "run.safetensors", seed=3, optimizer="adam")
    beside = import_run(folder, None)
    for run in (open_trajectory(tmp_path / "run.safetensors"), open_trajectory(folder)):
        assert run.steps.tolist() == STEPS
        assert [t.name for t in run.tensors] == NAMES
        assert [t.kind for t in run.tensors] == ["linear"] * 4 + ["norm"]
        assert run.meta.dataset == "my-run"
        for index, step in enumerate(STEPS):
            for name, values in run.snapshot(index).items():
                np.testing.assert_array_equal(values, state_at(step)[name].numpy())
            assert run.state(index)["norm.num_batches_tracked"] == step
            assert run.state(index)["norm.num_batches_tracked"].dtype == np.int64
            np.testing.assert_array_equal(
                run.state(index)["norm.running_mean"], state_at(step)["norm.running_mean"].numpy()
            )
        piece = run.read(run.tensors[1], [2, 0], 2, 5)
        expected = [state_at(step)["layer.1.weight"].flatten()[2:5] for step in (100, 5)]
        np.testing.assert_array_equal(piece, np.stack([e.numpy() for e in expected]))
    assert (made.run.meta.seed, made.run.meta.optimizer) == (3, "adam")
    assert beside.run.content_hash() == made.run.content_hash()
    assert pickle.loads(pickle.dumps(beside.run)).content_hash() == made.run.content_hash()
    assert any("norm.running_mean" in note for note in made.notes)
    assert not list(folder.glob(".*")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("write", [_plain, _flat_safetensors])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_when_numbers_are_not_float32_then_they_are_converted(
    folder: Path, write: Callable[[Path, State, int], None], dtype: torch.dtype
) -> None:
    for step in STEPS:
        write(folder, state_at(step, dtype), step)
    run = import_run(folder, None).run
    for name, values in run.snapshot(1).items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, state_at(40, dtype)[name].float().numpy())
    mean = run.state(1)["norm.running_mean"]
    own = {torch.float16: np.float16, torch.float64: np.float64}
    assert mean.dtype == own.get(dtype, np.float32)
    expected = state_at(40, dtype)["norm.running_mean"].double().numpy()
    np.testing.assert_array_equal(mean.astype(np.float64), expected)
    layer = run.tensor_info("layer.2.weight")
    np.testing.assert_array_equal(
        run.read(layer, [0], 1, 4)[0], state_at(5, dtype)[layer.name].float().flatten()[1:4]
    )


def test_when_parameters_share_memory_then_they_are_one_tied_tensor(folder: Path) -> None:
    for step in STEPS:
        weight = torch.randn(4, 2)
        _plain(folder, {"embed.weight": weight, "head.weight": weight}, step)
    made = import_run(folder, None)
    assert [(t.name, t.kind, t.tied) for t in made.run.tensors] == [
        ("embed.weight", "embedding", "embed.weight")
    ]
    assert any(note.startswith("tied: head.weight is ") for note in made.notes)
    assert list(made.run.fixed.aliases) == ["head.weight"]


@pytest.mark.parametrize("write", [_plain, _flat_safetensors])
def test_when_what_lies_beside_the_weights_is_odd_then_it_is_left_out_and_named(
    folder: Path, write: Callable[[Path, State, int], None], tmp_path: Path
) -> None:
    for step in STEPS:
        odd = {
            "cache.running_mean": torch.zeros(step),
            "rotary": torch.ones(2, dtype=torch.complex64),
            "seen": torch.tensor([True, False]),
            "codes": torch.arange(3, dtype=torch.uint8),
        }
        if step == 40:
            del odd["codes"]
        write(folder, state_at(step) | odd, step)
    made = import_run(folder, tmp_path / "out.safetensors")
    said = "\n".join(made.notes)
    assert re.search(r"left out \(not alike in all checkpoints\): .*cache.running_mean", said)
    assert re.search(r"left out \(not alike in all checkpoints\): .*codes", said)
    assert "left out (of types that numpy lacks): rotary" in said or "rotary" not in said
    run = open_trajectory(made.path)
    assert sorted(run.state(0)) == ["norm.num_batches_tracked", "norm.running_mean", "seen"]
    assert run.state(2)["seen"].dtype == np.bool_


@pytest.mark.parametrize("in_place", [True, False])
def test_when_an_imported_network_is_forecast_then_the_checkpoint_loads_strictly(
    folder: Path, tmp_path: Path, in_place: bool
) -> None:
    def build() -> torch.nn.Sequential:
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3)
        )
        net[2].weight = net[0].weight
        return net

    net = build()
    for step in STEPS:
        net(torch.randn(8, 3))
        _plain(folder, net.state_dict(), step)
    made = import_run(folder, None if in_place else tmp_path / "run.safetensors")
    out = tmp_path / "next.safetensors"
    found = forecast_run(folder if in_place else made.path, "last-value", 1, out)
    assert found.batch_norm == "kept"
    again = build()
    assert str(again.load_state_dict(load_file(out))) == "<All keys matched successfully>"
    for name, values in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], values, rtol=0, atol=0)


def test_when_tensors_are_transposed_views_then_they_are_read_in_their_shape(folder: Path) -> None:
    for step in STEPS:
        _plain(folder, {"w": torch.arange(6.0).reshape(2, 3).t() + step}, step)
    run = import_run(folder, None).run
    np.testing.assert_array_equal(run.snapshot(0)["w"], np.arange(6.0).reshape(2, 3).T + 5)


def test_when_a_trainer_has_logged_then_losses_and_rates_are_imported(folder: Path) -> None:
    logs = [
        {"step": 5, "loss": 3.0, "learning_rate": 0.1},
        {"step": 5, "eval_loss": 4.0, "eval_accuracy": 0.25},
        {"step": 30, "loss": 2.0, "learning_rate": 0.05},
        {"step": 90, "loss": 1.0, "learning_rate": 0.01},
        {"step": 100, "eval_loss": 3.5, "eval_accuracy": 0.5},
        {"step": 100, "train_runtime": 1.0},
    ]
    for step in STEPS:
        _transformers(folder, state_at(step), step)
    state = {"log_history": logs, "epoch": 4.0, "global_step": 100}
    place = folder / "checkpoint-100" / "trainer_state.json"
    place.write_text(json.dumps(state), encoding="utf-8")
    meta = import_run(folder, None).run.meta
    assert meta.train_loss == (3.0, 2.0, 1.0)
    assert meta.test_loss == (4.0, 4.0, 3.5)
    assert meta.test_accuracy == (0.25, 0.25, 0.5)
    assert meta.learning_rates == (0.1,) * 5 + (0.05,) * 25 + (0.01,) * 70
    assert meta.steps_per_epoch == 25
    # Nothing was logged at the first snapshot or before it: no value is made up for it.
    assert "train_loss" not in read_trainer_state(place.parent, [1, 40])


@pytest.mark.parametrize("last", ["NaN", "Infinity", "-Infinity"])
def test_when_a_logged_loss_is_no_number_any_more_then_it_stays_so_and_the_gate_fails(
    folder: Path, tmp_path: Path, last: str
) -> None:
    for step in STEPS:
        _transformers(folder, state_at(step), step)
    logs = f'{{"step": 5, "loss": 1.5}}, {{"step": 40, "loss": {last}}}'
    log = folder / "checkpoint-100" / "trainer_state.json"
    log.write_text(f'{{"log_history": [{logs}]}}', encoding="utf-8")
    import_run(folder, tmp_path / "run.safetensors")
    run = open_trajectory(tmp_path / "run.safetensors")
    np.testing.assert_array_equal(run.meta.train_loss, [1.5, float(last), float(last)])
    spikes = next(gate for gate in run_gates(run) if gate.name == "no-spikes")
    assert not spikes.passed
    # One run that diverged is not passed over for the others' sake.
    fine = open_trajectory(tmp_path / "run.safetensors")
    fine.meta = dataclasses.replace(fine.meta, train_loss=(1.5, 1.4, 1.3))
    for runs, passed in (([fine] * 12, True), ([run] + [fine] * 11, False)):
        spikes = next(gate for gate in set_gates(runs) if gate.name == "no-spikes")
        assert spikes.passed is passed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"log_history": [{"step": 1, "loss": 1' + "0" * 400 + "}]}", "a Trainer's log"),
        ('{"log_history": [{"step": 1, "loss": "1.5"}]}', "log_history.0.loss: .* not '1.5'"),
        ('{"log_history": [{"step": -1, "loss": 1.5}]}', "log_history.0.step: .* not -1"),
        ('{"log_history": [{"loss": 1.5}]}', "log_history.0.step: Field required"),
        ('{"log_history": [], "log_history": []}', "the key 'log_history' stands twice"),
        ('{"log_history": ' + "[" * 100_000, "nested too deeply"),
        ('{"log_history": [{"step": 1, "learning_rate": NaN}]}', "learning_rate: .*finite"),
    ],
)
def test_when_a_trainers_log_is_damaged_then_one_line_says_where(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "trainer_state.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        read_trainer_state(tmp_path, [1])
    assert len(str(caught.value).splitlines()) == 1


def test_when_an_index_and_its_shards_disagree_then_the_tensor_is_named(folder: Path) -> None:
    for step in STEPS:
        _sharded(folder, state_at(step), step)
    index = folder / "checkpoint-40" / "model.safetensors.index.json"
    good = json.loads(index.read_text(encoding="utf-8"))
    one, other = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    for change, says in [
        ({"lost.weight": one}, f"{one} has no tensor lost.weight, which the index"),
        ({"layer.0.weight": other}, f"{other} has no tensor layer.0.weight, which the index"),
        ({"layer.0.weight": None}, "has a tensor layer.0.weight, which the index"),
        ({"layer.0.weight": "m" * 300}, "model.safetensors.index.json|cannot be read"),
        ({"layer.0.weight": f"../{one}"}, "which is outside its folder"),
    ]:
        places = {name: file for name, file in (good["weight_map"] | change).items() if file}
        index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
        with pytest.raises(InputError, match=says):
            import_run(folder, None)


def test_when_a_batch_norm_has_no_telling_name_then_its_statistics_tell() -> None:
    shapes = {"down.0.weight": (4, 2, 1, 1), "down.1.bias": (4,), "fc.weight": (3, 4), "s": ()}
    tensors = guess_tensors(shapes, {"down.1.running_mean"}, set())
    assert [(t.kind, t.depth) for t in tensors] == [
        ("conv", 0), ("norm", 1), ("linear", 2), ("other", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("rnn.weight_hh_l0", (8, 2), "recurrent"),
        ("rnn.bias_hh_l0", (8,), "bias"),
        ("attn.in_proj_weight", (6, 2), "attention"),
        ("h.0.ln_1.bias", (4,), "norm"),
        ("transformer.wte.weight", (9, 4), "embedding"),
        ("bert.embeddings.LayerNorm.weight", (4,), "norm"),
        ("fc.bias", (4,), "bias"),
    ],
)
def test_when_a_name_is_a_usual_one_then_its_kind_is_guessed(
    name: str, shape: tuple[int, ...], kind: str
) -> None:
    assert guess_tensors({name: shape}, set(), set())[0].kind == kind


def test_when_names_carry_several_numbers_then_the_step_counts(tmp_path: Path) -> None:
    for epoch, step in [(0, 9), (2, 100), (1, 20)]:
        _plain(tmp_path, {}, 0)
        (tmp_path / "step_0.pt").rename(tmp_path / f"resnet18-epoch={epoch}-step={step}.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"x")
    found, passed_over = find_checkpoints(tmp_path)
    assert [c.step for c in found] == [9, 20, 100]
    assert [path.name for path in passed_over] == ["last.ckpt"]


def _cut(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-60])

    return spoil


def _junk(folder: Path) -> None:
    (folder / "step_40.pt").write_bytes(b"\x80\x02junk, and more of it" * 20)


def _empty(folder: Path) -> None:
    (folder / "step_40.pt").write_bytes(b"")


def _unsafe(folder: Path) -> None:
    state = {"state_dict": state_at(40), "args": argparse.Namespace(lr=0.1)}
    torch.save(state, folder / "step_40.pt")


def _no_state(folder: Path) -> None:
    torch.save({"epoch": 3}, folder / "step_40.pt")


def _reshaped(folder: Path) -> None:
    torch.save({**state_at(40), "layer.1.weight": torch.ones(2, 2)}, folder / "step_40.pt")


def _lost(folder: Path) -> None:
    state = state_at(40)
    del state["norm.weight"]
    torch.save(state, folder / "step_40.pt")


def _gained(folder: Path) -> None:
    torch.save({**state_at(40), "new.weight": torch.ones(2)}, folder / "step_40.pt")


def _not_finite(folder: Path) -> None:
    state = state_at(40)
    state["layer.10.weight"][1, 1] = torch.inf
    torch.save(state, folder / "step_40.pt")


def _overflowing(folder: Path) -> None:
    state = state_at(40)
    state["layer.0.weight"] = torch.full((3, 2), 1e300, dtype=torch.float64)
    torch.save(state, folder / "step_40.pt")


def _twice(folder: Path) -> None:
    torch.save(state_at(40), folder / "again_step_40.pt")


def _as_integers(folder: Path) -> None:
    weight = torch.ones(3, 2, dtype=torch.int64)
    torch.save({**state_at(40), "layer.1.weight": weight}, folder / "step_40.pt")


def _alone(folder: Path) -> None:
    for step in (5, 40):
        (folder / f"step_{step}.pt").unlink()


def _mixed(folder: Path) -> None:
    torch.save(state_at(1), folder / "epoch_1.pt")


def _both(folder: Path) -> None:
    _transformers(folder, state_at(5), 5)


BAD = [
    (
        _cut("step_40.pt"),
        "step_40.pt is not a file of tensors .it is truncated or not a file of torch.save",
    ),
    (_junk, "step_40.pt is not a file of tensors .it is truncated or not a file of torch.save"),
    (_empty, "step_40.pt is not a file of tensors .it is truncated or not a file of torch.save"),
    (_unsafe, "step_40.pt holds argparse.Namespace, which cannot be opened without running"),
    (_no_state, r"step_40.pt is not a checkpoint with one state dict \(it holds epoch: int\)"),
    (_reshaped, r"step_40.pt: tensor layer.1.weight has shape \[2, 2\], but \[3, 2\] in"),
    (_as_integers, r"step_40.pt: tensor layer.1.weight is int64, but floating-point in"),
    (_lost, "step_40.pt has no tensor norm.weight, which"),
    (_gained, "step_40.pt has a tensor new.weight, which"),
    (_not_finite, "step_40.pt: tensor layer.10.weight has NaN or infinity at step 40"),
    (_overflowing, "step_40.pt: tensor layer.0.weight has NaN or infinity at step 40"),
    (_twice, "again_step_40.pt and step_40.pt are both step 40"),
    (_alone, "holds 1 checkpoints with a step number in their names; two are needed"),
    (_mixed, "count different things"),
    (_both, "holds numbered folders .* and numbered files"),
]


@pytest.mark.parametrize(("spoil", "says"), BAD)
@pytest.mark.parametrize("in_place", [True, False])
def test_when_checkpoints_are_wrong_then_one_line_says_where_and_nothing_is_written(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str, in_place: bool
) -> None:
    for step in STEPS:
        _plain(folder, state_at(step), step)
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=says) as caught:
        import_run(folder, None if in_place else tmp_path / "run.safetensors")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


class _Code:
    """Pickled, it asks to create a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_when_a_checkpoint_holds_code_then_it_is_refused_and_not_run(
    folder: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    for step in STEPS:
        torch.save({"state_dict": state_at(step), "x": _Code(marker)}, folder / f"step_{step}.pt")
    with pytest.raises(InputError, match=r"posix.system, which cannot be opened"):
        import_run(folder, None)
    assert not marker.exists()


def test_when_safetensors_files_are_damaged_then_the_file_and_tensor_are_named(
    folder: Path, tmp_path: Path
) -> None:
    for step in STEPS:
        _sharded(folder, state_at(step), step)
    shard = folder / "checkpoint-40" / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    for data, says in [
        (whole[:-4], "model-00002-of-00002.safetensors is truncated inside tensor"),
        (whole[:20], "is truncated or not a safetensors file"),
        (b"", "is truncated or not a safetensors file"),
        (whole.replace(b'"F32"', b'"F8X"'), "is F8X, which is not read"),
    ]:
        shard.write_bytes(data)
        with pytest.raises(InputError, match=says):
            import_run(folder, tmp_path / "run.safetensors")
    shard.unlink()
    with pytest.raises(InputError, match=r"which model.safetensors.index.json names, is missing"):
        import_run(folder, None)
    (folder / "checkpoint-40" / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is not an index of shards"):
        import_run(folder, None)
    assert [path.name for path in tmp_path.iterdir()] == ["my-run"]


def test_when_the_folder_or_the_output_is_wrong_then_it_is_said(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="there is no folder of checkpoints"):
        import_run(tmp_path / "none", None)
    with pytest.raises(InputError, match="holds 0 checkpoints"):
        import_run(folder, None)
    for step in STEPS:
        _flat_safetensors(folder, state_at(step), step)
    with pytest.raises(InputError, match=r"neither a \.safetensors file nor the folder"):
        import_run(folder, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is one of the checkpoints"):
        import_run(folder, folder / "step5.safetensors")
    with pytest.raises(InputError, match=r"run.safetensors cannot be written"):
        import_run(folder, Path("/proc/nowhere/run.safetensors"))
    with pytest.raises(InputError, match="is a file; name the folder"):
        import_run(folder / "step5.safetensors", None)
    import_run(folder, tmp_path / "data" / "0.safetensors")
    import_run(folder, tmp_path / "data" / "1.safetensors")
    with pytest.raises(InputError, match="is a whole trajectory already"):
        import_run(tmp_path / "data", None)


def test_when_a_manifest_is_damaged_or_outgrown_then_opening_or_reading_says_so(
    folder: Path,
) -> None:
    for step in STEPS:
        _plain(folder, state_at(step), step)
    manifest = import_run(folder, folder).path
    assert manifest == folder / "trajectory.json"
    assert open_trajectory(manifest).steps.tolist() == STEPS
    good = manifest.read_text(encoding="utf-8")
    for text, says in [
        ("{", "is not the description of a trajectory"),
        ("[]", "does not say weightcast-checkpoints-1"),
        (good.replace('"snapshots"', '"shots"'), r"\(snapshots: Field required\)"),
        (good.replace("step_5.pt", "../step_5.pt"), "outside its folder"),
        (good.replace("step_5.pt", "step_6.pt"), "is missing"),
    ]:
        manifest.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=says):
            open_trajectory(folder)
    manifest.write_text(good, encoding="utf-8")
    run = open_trajectory(folder)
    _reshaped(folder)
    with pytest.raises(InputError, match=r"step_40.pt: tensor layer.1.weight has shape"):
        run.content_hash()
    _lost(folder)
    with pytest.raises(InputError, match=r"step_40.pt has no tensor norm.weight"):
        run.content_hash()


def test_when_the_command_line_imports_then_info_describes_the_run(
    folder: Path, tmp_path: Path
) -> None:
    for step in STEPS:
        _transformers(folder, state_at(step), step)
    out = tmp_path / "out.safetensors"
    done = weightcast("import", folder, "--out", out, "--dataset", "mine", "--seed", 4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        f"{out}: 3 snapshots, steps 5 to 100, 27 coordinates in 5 tensors"
    )
    assert "kept beside the weights: norm.num_batches_tracked, norm.running_mean" in done.stderr
    assert weightcast("import", folder, "--in-place").returncode == 0
    one, other = (json.loads(weightcast("info", path, "--json").stdout) for path in (out, folder))
    assert (one["dataset"], one["seed"]) == ("mine", 4)
    assert one["sha256"] == other["sha256"]


def test_when_the_command_line_is_given_what_it_cannot_import_then_one_line_says_so(
    folder: Path,
) -> None:
    for arguments, says in [
        ((folder,), "give either --out FILE.safetensors or --in-place"),
        ((folder, "--in-place"), "holds 0 checkpoints"),
        ((folder / "none", "--in-place"), "there is no folder of checkpoints"),
    ]:
        done = weightcast("import", *arguments)
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
