"""`patchtst`: a small encoder over patches of the context, shared by all coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weightcast.datasets.errors import InputError
from weightcast.methods.learned import LearnedForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    import torch


@register("patchtst")
class PatchTst(LearnedForecaster):
    """A transformer encoder, one token a patch of the context; all of them give all horizons.

    Patches of P values, S apart, the last one repeated S times at the end: N = ⌊(n + 1 − P)/S⌋ + 2
    tokens. A context shorter than P is one patch, and S is at most P. As in the paper every series,
    here coordinate, goes through the same weights by itself. Unlike there the coordinate's context
    is normalised as `LearnedForecaster` does it, and the encoder normalises layers before their
    blocks, not batches after them.

    With width W and L layers it has L(8W² + 7W) + W(P + N + 1) + m(NW + 1) parameters: 25,202 by
    default at n = 10, m = 50.

    Parameters
    ----------
    patch : int
        Values in a patch, P.
    stride : int
        From patch to patch, S.
    width : int
        Of the tokens; the feed-forward layers are twice as wide.
    layers, heads : int
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.

    References
    ----------
    Nie, Nguyen, Sinthong, Kalagnanam 2023, arXiv 2211.14730.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "reference": "Nie et al. 2023, arXiv 2211.14730",
        "tested_against": "patches cut by a loop",
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (1e-3, 3e-3, 1e-2),
        "patch": (2, 4, 8),
    }

    def __init__(
        self,
        patch: int = 4,
        stride: int = 2,
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
        learning_rate: float = 3e-3,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 128,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.patch = patch
        self.stride = stride
        self.width = width
        self.layers = layers
        self.heads = heads
        super().__init__(learning_rate, updates, patience, batch_size, rows, device)

    def build(self, n: int, m: int) -> torch.nn.Module:
        from weightcast.methods.nets import PatchNet

        for name in ("patch", "stride", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not a multiple of heads {self.heads}")
        patch = min(self.patch, n + 1)
        stride = min(self.stride, patch)
        return PatchNet(n, m, patch, stride, self.width, self.layers, self.heads)
