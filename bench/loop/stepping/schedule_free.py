"""Schedule-Free SGD and Adam (Defazio et al. 2024, arXiv 2405.15682) for one network alone.

z takes the steps, x is their average, and gradients are taken between them:

    y = (1 − β) z + β x,   z ← z − γ g(y),   x ← (1 − c) x + c z,   c = γ² / Σ γ²

With Adam, g is divided by the root of its second moment, bias-corrected. `runs.TrainingRuns` does
the same for many runs at once; this one, in the form of `torch.optim`, is what a step is timed by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class ScheduleFree(torch.optim.Optimizer):
    """Steps y, where networks are trained; what is read out is x.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
    beta : float
        How near to x gradients are taken.
    adam : bool
        Whether gradients are scaled by their second moments.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        beta: float = 0.9,
        *,
        adam: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "adam": adam, "sum": 0.0, "steps": 0})
        for group in self.param_groups:
            for y in group["params"]:
                self.state[y] = {name: y.detach().clone() for name in ("x", "z")}
                if adam:
                    self.state[y]["second"] = torch.zeros_like(y)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step from the gradients at y."""
        for group in self.param_groups:
            group["steps"] += 1
            group["sum"] += group["lr"] ** 2
            c = group["lr"] ** 2 / group["sum"] if group["sum"] else 0.0
            for y in group["params"]:
                state, gradient = self.state[y], y.grad
                if group["adam"]:
                    second = state["second"]
                    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                    root = (second / (1 - 0.999 ** group["steps"])).sqrt_()
                    gradient = gradient / root.add_(1e-8)
                state["z"].sub_(gradient, alpha=group["lr"])
                state["x"].lerp_(state["z"], c)
                y.copy_(state["z"]).lerp_(state["x"], group["beta"])

    def averaged(self) -> list[torch.Tensor]:
        """Return x of every parameter."""
        return [self.state[y]["x"] for group in self.param_groups for y in group["params"]]
