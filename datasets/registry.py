"""Every data set by name: those of the package and those that plugins add."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, overload

from weightcast.datasets.dataset import DataSet, GeneratedDataSet, RecordedDataSet
from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.foreign_code import load_entry_points
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.recorded.factors import factors
from weightcast.datasets.recorded.fine_tunes import fine_tune, fine_tunes, is_fine_tune
from weightcast.datasets.recorded.ladder import ladder
from weightcast.datasets.synthetic.bowl import QUADRATIC_BOWL
from weightcast.datasets.synthetic.generator import Generator
from weightcast.datasets.synthetic.linreg import (
    LINREG_ADAM,
    LINREG_COSINE,
    LINREG_GD,
    LINREG_MOMENTUM,
    LINREG_SGD,
    LINREG_STEP,
)
from weightcast.datasets.synthetic.logistic import LOGISTIC_SGD

if TYPE_CHECKING:
    from weightcast.datasets.own.network import OwnNetwork

Own = TypeVar("Own", bound="OwnNetwork")

_DATASETS: dict[str, DataSet] = {}
_plugins_loaded = False


@overload
def register_dataset(dataset: DataSet) -> DataSet: ...


@overload
def register_dataset(dataset: str) -> Callable[[type[Own]], type[Own]]: ...


def register_dataset(dataset: DataSet | str) -> DataSet | Callable[[type[Own]], type[Own]]:
    """Add a data set to the registry.

    Parameters
    ----------
    dataset : DataSet or str
        With a name it decorates a class derived from `weightcast.datasets.OwnNetwork`, which then
        is the data set of that name.

    Raises
    ------
    InputError
        If another data set has the name already, or a class is not what `OwnNetwork` asks for.
    """
    if not isinstance(dataset, str):
        return _registered(dataset)

    def decorate(cls: type[Own]) -> type[Own]:
        from weightcast.datasets.own.dataset import own_dataset

        _registered(own_dataset(dataset, cls))
        return cls

    return decorate


def _registered(dataset: DataSet) -> DataSet:
    # A plugin file executed again registers an equal data set anew.
    if _DATASETS.get(dataset.name, dataset) != dataset:
        raise InputError(f"a data set named '{dataset.name}' is registered already")
    _DATASETS[dataset.name] = dataset
    return dataset


@contextmanager
def registered_for_now(dataset: DataSet) -> Iterator[None]:
    """Have a data set in the registry for the time of a ``with`` block."""
    register_dataset(dataset)
    try:
        yield
    finally:
        del _DATASETS[dataset.name]


def get_dataset(name: str) -> DataSet:
    """Look a data set up; ``sentiment:MODEL`` is made when it is asked for.

    Raises
    ------
    InputError
        If there is none of that name; close matches are named.
    """
    known = all_datasets()
    if name not in known and is_fine_tune(name):
        return fine_tune(name)
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def all_datasets() -> dict[str, DataSet]:
    """Return every registered data set by name, plugins' included."""
    global _plugins_loaded
    if not _plugins_loaded:
        _plugins_loaded = True
        load_entry_points("weightcast.datasets", _DATASETS)
    return dict(_DATASETS)


def _synthetic(generator: Generator, runs: int, description: str) -> None:
    register_dataset(
        GeneratedDataSet(
            name=generator.name,
            seeds=tuple(range(runs)),
            description=description,
            source="generated from a seed",
            licence="BSD-3-Clause",
            generate=generator.run,
            oracle=generator.oracle,
        )
    )


for _generator, _how in (
    (LINREG_SGD, "by mini-batch SGD"),
    (LINREG_GD, "by gradient descent"),
    (LINREG_MOMENTUM, "by mini-batch SGD with momentum 0.9"),
    (LINREG_ADAM, "by mini-batch Adam"),
    (LINREG_STEP, "by mini-batch SGD whose rate falls twice"),
    (LINREG_COSINE, "by mini-batch SGD with a cosine schedule"),
):
    _synthetic(_generator, 200, f"two-dimensional linear regression {_how}, a new problem each run")
_synthetic(
    QUADRATIC_BOWL, 100, "ill-conditioned quadratic of 50 dimensions by gradient descent, a new "
    "problem each run",
)  # fmt: skip
_synthetic(
    LOGISTIC_SGD,
    100,
    "logistic regression on 20 features by mini-batch SGD, a new problem each run",
)


def _digits_mlp(optimizer: str, learning_rate: float, describes: str) -> None:
    name = f"digits-mlp-{optimizer}"
    recipe = Recipe(
        name=name,
        network="mlp",
        network_options={"sizes": [64, 32, 10]},
        data="digits",
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=32,
        steps=60 * 45,
        snapshot_every=45,
    )
    register_dataset(
        RecordedDataSet(
            name=name,
            seeds=tuple(range(12)),
            description=f"MLP 64-32-10 on scikit-learn's digits, {describes}, 60 epochs",
            source="scikit-learn load_digits (UCI, CC BY 4.0), trained by the recorder",
            licence="BSD-3-Clause",
            recipe=recipe,
            bytes_per_run=700_000,
            seconds_per_run=4.0,
        )
    )


_digits_mlp("sgd", 0.05, "plain SGD at 0.05")
_digits_mlp("adam", 0.001, "Adam at 0.001")

for _recorded in (*ladder(), *factors(), *fine_tunes()):
    register_dataset(_recorded)
