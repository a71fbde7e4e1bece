"""Every data set by name: those of the package and those that plugins add."""

from __future__ import annotations

from importlib.metadata import entry_points

from weightcast.datasets.dataset import DataSet, GeneratedDataSet, RecordedDataSet
from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.linreg import linreg_sgd
from weightcast.datasets.recipe import Recipe

_DATASETS: dict[str, DataSet] = {}
_plugins_loaded = False


def register_dataset(dataset: DataSet) -> DataSet:
    """Add a data set to the registry.

    Raises
    ------
    InputError
        If another data set has the name already.
    """
    # A plugin file executed again registers an equal data set anew.
    if _DATASETS.get(dataset.name, dataset) != dataset:
        raise InputError(f"a data set named '{dataset.name}' is registered already")
    _DATASETS[dataset.name] = dataset
    return dataset


def get_dataset(name: str) -> DataSet:
    """Look a data set up.

    Raises
    ------
    InputError
        If there is none of that name; close matches are named.
    """
    known = all_datasets()
    if name not in known:
        raise unknown("data set", name, known)
    return known[name]


def all_datasets() -> dict[str, DataSet]:
    """Return every registered data set by name, plugins' included."""
    global _plugins_loaded
    if not _plugins_loaded:
        _plugins_loaded = True
        for entry in entry_points(group="weightcast.datasets"):
            entry.load()
    return dict(_DATASETS)


register_dataset(
    GeneratedDataSet(
        name="linreg-sgd",
        seeds=tuple(range(200)),
        description="two-dimensional linear regression by mini-batch SGD, a new problem each run",
        source="generated from a seed",
        licence="BSD-3-Clause",
        generate=linreg_sgd,
    )
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
