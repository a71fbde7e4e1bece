"""Published peers, against formulas written out here, and with their published states."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightcast.bench.scoring.cell import native_horizons
from weightcast.datasets import (
    History,
    InputError,
    Metadata,
    Trajectory,
    make_task,
)
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, Forecaster, make_method
from weightcast.methods.introspection import FRACTIONS
from weightcast.methods.nino_mlp import NAMES as NINO_NAMES
from weightcast.methods.wnn import NAMES as WNN_NAMES

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

State = dict[str, np.ndarray]
MakeRun = Callable[..., Trajectory]

PEERS = ("introspection", "wnn", "nino-mlp")


def _quick(name: str, runs: list[Trajectory], task: ForecastTask, **params: Any) -> Forecaster:
    return make_method(name, {"updates": 20, **params}).fit(runs[:4], runs[4:6], task)


def _names(runs: list[Trajectory]) -> set[str]:
    return {info.name for info in runs[0].tensors}


def _block(method: Forecaster, context: np.ndarray, task: ForecastTask) -> np.ndarray:
    assert isinstance(method, CoordinateForecaster)
    block = method.predict_block(context.astype(np.float32), task)
    assert block is not None
    return np.asarray(block, dtype=float)


def _state(network: Any) -> State:
    return {name: p.detach().numpy().astype(float) for name, p in network.named_parameters()}


def _linear(state: State, name: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])


# The published nets, as formulas.


def _wnn_stream(state: State, name: str, x: np.ndarray, slope: float) -> np.ndarray:
    h = _linear(state, f"{name}.lift", x)
    s = np.maximum(_linear(state, f"{name}.squeeze", h), 0)
    a, b, c = (_linear(state, f"{name}.{part}", s) for part in "abc")
    out = _linear(state, f"{name}.out", a + b * np.exp(c * h))
    return np.where(out > 0, out, slope * out)


def _wnn_ahead(state: State, seen: np.ndarray, slope: float = 0.3) -> np.ndarray:
    """Five raw values (c, 5) to the one five ahead."""
    first = seen[:, :1]
    scale = 2 * (seen.max(1, keepdims=True) - seen.min(1, keepdims=True) + 1e-5)
    x = (seen - first) / scale
    both = np.concatenate(
        [
            _wnn_stream(state, "values", x, slope),
            _wnn_stream(state, "differences", x[:, 1:] - x[:, :-1], slope),
        ],
        axis=1,
    )
    return np.asarray((x[:, -1:] + np.tanh(_linear(state, "head", both))) * scale + first)[:, 0]


def _nino_deltas(state: State, x: np.ndarray, kind: int) -> np.ndarray:
    h = _linear(state, "lift", x) + state["kind.weight"][kind]
    for layer in (0, 2, 4):
        h = _linear(state, f"body.{layer}", h)
        h = h / (1 + np.exp(-h))
    return _linear(state, "body.6", h)


def _nino_ahead(state: State, seen: np.ndarray, kind: int) -> np.ndarray:
    """Five states (5, size) of a tensor to forty (40, size)."""
    mean, std = seen.mean(), seen.std(ddof=1)
    return np.asarray(seen[-1] + std * _nino_deltas(state, ((seen - mean) / std).T, kind).T)


def test_when_peers_are_fitted_then_they_have_the_published_numbers_of_parameters(
    network_runs: list[Trajectory],
) -> None:
    task = make_task(network_runs[0], 10)
    assert _quick("introspection", network_runs, task).parameter_count() == 241
    assert _quick("nino-mlp", network_runs, task).parameter_count() == 57_384
    wnn: Any = _quick("wnn", network_runs, task)
    assert set(wnn.networks_) == {"conv", "fc", "bias"}
    assert {sum(p.numel() for p in net.parameters()) for net in wnn.networks_.values()} == {9_425}
    assert wnn.parameter_count() == 3 * 9_425


def test_when_introspection_forecasts_then_numpy_says_the_same_on_uneven_steps(
    network_run: MakeRun,
) -> None:
    steps = np.cumsum(np.concatenate([[0], 1 + np.arange(39) % 3]))
    runs = [network_run(seed, snapshots=40, steps=steps) for seed in range(6)]
    task = make_task(runs[0], 12)
    method: Any = _quick("introspection", runs, task)
    state = _state(method.network_)

    def net(seen: np.ndarray) -> np.ndarray:
        scale = seen.max(1, keepdims=True) - seen.min(1, keepdims=True)
        hidden = np.maximum(_linear(state, "hidden", (seen - seen[:, -1:]) / scale), 0)
        return np.asarray(seen[:, -1:] + scale * _linear(state, "head", hidden))[:, 0]

    rows = np.concatenate([runs[5].read(info).T for info in runs[5].tensors]).astype(float)
    context, t = rows[:, :13], int(steps[12])
    nearest = [int(np.abs(steps[:13] - part * t).argmin()) for part in FRACTIONS]
    assert nearest == [0, 5, 9, 12]
    at_2t = net(context[:, nearest])

    def later(step: float) -> np.ndarray:  # from t to 2t
        return np.asarray(context[:, -1] + (step - t) / t * (at_2t - context[:, -1]))

    second = [context[:, 0], context[:, int(np.abs(steps[:13] - 0.8 * t).argmin())]]
    at_4t = net(np.stack([*second, later(1.4 * t), at_2t], axis=1))
    ours = _block(method, context, task)
    for column, step in enumerate(steps[13:]):
        expected = later(step) if step <= 2 * t else at_2t + (step / t / 2 - 1) * (at_4t - at_2t)
        np.testing.assert_allclose(ours[:, column], expected, atol=5e-6)
    assert 3 * t < steps[-1] < 4 * t


def test_when_introspection_is_trained_then_its_material_is_the_value_at_twice_the_time(
    network_runs: list[Trajectory],
) -> None:
    values = np.arange(51, dtype=np.float32)[None]
    for n, inputs, double in ((10, [0, 4, 7, 10], 20), (25, [0, 10, 17, 25], 50)):
        method: Any = make_method("introspection")
        seen, wanted = method.split(values, make_task(network_runs[0], n))
        assert seen.tolist() == [inputs]
        assert wanted.tolist() == [[double]]
    # The run ends before 2t: the last origin whose double it reaches serves instead.
    seen, wanted = method.split(values, make_task(network_runs[0], 40))
    assert (seen[0, -1], wanted[0, 0]) == (25, 50)


@pytest.mark.parametrize("slope", [0.3, 0.01])
def test_when_wnn_forecasts_then_numpy_says_the_same_up_to_and_beyond_its_horizon(
    network_runs: list[Trajectory], slope: float
) -> None:
    task = make_task(network_runs[0], 10)
    method: Any = _quick("wnn", network_runs, task, slope=slope)
    run = network_runs[5]
    nets = {"conv.weight": "conv", "norm.weight": "bias", "norm.bias": "bias", "fc.weight": "fc",
            "fc.bias": "bias", "scale": "bias", "mix": "fc"}  # fmt: skip
    for info in run.tensors:
        state = _state(method.networks_[nets[info.name]])
        rows = run.read(info).T.astype(float)
        line = [rows[:, 10]]
        window = rows[:, 6:11]
        for _ in range(8):
            ahead = _wnn_ahead(state, window, slope)
            window = np.stack([line[-1] + k / 5 * (ahead - line[-1]) for k in range(1, 6)], axis=1)
            line += list(window.T)
        ours = _block(method, rows[:, :11], task.for_tensor(info))
        np.testing.assert_allclose(ours, np.stack(line[1:], axis=1), atol=1e-5)


@pytest.mark.parametrize("block_bytes", [16 * 2**20, 4 * 61 * 5])
def test_when_nino_mlp_forecasts_then_numpy_says_the_same_whatever_the_blocks(
    network_run: MakeRun, block_bytes: int
) -> None:
    runs = [network_run(seed, snapshots=71) for seed in range(6)]
    task = make_task(runs[0], 10, block_bytes=block_bytes)
    method: Any = _quick("nino-mlp", runs, task)
    state = _state(method.network_)
    kinds = {"conv.weight": 3, "norm.weight": 4, "norm.bias": 2, "fc.weight": 1, "fc.bias": 2,
             "scale": 2, "mix": 2}  # fmt: skip
    forecast = method.predict(History.of(runs[5], task), task)
    for info in runs[5].tensors:
        seen = runs[5].read(info, range(6, 11)).astype(float)
        ahead = _nino_ahead(state, seen, kinds[info.name])
        again = _nino_ahead(state, ahead[-5:], kinds[info.name])
        expected = np.concatenate([ahead, again])[:60]
        ours = forecast[info.name].reshape(60, -1)
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_when_nino_mlp_is_trained_then_it_learns_from_scaled_states_at_the_origin(
    network_runs: list[Trajectory],
) -> None:
    task = make_task(network_runs[0], 10)
    method: Any = _quick("nino-mlp", network_runs, task, rows=10_000)
    x, kind, y = method._material(network_runs[:1], task, 10_000, np.random.default_rng(0))
    expected = []
    for info in network_runs[0].tensors:
        rows = network_runs[0].read(info).astype(float)
        seen = rows[6:11]
        mean, std = seen.mean(), seen.std(ddof=1)
        expected.append(np.concatenate([(seen - mean) / std, (rows[11:51] - seen[-1]) / std]).T)
    material = np.concatenate([x.numpy(), y.numpy()], axis=1)
    np.testing.assert_allclose(material, np.concatenate(expected), atol=2e-5)
    assert set(kind.tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("name", [*PEERS, "flow", pytest.param("patchtst", marks=pytest.mark.slow)])
def test_when_weights_move_on_lines_then_trained_peers_are_near_them(
    name: str, toy_run: Callable[..., Trajectory]
) -> None:
    runs = []
    for seed in range(6):
        start, slope = np.random.default_rng(seed).standard_normal((2, 300))
        runs.append(toy_run(start + 0.1 * slope * np.arange(51)[:, None], seed))
    task = make_task(runs[0], 10)
    method = make_method(name, {"updates": 300}).fit(runs[:4], runs[4:5], task)
    forecast = method.predict(History.of(runs[5], task), task)["w"]
    info = runs[5].tensors[0]
    rows = runs[5].read(info)
    error = np.linalg.norm(forecast - rows[11:], axis=1)
    moved = np.linalg.norm(rows[11:] - rows[10], axis=1)
    assert (error[4] / moved[4], error[9] / moved[9]) < (0.1, 0.1)


@pytest.mark.parametrize("name", PEERS)
def test_when_weights_stand_still_then_peers_leave_them_exactly_there(
    name: str, network_runs: list[Trajectory]
) -> None:
    task = make_task(network_runs[0], 10)
    method = _quick(name, network_runs, task)
    infos = [replace(info, offset=0) for info in network_runs[0].tensors]
    still = {info.name: np.full((51, *info.shape), 0.1, np.float32) for info in infos}
    run = Trajectory.from_arrays(still, range(51), Metadata("toy-network", 9), infos)
    for values in method.predict(History.of(run, task), task).values():
        np.testing.assert_array_equal(values, np.float32(0.1))


def _scaled(run: Trajectory, factor: float, shift: float) -> Trajectory:
    arrays = {
        info.name: (run.read(info) * np.float32(factor) + np.float32(shift)).reshape(
            -1, *info.shape
        )
        for info in run.tensors
    }
    return Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta, run.tensors)


@pytest.mark.parametrize(
    ("name", "factor", "shift"),
    [
        # A floor of 1e-5 under the range is a ten-thousandth of it and less here.
        ("wnn", 1.0, 2.0), ("wnn", 4.0, 0.0), ("nino-mlp", 4.0, 2.0), ("nino-mlp", 0.25, -1.0),
        ("introspection", 4.0, 2.0), ("patchtst", 4.0, 2.0), ("lstm", 0.25, 1.0),
    ],
)  # fmt: skip
def test_when_weights_are_scaled_or_shifted_then_forecasts_go_with_them(
    name: str, factor: float, shift: float, network_runs: list[Trajectory]
) -> None:
    task = make_task(network_runs[0], 10)
    method = _quick(name, network_runs, task)
    run = network_runs[5]
    plain = method.predict(History.of(run, task), task)
    other = method.predict(History.of(_scaled(run, factor, shift), task), task)
    for key, values in plain.items():
        np.testing.assert_allclose(other[key], factor * values + shift, atol=2e-3 * factor)


def test_when_introspection_gets_raw_values_then_it_says_them_in_thousandths(
    network_runs: list[Trajectory],
) -> None:
    task = make_task(network_runs[0], 10)
    method: Any = _quick("introspection", network_runs, task, scaling="raw")
    state = _state(method.network_)
    info = network_runs[5].tensors[3]
    rows = network_runs[5].read(info).T.astype(float)
    hidden = np.maximum(_linear(state, "hidden", 1000 * rows[:, [0, 4, 7, 10]]), 0)
    expected = _linear(state, "head", hidden)[:, 0] / 1000
    np.testing.assert_allclose(_block(method, rows[:, :11], task)[:, 9], expected, atol=1e-5)


# Contexts and tensors that a peer was not made for.


@pytest.mark.parametrize(("name", "n"), [("introspection", 2), ("wnn", 3), ("nino-mlp", 3)])
def test_when_a_context_is_too_short_then_a_peer_abstains(
    name: str, n: int, network_runs: list[Trajectory]
) -> None:
    task = make_task(network_runs[0], n)
    method = _quick(name, network_runs, task)
    assert method.predict(History.of(network_runs[5], task), task) == {}
    assert native_horizons(method, task) == []
    longer = make_task(network_runs[0], n + 1)
    method = _quick(name, network_runs, longer)
    assert set(method.predict(History.of(network_runs[5], longer), longer)) == _names(network_runs)
    assert native_horizons(method, longer) != []


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("n", [30, 47, 49])
def test_when_the_native_horizon_lies_beyond_the_task_then_nothing_breaks(
    name: str, n: int, network_runs: list[Trajectory]
) -> None:
    task = make_task(network_runs[0], n)
    method = _quick(name, network_runs, task)
    forecast = method.predict(History.of(network_runs[5], task), task)
    assert set(forecast) == _names(network_runs)
    assert all(np.isfinite(values).all() for values in forecast.values())
    assert native_horizons(method, task) == ([5] if (name, n) == ("wnn", 30) else [])


def test_when_runs_are_too_short_for_wnn_then_it_abstains(network_run: MakeRun) -> None:
    runs = [network_run(seed, snapshots=8) for seed in range(6)]
    task = make_task(runs[0], 5)
    method = _quick("wnn", runs, task)
    assert method.predict(History.of(runs[5], task), task) == {}


def test_when_a_net_had_nothing_to_learn_from_then_wnn_abstains_on_its_tensors(
    toy_runs: list[Trajectory], network_runs: list[Trajectory]
) -> None:
    task = make_task(toy_runs[0], 10)
    method: Any = _quick("wnn", toy_runs, task)
    assert set(method.networks_) == {"bias"}  # one-dimensional tensors alone
    forecast = method.predict(History.of(network_runs[0], make_task(network_runs[0], 10)), task)
    assert set(forecast) == {"norm.weight", "norm.bias", "fc.bias", "scale"}


# States of published networks.


def _write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    import torch
    from safetensors.numpy import save_file

    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({name: torch.from_numpy(t) for name, t in tensors.items()}, path)
    return path


def _random_state(network: Any, names: dict[str, str], seed: int) -> dict[str, np.ndarray]:
    """Draw a state with the published file's names."""
    random = np.random.default_rng(seed)
    drawn = {}
    for own, parameter in network.named_parameters():
        module, _, leaf = own.rpartition(".")
        values = 0.2 * random.standard_normal(tuple(parameter.shape))
        drawn[f"{names[module]}.{leaf}"] = values.astype(np.float32)
    return drawn


def _own_names(state: dict[str, np.ndarray], names: dict[str, str]) -> State:
    back = {published: own for own, published in names.items()}
    return {
        f"{back[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": values.astype(float)
        for name, values in state.items()
    }


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_when_wnn_gets_a_state_then_it_forecasts_with_it_untrained(
    layout: str, tmp_path: Path, network_runs: list[Trajectory]
) -> None:
    from weightcast.methods.nets import WnnNet

    states = {
        name: _random_state(WnnNet(0.3), WNN_NAMES, seed)
        for seed, name in enumerate(("conv", "fc", "bias"))
    }
    path = tmp_path / "published"
    if layout == "folder":
        for name, state in states.items():
            beside = {"dense.weight_loss": np.zeros(1, np.float32)}
            _write(path / f"NWNN_{name.upper()}_13.pt", state | beside)
        (path / "README.md").write_text("fc", encoding="utf-8")
    else:
        path = _write(
            tmp_path / "wnn.safetensors",
            {f"{name}.{key}": t for name, state in states.items() for key, t in state.items()},
        )
    task = make_task(network_runs[0], 10)
    method = make_method("wnn", {"state": str(path)}).fit([], [], task)
    assert method.get_tag("provenance") == "zero-shot"
    assert method.parameter_count() == 3 * 9_425
    for info, name in ((network_runs[0].tensors[0], "conv"), (network_runs[0].tensors[3], "fc")):
        rows = network_runs[0].read(info).T.astype(float)
        ours = _block(method, rows[:, :11], task.for_tensor(info))
        expected = _wnn_ahead(_own_names(states[name], WNN_NAMES), rows[:, 6:11])
        np.testing.assert_allclose(ours[:, 4], expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(method))
    np.testing.assert_array_equal(_block(again, rows[:, :11], task.for_tensor(info)), ours)


@pytest.mark.parametrize("wrapped", [False, True])
def test_when_nino_mlp_gets_a_state_then_it_forecasts_with_it_untrained(
    wrapped: bool, tmp_path: Path, network_runs: list[Trajectory]
) -> None:
    import torch

    from weightcast.methods.nets import NinoMlpNet

    state = _random_state(NinoMlpNet(), NINO_NAMES, 7)
    path = _write(tmp_path / "nino_mlp.pt", state)
    if wrapped:
        tensors = {name: torch.from_numpy(t) for name, t in state.items()}
        torch.save({"model_args": {"ctx": 5}, "state_dict": tensors}, path)
    task = make_task(network_runs[0], 10)
    method = make_method("nino-mlp", {"state": str(path)}).fit([], [], task)
    info = network_runs[0].tensors[3]
    expected = _nino_ahead(
        _own_names(state, NINO_NAMES), network_runs[0].read(info, range(6, 11)).astype(float), 1
    )
    ours = method.predict(History.of(network_runs[0], task), task)["fc.weight"]
    np.testing.assert_allclose(ours.reshape(40, -1), expected, atol=1e-4)
    assert method.diagnostics()["heads"] == 40


def test_when_a_state_does_not_fit_then_its_tensors_are_named(
    tmp_path: Path, network_runs: list[Trajectory]
) -> None:
    from weightcast.methods.nets import NinoMlpNet

    task = make_task(network_runs[0], 10)
    state = _random_state(NinoMlpNet(), NINO_NAMES, 0)

    def refused(path: Path, match: str, name: str = "nino-mlp") -> None:
        with pytest.raises(InputError, match=match):
            make_method(name, {"state": str(path)}).fit([], [], task)

    fewer = {k: v for k, v in state.items() if not k.startswith("edge_mlp.fc.6")}
    refused(
        _write(tmp_path / "a.pt", fewer),
        r"lacks the tensors edge_mlp\.fc\.6\.weight, edge_mlp\.fc\.6\.bias",
    )
    refused(
        _write(tmp_path / "b.pt", state | {"layer_embed.weight": np.zeros((3, 128), np.float32)}),
        r"layer_embed\.weight \[3, 128\], not \[15, 128\]",
    )
    state["edge_proj.fc.0.bias"][3] = np.nan
    refused(_write(tmp_path / "c.safetensors", state), "edge_proj.fc.0.bias has NaN")
    refused(tmp_path / "none.pt", "is not there")
    (tmp_path / "d.h5").write_bytes(b"x")
    refused(tmp_path / "d.h5", "does not end in")
    (tmp_path / "e.pt").write_bytes(b"x")
    refused(tmp_path / "e.pt", "not a file of torch.save")
    refused(tmp_path, "must hold one file with 'conv' in its name, not none", "wnn")
    refused(_write(tmp_path / "f.pt", state), r"lacks the tensors conv\.dense\.linear", "wnn")
