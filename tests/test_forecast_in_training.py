"""Forecasts inside one's own training: tensors to load, and jumps where they are better."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from weightcast.bench import Forecasting, forecast
from weightcast.bench.commands.forecast import forecast_run
from weightcast.bench.commands.info import trajectory_info, trajectory_lines
from weightcast.datasets import InputError, Trajectory, TrajectoryRecorder, open_trajectory
from weightcast.datasets.window import Window
from weightcast.methods import CoordinateForecaster, load_plugin, register


class Net(nn.Module):
    """Tied, frozen, with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.middle = nn.Linear(8, 8, bias=False)
        self.again = nn.Linear(8, 8, bias=False)
        self.again.weight = self.middle.weight
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)
        self.last = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(torch.tanh(self.norm(self.first(x))))
        found: torch.Tensor = self.last(self.again(self.middle(x)) * self.scale)
        return found


def _data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :1] * x[:, 1:2] + x[:, 2:3]


BATCHES = [_data(seed) for seed in range(1000, 1004)]


def held_out(model: nn.Module) -> torch.Tensor:
    """Measure, and be as careless as people are."""
    model.eval()
    torch.randn(3)
    random.random()
    np.random.rand()
    return torch.stack([(model(x) - y).square().mean() for x, y in BATCHES]).mean()


class Training:
    """A run that is recorded, and does something after every step."""

    def __init__(self, path: Path, seed: int = 0, **recorded: Any) -> None:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.net = Net()
        self.optimizer = torch.optim.Adam(
            [p for p in self.net.parameters() if p.requires_grad], lr=0.003
        )
        self.recorder = TrajectoryRecorder(
            self.net, path, every=2, seed=seed, optimizer=self.optimizer, **recorded
        )

    def run(self, steps: int, after: Callable[[], Any] = lambda: None) -> None:
        self.net.train()
        for _ in range(steps):
            x, y = _data(self.recorder.steps)
            loss = (self.net(x) - y).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.recorder.step(loss)
            after()

    def everything(self) -> list[torch.Tensor]:
        kept = [each.clone() for each in self.net.state_dict().values()]
        for state in self.optimizer.state_dict()["state"].values():
            kept += [each.clone() for each in state.values()]
        numpy_state = torch.from_numpy(np.random.get_state()[1].astype(np.int64))
        return [*kept, torch.get_rng_state(), numpy_state]


def assert_equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_same_state(found: Mapping[str, torch.Tensor], net: nn.Module) -> None:
    state = net.state_dict()
    assert found.keys() == state.keys()
    assert_equal([found[name] for name in state], [*state.values()])


@pytest.fixture
def training(tmp_path: Path) -> Training:
    made = Training(tmp_path / "run.safetensors")
    made.run(20)
    return made


def test_when_a_run_is_forecast_then_the_tensors_are_those_of_the_checkpoint_however_it_is_named(
    training: Training, tmp_path: Path
) -> None:
    before = training.everything()
    hidden = tmp_path / ".run.safetensors.recording"
    out = tmp_path / "next.safetensors"
    forecast_run(hidden, "ols-line", 3, out, measure=False)
    written = load_file(out)
    live = training.recorder.forecast("ols-line", 3)
    whole = training.recorder.trajectory()
    for run in (training.recorder, hidden, str(hidden), whole, Window(whole, range(11))):
        found = forecast(run, "ols-line", 3)
        assert (found.origin_step, found.step, found.snapshots) == (20, 26, 11)
        assert found.batch_norm == "kept"
        assert found.keys() == live.keys() == training.net.state_dict().keys()
        for name, tensor in found.items():
            np.testing.assert_array_equal(tensor, live[name])
            np.testing.assert_array_equal(tensor, written[name])
    assert_equal(training.everything(), before)
    other = Net()
    other.load_state_dict(live)
    assert other.again.weight is other.middle.weight
    training.run(2)
    assert forecast(training.recorder, "ols-line", 3).origin_step == 22
    assert live.origin_step == 20


def test_when_batches_are_given_then_batch_norm_has_their_statistics_under_the_forecast(
    training: Training, tmp_path: Path
) -> None:
    inputs = [x for x, _ in BATCHES]
    loader = torch.utils.data.DataLoader(torch.cat(inputs), batch_size=32)
    keywords = [{"x": x} for x in inputs]
    expected = Net()
    expected.load_state_dict(training.recorder.forecast("ols-line", 5))
    torch.optim.swa_utils.update_bn(inputs, expected)
    before = training.everything()
    for batches in (BATCHES, inputs, loader, keywords):
        found = training.recorder.forecast("ols-line", 5, batches=batches)
        assert found.batch_norm == "re-estimated"
        assert_same_state(found, expected)
        assert_equal(training.everything(), before)
        assert training.net.training
    hidden = tmp_path / ".run.safetensors.recording"
    again = forecast(hidden, "ols-line", 5, model=copy.deepcopy(training.net), batches=BATCHES)
    assert_same_state(again, expected)
    for batches, says in [(iter(()), "batches gives no batch"), ([], "batches gives no batch")]:
        with pytest.raises(InputError, match=says):
            training.recorder.forecast("ols-line", 5, batches=batches)
        assert_equal(training.everything(), before)
    with pytest.raises(InputError, match="batches go through a network: give it as model"):
        forecast(hidden, "ols-line", 5, batches=BATCHES)


def test_when_the_run_lacks_some_of_its_network_then_a_recorder_knows_it(tmp_path: Path) -> None:
    training = Training(tmp_path / "run.safetensors", frozen=False)
    training.run(6)
    found = training.recorder.forecast("last-two-line", 2)
    Net().load_state_dict(found)
    assert "scale" not in forecast(tmp_path / ".run.safetensors.recording", "last-two-line", 2)
    wrapped = nn.DataParallel(Net())
    with TrajectoryRecorder(wrapped, tmp_path / "w.safetensors", every=1) as recorder:
        recorder.step()
        Net().load_state_dict(recorder.forecast("last-value", 1))


def test_when_a_window_is_asked_for_then_nothing_before_it_is_seen(training: Training) -> None:
    run = training.recorder.trajectory()
    found = forecast(run, "ols-line", 2, window=4)
    assert (found.snapshots, found.origin_step, found.step) == (4, 20, 24)
    alone = Trajectory.from_arrays(
        {info.name: run.read(info, range(7, 11)).reshape(4, *info.shape) for info in run.tensors},
        [14, 16, 18, 20],
        run.meta,
    )
    expected = forecast(alone, "ols-line", 2)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensor, found[name])
    earlier = forecast(run, "ols-line", 2, context=6, window=4)
    assert (earlier.snapshots, earlier.origin_step, earlier.step) == (4, 12, 16)


def test_when_a_method_learns_then_it_is_fitted_on_the_same_steps_of_other_runs(
    training: Training, tmp_path: Path
) -> None:
    others = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.safetensors"
        other = Training(path, seed)
        other.run(40)
        other.recorder.close()
        others.append(path)
    seen: list[list[int]] = []

    @register("spy")
    class Spy(CoordinateForecaster):
        """Tells what it is fitted on."""

        _tags = {"provenance": "fit-on-train-split"}  # noqa: RUF012

        def fit(self, train: Any, validation: Any, task: Any) -> Any:
            seen.append([int(step) for step in train[0].steps])
            return self

        def predict_block(self, context: Any, task: Any) -> Any:
            return context[:, -1:] + 0 * task.horizons

    forecast(training.recorder, "spy", 3, fit=others, window=4)
    assert seen.pop() == [14, 16, 18, 20, 22, 24, 26]
    forecast(training.recorder, "spy", 3, fit=others[0])
    assert seen.pop() == list(range(0, 27, 2))
    found = forecast(training.recorder, "damped-line", 3, fit=others)
    assert found.coverage == 1.0
    # Two numbers can be learned from the run itself.
    assert forecast(training.recorder, "damped-line", 3).coverage == 1.0
    # In a loop with a window of its own it is fitted anew when it is at other steps.
    forecasting = Forecasting(
        training.recorder, "spy", 2, every=2, loss=held_out, fit=others, window=3
    )
    training.run(8, forecasting.step)
    assert [each.failed for each in forecasting.tried] == ["", ""]
    assert [steps[0] for steps in seen] == [20, 24]


def test_when_something_is_wrong_then_it_is_said_in_the_words_of_python(
    training: Training, tmp_path: Path
) -> None:
    recorder = training.recorder
    for arguments, says in [
        ((recorder, "dmdd", 3), "did you mean dmd"),
        ((recorder, "dmd", 0), "^horizon 0 is not after the origin"),
        ((recorder, "dmd", 1.5), "horizon must be a whole number"),
        ((recorder, "dlinear", 3), "learns from other runs: give .* with fit"),
        (
            (recorder, "line-search", 3),
            "measures the train loss of .*, but it has no recipe .*; give a function .* as loss",
        ),
        ((tmp_path / "nothing.safetensors", "dmd", 3), "there is no trajectory at"),
    ]:
        with pytest.raises(InputError, match=says):
            forecast(*arguments)
    for options, says in [
        ({"context": 11}, "context 11 does not fit .* a context is 1 to 10"),
        ({"context": 0}, "a context is 1 to 10"),
        ({"window": 1}, "window must be 2 or more"),
    ]:
        with pytest.raises(InputError, match=says):
            forecast(recorder, "dmd", 3, **options)
    for options, says in [
        ({}, 'loss is what jump="if-better" measures'),
        ({"loss": 1.0}, "loss must be a function"),
        ({"loss": held_out, "jump": "sometimes"}, "choices are"),
        ({"loss": held_out, "every": 1}, "every must be 2 or more"),
        ({"loss": held_out, "method": "lstm"}, "or take a method that needs none: .*ols-line"),
        ({"loss": held_out, "method": "nothing-like-it"}, "unknown method"),
    ]:
        with pytest.raises(InputError, match=says):
            Forecasting(recorder, **{"method": "dmd", "horizon": 3, "every": 2} | options)


def test_when_no_forecast_is_taken_then_training_is_as_if_none_had_been_made(
    tmp_path: Path,
) -> None:
    plain = Training(tmp_path / "plain.safetensors")
    plain.run(40)
    plain.recorder.close()
    for jump, method, batches in [
        ("never", "last-two-line", None), ("if-better", "worse", BATCHES),
        ("if-better", "last-value", BATCHES), ("if-better", "raises", None),
        ("if-better", "exits", None), ("if-better", "not-finite", None),
    ]:  # fmt: skip
        _register_odd_methods()
        tried = Training(tmp_path / f"{method}-{jump}.safetensors")
        forecasting = Forecasting(
            tried.recorder, method, 4, every=5, loss=held_out, jump=jump, batches=batches
        )
        tried.run(40, forecasting.step)
        assert len(forecasting.tried) == 4
        assert not any(each.jumped for each in forecasting.tried)
        assert bool(forecasting.tried[0].failed) == (method in ("raises", "exits", "not-finite"))
        assert_equal(tried.everything(), plain.everything())
        assert tried.net.training
        tried.recorder.close()
        run = open_trajectory(tried.recorder.path)
        assert run.content_hash() == open_trajectory(plain.recorder.path).content_hash()
        assert run.meta.jumps == ()


def _register_odd_methods() -> None:
    def odd(name: str, ahead: Callable[[Any], Any]) -> None:
        @register(name)
        class Odd(CoordinateForecaster):
            """Goes astray."""

            def predict_block(self, context: Any, task: Any) -> Any:
                torch.randn(1)
                np.random.rand()
                return ahead(context[:, -1:]) + 0 * task.horizons

    def out(context: Any) -> Any:
        raise SystemExit(3)

    odd("worse", lambda last: 100 * last)
    odd("raises", lambda last: last[None, None, None, 0, 0, 0, 0])
    odd("exits", out)
    odd("not-finite", lambda last: last * np.nan)


def test_when_a_forecast_is_better_then_training_goes_on_from_it_with_the_optimizers_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path / "run.safetensors")
    forecasting = Forecasting(
        training.recorder, "ols-line", 10, every=5, loss=held_out, batches=BATCHES
    )
    training.run(9)
    assert forecasting.step() is None
    training.run(1)
    expected = training.recorder.forecast("ols-line", 10, batches=BATCHES)
    before = training.everything()
    with caplog.at_level(logging.INFO):
        tried = forecasting.step()
    assert tried is not None
    assert tried.jumped
    assert tried.after < tried.before
    assert tried.batch_norm == "re-estimated"
    assert "step 10: forecast of step 30, loss " in caplog.text
    assert "jumped" in caplog.text
    state = training.net.state_dict()
    assert_equal([*state.values()], [expected[name] for name in state])
    assert_equal(training.everything()[len(state) :], before[len(state) :])
    assert forecasting.step() is None
    # What was before the jump tells nothing of what comes after it.
    with pytest.raises(InputError, match=r"jumped to a forecast after step 10: .* two snapshots"):
        training.recorder.forecast("ols-line", 2)
    training.run(2)
    with pytest.raises(InputError, match="jumped to a forecast after step 10"):
        training.recorder.forecast("ols-line", 2)
    training.run(2)
    assert training.recorder.forecast("ols-line", 2).snapshots == 2
    training.run(6, forecasting.step)
    assert [each.step for each in forecasting.tried] == [10, 20]
    assert forecasting.tried[1].snapshots == 5
    training.recorder.close()
    run = open_trajectory(tmp_path / "run.safetensors")
    assert run.meta.jumps[0] == 10
    assert forecast(run, "ols-line", 2, context=5).snapshots == 6
    assert run.steps.tolist() == list(range(0, 21, 2))


def test_when_a_run_that_jumped_is_killed_then_what_is_gone_on_with_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.safetensors"
    training = Training(path)
    forecasting = Forecasting(training.recorder, "last-two-line", 2, every=4, jump="always")
    training.run(14, forecasting.step)
    assert [(each.step, each.jumped, each.before) for each in forecasting.tried] == [
        (8, True, None)
    ]
    training.recorder.abandon()
    with TrajectoryRecorder(
        training.net, path, every=2, optimizer=training.optimizer, resume=True
    ) as training.recorder:
        assert (training.recorder.steps, training.recorder.snapshots) == (14, 8)
        assert training.recorder.forecast("ols-line", 2).snapshots == 3
        again = Forecasting(training.recorder, "ols-line", 2, every=2, jump="never")
        training.run(4, again.step)
        assert [each.snapshots for each in again.tried] == [5]
    assert open_trajectory(path).meta.jumps == (8,)
    # The command line says so; in Python what is before the jump is left out.
    capsys.readouterr()
    forecast_run(path, "ols-line", 2, tmp_path / "next.safetensors", measure=False)
    assert "jumped to a forecast after step 8" in capsys.readouterr().err
    assert forecast(path, "ols-line", 2).snapshots == 5
    assert "jumped" not in capsys.readouterr().err
    assert "jumped after steps 8" in trajectory_lines(trajectory_info(path))


def test_when_a_method_measures_the_loss_then_it_is_the_users_and_the_network_stays(
    training: Training,
) -> None:
    with pytest.raises(InputError, match="loss is of a network: give it as model"):
        forecast(training.recorder.trajectory(), "line-search", 5, loss=held_out)
    losses = {}
    for method in ("line-search", "ols-line", "last-value"):
        before = training.everything()
        found = training.recorder.forecast(method, 5, batches=BATCHES, loss=held_out)
        assert_equal(training.everything(), before)
        assert training.net.training
        other = Net()
        other.load_state_dict(found)
        losses[method] = held_out(other).item()
    assert losses["line-search"] < losses["last-value"]
    assert losses["line-search"] < losses["ols-line"] + 1e-3
    forecasting = Forecasting(training.recorder, "line-search", 5, every=2, loss=held_out)
    training.run(4, forecasting.step)
    assert [each.failed for each in forecasting.tried] == [""]


def test_when_a_plugin_forecasts_then_it_is_found_by_name(
    training: Training, write_plugin: Callable[[str, str], Path]
) -> None:
    load_plugin(write_plugin("mine", "return context[:, -1:] + task.horizons"))
    found = training.recorder.forecast("mine", 7)
    np.testing.assert_allclose(
        found["last.bias"], training.net.last.bias.detach().numpy() + 7, rtol=1e-6
    )
