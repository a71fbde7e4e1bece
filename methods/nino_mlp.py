"""`nino-mlp`: five states of a tensor to forty deltas, NiNo's network without its graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.device import torch_device
from weightcast.methods.forecaster import CoordinateForecaster, OneLookForecaster, PerCoordinate
from weightcast.methods.published import find_state, load_state
from weightcast.methods.registry import register
from weightcast.methods.training import (
    check_budget,
    draw_rows,
    run_network,
    train_network,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory

Doubles = NDArray[np.float64]

SEEN = 5
HEADS = 40

#: What the published files call the modules of `NinoMlpNet`.
NAMES = {
    "lift": "edge_proj.fc.0",
    "kind": "layer_embed",
    **{f"body.{i}": f"edge_mlp.fc.{i}" for i in (0, 2, 4, 6)},
}


@register("nino-mlp")
class NinoMlp(OneLookForecaster):
    """ŵ_{n+k} = w_n + σ·f_k(x, kind), k = 1..40 at once, x = (w_{n−4}..w_n − μ)/σ, per tensor.

    μ and σ are the mean and the unbiased standard deviation of all elements of the tensor at the
    five states together. f: h = Linear(5 → 128)(x) + Embedding(15, 128)[kind], then
    128 → 128 → 128 → 128 → 40 with SiLU between, 57,384 parameters. Kinds: 1 a tensor of two
    dimensions, 3 of four, 4 a ``weight`` of one, 2 anything else; in language models 5 word and 6
    position embeddings, 7 query, 8 key and 9 value. A state is a snapshot; in the paper they are
    200 steps apart.

    Trained in the suite on the training runs at the task's own origin, with the L1 error of the
    scaled deltas over the heads that the task has horizons for; or not at all, where a published
    state is given.

    On the common grid: the heads themselves, as far as they go; beyond, they are applied again to
    the forecast's own last five states, scaled anew. In a context of fewer than five snapshots the
    method abstains. A tensor whose five states are one number stays.

    Parameters
    ----------
    state : str or None
        A file of tensors, such as the ``nino_mlp.pt`` that the authors publish under the MIT
        licence. No state comes with this package.
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.

    Attributes
    ----------
    network_ : torch.nn.Module
    reach_ : int
        How many heads were trained; all of them in a published state.

    References
    ----------
    Knyazev, Moudgil, Lajoie, Belilovsky, Lacoste-Julien 2025, arXiv 2409.04434.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "implementation": "retrained here",
        "tested_against": "the published network in numpy",
        "provenance": "fit-on-train-split",
        "random": True,
        "reference": "Knyazev et al. 2025, arXiv 2409.04434",
        "native_context": SEEN,
        "native_spacing": 200,
        "native_horizons": tuple(range(1, HEADS + 1)),
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2)
    }

    network_: torch.nn.Module

    def __init__(
        self,
        state: str | None = None,
        learning_rate: float = 3e-3,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 256,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.state = state
        self.learning_rate = learning_rate
        self.updates = updates
        self.patience = patience
        self.batch_size = batch_size
        self.rows = rows
        self.device = device
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        import torch

        from weightcast.methods.nets import NinoMlpNet

        check_budget(self)
        device = torch_device(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            network = NinoMlpNet()
        self.found_: dict[str, Any] = {}
        self.reach_ = min(HEADS, len(task.horizons))
        if self.state is not None:
            self.found_["sha256"] = load_state(network, find_state(self.state, "nino"), NAMES)
            self.reach_ = HEADS
            self.set_tags(provenance="zero-shot")
        elif task.context >= SEEN - 1:
            random = np.random.default_rng(task.seed)
            self._train(
                network.to(device),
                self._material(train, task, self.rows, random),
                self._material(validation, task, self.rows // 4, random),
                random,
            )
        self.network_ = network.cpu()
        return self

    def reads(self) -> dict[str, list[Path]]:
        return {} if self.state is None else {"state": [find_state(self.state, "nino")]}

    def _material(
        self,
        runs: Sequence[Trajectory],
        task: ForecastTask,
        count: int,
        random: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cut scaled states, kinds and scaled deltas out of runs, reading them twice."""
        import torch

        moments = [_run_moments(run, task) for run in runs]
        rows = draw_rows(runs, task, count, random)[""]
        mean, std = np.empty((2, len(rows), 1))
        kinds = np.empty(len(rows), np.int64)
        for r, t in np.unique(rows.source, axis=0):
            here = (rows.source == (r, t)).all(axis=1)
            info = runs[r].tensors[t]
            mean[here], std[here] = moments[r][info.name].scaling()
            kinds[here] = kind_of(info)
        origin = task.context
        seen = rows.values[:, origin - SEEN + 1 : origin + 1].astype(np.float64)
        later = rows.values[:, origin + 1 : origin + 1 + self.reach_].astype(np.float64)
        moves = std[:, 0] > 0
        if not moves.any():
            raise ValueError("no sampled tensor has two values in it: nothing to learn from")
        seen, later, mean, std = (part[moves] for part in (seen, later, mean, std))
        device = torch_device(self.device)
        return (
            torch.from_numpy(((seen - mean) / std).astype(np.float32)).to(device),
            torch.from_numpy(kinds[moves]).to(device),
            torch.from_numpy(((later - seen[:, -1:]) / std).astype(np.float32)).to(device),
        )

    def _train(
        self,
        network: torch.nn.Module,
        train: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        validation: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        random: np.random.Generator,
    ) -> None:
        def loss(
            of: torch.nn.Module, x: torch.Tensor, kind: torch.Tensor, y: torch.Tensor
        ) -> torch.Tensor:
            error: torch.Tensor = (of(x, kind)[:, : self.reach_] - y).abs().mean()
            return error

        trained = train_network(
            network,
            lambda rows: loss(network, *(part[rows] for part in train)),
            len(train[0]),
            lambda mean: loss(mean, *validation),
            random,
            learning_rate=self.learning_rate,
            updates=self.updates,
            patience=self.patience,
            batch_size=self.batch_size,
        )
        self.found_ |= trained.told()

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        if len(history.steps) < SEEN:
            return PerCoordinate(lambda context, task: None)
        if len(task.horizons) > self.reach_:
            return _InJumps(self, history)
        moments: dict[str, Moments] = {}
        for info, _, context in history.blocks(task.block_bytes):
            seen = context[:, -SEEN:]
            moments.setdefault(info.name, Moments(float(seen[0, 0]))).add(seen)

        def forecast(context: Floats, task: ForecastTask) -> Floats:
            assert task.tensor is not None
            ahead = np.empty((len(task.horizons), len(context)), np.float32)
            scaling = moments[task.tensor.name].scaling()
            self.jump(context[:, -SEEN:].T, kind_of(task.tensor), scaling, ahead, task)
            return ahead.T

        return PerCoordinate(forecast)

    def jump(
        self,
        states: Floats,
        kind: int,
        scaling: tuple[float, float],
        out: Floats,
        task: ForecastTask,
    ) -> None:
        """Fill out (k, c) with the states after five of some coordinates (5, c) of one tensor."""
        mean, std = scaling
        if not std > 0:
            out[:] = states[-1]
            return
        width = max(1, task.block_bytes // (4 * (SEEN + HEADS)))
        for part in _slices(states.shape[1], width):
            x = ((states[:, part].T.astype(np.float64) - mean) / std).astype(np.float32)
            kinds = np.full(len(x), kind, np.int64)
            delta = run_network(self.network_, self.device, HEADS, x, kinds)[:, : len(out)]
            ahead = states[-1, part] + std * delta.T.astype(np.float64)
            out[:, part] = np.where(np.isfinite(ahead), ahead, states[-1, part])

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        jumps = -(-len(task.horizons) // HEADS)
        return jumps * 2.0 * (SEEN * 128 + 3 * 128 * 128 + 128 * HEADS)

    def diagnostics(self) -> dict[str, Any]:
        return {"heads": self.reach_, **self.found_}


class _InJumps(CoordinateForecaster):
    """The forecast beyond the heads: each further jump needs the moments of the one before it.

    A tensor is forecast whole when its first block is asked for, and is held to its last.
    """

    def __init__(self, method: NinoMlp, history: History) -> None:
        self.method = method
        self.history = history
        self._name, self._ahead = "", np.empty((0, 0), np.float32)
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        assert task.tensor is not None
        if task.tensor.name != self._name:
            self._name, self._ahead = task.tensor.name, self._forecast(task.tensor, task)
        found: Floats = self._ahead[:, task.rows].T
        return found

    def _forecast(self, info: TensorInfo, task: ForecastTask) -> Floats:
        m, reach = len(task.horizons), self.method.reach_
        ahead = np.empty((m, info.size), np.float32)
        seen = self.history.weights[info.name]
        states = seen.reshape(len(seen), -1)[-SEEN:]
        for start in range(0, m, reach):
            if start:
                states = np.concatenate([states, ahead[max(0, start - SEEN) : start]])[-SEEN:]
            moments = Moments(float(states[0, 0]) if states.size else 0.0)
            for part in _slices(states.shape[1], max(1, task.block_bytes // (4 * SEEN))):
                moments.add(states[:, part])
            out = ahead[start : start + reach]
            self.method.jump(states, kind_of(info), moments.scaling(), out, task)
        return ahead


class Moments:
    """Sums over all elements of one tensor at five states.

    Parameters
    ----------
    shift : float
        Near the values; it is subtracted before they are squared, so that no digits are lost.
    """

    def __init__(self, shift: float) -> None:
        self._shift = shift
        self._total = self._squares = 0.0
        self._count = 0

    def add(self, values: Floats) -> None:
        """Add some elements, in any shape."""
        apart = values.astype(np.float64) - self._shift
        self._total += float(apart.sum())
        self._squares += float(np.square(apart).sum())
        self._count += values.size

    def scaling(self) -> tuple[float, float]:
        """Return the mean and the unbiased standard deviation."""
        count = max(2, self._count)
        variance = max(0.0, self._squares - self._total**2 / count) / (count - 1)
        return self._shift + self._total / count, float(np.sqrt(variance))


#: Endings of the names that language models give to matrices of kinds of their own.
_LANGUAGE = {
    5: ("word_embeddings.weight", "wte.weight", "embed_tokens.weight"),
    6: ("position_embeddings.weight", "wpe.weight"),
    7: ("self.query.weight", "q_lin.weight", "q_proj.weight"),
    8: ("self.key.weight", "k_lin.weight", "k_proj.weight"),
    9: ("self.value.weight", "v_lin.weight", "v_proj.weight"),
    2: ("token_type_embeddings.weight",),
}


def kind_of(tensor: TensorInfo) -> int:
    """Number a tensor's kind as the published network does.

    A matrix of a language model whose role its name tells has a number of its own, as in the
    authors' graphs of BERT, GPT-2 and Llama; every other matrix is 1. The query, key and value that
    GPT-2 keeps in one tensor are 1 too: their graph cuts that tensor into three.
    """
    dimensions = len(tensor.shape)
    if dimensions == 2:
        named = (kind for kind, ends in _LANGUAGE.items() if tensor.name.endswith(ends))
        return next(named, 1)
    if dimensions == 4:
        return 3
    return 4 if dimensions == 1 and tensor.name.rpartition(".")[2] == "weight" else 2


def _run_moments(run: Trajectory, task: ForecastTask) -> dict[str, Moments]:
    found: dict[str, Moments] = {}
    for pair in task.pairs(run):
        seen = pair.context[:, -SEEN:]
        found.setdefault(pair.tensor.name, Moments(float(seen[0, 0]))).add(seen)
    return found


def _slices(size: int, width: int) -> Iterator[slice]:
    for start in range(0, size, width):
        yield slice(start, start + width)
