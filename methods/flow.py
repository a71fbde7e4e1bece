"""`flow`: a velocity field in weight space, learned by flow matching and followed to the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.learned import LearnedForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Trajectory


@register("flow")
class Flow(LearnedForecaster):
    """Follow dz/dt = v(z, t; w_0..w_n) from w_n to every horizon, one field for all coordinates.

    v is a net with two hidden layers. It learns by conditional flow matching: at a random time
    between two snapshots after the origin, and near the point between their weights, it is to say
    the velocity from the one to the other; the squared error, in raw weights, makes it their mean.
    The path is followed by Euler's method, a step a horizon, and judged on validation runs.

    The paper's field is conditioned on the optimizer and built for the converged weights; neither
    its network nor its conditioning was compared with this.

    With width W it has W(n + 3) + W² + 3W + 1 parameters: 5,121 by default at n = 10.

    Parameters
    ----------
    width : int
        Of both hidden layers.
    noise : float
        Standard deviation of what is added to the place, in ranges of the context: the field then
        also says how to go on from beside the path.
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "straight lines and one known field",
        "reference": "Gradient Flow Matching 2025, arXiv 2505.20221",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "learning_rate": (1e-3, 3e-3, 1e-2),
        "noise": (0.0, 0.05, 0.2),
    }

    def __init__(
        self,
        width: int = 64,
        noise: float = 0.2,
        learning_rate: float = 3e-3,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 256,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.width = width
        self.noise = noise
        super().__init__(learning_rate, updates, patience, batch_size, rows, device)

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        if not self.noise >= 0:
            raise InputError(f"noise of flow is {self.noise}; it must be 0 or more")
        self.times_ = np.concatenate([[0.0], task.horizons]).astype(np.float32)
        return super().fit(train, validation, task)

    def build(self, n: int, m: int) -> torch.nn.Module:
        import torch

        from weightcast.methods.nets import FlowNet

        return FlowNet(n, torch.from_numpy(self.times_), self.width)

    def training_error(
        self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, importance: torch.Tensor
    ) -> torch.Tensor:
        import torch

        from weightcast.methods.nets import FlowNet

        assert isinstance(network, FlowNet)
        way = torch.cat([torch.zeros_like(y[:, :1]), y], dim=1)  # from w_n on, (c, m + 1)
        step = torch.randint(y.shape[1], (len(y), 1), device=y.device)
        share = torch.rand(len(y), 1, device=y.device)
        start, end = way.gather(1, step), way.gather(1, step + 1)
        now, later = network.times[step], network.times[step + 1]
        place = start + share * (end - start) + self.noise * torch.randn_like(start)
        said = network.velocity(x, place, now + share * (later - now))
        apart = (said - (end - start) / (later - now)) * importance[:, None]
        return apart.square().mean()

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        weights = self.width * (task.context + 3) + self.width**2 + self.width
        return 2.0 * weights * len(task.horizons)
