"""`lstm`: a small recurrent network shared by all coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weightcast.methods.learned import LearnedForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    import torch


@register("lstm")
class Lstm(LearnedForecaster):
    """A one-layer LSTM over the context; a linear head gives all horizons at once.

    With hidden width H it has 4H(H + 1) + 8H + m(H + 1) parameters: 6,130 at H = 32, m = 50.

    Parameters
    ----------
    hidden : int
        Width of the state.
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "reference": "Hochreiter & Schmidhuber 1997, Neural Computation 9(8)"
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (1e-3, 3e-3, 1e-2),
        "hidden": (16, 32, 64),
    }

    def __init__(
        self,
        hidden: int = 32,
        learning_rate: float = 1e-2,
        updates: int = 8000,
        patience: int = 40,
        batch_size: int = 64,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        super().__init__(learning_rate, updates, patience, batch_size, rows, device)

    def build(self, n: int, m: int) -> torch.nn.Module:
        from weightcast.methods.nets import LstmNet

        return LstmNet(self.hidden, m)
