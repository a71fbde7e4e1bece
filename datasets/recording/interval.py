"""What a recorder measures between two snapshots: losses, learning rates and seconds."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.numbers import plain
from weightcast.datasets.recording.file import Measured

if TYPE_CHECKING:
    import torch


class Interval:
    """Sums up since the last snapshot; the clock runs while the recorder does not."""

    def __init__(self) -> None:
        self.resume()
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what was measured: a snapshot holds it now."""
        self._loss: Any = None  # the sum
        self._first_loss: Any = None
        self._losses = 0
        self._rates: list[list[Any]] = []
        self._seconds = 0.0

    def pause(self) -> None:
        """Stop the clock."""
        self._seconds += time.perf_counter() - self._resumed

    def resume(self) -> None:
        """Let the clock go on."""
        self._resumed = time.perf_counter()

    def add_loss(self, loss: Any) -> None:
        """Add a loss that `one_number` returned."""
        if self._losses == 0:
            self._first_loss = self._loss = loss
        else:
            self._loss = self._loss + loss
        self._losses += 1

    def add_rate(self, rate: float | None, steps: int = 1) -> None:
        """Add a step's learning rate, or that of several; None where it is not known."""
        if self._rates and self._rates[-1][0] == rate:
            self._rates[-1][1] += steps
        else:
            self._rates.append([rate, steps])

    def measured(self, step: int) -> Measured:
        """Return what a snapshot at this step tells."""
        known = all(rate is not None for rate, _ in self._rates)
        return Measured(
            step,
            float(self._loss) / self._losses if self._losses else None,
            float(self._first_loss) if self._losses else None,
            self._rates if known else [],
            self._seconds,
        )


class RateNotes:
    """Notes the learning rate that an optimizer steps with; without an optimizer, nothing.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer, optional

    Raises
    ------
    InputError
        If it is none.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None) -> None:
        if optimizer is not None and not getattr(optimizer, "param_groups", None):
            raise InputError(
                f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}"
            )
        self._optimizer = optimizer
        self._noted: float | None = None
        self._hook: Any = None

    @property
    def known(self) -> bool:
        """Whether there is an optimizer to look at."""
        return self._optimizer is not None

    def begin(self) -> None:
        """Look at the rate before every step: a scheduler may move it before anyone else does."""
        if self._optimizer is not None and hasattr(self._optimizer, "register_step_pre_hook"):
            self._hook = self._optimizer.register_step_pre_hook(self._note)

    def end(self) -> None:
        """Leave the optimizer as it was."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def of_step(self) -> float | None:
        """Return the rate of the step that was just made."""
        return self._now() if self._noted is None else self._noted

    def settings(self) -> dict[str, Any]:
        """Return the optimizer's name and those of its settings that JSON can hold."""
        if self._optimizer is None:
            return {}
        found = {
            key: plain(value)
            for key, value in self._optimizer.param_groups[0].items()
            if key not in {"params", "lr", "initial_lr"}
        }
        return {
            "optimizer": type(self._optimizer).__name__.lower(),
            "hyperparameters": {k: v for k, v in found.items() if v is not None},
        }

    def _note(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._noted = self._now()

    def _now(self) -> float | None:
        # Some optimizers find their rate themselves and have None here.
        assert self._optimizer is not None
        rate = self._optimizer.param_groups[0].get("lr")
        found = None if rate is None else float(rate)
        return found if found is not None and math.isfinite(found) else None
