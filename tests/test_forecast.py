"""`weightcast forecast`: the checkpoint that it writes, and all that it refuses."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from weightcast.bench.cli import main
from weightcast.bench.commands import forecast as module
from weightcast.bench.commands import forecast_asked as asking
from weightcast.bench.commands.forecast import forecast_run
from weightcast.bench.commands.forecast_asked import ForecastFailed
from weightcast.bench.commands.info import METRICS, trajectory_info, trajectory_lines
from weightcast.bench.progress import signs_of_life
from weightcast.datasets import (
    InputError,
    Recipe,
    Trajectory,
    TrajectoryRecorder,
    get_dataset,
    open_trajectory,
)
from weightcast.datasets.evaluator import rebuild
from weightcast.datasets.examples.examples import inputs
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.importing.run import import_run
from weightcast.datasets.recorded.recorder import record_run
from weightcast.datasets.window import Window
from weightcast.methods import all_methods, registry

SET = "digits-mlp-sgd"
Done = subprocess.CompletedProcess[str]


def _in_a_process(*arguments: object) -> Done:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from weightcast.bench.cli import main; main()",
            "forecast",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


@pytest.fixture(name="weightcast")
def _weightcast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run the verb in this process, which has loaded torch already, and leave nothing."""
    all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["weightcast", "forecast", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(sys.argv, cast(int, ended.value.code), said.out, said.err)

    return run


@pytest.fixture(name="shipped", scope="module")
def _shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    for seed in range(6):
        write_stacked(get_dataset(SET).run(seed), folder / f"{seed}.safetensors")
    return folder


@pytest.fixture(name="runs")
def _runs(shipped: Path, tmp_path: Path) -> list[Path]:
    """Six shipped runs, as files of one's own."""
    return sorted(Path(shutil.copytree(shipped, tmp_path / "runs")).iterdir())


@pytest.fixture(name="out")
def _out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "next.safetensors"


def _distance(weights: dict[str, torch.Tensor], truth: dict[str, np.ndarray]) -> float:
    return float(
        np.sqrt(sum(((weights[name].numpy() - w) ** 2).sum() for name, w in truth.items()))
    )


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
    return found


def _rewritten(
    path: Path, change: Callable[[dict[str, np.ndarray]], object], **meta: Any
) -> Trajectory:
    """Write a run again with other numbers."""
    run = open_trajectory(path)
    arrays = {t.name: run.read(t).reshape(-1, *t.shape) for t in run.tensors}
    change(arrays)
    changed = Trajectory.from_arrays(
        arrays, run.steps.tolist(), replace(run.meta, **meta), run.tensors
    )
    write_stacked(changed, path)
    return changed


def test_when_the_last_value_is_asked_for_then_the_checkpoint_is_the_last_snapshot(
    runs: list[Path], out: Path
) -> None:
    done = _in_a_process(
        runs[0], "--method", "last-value", "--horizon", 3, "--out", out, "--backtests", 0
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run = open_trajectory(runs[0])
    written = load_file(out)
    assert list(written) == [info.name for info in run.tensors]
    for name, values in run.snapshot(-1).items():
        assert written[name].dtype == torch.float32
        np.testing.assert_array_equal(written[name].numpy(), values)
    assert _header(out) == {
        "format": "pt", "method": "last-value", "source": "0.safetensors", "origin_step": "2700",
        "forecast_step": "2835", "context": "60", "horizon": "3",
    }  # fmt: skip
    network, _ = rebuild(Recipe.from_json(run.meta.recipe))
    assert not any(network.load_state_dict(written, strict=True))
    line, verdict = done.stdout.splitlines()
    assert verdict == "Do not use it: last-value is the checkpoint that you have."
    assert line.startswith(f"{out}: last-value, step 2700 -> 2835, 2,410 coordinates, ")
    loss = f"{run.meta.train_loss[-1]:.4g}"
    assert line.endswith(f"; train loss {loss} -> {loss}")
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_when_a_map_is_fitted_on_other_runs_then_it_comes_nearer_the_run_than_its_last_value(
    runs: list[Path], out: Path, weightcast: Callable[..., Done]
) -> None:
    done = weightcast(
        runs[0], "--method", "lfd2-ols", "--horizon", 50, "--context", 10, "--out", out, "--json",
        "--fit", *runs[1:5], "--fit", runs[5],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = f"fitting lfd2-ols on 4 runs, validating on {runs[5]}"
    assert done.stderr.strip().splitlines() == [said]
    found = json.loads(done.stdout)
    assert (found["origin_step"], found["forecast_step"], found["context"]) == (450, 2700, 10)
    assert (found["coverage"], found["coordinates"]) == (1.0, 2410)
    assert found["fitted_on"] == [str(path) for path in runs[1:5]]
    assert found["validated_on"] == [str(runs[5])]
    assert found["bytes"] == out.stat().st_size
    assert found["train_loss_forecast"] < 0.8 * found["train_loss_origin"]
    run = open_trajectory(runs[0])
    truth = run.snapshot(60)
    last = {name: torch.from_numpy(values) for name, values in run.snapshot(10).items()}
    assert _distance(load_file(out), truth) < 0.8 * _distance(last, truth)


def test_when_the_run_ends_at_the_origin_then_the_forecast_is_that_of_the_longer_run(
    runs: list[Path], out: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.safetensors"
    write_stacked(Window(open_trajectory(runs[0]), range(11)), short)
    for path, context in ((runs[0], 10), (short, None)):
        forecast_run(path, "lfd2-ols", 50, out, fit=runs[1:4], context=context, measure=False)
        found = load_file(out)
        assert _header(out)["forecast_step"] == "2700"
        if context:
            whole = found
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_when_one_fit_run_is_given_then_it_is_said_to_be_its_validation_run_too(
    runs: list[Path], out: Path, weightcast: Callable[..., Done]
) -> None:
    done = weightcast(
        runs[0], "--method", "damped-line", "--horizon", 5, "--context", 10, "--out", out,
        "--fit", runs[1], "--no-measure",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == (
        f"fitting damped-line on {runs[1]}, which is its validation run too"
    )
    assert "train loss" not in done.stdout.splitlines()[0]


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (8, 2), (11, 2)])
def test_when_several_fit_runs_are_given_then_the_last_quarter_validates(
    out: Path, count: int, held_out: int, toy_run: Callable[..., Trajectory], tmp_path: Path
) -> None:
    paths = []
    for seed in range(count + 1):
        values = np.random.default_rng(seed).standard_normal((8, 3)).cumsum(axis=0)
        paths.append(tmp_path / f"{seed}.safetensors")
        write_stacked(toy_run(values, seed), paths[-1])
    found = forecast_run(paths[0], "lfd2-ols", 3, out, fit=paths[1:], context=4)
    assert found.validated_on == tuple(map(str, paths[1:][-held_out:]))
    assert found.fitted_on == tuple(map(str, paths[1:][:-held_out]))


@pytest.mark.parametrize("method", ["line-search", "last-two-line", "lfd-full", "ar1"])
def test_when_a_method_is_of_another_kind_then_it_is_written_as_well(
    runs: list[Path], out: Path, method: str
) -> None:
    found = forecast_run(runs[0], method, 20, out, fit=runs[1:3], context=10)
    written = load_file(out)
    assert all(torch.isfinite(values).all() for values in written.values())
    assert found.train_loss_origin == pytest.approx(
        open_trajectory(runs[0]).meta.train_loss[10], rel=1e-5
    )
    if method == "line-search":
        assert found.train_loss_forecast is not None
        assert found.train_loss_origin is not None
        assert found.train_loss_forecast < found.train_loss_origin


def _with_batch_norm(path: Path) -> Recipe:
    recipe = Recipe(
        "tiny-resnet", "resnet", "digits", "sgd", 0.05, 32, steps=12, snapshot_every=4,
        network_options={"size": 8, "channels": [2, 3, 4]}, measured=64,
    )  # fmt: skip
    record_run(recipe, 0, path)
    return recipe


@pytest.mark.parametrize("measure", [True, False])
def test_when_a_network_has_batch_norm_then_its_statistics_are_those_of_the_forecast_weights(
    tmp_path: Path, out: Path, measure: bool
) -> None:
    path = tmp_path / "0.safetensors"
    recipe = _with_batch_norm(path)
    found = forecast_run(path, "last-two-line", 2, out, context=2, measure=measure)
    assert (found.batch_norm, found.batch_norm_examples) == ("re-estimated", 64)
    assert "; batch norm re-estimated on 64 training examples" in found.line()
    run = open_trajectory(path)
    state, written = run.state(2), load_file(out)
    network, evaluator = rebuild(recipe)
    assert not any(network.load_state_dict(written, strict=True))
    x, y = inputs(evaluator._train[0]), evaluator._train[1]
    with torch.no_grad():
        loss = float(torch.nn.functional.cross_entropy(network.eval()(x), y))
        # PyTorch's own averaging over the same data finds the same statistics.
        torch.optim.swa_utils.update_bn([x], network)
    if measure:
        assert found.train_loss_forecast == pytest.approx(loss, rel=1e-4)
    for name, values in state.items():
        assert written[name].numpy().dtype == values.dtype
        if name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(written[name].numpy(), values)
        else:
            torch.testing.assert_close(written[name], network.state_dict()[name])
            assert not np.array_equal(written[name].numpy(), values)


def test_when_there_is_no_data_for_batch_norm_then_its_statistics_are_kept_and_that_is_said(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "0.safetensors"
    _with_batch_norm(path)
    run = open_trajectory(path)
    for changed, note in (({}, ""), ({"network": "resnet-from-elsewhere"}, "unknown network")):
        recipe = run.meta.recipe | changed if changed else {}
        without = Trajectory(
            run._source, run.tensors, run.steps.tolist(), replace(run.meta, recipe=recipe),
            run._state,
        )  # fmt: skip
        other = tmp_path / "other.safetensors"
        write_stacked(without, other)
        found = forecast_run(other, "last-two-line", 2, out, context=2)
        assert (found.batch_norm, found.batch_norm_examples) == ("kept", None)
        assert found.to_json()["batch_norm"] == "kept"
        assert "; batch norm kept from step 8, re-estimate it on your data" in found.line()
        written = load_file(out)
        for name, values in run.state(2).items():
            np.testing.assert_array_equal(written[name].numpy(), values)
        assert note in capsys.readouterr().err


def test_when_a_run_diverges_then_what_came_before_can_be_forecast_and_described(
    runs: list[Path], out: Path, weightcast: Callable[..., Done]
) -> None:
    def diverge(arrays: dict[str, np.ndarray]) -> None:
        arrays["1.weight"][7, 3, 3] = np.inf
        arrays["3.bias"][9:] = np.nan

    _rewritten(runs[0], diverge)
    done = weightcast(runs[0], "--method", "ols-line", "--horizon", 1, "--out", out)
    assert done.returncode == 2
    says = "tensor 1.weight has NaN or infinity at step 315; forecasts can take --context 1 to 6"
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = weightcast(runs[0], "--method", "ols-line", "--horizon", 1, "--out", out, "--context", 6)
    assert done.returncode == 0, done.stderr
    found = trajectory_info(runs[0])
    assert says in found["not_finite"]
    assert found["not_finite"] in trajectory_lines(found)
    assert all(np.isfinite(gate["value"]) for gate in found["gates"])


def test_when_a_folder_of_checkpoints_is_forecast_then_some_parameters_may_be_frozen(
    tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    for step in (0, 10, 20):
        state = {name: values + step for name, values in network[1].state_dict(prefix="1.").items()}
        save_file(state, folder / f"step_{step}.safetensors")
    import_run(folder, None)
    found = forecast_run(folder, "last-two-line", 3, out)
    assert (found.origin_step, found.forecast_step) == (20, 50)
    assert found.train_loss_forecast is None
    missing, unexpected = network.load_state_dict(load_file(out), strict=False)
    assert (missing, unexpected) == (["0.weight", "0.bias"], [])
    torch.testing.assert_close(network[1].weight, state["1.weight"] + 30)
    with pytest.raises(InputError, match="would write into"):
        forecast_run(folder, "last-value", 3, folder / "step_20.safetensors")
    # The file itself may be named instead of its folder.
    assert forecast_run(folder / "trajectory.json", "last-value", 3, out).context == 2


class _Tied(torch.nn.Module):
    """Batch norm, a tied weight, an integer buffer and one that only some checkpoints have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.last = torch.nn.Linear(3, 3)
        self.last.weight = self.first.weight
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("window", torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_when_checkpoints_were_not_imported_then_they_are_read_as_they_are_and_left_alone(
    tmp_path: Path,
    out: Path,
    ending: str,
    dtype: torch.dtype,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    folder, network = tmp_path / "run", _Tied().to(dtype)
    folder.mkdir()
    for step in range(0, 40, 10):
        network.seen += step
        network.window = torch.ones(2 + (step > 0), dtype=torch.int64)  # it grows
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(0.875).sub_(0.25)
        state = network.state_dict()
        if ending == "pt":
            torch.save(state, folder / f"step_{step}.pt")
        else:
            del state["last.weight"]
            save_file(state, folder / f"step_{step}.safetensors")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    found = forecast_run(folder, "last-two-line", 1, out)
    said = capsys.readouterr().err
    assert said.startswith(f"note: {folder} is read as it is: order: step_0.{ending} is step 0, ")
    assert len(said.splitlines()) == 1
    assert (found.origin_step, found.forecast_step, found.batch_norm) == (30, 40, "kept")
    assert found.dtype == str(dtype).removeprefix("torch.")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == (
        before
    )
    written, again = load_file(out), _Tied().to(dtype)
    again.window = torch.zeros(3, dtype=torch.int64)
    missing, unexpected = again.load_state_dict(written, strict=ending == "pt")
    assert (missing, unexpected) == ([] if ending == "pt" else ["last.weight"], [])
    for name, values in written.items():
        assert values.dtype == network.state_dict()[name].dtype, name
    steps = [open_checkpoint(folder / f"step_{step}.{ending}") for step in (20, 30)]
    line = 2 * steps[1]["first.weight"].float() - steps[0]["first.weight"].float()
    torch.testing.assert_close(written["first.weight"], line.to(dtype))
    torch.testing.assert_close(again.norm.running_mean, network.norm.running_mean)
    assert int(again.seen) == 60
    # The type can be chosen; numbers beyond it are an error that leaves nothing.
    forecast_run(folder, "last-two-line", 1, out, dtype="float32")
    assert load_file(out)["norm.weight"].dtype == torch.float32
    torch.testing.assert_close(load_file(out)["first.weight"], line)


def open_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".pt":
        return cast(dict[str, torch.Tensor], torch.load(path, weights_only=True))
    return load_file(path)


def test_when_a_forecast_is_beyond_its_type_then_that_is_said_and_nothing_is_written(
    tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for step, value in ((1, 100.0), (2, 60_000.0)):
        save_file({"w": torch.full((2,), value).half()}, folder / f"step_{step}.safetensors")
    _refuse("tensor w has numbers beyond F16", folder, "last-two-line", 1, out)
    assert list(out.parent.iterdir()) == []
    found = forecast_run(folder, "last-two-line", 1, out, dtype="bfloat16")
    assert (found.dtype, load_file(out)["w"].dtype) == ("bfloat16", torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_when_the_run_is_of_transformers_then_from_pretrained_opens_the_folder(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).to(dtype)
    for step in (0, 5, 10):
        model.save_pretrained(tmp_path / "run" / f"checkpoint-{step}")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
    found = forecast_run(tmp_path / "run", "last-two-line", 1, tmp_path / "next-1.5")
    assert found.beside == ("config.json", "generation_config.json")
    for asked in ("original", "float32"):
        folder = tmp_path / "next-1.5"
        forecast_run(tmp_path / "run", "last-two-line", 1, folder, dtype=asked)
        opened, said = transformers.GPT2LMHeadModel.from_pretrained(
            folder, output_loading_info=True
        )
        assert not any(said.values()), said
        assert opened.dtype == (dtype if asked == "original" else torch.float32)
        assert opened.lm_head.weight is opened.transformer.wte.weight
        last, before = (
            load_file(tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors")
            for step in (10, 5)
        )
        for name, values in last.items():
            line = (2 * values.float() - before[name].float()).to(opened.dtype)
            torch.testing.assert_close(opened.state_dict()[name], line)
    assert transformers.AutoConfig.from_pretrained(folder).dtype == torch.float32


def test_when_a_folder_to_write_holds_other_things_then_it_is_refused(
    runs: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "next"
    assert forecast_run(runs[0], "last-value", 1, folder).out == str(folder / "model.safetensors")
    forecast_run(runs[0], "last-two-line", 1, folder)  # its own are replaced
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="holds model-00001-of-00002"):
        forecast_run(runs[0], "last-value", 1, folder)


def test_when_batch_norm_can_be_estimated_then_the_network_loads_strictly_and_works(
    tmp_path: Path, out: Path
) -> None:
    path = tmp_path / "0.safetensors"
    recipe = Recipe(
        "digits-resnet", "resnet", "digits", "sgd", 0.05, 32, steps=240, snapshot_every=20,
        network_options={"size": 8, "channels": [4, 8]},
    )  # fmt: skip
    record_run(recipe, 0, path)
    forecast_run(path, "dmd", 4, out, context=8)
    network, evaluator = rebuild(recipe)
    assert not any(network.load_state_dict(load_file(out), strict=True))
    x, y = evaluator._test
    accuracy = float((network.eval()(inputs(x)).argmax(1) == y).float().mean())
    truth = open_trajectory(path).meta.test_accuracy
    assert accuracy > truth[12] - 0.05
    assert truth[12] > 0.6


def test_when_a_recorder_made_the_run_then_it_is_forecast_past_its_end(
    tmp_path: Path, out: Path, weightcast: Callable[..., Done]
) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    path = tmp_path / "run.safetensors"
    recorder = TrajectoryRecorder(model, path, every=5, optimizer=optimizer)
    for _ in range(20):
        loss = model(torch.ones(3)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step(train_loss=float(loss.detach()))
    recorder.close()
    done = weightcast(path, "--method", "ar1", "--horizon", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert ", step 20 -> 30, 8 coordinates, " in done.stdout
    assert "train loss" not in done.stdout.splitlines()[0]
    assert not any(model.load_state_dict(load_file(out)))


def test_when_a_method_abstains_then_the_tensor_keeps_its_last_value_and_coverage_says_so(
    runs: list[Path],
    out: Path,
    write_plugin: Callable[[str, str], Path],
    weightcast: Callable[..., Done],
) -> None:
    plugin = write_plugin(
        "half", "if task.tensor.kind == 'bias': return None\nreturn context[:, -1:] + task.horizons"
    )
    done = weightcast(runs[0], "--method", "half", "--horizon", 7, "--out", out, "--plugin", plugin)
    assert done.returncode == 0, done.stderr
    assert "2,410 coordinates (98.3% of them forecast)" in done.stdout
    last = open_trajectory(runs[0]).snapshot(-1)
    for name, values in load_file(out).items():
        expected = last[name] if name.endswith("bias") else last[name] + 7
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5)


def test_when_blocks_are_small_then_the_file_is_the_same(
    runs: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_run(runs[0], "ar1", 9, out, measure=False)
    at_once = out.read_bytes()
    original = asking.forecast_task

    def small(*arguments: Any) -> Any:
        return replace(original(*arguments), block_bytes=4 * 100 * 7)

    monkeypatch.setattr(asking, "forecast_task", small)
    forecast_run(runs[0], "ar1", 9, out, measure=False)
    assert out.read_bytes() == at_once


def test_when_the_work_takes_long_then_it_is_shown_with_the_time_left(
    runs: list[Path],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "_WORTH_SHOWING", 0.0)
    monkeypatch.setattr(signs_of_life, "EVERY", 0.002)
    forecast_run(runs[0], "lfd2", 50, out, fit=runs[1:], context=10, measure=False)
    said = capsys.readouterr().err
    assert re.search(
        r"fitting lfd2: 0 s so far, about 0 s left of pass \d+ over the training", said
    )
    assert re.search(r"forecasting by lfd2: \d/\d, 0 s so far, about 0 s left", said)


def test_when_snapshots_are_unevenly_spaced_then_the_last_spacing_goes_on_and_a_note_says_so(
    tmp_path: Path,
    out: Path,
    toy_run: Callable[..., Trajectory],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = toy_run(np.arange(8.0).reshape(4, 2))
    path = tmp_path / "0.safetensors"
    write_stacked(
        Trajectory.from_arrays({"w": run.read(run.tensors[0])}, [0, 1, 5, 25], run.meta), path
    )
    assert forecast_run(path, "last-value", 3, out).forecast_step == 85
    assert "every 1 to 20 steps; those after its last one are taken to be 20" in (
        capsys.readouterr().err
    )
    # What the run itself recorded needs no guess.
    assert forecast_run(path, "last-value", 2, out, context=1).forecast_step == 25
    assert capsys.readouterr().err == ""


def test_when_there_is_a_forecast_already_then_it_is_replaced_only_by_a_whole_one(
    runs: list[Path],
    out: Path,
    write_plugin: Callable[[str, str], Path],
    weightcast: Callable[..., Done],
) -> None:
    forecast_run(runs[0], "last-value", 1, out)
    before = out.read_bytes()
    for name, body, says in (
        ("not-finite", "return np.full((len(context), 4), np.nan)", "not finite for 2048 of 2048"),
        ("wrong-shape", "return context", "has shape"),
        ("late", "assert 'bias' not in task.tensor.name, 'no\\nbias'\nreturn context[:, :4]",
         "late failed: AssertionError: no bias"),
    ):  # fmt: skip
        plugin = write_plugin(name, body, f"{name}.py")
        done = weightcast(
            runs[0], "--method", name, "--horizon", 4, "--out", out, "--plugin", plugin
        )
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert f"{name} failed: " in done.stderr
        assert says in done.stderr
        assert out.read_bytes() == before
        assert [path.name for path in out.parent.iterdir()] == [out.name]
    forecast_run(runs[0], "last-two-line", 1, out)
    assert out.read_bytes() != before


def test_when_a_kill_left_part_of_a_file_then_the_next_forecast_removes_it(
    runs: list[Path], out: Path
) -> None:
    out.parent.mkdir()
    left = out.parent / f".{out.name}.12345.partial"
    left.write_bytes(b"half")
    forecast_run(runs[0], "last-value", 1, out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_when_the_disk_is_full_then_nothing_is_left(
    runs: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match=r"next.safetensors cannot be written: No space left"):
        forecast_run(runs[0], "last-value", 1, out)
    assert list(out.parent.iterdir()) == []


def _refuse(says: str, path: Path, method: str, horizon: int, out: Path, **options: Any) -> None:
    there = out.read_bytes() if out.is_file() else None
    with pytest.raises(InputError) as refused:
        forecast_run(path, method, horizon, out, **options)
    assert not isinstance(refused.value, ForecastFailed)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (out.read_bytes() if out.is_file() else None) == there


def test_when_an_argument_is_wrong_then_one_line_says_so(
    runs: list[Path], out: Path, weightcast: Callable[..., Done]
) -> None:
    for verb, method, horizon, says in (
        (_in_a_process, "lfd3", 3, "unknown method 'lfd3'"),
        (weightcast, "ar1", 0, "--horizon 0 is not after the origin"),
        (weightcast, "lfd2", 3, "give whole runs of the same network with"),
    ):
        done = verb(runs[0], "--method", method, "--horizon", horizon, "--out", out)
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not out.parent.exists()
    _refuse("--context 0 does not fit", runs[0], "ar1", 3, out, context=0)
    _refuse("has 61 snapshots, so a context is 1 to 60", runs[0], "ar1", 3, out, context=61)
    _refuse("there is no trajectory", out, "ar1", 3, out)
    _refuse("is not the name of a .safetensors file", runs[0], "ar1", 3, out.with_suffix(".pt"))
    _refuse("cannot be written", runs[0], "ar1", 3, Path("/proc/nowhere/x.safetensors"))
    _refuse("would write into", runs[0], "ar1", 3, runs[0])
    _refuse("would write into", runs[0], "lfd2", 3, runs[1], fit=runs[1:3], context=10)
    link = runs[0].with_name("link.safetensors")
    link.symlink_to(runs[0])
    _refuse("would write into", runs[0], "ar1", 3, link)


def test_when_a_run_has_one_snapshot_then_it_is_refused(
    tmp_path: Path, out: Path, toy_run: Callable[..., Trajectory]
) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(toy_run(np.ones((1, 2))), path)
    _refuse("has one snapshot", path, "last-value", 1, out)


def test_when_fit_runs_are_of_another_network_then_the_file_and_tensor_are_named(
    runs: list[Path], out: Path
) -> None:
    own = runs[0]

    def refused(change: Callable[[dict[str, np.ndarray]], object], says: str) -> None:
        write_stacked(get_dataset(SET).run(2), runs[2])
        run = open_trajectory(runs[2])
        arrays = {t.name: run.read(t).reshape(-1, *t.shape) for t in run.tensors}
        change(arrays)
        write_stacked(Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta), runs[2])
        _refuse(says, own, "lfd2-ols", 5, out, fit=runs[1:3], context=10)

    refused(lambda a: a.pop("3.bias"), f"{runs[2]} has no tensor 3.bias, which {own} has")
    refused(
        lambda a: a.update({"extra": a["3.bias"]}),
        f"{runs[2]} has a tensor extra, which {own} lacks",
    )
    refused(
        lambda a: a.update({a_name: a[a_name][:, :7] for a_name in ["3.bias"]}),
        f"{runs[2]}: tensor 3.bias has shape [7], but [10] in {own}",
    )


def test_when_fit_runs_are_too_short_or_of_another_cadence_then_both_are_named(
    runs: list[Path], out: Path
) -> None:
    own, other = runs[:2]
    whole = open_trajectory(other)
    asked: dict[str, Any] = {"fit": runs[1:3], "context": 10}
    write_stacked(Window(get_dataset(SET).run(1), range(40)), other)
    _refuse(
        f"{other} has 40 snapshots, but context 10 and horizon 50 need 61; shorten --horizon to 29",
        own, "lfd2-ols", 50, out, **asked,
    )  # fmt: skip
    # Runs that went on for longer are cut, whatever their cadence there.
    forecast_run(own, "lfd2-ols", 29, out, **asked)
    write_stacked(Window(get_dataset(SET).run(1), range(0, 61, 2)), other)
    for path in (other, runs[2]):
        fit = [path, runs[2]] if path == other else [runs[2], other]
        _refuse("every 45 steps", own, "lfd2-ols", 5, out, fit=fit, context=10)
        _refuse("every 90 steps", own, "lfd2-ols", 5, out, fit=fit, context=10)
        _refuse(str(other), own, "lfd2-ols", 5, out, fit=fit, context=10)
    assert whole.n_snapshots == 61


def test_when_the_last_snapshot_is_off_the_beat_then_a_context_without_it_is_proposed(
    runs: list[Path], out: Path
) -> None:
    run = get_dataset(SET).run(0)
    arrays = {t.name: run.read(t, range(12)).reshape(-1, *t.shape) for t in run.tensors}
    steps = [*range(0, 495, 45), 470]
    losses = {name: getattr(run.meta, name)[:12] for name in METRICS}
    meta = replace(run.meta, **losses)
    write_stacked(Trajectory.from_arrays(arrays, steps, meta, run.tensors), runs[0])
    _refuse("--context 10 leaves the last", runs[0], "lfd2-ols", 5, out, fit=runs[1:3])
    found = forecast_run(runs[0], "lfd2-ols", 5, out, fit=runs[1:3], context=10)
    assert found.forecast_step == 450 + 5 * 45


def test_when_a_fit_run_is_the_run_or_goes_on_from_it_then_both_are_named(
    runs: list[Path], out: Path, tmp_path: Path
) -> None:
    own, other = runs[0], tmp_path / "other.safetensors"
    asked: dict[str, Any] = {"context": 10}
    _refuse("are the same run", own, "lfd2-ols", 5, out, fit=[runs[1], own], **asked)
    _refuse("are the same run", own, "lfd2-ols", 5, out, fit=[runs[1], runs[1]], **asked)
    shutil.copy(own, other)
    for first, step in ((0, 45), (10, 450)):
        write_stacked(Window(get_dataset(SET).run(0), range(first, 61)), other)
        says = f"{own} at step {step} and {other} at step {step} have the same weights"
        _refuse(says, own, "lfd2-ols", 5, out, fit=[runs[1], other], **asked)
    # All runs of a fine-tune start at the same weights.
    start = open_trajectory(own).snapshot(0)

    def start_alike(arrays: dict[str, np.ndarray]) -> None:
        for name, values in start.items():
            arrays[name][0] = values

    _rewritten(runs[1], start_alike)
    forecast_run(own, "lfd2-ols", 5, out, fit=runs[1:3], **asked)


def test_when_a_run_has_nan_where_it_counts_then_the_file_and_step_are_named(
    runs: list[Path], out: Path
) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["3.bias"][7, 2] = np.nan

    _rewritten(runs[1], spoil)
    says = f"{runs[1]} holds {SET}/1: tensor 3.bias has NaN or infinity at step 315"
    _refuse(says, runs[0], "lfd-full", 5, out, fit=runs[1:3], context=10)
    _refuse(says, runs[1], "ols-line", 5, out, context=10)
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_when_a_method_needs_the_loss_and_the_run_has_no_recipe_then_it_is_refused(
    runs: list[Path], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = open_trajectory(runs[0]).meta.recipe
    _rewritten(runs[0], lambda a: None, recipe={})
    _refuse("it has no recipe", runs[0], "line-search", 3, out)
    assert forecast_run(runs[0], "ar1", 3, out).train_loss_origin is None
    assert capsys.readouterr().err == ""
    _rewritten(runs[0], lambda a: None, recipe={**recipe, "network": "mpl"})
    _refuse("unknown network 'mpl'", runs[0], "line-search", 3, out)
    assert forecast_run(runs[0], "ar1", 3, out).train_loss_origin is None
    assert "note: the train loss was not measured, its recipe cannot" in capsys.readouterr().err


def test_when_an_untagged_method_learns_then_its_failure_points_to_fit(
    runs: list[Path], out: Path, tmp_path: Path, weightcast: Callable[..., Done]
) -> None:
    plugin = tmp_path / "learns.py"
    plugin.write_text(
        "from weightcast.methods import CoordinateForecaster, register\n\n"
        '@register("learns")\n'
        "class Learns(CoordinateForecaster):\n"
        '    """Remember a training run."""\n'
        "    def fit(self, train, validation, task):\n"
        "        self.run_ = train[0]\n"
        "        return self\n"
        "    def predict_block(self, context, task):\n"
        "        return context[:, -1:] + 0 * task.horizons\n",
        encoding="utf-8",
    )
    ask = (runs[0], "--method", "learns", "--plugin", plugin, "--horizon", 2, "--context", 5)
    done = weightcast(*ask, "--out", out)
    assert done.returncode == 1
    assert "learns failed: IndexError" in done.stderr
    assert "name some with --fit" in done.stderr
    done = weightcast(*ask, "--out", out, "--fit", *runs[1:3])
    assert done.returncode == 0, done.stderr
