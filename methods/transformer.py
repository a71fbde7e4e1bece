"""`transformer`: a small encoder shared by all coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weightcast.methods.learned import LearnedForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    import torch


@register("transformer")
class Transformer(LearnedForecaster):
    """A transformer encoder, one token a snapshot; the token of w_n gives all horizons at once.

    With width W and L layers it has L(8W² + 7W) + W(n + 5) + m(W + 1) parameters: 18,962 by
    default at n = 10, m = 50.

    Parameters
    ----------
    width : int
        Of the tokens; the feed-forward layers are twice as wide.
    layers, heads : int
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.
    """

    _tags: ClassVar[dict[str, Any]] = {"reference": "Vaswani et al. 2017, arXiv 1706.03762"}
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (1e-3, 2e-3, 5e-3),
        "width": (16, 32, 64),
    }

    def __init__(
        self,
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
        learning_rate: float = 2e-3,
        updates: int = 8000,
        patience: int = 12,
        batch_size: int = 128,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.width = width
        self.layers = layers
        self.heads = heads
        super().__init__(learning_rate, updates, patience, batch_size, rows, device)

    def build(self, n: int, m: int) -> torch.nn.Module:
        from weightcast.methods.nets import TransformerNet

        return TransformerNet(n, m, self.width, self.layers, self.heads)
