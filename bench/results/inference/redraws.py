"""Runs and fits redrawn: the samples that every interval of a ranking comes from.

All methods have the same runs in a draw, and all runs of a rotation the same fits of a method.
Whatever is computed from a `Redraw` is therefore paired, and so are two statistics of one draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.results.inference.errors import Doubles, SetErrors

DRAWS = 1000


# Rows whose medians are counted at a time: what is kept of them stays in the processor's cache.
_AT_A_TIME = 64


@dataclass(frozen=True)
class Redraw:
    """One data set's runs, drawn anew with replacement, and the fits of each rotation.

    Attributes
    ----------
    chosen : ndarray of int, shape (draws, runs)
        Runs, by place.
    rotation : ndarray of int, shape (runs,)
        The rotation that tests each run, by place.
    lots : ndarray or None, shape (draws, rotations, repeats)
        In [0, 1): which fit each lot falls on. None where no method has several.
    """

    chosen: NDArray[np.int64]
    rotation: NDArray[np.int64]
    lots: Doubles | None

    def medians(self, errors: Doubles) -> Doubles:
        """Medians over redrawn runs and fits.

        Parameters
        ----------
        errors : ndarray, shape (..., runs, repeats)
            Of methods with as many fits.

        Returns
        -------
        ndarray, shape (draws, ...)
        """
        rows = errors.reshape(-1, errors.shape[-2] * errors.shape[-1])
        counts = self.counts(errors.shape[-1]).reshape(len(self.chosen), -1)
        return np.moveaxis(_medians(rows, counts.T).reshape(*errors.shape[:-2], -1), -1, 0)

    def counts(self, repeats: int) -> NDArray[np.int64]:
        """Return how often each run and fit stands in a draw: (draws, runs, repeats).

        A run has as many cells in a draw as a method has fits, whichever these are.
        """
        runs = counted(self.chosen, len(self.rotation))[..., None]
        fits = self._fits(repeats)
        return runs if fits is None else runs * counted(fits, repeats)[:, self.rotation]

    def _fits(self, repeats: int) -> NDArray[np.int64] | None:
        """Return the fits that stand in each rotation of a draw: (draws, rotations, repeats)."""
        if self.lots is None or repeats == 1:
            return None
        fits: NDArray[np.int64] = (self.lots[:, :, :repeats] * repeats).astype(np.int64)
        return fits


def _medians(rows: Doubles, counts: NDArray[np.int64]) -> Doubles:
    """Medians of rows in which each cell stands as often as a draw says.

    Drawing the cells and sorting them, draw by draw, takes some fifty times as long as going
    through a row's cells once, from the lowest, and counting for all draws how many are drawn.

    Parameters
    ----------
    rows : ndarray, shape (rows, cells)
    counts : ndarray of int, shape (cells, draws)
        Adding up to ``cells`` in each draw.

    Returns
    -------
    ndarray, shape (rows, draws)
        NaN where one is drawn.
    """
    cells, draws = counts.shape
    kind = np.uint8 if cells < 256 else np.int32
    often = np.ascontiguousarray(counts, dtype=kind)
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    # The one or two in the middle of a draw, by how many lie below.
    middle = [(cells - 1) // 2] if cells % 2 else [cells // 2 - 1, cells // 2]
    found = np.empty((len(rows), draws))
    for first in range(0, len(rows), _AT_A_TIME):
        part = slice(first, first + _AT_A_TIME)
        seen = np.zeros((len(order[part]), draws), dtype=kind)
        places = np.zeros((len(middle), *seen.shape), dtype=kind)
        for cell in order[part].T:
            seen += often[cell]
            for place, below in enumerate(middle):
                places[place] += seen <= below
        values = [np.take_along_axis(ordered[part], place.astype(np.intp), 1) for place in places]
        found[part] = values[0] if len(values) == 1 else (values[0] + values[1]) / 2
    lacking = np.isnan(rows)
    if lacking.any():
        found[lacking.astype(np.int64) @ counts > 0] = np.nan
    return found


def counted(places: NDArray[np.int64], among: int) -> NDArray[np.int64]:
    """Count how often each place stands in a row: (..., k) → (..., among).

    Examples
    --------
    >>> counted(np.array([[0, 2, 2], [1, 1, 1]]), 3)
    array([[1, 0, 2],
           [0, 3, 0]])
    """
    rows = places.reshape(-1, places.shape[-1])
    apart = rows + among * np.arange(len(rows))[:, None]
    counts = np.bincount(apart.ravel(), minlength=among * len(rows))
    return counts.reshape(*places.shape[:-1], among)


def redraws(sets: Sequence[SetErrors]) -> Iterator[tuple[SetErrors, Redraw]]:
    """Draw each data set's runs and fits; the same again whenever it is asked."""
    random = np.random.default_rng(123)
    # Their own, so that runs are drawn as they are where nothing is repeated.
    of_fits = np.random.default_rng(456)
    for data in sets:
        count, most = data.errors.shape[3:]
        chosen = random.integers(count, size=(DRAWS, count))
        rotation = np.unique(data.rotations or (0,) * count, return_inverse=True)[1]
        lots = of_fits.random((DRAWS, int(rotation.max()) + 1, most)) if most > 1 else None
        yield data, Redraw(chosen, rotation, lots)
