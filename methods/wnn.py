"""`wnn`: the weight nowcaster network, five snapshots to the weight five snapshots ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.device import torch_device
from weightcast.methods.forecaster import CoordinateForecaster
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

    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory

SEEN = 5
AHEAD = 5
NETS = ("conv", "fc", "bias")
_FLOOR = 1e-5

#: What the published files call the modules of `WnnNet`.
NAMES = {
    "values.lift": "dense.linear",
    "values.squeeze": "dense_1",
    "values.a": "dense_2",
    "values.b": "dense_3",
    "values.c": "dense_4",
    "values.out": "dense_5.linear",
    "differences.lift": "dense_6.linear",
    "differences.squeeze": "dense_7",
    "differences.a": "dense_8",
    "differences.b": "dense_9",
    "differences.c": "dense_10",
    "differences.out": "dense_11.linear",
    "head": "dense_12",
}


@register("wnn")
class Wnn(CoordinateForecaster):
    """ŵ_{n+5} from w_{n−4}..w_n by a two-stream net of 9,425 parameters, one net a kind of tensor.

    Each coordinate is scaled by itself: less the first of its five values, over 2(range + 1e-5).
    One stream sees the five scaled values x, the other their four differences; both map
    h = Linear(64), s = ReLU(Linear(8)(h)), u = a(s) + b(s)·exp(c(s)·h), LeakyReLU(Linear(32)(u));
    tanh of a linear map of both, a delta, is added to the last scaled value. A jump is thus at most
    2(range + 1e-5). A coordinate that did not move in its five values stays.

    There are three nets. ``conv`` is for tensors of kind conv; ``bias`` for those of one dimension
    or none, biases and norms among them; ``fc`` for all others: linear, recurrent, attention and
    embedding matrices. A tensor whose net had nothing to learn from is abstained from, as is all in
    a context of fewer than five snapshots.

    Trained in the suite on the training runs at the task's own origin, with the L1 error of the
    scaled delta; or not at all, where a published state is given.

    On the common grid: up to five ahead on the straight line from w_n to ŵ_{n+5}. Beyond, the jump
    is repeated on the five latest values of the forecast's own line. The published use is a jump at
    every fifth epoch's end, so the native spacing is an epoch, however many steps that is.

    Parameters
    ----------
    slope : float
        Of LeakyReLU below zero. The published weights were trained with 0.3; their port to PyTorch
        has 0.01, which makes the forecast of a straight line lopsided.
    state : str or None
        A folder with one file of tensors for each of conv, fc and bias, whose names contain those
        words, or one file with the prefixes ``conv.``, ``fc.`` and ``bias.``. No state comes with
        this package.
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`, for each net.

    Attributes
    ----------
    networks_ : dict of str to torch.nn.Module
        By name, those of `NETS` that there are.

    References
    ----------
    Jang, Yun, Kim, Yoon, Kim, Lee, Han 2023: Learning to Boost Training by Periodic Nowcasting Near
    Future Weights, ICML.

    Notes
    -----
    In all published versions of the authors' code the delta of a bias is added to its last value as
    it is, where that of other tensors is added to the scaled one, and the sum is scaled back. Here
    biases are treated as all others: the slip makes a bias far from its scaled range jump by its
    own size. Forecasts of biases therefore depart from that code's, and no others do.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "implementation": "retrained here",
        "tested_against": "the published network in numpy",
        "provenance": "fit-on-train-split",
        "random": True,
        "reference": "Jang et al. 2023, ICML, PMLR 202",
        "native_context": SEEN,
        "native_spacing": "epoch",
        "native_horizons": (AHEAD,),
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2)
    }

    networks_: dict[str, torch.nn.Module]

    def __init__(
        self,
        slope: float = 0.3,
        state: str | None = None,
        learning_rate: float = 1e-3,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 256,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.slope = slope
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
        check_budget(self)
        torch_device(self.device)
        self.networks_ = {}
        self.found_: dict[str, dict[str, Any]] = {}
        if self.state is not None:
            return self._load(self.state)
        # Runs may end within five snapshots of the origin; an earlier one serves as well there.
        origin = min(task.context, task.context + len(task.horizons) - AHEAD)
        if origin < SEEN - 1:
            return self
        random = np.random.default_rng(task.seed)
        material = draw_rows(train, task, self.rows, random, net_of)
        check = draw_rows(validation, task, self.rows // 4, random, net_of)
        for name in sorted(material):
            x, y = _window(material[name].values, origin)
            if len(x) == 0:
                continue
            seen = _window(check[name].values, origin) if name in check else (x, y)
            self._train(name, (x, y), seen if len(seen[0]) else (x, y), random, task.seed)
        return self

    def reads(self) -> dict[str, list[Path]]:
        if self.state is None:
            return {}
        return {"state": sorted({find_state(self.state, name) for name in NETS})}

    def _load(self, state: str) -> Self:
        from weightcast.methods.nets import WnnNet

        for name in NETS:
            network = WnnNet(self.slope)
            path = find_state(state, name)
            prefix = "" if path.parent.samefile(state) else f"{name}."
            self.found_[name] = {"sha256": load_state(network, path, NAMES, prefix)}
            self.networks_[name] = network
        self.set_tags(provenance="zero-shot")
        return self

    def _train(
        self,
        name: str,
        train: tuple[Floats, Floats],
        validation: tuple[Floats, Floats],
        random: np.random.Generator,
        seed: int,
    ) -> None:
        import torch

        from weightcast.methods.nets import WnnNet

        device = torch_device(self.device)
        x, y = (torch.from_numpy(part).to(device) for part in train)
        x_check, y_check = (torch.from_numpy(part).to(device) for part in validation)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = WnnNet(self.slope).to(device)
        trained = train_network(
            network,
            lambda rows: (network(x[rows]) - y[rows]).abs().mean(),
            len(x),
            lambda mean: (mean(x_check) - y_check).abs().mean(),
            random,
            learning_rate=self.learning_rate,
            updates=self.updates,
            patience=self.patience,
            batch_size=self.batch_size,
        )
        self.networks_[name] = network.cpu()
        self.found_[name] = trained.told()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        network = self._network(task.tensor)
        if network is None or task.context < SEEN - 1:
            return None
        horizons = task.horizons.astype(np.float64)
        window = context[:, -SEEN:].astype(np.float64)
        knots = [window[:, -1]]
        while AHEAD * (len(knots) - 1) < horizons[-1]:
            last = knots[-1][:, None]
            knots.append(self._jump(network, window))
            window = last + (knots[-1][:, None] - last) * (np.arange(1, SEEN + 1) / AHEAD)
        line = np.stack(knots, axis=1)  # (c, jumps + 1)
        left = np.minimum(horizons // AHEAD, len(knots) - 2).astype(int)
        share = horizons / AHEAD - left
        forecast: Floats = (line[:, left] * (1 - share) + line[:, left + 1] * share).astype(
            np.float32
        )
        # A line between equal ends is not always equal to them in floating point.
        still = np.ptp(line, axis=1) == 0
        forecast[still] = context[still, -1:]
        return forecast

    def _network(self, tensor: TensorInfo | None) -> torch.nn.Module | None:
        if tensor is not None:
            return self.networks_.get(net_of(tensor))
        return self.networks_.get("fc") or next(iter(self.networks_.values()), None)

    def _jump(self, network: torch.nn.Module, seen: NDArray[np.float64]) -> NDArray[np.float64]:
        """Forecast from five values (c, 5) the one five ahead (c,)."""
        first, scale = _first_and_scale(seen)
        x = ((seen - first) / scale).astype(np.float32)
        delta = run_network(network, self.device, 1, x).astype(np.float64)
        # exp may overflow in a net whose state comes from elsewhere.
        moving = (np.ptp(seen, axis=1) > 0) & np.isfinite(delta[:, 0])
        ahead: NDArray[np.float64] = seen[:, -1] + np.where(moving, (delta * scale)[:, 0], 0.0)
        return ahead

    def parameter_count(self) -> int:
        return sum(p.numel() for net in self.networks_.values() for p in net.parameters())

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        jumps = -(-float(task.horizons[-1]) // AHEAD)
        stream = 64 * 8 + 3 * 8 * 64 + 64 * 32
        return jumps * 2.0 * (64 * (SEEN + SEEN - 1) + 2 * stream + 64)

    def diagnostics(self) -> dict[str, Any]:
        return {name: dict(found) for name, found in self.found_.items()}


def net_of(tensor: TensorInfo) -> str:
    """Name the net for a tensor."""
    if tensor.kind == "conv":
        return "conv"
    return "bias" if tensor.kind in ("bias", "norm") or len(tensor.shape) < 2 else "fc"


def _window(values: Floats, origin: int) -> tuple[Floats, Floats]:
    """Cut (scaled five values, scaled delta) out of whole rows; unmoving ones are left out."""
    seen = values[:, origin - SEEN + 1 : origin + 1].astype(np.float64)
    first, scale = _first_and_scale(seen)
    moved = np.ptp(seen, axis=1) > 0
    delta = (values[:, origin + AHEAD, None] - seen[:, -1:]) / scale
    return ((seen - first) / scale)[moved].astype(np.float32), delta[moved].astype(np.float32)


def _first_and_scale(
    seen: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is subtracted and what divides, each (c, 1)."""
    return seen[:, :1], 2 * (np.ptp(seen, axis=1, keepdims=True) + _FLOOR)
