"""What the 1-layer farcasters share: one linear map for all coordinates, fitted over blocks.

The map of Shou et al. (arXiv 2505.02714), X·A + b = Y, is fitted here on differences. Of the
sampled columns T, the latest, w_r, is the reference (r = n for all defaults): with features
x = (w_t − w_r for the other t in T, w_r, 1) the map forecasts w_j − w_n. Both forms span the same
maps, since A and b take up any multiple of w_r, and the differences keep the digits that float32
values near each other would lose. Sums run in float64 over blocks, so memory does not grow with the
network and the block size changes nothing but rounding.

Least squares of a map with few columns take large tensors in float32, a few thousand coordinates at
a time, whose sums are added up in float64: the rounding of many pieces averages out. Where the
features are near collinear, so that even that could show, the pass is made again in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError, unknown
from weightcast.methods.forecaster import CoordinateForecaster

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask, Pair
    from weightcast.datasets.trajectory import Floats, Trajectory

Doubles = NDArray[np.float64]
Numbers = NDArray[np.float32] | NDArray[np.float64]

#: Of least squares in float32: a tensor's fewest coordinates, the most columns, the worst condition
#: of the features at unit length, and coordinates that are multiplied at a time.
_LARGE, _FEW, _CONDITION, _PIECE = 1 << 18, 3, 100.0, 8000


class Sums(Protocol):
    """What adds up over coordinates."""

    def add(self, z: Numbers) -> None:
        """Add a block (p + m, c): features, then targets. Keep nothing of it."""


SumsType = TypeVar("SumsType", bound=Sums)

#: What the map forecasts.
TARGETS = ("displacements", "values")


class LinearMap(CoordinateForecaster):
    """ŵ_j = w_n + (w_t for t in T)·A_j + b_j, (|T| + 1) · m parameters.

    Parameters
    ----------
    columns : sequence of int, optional
        The sampled columns T of the context. Negative ones count from its end, so −1 is w_n; one
        named twice counts once. By default (0, n).
    per_tensor : bool
        Fit a map of its own for each named tensor. A tensor that no training run has is forecast by
        the shared map, which is fitted in any case.
    target : {"displacements", "values"}
        What X·A + b forecasts: w_j − w_n, or w_j itself. With w_n in T, the two span the same maps
        and least squares and L1 make no difference between them; ridge does, which draws towards
        w_n in one case and towards b alone in the other. Without w_n in T, they are other maps.

    Attributes
    ----------
    map_ : ndarray, shape (p, m), float64
        The shared map, from the features x to w_j − w_n (for values: to w_j − w_r).
    maps_ : dict of str to ndarray
        The same for each tensor, where asked for.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "fit-on-train-split",
        "reference": "Shou et al. 2025, arXiv 2505.02714",
    }

    map_: Doubles
    maps_: dict[str, Doubles]

    def __init__(
        self,
        columns: Sequence[int] | None = None,
        per_tensor: bool = False,
        target: str = "displacements",
    ) -> None:
        self.columns = columns
        self.per_tensor = per_tensor
        self.target = target
        super().__init__()

    def sampled(self, task: ForecastTask) -> list[int]:
        """Return the sampled columns T in ascending order."""
        return resolve_columns((0, -1) if self.columns is None else self.columns, task.context)

    def read_columns(self, task: ForecastTask) -> list[int]:
        """Return the columns that a fit reads: T, and w_n, from which displacements are taken."""
        columns = self.sampled(task)
        return columns if columns[-1] == task.context else [*columns, task.context]

    def check(self) -> None:
        """Refuse parameters that mean nothing."""
        if self.target not in TARGETS:
            raise unknown("target", str(self.target), TARGETS)

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        self.check()
        few = len(self.sampled(task)) <= _FEW
        grams = [self._run_grams(run, task, single=few) for run in train]
        if any(sums.too_rounded for by_name in grams for sums in by_name.values()):
            grams = [self._run_grams(run, task, single=False) for run in train]
        self.maps_ = {}
        if self.per_tensor:
            # A dictionary keeps the order in which names are first seen; a set would not.
            for name in dict.fromkeys(name for by_name in grams for name in by_name):
                own = [by_name[name] for by_name in grams if name in by_name]
                self.maps_[str(name)] = self.solve(own, train, task, name)
        # Last, so that what a solver notes of itself is the shared map's.
        self.map_ = self.solve([total(by_name.values()) for by_name in grams], train, task, None)
        return self

    def solve(
        self, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        """Return the map (p, m): by least squares here.

        Parameters
        ----------
        grams : list of Gram
            One a training run.
        only : str or None
            The tensor to whose coordinates ``grams`` are confined.
        """
        sums = total(grams)
        return solve_normal(sums.gram, sums.moment)

    def sums(
        self,
        new: Callable[[], SumsType],
        runs: Sequence[Trajectory],
        task: ForecastTask,
        only: str | None = None,
        *,
        single: bool = False,
    ) -> Iterator[tuple[str, SumsType]]:
        """Add each block of whole runs to ``new()`` sums; yield them with the tensor's name.

        With ``single``, blocks of large tensors are float32.
        """
        q = len(self.sampled(task))

        def add_up(pair: Pair) -> tuple[str, SumsType]:
            sums = new()
            large = single and pair.tensor.size >= _LARGE
            for z in self.features_and_targets(pair.context.T, pair.target.T, q, single=large):
                sums.add(z)
            return pair.tensor.name, sums

        for run in runs:
            yield from task.map_pairs(add_up, run, self.read_columns(task), only)

    def features_and_targets(
        self, context: Floats, target: Floats, q: int, *, single: bool = False
    ) -> Iterator[Numbers]:
        """Cut a block of snapshots, a row each, into z (p + m, c): features, then targets.

        The array is the same every time; float32 with ``single``, otherwise float64.
        """
        m, p = len(target), q + 1
        # OpenBLAS multiplies small matrices, up to a million products, two to three times faster.
        chunk = min(max(1_000_000 // (p * (p + m)), 256), 16_000, context.shape[1])
        chunk = min(chunk, _PIECE) if single else chunk
        shape = (p + m, chunk)
        buffer: Numbers = np.empty(shape, np.float32) if single else np.empty(shape)
        buffer[q] = 1.0
        for start in range(0, context.shape[1], chunk):
            seen = context[:, start : start + chunk]
            z = buffer[:, : seen.shape[1]]
            z[q - 1] = seen[q - 1]
            np.subtract(seen[: q - 1], z[q - 1], out=z[: q - 1])
            # Without w_n among the columns, it comes after them.
            anchor = z[q - 1] if len(seen) == q or self.target == "values" else seen[q]
            np.subtract(target[:, start : start + chunk], anchor, out=z[p:], dtype=z.dtype)
            yield z

    def _run_grams(
        self, run: Trajectory, task: ForecastTask, *, single: bool
    ) -> dict[str | None, Gram]:
        """Sum one run's products in one pass, by tensor where each has its map."""
        new = partial(Gram, len(self.sampled(task)) + 1, len(task.horizons))
        grams: dict[str | None, Gram] = {} if self.per_tensor else {None: new()}
        for name, block in self.sums(new, [run], task, single=single):
            key = name if self.per_tensor else None
            grams[key] = grams[key].plus(block) if key in grams else block
        return grams

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        columns = self.sampled(task)
        map_ = self.map_ if task.tensor is None else self.maps_.get(task.tensor.name, self.map_)
        anchor = columns[-1] if self.target == "values" else task.context
        forecast = np.empty((len(context), map_.shape[1]), np.float32)
        for start in range(0, len(context), _ROWS):
            rows = context[start : start + _ROWS]
            x = np.ones((len(rows), len(map_)))
            x[:, :-1] = rows[:, columns]
            x[:, :-2] -= x[:, -2:-1]
            step = x @ map_
            np.add(
                step,
                rows[:, anchor, None],
                out=forecast[start : start + _ROWS],
                casting="same_kind",
            )
        return forecast

    def parameter_count(self) -> int:
        return sum(int(map_.size) for map_ in (self.map_, *self.maps_.values()))

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * (len(self.sampled(task)) + 1) * len(task.horizons)


_ROWS = 4096  # coordinates forecast at a time: what they take then stays in the cache


class Gram:
    """Sums over coordinates of the products of p features with each other and with m targets.

    Attributes
    ----------
    products : ndarray, shape (p, p + m)
    count : int
        Coordinates added.
    single : bool
        Some of them in float32.
    """

    def __init__(self, p: int, m: int) -> None:
        self.products = np.zeros((p, p + m))
        self.count = 0
        self.single = False

    def add(self, z: Numbers) -> None:
        """Add a block (p + m, c), a row a feature or target."""
        self.products += z[: len(self.products)] @ z.T
        self.count += z.shape[1]
        self.single |= z.dtype == np.float32

    def plus(self, other: Gram) -> Self:
        """Add the sums over other coordinates to these."""
        self.products += other.products
        self.count += other.count
        self.single |= other.single
        return self

    @property
    def too_rounded(self) -> bool:
        """Whether float32 went in that could show in a solution."""
        if not self.single:
            return False
        length = np.sqrt(np.diag(self.gram))
        if not (np.isfinite(self.products).all() and (length > 0).all()):
            return True
        return bool(np.linalg.cond(self.gram / np.outer(length, length)) > _CONDITION)

    @property
    def gram(self) -> Doubles:
        """XᵀX, shape (p, p)."""
        return self.products[:, : len(self.products)]

    @property
    def moment(self) -> Doubles:
        """XᵀY, shape (p, m)."""
        return self.products[:, len(self.products) :]


def total(grams: Iterable[Gram]) -> Gram:
    """Sum some Gram matrices, at least one, into a new one."""
    first, *others = grams
    p, width = first.products.shape
    return reduce(Gram.plus, (first, *others), Gram(p, width - p))


def solve_normal(gram: Doubles, moment: Doubles) -> Doubles:
    """Solve gram @ map = moment, or give the smallest solution where it is singular.

    Parameters
    ----------
    gram : ndarray, shape (..., p, p)
    moment : ndarray, shape (..., p, k)

    Notes
    -----
    Features are brought to unit length first, so that the cut-off for singular directions means the
    same whatever their scales; a feature that is zero throughout gets a zero coefficient.
    """
    scale = np.sqrt(np.einsum("...pp->...p", gram))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = gram * inverse[..., :, None] * inverse[..., None, :]
    solution: Doubles = np.linalg.pinv(scaled, rcond=1e-13, hermitian=True) @ (
        moment * inverse[..., :, None]
    )
    solution *= inverse[..., :, None]
    return solution


def solve_ridge(
    sums: Gram, ridge: float, inputs: Doubles | None = None, *, values: bool = False
) -> Doubles:
    """Return the map (p, m) that minimises ‖Z·A + b − Y‖² + α ‖A‖² for inputs Z made of features.

    Parameters
    ----------
    sums : Gram
        Of the features (w_t − w_r, w_r, 1).
    ridge : float
        α in units of the mean diagonal of ZᵀZ; b is free.
    inputs : ndarray, shape (p − 1, k), optional
        Z = (the features without the last) · inputs; by default the sampled columns themselves.
    values : bool
        Y is w_j rather than its difference from the anchor.
    """
    q = len(sums.products) - 1
    if inputs is None:
        # w_t = (w_t − w_r) + w_r.
        inputs = np.eye(q)
        inputs[-1] = 1.0
    combine = np.zeros((q + 1, inputs.shape[1] + 1))
    combine[:q, :-1], combine[q, -1] = inputs, 1.0
    gram = combine.T @ sums.gram @ combine
    moment = sums.moment
    if values:
        moment = moment + sums.gram[:, q - 1 : q]
    alpha = np.full(len(gram), ridge * np.trace(gram[:-1, :-1]) / (len(gram) - 1))
    alpha[-1] = 0.0
    found: Doubles = combine @ solve_normal(gram + np.diag(alpha), combine.T @ moment)
    if values:
        found[q - 1] -= 1.0
    return found


def check_ridge(ridge: float) -> None:
    """Refuse a strength that is negative or no number."""
    if not (math.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge {ridge} is not a strength; give 0 (none) or more, e.g. 0.001")


def resolve_columns(columns: Sequence[int], context: int) -> list[int]:
    """Return context columns counted from 0, ascending, each once.

    Raises
    ------
    InputError
        If there are none, or one is no whole number or beyond the context.

    >>> resolve_columns((0, -2, -1), 10)
    [0, 9, 10]
    """
    whole = isinstance(columns, Sequence | np.ndarray) and all(
        isinstance(column, int | np.integer) and not isinstance(column, bool) for column in columns
    )
    if not whole or len(columns) == 0:
        raise InputError(f"columns {columns!r} is not a list of whole numbers, such as 0, -1")
    if not all(-context - 1 <= column <= context for column in columns):
        raise InputError(
            f"columns {tuple(columns)} do not fit a context of {context}: choose from 0 (w_0) to "
            f"{context} (w_n), or from -{context + 1} to -1, counted from the end"
        )
    return sorted({int(column) % (context + 1) for column in columns})
