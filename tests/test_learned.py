"""Learned forecasters of other makers' designs: their sizes, devices and budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weightcast.datasets import InputError, Trajectory, make_task
from weightcast.datasets.task import ForecastTask
from weightcast.methods import make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

LEARNED = ("lstm", "transformer", "patchtst", "introspection", "wnn", "nino-mlp")


def _fit(name: str, runs: list[Trajectory], task: ForecastTask, **params: Any) -> None:
    make_method(name, {"updates": 20, **params}).fit(runs[:4], runs[4:], task)


@pytest.mark.parametrize(("n", "m"), [(10, 40), (2, 48), (20, 30)])
def test_when_encoders_are_built_then_their_documented_counts_hold(n: int, m: int) -> None:
    def count(name: str) -> int:
        method: Any = make_method(name)
        return sum(p.numel() for p in method.build(n, m).parameters())

    w, layers = 32, 2
    inside = layers * (8 * w * w + 11 * w)
    assert count("transformer") == inside + w * (n + 5) + m * (w + 1)
    patch = min(4, n + 1)
    tokens = (n + 1 - patch) // 2 + 2
    assert count("patchtst") == inside + w * (patch + tokens + 1) + m * (tokens * w + 1)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 40])
@pytest.mark.parametrize(("patch", "stride"), [(4, 2), (16, 8), (1, 1), (3, 5)])
def test_when_a_context_is_short_then_patches_shrink_and_every_value_is_seen(
    n: int, patch: int, stride: int
) -> None:
    import torch

    method: Any = make_method("patchtst", {"patch": patch, "stride": stride})
    network = method.build(n, 7)
    with torch.no_grad():
        rows = torch.randn(5, n + 1, generator=torch.Generator().manual_seed(0))
        before = network(rows)
        assert before.shape == (5, 7)
        tail = rows.clone()
        tail[:, -1] += 1
        assert (network(tail) != before).any(dim=1).all()
    if patch <= n + 1:
        assert network.patches == (n + 1 - patch) // min(stride, patch) + 2


def test_when_patches_are_cut_then_they_are_those_of_a_loop() -> None:
    import torch

    method: Any = make_method("patchtst", {"patch": 3, "stride": 2})
    network = method.build(7, 4)
    seen = []
    network.embed.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    with torch.no_grad():
        network(torch.from_numpy(rows))
    padded = np.concatenate([rows, np.repeat(rows[:, -1:], 2, axis=1)], axis=1)
    expected = np.stack([padded[:, i : i + 3] for i in range(0, 8, 2)], axis=1)
    np.testing.assert_array_equal(seen[0].numpy(), expected)


@pytest.mark.parametrize("name", LEARNED)
def test_when_the_device_or_the_budget_is_wrong_then_it_is_said(
    name: str, network_runs: list[Trajectory]
) -> None:
    import torch

    task = make_task(network_runs[0], 10)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"device": "gpu"}, "unknown device 'gpu': .*choices are cpu, cuda"),
        ({"updates": 0}, "updates is 0; it must be a whole number from 1 on"),
        ({"rows": 2}, "rows is 2"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
    ]
    if not torch.cuda.is_available():
        wrong.append(({"device": "cuda"}, "torch finds no CUDA GPU on this machine; use device"))
    for params, match in wrong:
        with pytest.raises(InputError, match=match):
            _fit(name, network_runs, task, **params)


def test_when_shapes_or_scalings_are_wrong_then_it_is_said(network_runs: list[Trajectory]) -> None:
    task = make_task(network_runs[0], 10)
    for name, params, match in (
        ("patchtst", {"patch": 0}, "patch is 0; it must be 1 or more"),
        ("patchtst", {"width": 30}, "width 30 is not a multiple of heads 4"),
        ("introspection", {"scaling": "rwa"}, "unknown scaling 'rwa': did you mean raw"),
    ):
        with pytest.raises(InputError, match=match):
            _fit(name, network_runs, task, **params)


def test_when_a_network_runs_elsewhere_then_what_is_stored_stays_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from weightcast.methods import training

    network = torch.nn.Linear(2, 1)
    assert training.on_device(network, "cpu") is network
    monkeypatch.setattr(training, "torch_device", lambda name: torch.device("meta"))
    moved = training.on_device(network, "cuda")
    assert next(moved.parameters()).device.type == "meta"
    assert next(network.parameters()).device.type == "cpu"
    assert training.on_device(network, "cuda") is moved
