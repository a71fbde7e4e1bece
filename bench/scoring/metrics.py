"""The metrics of the `weights` tier, all from the sums of `weightcast.datasets.rel`."""

from __future__ import annotations

import numpy as np

from weightcast.datasets.rel import STILL, Doubles, RelSums
from weightcast.datasets.trajectory import Floats

#: The weights tier's metrics; with the suffix ``_sample`` over the fixed sample of coordinates.
WEIGHT_METRICS = (
    "rel_sum",
    "rel_final",
    "rel_mean",
    "rel_tensor_mean",
    "mae",
    "rmse",
    "cos",
    "norm_ratio",
)


class WeightErrors:
    """Sums over one run, tensor by tensor.

    Parameters
    ----------
    m : int
        Number of horizons.
    """

    def __init__(self, m: int) -> None:
        self._m = m
        self._tensors: dict[str, RelSums] = {}

    def add(self, tensor: str, forecast: Floats, target: Floats, last: Floats) -> None:
        """Add a block: forecast and target (c, m), last observed values (c,)."""
        self._tensors.setdefault(tensor, RelSums(self._m)).add(forecast, target, last)

    def at(self, columns: list[int]) -> WeightErrors:
        """Return the same sums at some of the horizons."""
        part = WeightErrors(len(columns))
        for tensor, sums in self._tensors.items():
            kept = part._tensors[tensor] = RelSums(len(columns))
            for name in ("error", "moved", "forecast", "dot", "absolute"):
                setattr(kept, name, getattr(sums, name)[columns])
            kept.last, kept.count = sums.last, sums.count
        return part

    @property
    def by_tensor(self) -> dict[str, RelSums]:
        """The sums over each tensor, by name."""
        return dict(self._tensors)

    @property
    def total(self) -> RelSums:
        """The sums over all tensors."""
        total = RelSums(self._m)
        for sums in self._tensors.values():
            total.merge(sums)
        return total

    def curve(self) -> list[float | None]:
        """‖ŵ_j − w_j‖ / D_j for every horizon; None where D_j is too small to divide by."""
        total = self.total
        ratio = np.sqrt(_ratio(total.error, total.moved))
        return [
            round(float(r), 6) if ok else None for r, ok in zip(ratio, total.moving, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """Return every metric; those that cannot be formed are NaN.

        Notes
        -----
        `cos`, `norm_ratio`, `rel_final` and `rel_tensor_mean` are taken at the last horizon, `mae`
        and `rmse` over all of them. ``excluded_horizons`` and ``excluded_tensors`` count what moved
        too little, D ≤ 1e-6·‖w_n‖, to divide by.
        """
        total, moving = self.total, self.total.moving
        size = max(1, total.count * self._m)
        relative = np.sqrt(_ratio(total.error, total.moved))
        tensors = [
            float(np.sqrt(sums.error[-1] / sums.moved[-1]))
            for sums in self._tensors.values()
            if np.sqrt(sums.moved[-1]) > STILL * np.sqrt(sums.last)
        ]
        cosine = np.nan
        if total.forecast[-1] > 0 and moving[-1]:
            cosine = total.dot[-1] / np.sqrt(total.forecast[-1] * total.moved[-1])
        return {
            "rel_sum": total.rel_sum(),
            "rel_final": float(relative[-1]) if moving[-1] else np.nan,
            "rel_mean": float(relative[moving].mean()) if moving.any() else np.nan,
            "rel_tensor_mean": float(np.mean(tensors)) if tensors else np.nan,
            "mae": float(total.absolute.sum() / size),
            "rmse": float(np.sqrt(total.error.sum() / size)),
            "cos": float(cosine),
            "norm_ratio": float(np.sqrt(total.forecast[-1] / total.moved[-1]))
            if moving[-1]
            else np.nan,
            "excluded_horizons": float(np.count_nonzero(~moving)),
            "excluded_tensors": float(len(self._tensors) - len(tensors)),
        }


def _ratio(error: Doubles, moved: Doubles) -> Doubles:
    ratio: Doubles = np.divide(error, moved, out=np.full_like(error, np.nan), where=moved > 0)
    return ratio
