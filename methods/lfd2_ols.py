"""`lfd2-ols`: the 1-layer farcaster from two snapshots, by ordinary least squares."""

from __future__ import annotations

from typing import Any, ClassVar

from weightcast.methods.lfd2 import Lfd2
from weightcast.methods.linear_map import LinearMap
from weightcast.methods.registry import register


@register("lfd2-ols")
class Lfd2Ols(LinearMap):
    """LFD-2's map of (w_0, w_n) to all later weights with squared instead of absolute error.

    The same as ``lfd2`` with ``solver="least-squares"``. Fitted in one pass over the training runs.

    Parameters
    ----------
    columns, per_tensor, target
        As in `lfd2`; ``target`` matters only where ``columns`` lacks w_n.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "scikit-learn's LinearRegression and Ridge"
    }
    param_grid: ClassVar[dict[str, Any]] = Lfd2.param_grid
