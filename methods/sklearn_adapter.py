"""`sklearn:Class(params)`: any scikit-learn regressor as a forecaster of coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.methods.adapted import Adapter, param_names
from weightcast.methods.library_class import find_class, make_instance, silence
from weightcast.methods.training import draw_rows

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory
    from weightcast.methods.adapter_name import AdapterName

_SLICE = 4096  # coordinates forecast at a time; bounds the kernel matrices of kernel methods
# Fit all targets at once, though their tags do not say so.
_ALSO_MULTI_OUTPUT = {"MLPRegressor"}


class SklearnAdapter(Adapter):
    """A scikit-learn regressor, shared by all coordinates, that gives all horizons at once.

    With r = max − min over a coordinate's context, its features are (w_t − w_n)/r for
    t = 0..n − 1 and its targets (w_{n+j} − w_n)/r at the m horizons; ŵ_{n+j} = w_n + r f_j. A
    regressor that takes one target is fitted once a horizon. One that takes weights gets r² (as
    a share of the mean), which makes squared errors those of the raw weights. Coordinates that did
    not move are not learned from and stay.

    Parameters
    ----------
    rows : int
        Coordinates drawn at random, by the task's seed, from all coordinates of the training runs.

    Attributes
    ----------
    model_ : estimator or None
        None where no drawn coordinate moved; every coordinate then stays.
    rows_ : int
        Coordinates learned from.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "fit-on-train-split",
        "random": True,
        "scale_free": True,
        "shift_free": True,
    }

    model_: Any

    def __init__(self, rows: int = 4096) -> None:
        self.rows = rows
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1:
            raise InputError(f"rows {self.rows!r} is no number of coordinates; give 1 or more")
        # A draw goes run by run: in one order, whatever order the runs come in.
        runs = sorted(train, key=lambda run: run.meta.seed)
        random = np.random.default_rng(task.seed)
        values = draw_rows(runs, task, self.rows, random)[""].values.astype(np.float64)
        context, target = values[:, : task.context + 1], values[:, task.context + 1 :]
        x, last, scale = _normalised(context)
        moving = scale[:, 0] > 0
        self.rows_ = int(moving.sum())
        self.model_ = None
        if self.rows_:
            y = (target[moving] - last[moving]) / scale[moving]
            self._fit_model(x[moving], y, scale[moving, 0], task)
        return self

    def _fit_model(
        self, x: NDArray[Any], y: NDArray[Any], scale: NDArray[Any], task: ForecastTask
    ) -> None:
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.utils import get_tags
        from sklearn.utils.validation import has_fit_parameter

        model = self.estimator(task.seed)
        weights = {}
        if has_fit_parameter(model, "sample_weight"):
            weights["sample_weight"] = scale**2 / np.mean(scale**2)
        tags = get_tags(model).target_tags
        if y.shape[1] == 1 and tags.single_output:
            y = y[:, 0]
        elif not (tags.multi_output or self.estimator_class.__name__ in _ALSO_MULTI_OUTPUT):
            model = MultiOutputRegressor(model)
        with silence(), np.errstate(all="ignore"):
            self.model_ = model.fit(x, y, **weights)

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        m = len(task.horizons)
        forecast = np.repeat(context[:, -1:], m, axis=1)
        if self.model_ is None:
            return forecast
        for start in range(0, len(context), _SLICE):
            x, last, scale = _normalised(context[start : start + _SLICE].astype(np.float64))
            moving = np.flatnonzero(scale[:, 0] > 0)
            if len(moving) == 0:
                continue
            with silence(), np.errstate(all="ignore"):
                moved = np.asarray(self.model_.predict(x[moving]), np.float64).reshape(-1, m)
                ahead = (last[moving] + scale[moving] * moved).astype(np.float32)
            good = np.isfinite(ahead).all(axis=1)
            forecast[start + moving[good]] = ahead[good]
        return forecast

    def parameter_count(self) -> int | None:
        """Return the number of coefficients of a linear model, None for any other."""
        parts = [
            np.size(getattr(model, name))
            for model in getattr(self.model_, "estimators_", [self.model_])
            if hasattr(model, "coef_")
            for name in ("coef_", "intercept_")
            if hasattr(model, name)
        ]
        return int(sum(parts)) or None

    def diagnostics(self) -> dict[str, Any]:
        return {"estimator": str(self.spec), "rows": self.rows_}


#: The class that those of all names derive from.
BASE = SklearnAdapter


def adapt(spec: AdapterName) -> type[Adapter]:
    """Make the forecaster of a name.

    Raises
    ------
    InputError
        If scikit-learn has no such regressor, or it refuses the parameters.
    """
    from sklearn.base import RegressorMixin

    def fits(cls: type) -> bool:
        return issubclass(cls, RegressorMixin) and cls is not RegressorMixin

    cls = find_class(spec, "sklearn", "regressor", fits, _names)
    made = make_instance(cls, spec, param_names(cls))
    try:
        # scikit-learn looks at values when it fits; whoever misspelt one wants to know now.
        made._validate_params()
    except ValueError as error:
        raise InputError(f"{spec}: {error}") from None
    except AttributeError:
        pass
    return SklearnAdapter.made_for(spec, cls, "scikit-learn")


def _names() -> Iterable[str]:
    from sklearn.utils import all_estimators

    with silence():
        return [name for name, _ in all_estimators(type_filter="regressor")]


def _normalised(
    context: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the features (c, n), w_n (c, 1) and r (c, 1); features are zero where r is."""
    last = context[:, -1:]
    scale = np.ptp(context, axis=1, keepdims=True)
    features = np.divide(
        context[:, :-1] - last, scale, out=np.zeros_like(context[:, :-1]), where=scale > 0
    )
    return features, last, scale
