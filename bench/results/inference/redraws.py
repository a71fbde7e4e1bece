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
        errors : ndarray, shape (contexts, horizons, runs, repeats)
            One method's.

        Returns
        -------
        ndarray, shape (draws, contexts, horizons)
        """
        count, repeats = errors.shape[2:]
        rows = errors.reshape(-1, count, repeats)
        fits = self._fits(repeats)
        if fits is None:
            medians = [np.median(row[:, 0][self.chosen], axis=1) for row in rows]
        else:
            of_run = np.take_along_axis(fits, self.rotation[self.chosen][..., None], axis=1)
            drawn = self.chosen[..., None], of_run
            of_draw = (len(self.chosen), -1)
            medians = [np.median(row[drawn].reshape(of_draw), axis=1) for row in rows]
        return np.stack(medians, axis=1).reshape(-1, *errors.shape[:2])

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
