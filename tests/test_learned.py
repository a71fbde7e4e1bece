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

LEARNED = ("lstm", "transformer", "patchtst", "flow", "introspection", "wnn", "nino-mlp")


def _fit(name: str, runs: list[Trajectory], task: ForecastTask, **params: Any) -> None:
    make_method(name, {"updates": 20, **params}).fit(runs[:4], runs[4:], task)


@pytest.mark.parametrize(("n", "m"), [(10, 40), (2, 48), (20, 30)])
def test_when_encoders_are_built_then_their_documented_counts_hold(n: int, m: int) -> None:
    def count(name: str) -> int:
        method: Any = make_method(name)
        return sum(p.numel() for p in method.build(n, m).parameters())

    w, layers = 32, 2
    inside = layers * (8 * w * w + 7 * w)
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
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    with torch.no_grad():
        network(torch.from_numpy(rows))
    padded = np.concatenate([rows, np.repeat(rows[:, -1:], 2, axis=1)], axis=1)
    expected = np.stack([padded[:, i : i + 3] for i in range(0, 8, 2)], axis=1)
    start = network.position + network.embed.bias
    tokens = torch.from_numpy(expected) @ network.embed.weight.T + start  # (c, patches, width)
    np.testing.assert_allclose(
        seen[0].permute(2, 1, 0).numpy(), tokens.detach().numpy(), rtol=1e-5, atol=1e-6
    )


def _torch_layer(ours: Any) -> Any:
    """Return torch's own encoder layer with our numbers in it."""
    import torch

    width = ours.join.out_features
    layer = torch.nn.TransformerEncoderLayer(
        width, ours.heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
    )
    numbers = {
        "self_attn.in_proj_": ours.attend, "self_attn.out_proj.": ours.join,
        "linear1.": ours.up, "linear2.": ours.down,
    }  # fmt: skip
    state = {
        name + kind: value
        for name, part in numbers.items()
        for kind, value in part.state_dict().items()
    }
    layer.load_state_dict(layer.state_dict() | state)
    return layer


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize(("width", "heads", "tokens"), [(32, 4, 11), (8, 1, 5), (6, 3, 1)])
def test_when_tokens_go_through_a_layer_then_it_is_that_of_torch(
    width: int, heads: int, tokens: int, last_only: bool
) -> None:
    import torch

    from weightcast.methods.encoder import EncoderLayer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = EncoderLayer(width, heads, last_only=last_only)
        for bias in (ours.attend.bias, ours.join.bias):
            torch.nn.init.normal_(bias)
        theirs = _torch_layer(ours)
        x = torch.randn(width, tokens, 7)
        above = torch.randn(width, 1 if last_only else tokens, 7)
    results = []
    for layer, given in ((ours, x.clone()), (theirs, x.permute(2, 1, 0).clone())):
        given.requires_grad_()
        out = layer(given)
        out = out if layer is ours else out[:, -above.shape[1] :].permute(2, 1, 0)
        (out * above).sum().backward()
        slope = given.grad if layer is ours else given.grad.permute(2, 1, 0)
        results.append((out.detach(), slope))
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=2e-5)
    for mine, other in (
        (ours.attend.weight, theirs.self_attn.in_proj_weight),
        (ours.join.bias, theirs.self_attn.out_proj.bias),
        (ours.down.weight, theirs.linear2.weight),
    ):
        np.testing.assert_allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["introspection", "nino-mlp", "wnn"])
def test_when_training_is_let_on_then_it_ends_where_nothing_improves(
    name: str, network_runs: list[Trajectory]
) -> None:
    task = make_task(network_runs[0], 10)
    budget = {"patience": 1, "rows": 256}
    method: Any = make_method(name, budget).fit(network_runs[:4], network_runs[4:], task)
    told = method.diagnostics()
    told = told.get("fc", told)
    assert told["stopped_improving"]
    assert told["updates"] <= told["updates_made"] < 8000
    cut: Any = make_method(name, budget | {"updates": 60})
    told = cut.fit(network_runs[:4], network_runs[4:], task).diagnostics()
    told = told.get("fc", told)
    assert told["updates_made"] == 60
    assert not told["stopped_improving"]


def test_when_a_loss_stands_still_then_patience_ends_training_at_the_best_mean() -> None:
    """Least squares in one dimension: the mean of the weights goes to the mean of the targets."""
    import torch

    from weightcast.methods.training import CHECK_EVERY, train_network

    targets = torch.tensor(np.random.default_rng(0).normal(3.0, 1.0, 400), dtype=torch.float32)
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.weight)

    def error(of: torch.nn.Module, y: torch.Tensor) -> torch.Tensor:
        return ((of(torch.zeros(len(y), 1))[:, 0] - y) ** 2).mean()

    trained = train_network(
        network,
        lambda rows: error(network, targets[rows]),
        400,
        lambda mean: error(mean, targets),
        np.random.default_rng(1),
        learning_rate=0.03,
        updates=5000,
        patience=3,
        batch_size=20,
    )
    assert trained.stopped
    assert trained.updates < 2000
    assert trained.updates % CHECK_EVERY == 0
    # A single weight of the last batches would be off by some 0.1.
    assert network.bias.item() == pytest.approx(float(targets.mean()), abs=0.03)
    assert error(network, targets).item() == pytest.approx(trained.loss, rel=1e-6)


def test_when_a_field_is_known_then_its_path_and_what_it_learns_from_are(
    network_runs: list[Trajectory],
) -> None:
    """v = (1 − z)/4, whose Euler steps from 0 leave (1 − dt/4) of the rest at each time."""
    import torch

    method: Any = make_method("flow", {"noise": 0.0})
    method.times_ = np.array([0, 1, 2, 4, 7], np.float32)
    network = method.build(3, 4)

    class Known(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            assert given[:, -1].max() <= 1  # the share of the way
            return (1 - given[:, -2:-1]) / 4

    network.body = Known()
    path = network(torch.zeros(2, 4))
    rest = np.cumprod(1 - np.array([1, 1, 2, 3]) / 4)
    np.testing.assert_allclose(path.numpy(), np.tile(1 - rest, (2, 1)), rtol=1e-6)
    # On a straight way whose velocity it is, there is nothing left to learn.
    network.body.forward = lambda given: torch.full((len(given), 1), 0.5)
    straight = 0.5 * network.times[1:].expand(3, 4)
    error = method.training_error(network, torch.zeros(3, 4), straight, torch.ones(3))
    assert error.item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match="noise of flow is -1"):
        _fit("flow", network_runs, make_task(network_runs[0], 10), noise=-1)


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
