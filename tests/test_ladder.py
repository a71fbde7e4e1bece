"""The recorded ladder: networks, schedules, data, and recordings that measure what they say."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands import record
from weightcast.bench.commands.record import RecordingFailed, record_dataset
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.datasets import (
    InputError,
    Metadata,
    Recipe,
    RecordedDataSet,
    Trajectory,
    all_datasets,
    open_trajectory,
)
from weightcast.datasets.evaluator import NetworkEvaluator, evaluator_for, rebuild
from weightcast.datasets.examples.load import FETCHED, load_examples
from weightcast.datasets.examples.text import ALPHABET, encode
from weightcast.datasets.fetching.fetch import fetched_files
from weightcast.datasets.fetching.rdata import read_character_vectors
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.networks.build import build_network, describe_tensors
from weightcast.datasets.recorded.factors import factors
from weightcast.datasets.recorded.ladder import ladder
from weightcast.datasets.recorded.recorder import record_run
from weightcast.datasets.window import Window

LADDER = {dataset.name: dataset for dataset in (*ladder(), *factors())}
PARAMETERS = {
    "digits-mlp-wide": 109_210,
    "fashion-mlp-narrow": 2_395,
    "digits-mlp": 2_410,
    "digits-cnn": 3_658,
    "digits-transformer": 7_034,
    "fashion-mlp": 109_386,
    "fashion-lstm": 24_714,
    "fashion-cnn": 105_866,
    "fashion-resnet8": 77_754,
    "austen-transformer": 114_512,
}
SMALL: dict[str, tuple[str, dict[str, object]]] = {
    "mlp": ("mlp", {"sizes": [64, 8, 10]}),
    "cnn": ("cnn", {"size": 8, "channels": [4, 4], "hidden": 8}),
    "lstm": ("row-lstm", {"width": 8, "hidden": 8}),
    "resnet": ("resnet", {"size": 8, "channels": [4, 8]}),
    "transformer": ("row-transformer", {"size": 8, "width": 8, "heads": 2, "layers": 1}),
}


def _recipe(network: str = "mlp", **changes: object) -> Recipe:
    kind, options = SMALL[network]
    given: dict[str, object] = {
        "name": f"small-{network}",
        "network": kind,
        "network_options": options,
        "data": "digits",
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "batch_size": 64,
        "steps": 8,
        "snapshot_every": 4,
        "measured": 200,
    }
    return Recipe(**{**given, **changes})  # type: ignore[arg-type]


def _evaluator(run: Trajectory) -> NetworkEvaluator:
    evaluator = evaluator_for(run.meta)
    assert isinstance(evaluator, NetworkEvaluator)
    return evaluator


def _have(data: str) -> bool:
    try:
        _recipe(data=data).require()
    except InputError:
        return False
    return True


@pytest.mark.parametrize("changed", list(factors()), ids=lambda dataset: dataset.name)
def test_when_one_thing_is_changed_then_the_rest_is_the_rungs(changed: RecordedDataSet) -> None:
    family = changed.name.partition("-mlp-")[0]
    rung = all_datasets()[f"{family}-mlp-sgd"].recipe
    assert rung is not None
    assert changed.recipe is not None
    before, after = rung.to_json(), changed.recipe.to_json()
    differ = {key for key in before | after if before.get(key) != after.get(key)} - {"name"}
    assert differ in (
        {"network_options"},
        {"batch_size"},
        {"data_options"},
        {"steps", "snapshot_every"},
        {"learning_rate", "steps", "snapshot_every"},
    )
    if "learning_rate" in differ:  # and then so many steps that a step's share is made up for
        far = before["learning_rate"] * before["steps"]
        further = after["learning_rate"] * after["steps"]
        assert further == pytest.approx(far) or further == pytest.approx(10 * far)
    # A start of its own all the same: runs that share one end near one another.
    assert changed.recipe.random_seed(0, "init") != rung.random_seed(0, "init")


@pytest.mark.parametrize("name", sorted(LADDER))
def test_when_a_rung_is_built_then_it_has_the_parameters_that_it_says(name: str) -> None:
    dataset = LADDER[name]
    assert all_datasets()[name] == dataset
    recipe = dataset.recipe
    assert recipe is not None
    tensors = describe_tensors(build_network(recipe.network, **recipe.network_options))
    count = sum(info.size for info in tensors)
    assert count == next(n for start, n in PARAMETERS.items() if name.startswith(f"{start}-"))
    assert all(info.kind != "other" for info in tensors)
    assert len(recipe.snapshot_steps) == 61
    assert recipe.snapshot_steps[-1] == recipe.steps == len(recipe.learning_rates)
    # Sizes that are told before a recording are near the truth, and not below it.
    weights = 4 * 61 * count
    assert weights < dataset.bytes_per_run < 1.02 * weights + 200_000


@pytest.mark.parametrize("name", ["digits-transformer-adam", "fashion-cnn-sgd"])
def test_when_a_rung_is_asked_for_what_it_measures_then_an_untrained_one_knows_nothing(
    name: str,
) -> None:
    recipe = LADDER[name].recipe
    assert recipe is not None
    if not _have(recipe.data):
        pytest.skip(f"{recipe.data} has not been fetched")
    torch.manual_seed(0)
    network, evaluator = rebuild(recipe)
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    measured = evaluator.measure(weights)
    assert measured["test_loss"] == pytest.approx(math.log(10), abs=0.3)


def test_when_the_schedule_is_cosine_then_rates_are_torchs() -> None:
    recipe = _recipe(schedule="cosine", steps=20)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    expected = []
    for _ in range(20):
        expected.append(torchs.get_last_lr()[0])
        optimizer.step()
        torchs.step()
    np.testing.assert_allclose(recipe.learning_rates, expected, rtol=1e-9)
    assert _recipe().learning_rates == (0.05,) * 8
    stepped = _recipe(schedule="step", schedule_options={"milestones": [4], "factor": 0.1})
    assert stepped.learning_rates == (*[0.05] * 4, *[pytest.approx(0.005)] * 4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"schedule_options": {"warmup": 3}}, "schedule constant: .*warmup"),
        ({"network_options": {"size": 8}}, "network mlp: .*size"),
        ({"optimizer": "adan"}, "did you mean adam"),
        ({"hyperparameters": {"beta": 1}}, "optimizer sgd: .*beta"),
        ({"data": "digit"}, "did you mean digits"),
        ({"learning_rate": 1e30}, "small-mlp, seed 0: the training loss is .* at step 4"),
    ],
)
def test_when_a_recipe_cannot_be_followed_then_it_says_what_is_wrong(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        record_run(_recipe(**changes), 0, tmp_path / "0.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", sorted(SMALL))
@pytest.mark.parametrize(("optimizer", "schedule"), [("sgd", "cosine"), ("adamw", "constant")])
def test_when_a_network_is_recorded_then_its_metrics_and_its_bytes_come_back(
    network: str, optimizer: str, schedule: str, tmp_path: Path
) -> None:
    recipe = _recipe(
        network,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=0.01,
        hyperparameters={"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {},
    )
    runs = []
    for name in ("a", "b"):
        record_run(recipe, 1, tmp_path / f"{name}.safetensors")
        runs.append(open_trajectory(tmp_path / f"{name}.safetensors"))
    run = runs[0]
    assert run.content_hash() == runs[1].content_hash()
    assert run.meta.learning_rates == recipe.learning_rates
    assert run.meta.train_loss[-1] != run.meta.train_loss[0]
    assert run.meta.flops_per_step
    evaluator = _evaluator(run)
    for index in range(3):
        measured = evaluator.measure(run.snapshot(index))
        for name, value in measured.items():
            assert value == pytest.approx(getattr(run.meta, name)[index], rel=1e-5)


def test_when_a_network_has_batch_norm_then_its_statistics_are_kept_beside(tmp_path: Path) -> None:
    path, copy = tmp_path / "0.safetensors", tmp_path / "copy.safetensors"
    record_run(_recipe("resnet"), 0, path)
    run = open_trajectory(path)
    assert run.state(0)["2.running_mean"].dtype == np.float32
    for index, step in enumerate((0, 4, 8)):
        counted = run.state(index)["2.num_batches_tracked"]
        assert counted.dtype == np.int64
        assert counted.shape == ()
        assert counted == step
    assert run.state(-1)["2.num_batches_tracked"] == 8
    assert Window(run, range(1, 3)).state(0)["2.num_batches_tracked"] == 4
    assert not any("running" in info.name for info in run.tensors)
    assert "2.running_var" not in run.snapshot(0)

    write_stacked(run, copy)
    again = open_trajectory(copy)
    assert again.content_hash() == run.content_hash()
    for name, values in run.state(2).items():
        np.testing.assert_array_equal(again.state(2)[name], values)
    # It is an ordinary safetensors file, and the statistics are no part of the content.
    from safetensors.numpy import load_file

    assert load_file(path)["state/2.num_batches_tracked"].tolist() == [0, 4, 8]
    arrays = {info.name: run.read(info).reshape(-1, *info.shape) for info in run.tensors}
    bare = Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta, run.tensors)
    assert bare.content_hash() == run.content_hash()
    assert bare.state(0) == {}


def test_when_statistics_are_not_given_then_what_is_measured_depends_on_the_weights_alone(
    tmp_path: Path,
) -> None:
    recipe = _recipe("resnet", steps=120, snapshot_every=60)
    record_run(recipe, 0, tmp_path / "0.safetensors")
    run = open_trajectory(tmp_path / "0.safetensors")
    evaluator = _evaluator(run)
    first, last = run.snapshot(0), run.snapshot(2)
    alone = evaluator.measure(last)
    assert evaluator.train_loss(first) != alone["train_loss"]
    evaluator.measure(first, run.state(0))
    assert evaluator.measure(last) == alone
    assert alone["train_loss"] == run.meta.train_loss[2] < 0.8 * run.meta.train_loss[0]
    # Given, those that training left are used, and do about as well.
    as_trained = evaluator.measure(last, run.state(2))
    assert as_trained["train_loss"] == pytest.approx(alone["train_loss"], rel=0.2)
    assert as_trained != alone


def test_when_weights_are_frozen_then_they_are_neither_recorded_nor_asked_for() -> None:
    network = build_network("mlp", sizes=[64, 8, 10])
    next(network.parameters()).requires_grad_(False)
    evaluator = NetworkEvaluator(network, load_examples("digits"), measured=50)
    weights = {
        info.name: np.zeros(info.shape, dtype=np.float32) for info in describe_tensors(network)
    }
    assert "1.weight" not in weights
    assert evaluator.train_loss(weights) == pytest.approx(math.log(10))


def test_when_text_is_encoded_then_its_characters_are_the_alphabets() -> None:
    assert len(ALPHABET) == len(set(ALPHABET)) == 80
    codes = encode("It is £5,\nisn't it?")
    assert "".join(ALPHABET[code] for code in codes) == "It is  5,\nisn't it?"


def test_when_the_character_transformer_reads_then_it_sees_no_later_character() -> None:
    network = build_network(
        "character-transformer", characters=80, length=16, width=8, heads=2, layers=2
    )
    x = torch.randint(80, (1, 16), generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 9] = (x[0, 9] + 1) % 80
    with torch.no_grad():
        before, after = network(x), network(changed)
    assert before.shape == (1, 16, 80)
    torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=0)
    assert not torch.equal(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("data", ["austen", "fashion"])
def test_when_data_are_missing_then_the_command_that_fetches_them_is_named(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path))
    name = next(name for name, s in LADDER.items() if s.recipe and s.recipe.data == data)
    recipe = LADDER[name].recipe
    assert recipe is not None
    says = re.escape(f"get them with: weightcast fetch {FETCHED[data]}")
    load_examples.cache_clear()
    with pytest.raises(InputError, match=says):
        record_dataset(name, "0", tmp_path / "out", 1)
    weights = np.zeros((1, 1), dtype=np.float32)
    run = Trajectory.from_arrays({"w": weights}, [0], Metadata(name, 0, recipe.to_json()))
    with pytest.raises(InputError, match=says):
        evaluator_for(run.meta)


@pytest.mark.parametrize("skip", [False, True])
def test_when_a_suite_measures_functions_on_missing_data_then_it_says_so_before_it_runs(
    skip: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    name = "fashion-mlp-sgd"
    for seed in range(12):
        path = tmp_path / "data" / name / f"{seed}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    options = RunOptions(
        "quick", tmp_path / "out", datasets=[name], data=tmp_path / "data", skip_missing=skip
    )
    says = "no data set is left" if skip else "weightcast fetch fashion-mnist"
    with pytest.raises(InputError, match=says):
        run_suite(options)
    assert ("left out: fashion-mlp-sgd: the data" in capsys.readouterr().err) == skip


@pytest.mark.skipif(not _have("austen"), reason="austen has not been fetched")
def test_when_the_novels_are_loaded_then_targets_are_the_next_characters() -> None:
    text = fetched_files("austen")["austen.txt"].read_text(encoding="utf-8")
    examples = load_examples("austen")
    assert examples.train_x.shape[1] == 64
    first = "".join(ALPHABET[code] for code in examples.train_x[0])
    then = "".join(ALPHABET[code] for code in examples.train_y[0])
    assert (first, then) == (text[:64], text[1:65])
    assert len(examples.test_x) == pytest.approx(len(examples.train_x) / 19, abs=1)


@pytest.mark.skipif(not _have("fashion"), reason="fashion-mnist has not been fetched")
def test_when_fashion_is_loaded_then_it_is_whole() -> None:
    examples = load_examples("fashion")
    assert examples.train_x.shape == (60_000, 28, 28)
    assert examples.test_x.shape == (10_000, 28, 28)
    assert torch.bincount(examples.train_y).tolist() == [6_000] * 10
    assert torch.bincount(examples.test_y).tolist() == [1_000] * 10


def _packed(*lines: str, kind: int = 16) -> bytes:
    """Make one record of a .rdb file, as R 4 writes a character vector."""
    import struct
    import zlib

    body = b"X\n" + struct.pack(">4i", 3, 0x40201, 0x30500, 5) + b"UTF-8"
    body += struct.pack(">2i", kind, len(lines))
    for line in lines:
        text = line.encode()
        body += struct.pack(">2i", 0x40009 if line.isascii() else 0x8009, len(text)) + text
    return struct.pack(">I", len(body)) + zlib.compress(body)


def test_when_r_data_hold_characters_then_they_are_read_and_anything_else_is_refused() -> None:
    data = _packed("EMMA", "", "by £") + _packed("Persuasion")
    assert read_character_vectors(data) == [["EMMA", "", "by £"], ["Persuasion"]]
    for broken, says in [
        (data[:-4], "truncated"),
        (b"\0\0\0\5hello", "cannot be read"),
        (_packed("EMMA", kind=13), "type 13"),
    ]:
        with pytest.raises(InputError, match=says):
            read_character_vectors(broken)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a data set of three runs that records in no time."""
    dataset = RecordedDataSet(
        "small", (0, 1, 2), "a small network", "digits", "BSD-3-Clause",
        recipe=_recipe(name="small", steps=90, snapshot_every=30),
        bytes_per_run=20_000, seconds_per_run=0.1,
    )  # fmt: skip
    monkeypatch.setattr("weightcast.bench.commands.record.get_dataset", lambda name: dataset)
    return "small"


def test_when_one_run_fails_then_the_others_are_recorded_and_it_is_named(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(recipe: Recipe, seed: int, path: Path, *rest: object) -> None:
        if seed == 1:
            raise RuntimeError("diverged")
        record_run(recipe, seed, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("weightcast.datasets.recorded.recorder.record_run", record)
        done = CliRunner().invoke(app, ["record", small, "--out", str(tmp_path)])
    assert done.exit_code == 1
    said = "1 of 3 runs of small failed, the others are recorded: seed 1: RuntimeError: diverged"
    assert said in done.stderr
    assert sorted(path.name for path in (tmp_path / small).iterdir()) == [
        "0.safetensors",
        "2.safetensors",
    ]
    assert record_dataset(small, None, tmp_path, jobs=1) == 1


def test_when_runs_are_recorded_side_by_side_then_progress_counts_snapshots_and_bytes_are_the_same(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record_dataset(small, "0", tmp_path / "a", jobs=1) == 1
    assert record_dataset(small, None, tmp_path / "b", jobs=2) == 3
    said = capsys.readouterr().err
    assert "recording 3 runs of small into" in said
    assert "recording small: 9/9" in said
    assert "step 90 of 90" in said
    one, other = (open_trajectory(tmp_path / name / small / "0.safetensors") for name in "ab")
    assert one.content_hash() == other.content_hash()
    assert record_dataset(small, None, tmp_path / "b", jobs=2) == 0


@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_when_a_worker_ends_then_its_run_has_failed_and_the_others_are_recorded(
    how: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"ends_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "import os\nfrom weightcast.datasets import Recipe\n"
        "class Ends(Recipe):\n"
        "    @property\n"
        "    def snapshot_steps(self):\n"
        f"        if os.getpid() != {os.getpid()}:\n"
        "            try:\n"
        f"                os.close(os.open({str(tmp_path / 'ended')!r}, os.O_CREAT | os.O_EXCL))\n"
        f"                {how}\n"
        "            except FileExistsError: pass\n"
        "        return super().snapshot_steps\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dataset = record.get_dataset(small)
    ends = importlib.import_module(module).Ends(**vars(dataset.recipe))
    changed = dataclasses.replace(dataset, recipe=ends)
    monkeypatch.setattr(record, "get_dataset", lambda name: changed)
    with pytest.raises(RecordingFailed, match=r"1 of 3 runs of small failed.*\d: its process"):
        record_dataset(small, None, tmp_path / "out", jobs=2)
    assert len(list((tmp_path / "out" / small).iterdir())) == 2


def test_when_the_disk_is_too_full_then_what_is_needed_and_free_are_said(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 2**20, 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"need 200 MiB .* 1 MiB are free"):
        record_dataset(small, None, tmp_path, jobs=1)


@pytest.mark.slow
def test_when_a_recording_is_killed_then_the_next_one_keeps_whole_runs_and_clears_the_rest(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable, "-c", "from weightcast.bench.cli import main; main()",
        "record", "digits-cnn-sgd", "--seeds", "0,1", "--out", str(tmp_path), "--jobs", "2",
    ]  # fmt: skip
    folder = tmp_path / "digits-cnn-sgd"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".*.unfinished")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    # The workers notice and end; nothing under a run's name is left by them.
    while time.monotonic() < deadline and _alive(folder):
        time.sleep(0.1)
    assert not _alive(folder)
    assert not list(folder.glob("*.safetensors"))
    (folder / "7.safetensors").write_bytes(b"whole")
    with pytest.raises(InputError, match="need"):
        _record_on_a_full_disk(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["7.safetensors"]


def _alive(folder: Path) -> bool:
    """Whether somebody writes a run."""
    for path in folder.glob(".*.unfinished"):
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def _record_on_a_full_disk(out: Path) -> None:
    """Start a recording that clears up and then stops before it trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weightcast.bench.commands.record.SPARE_BYTES", 2**60)
        record_dataset("digits-cnn-sgd", "0", out, 1)
