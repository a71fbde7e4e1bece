"""The recorded ladder: a few networks on digits, on clothes and on text, from small to larger.

Rates were chosen on one seed so that a run learns well, still moves at its end and does not spike
(`weightcast.datasets.admission.gates`). Sizes and times of a run were measured on one core of a
busy machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from weightcast.datasets.dataset import RecordedDataSet
from weightcast.datasets.recipe import Recipe

#: Snapshots after w_0.
_SNAPSHOTS = 60


class Rung(NamedTuple):
    """A network on some data: all that its data sets have in common.

    ``every`` is the number of steps between snapshots; ``measured`` as in `Recipe`.
    """

    network: str
    options: dict[str, Any]
    data: str
    what: str
    batch_size: int
    every: int
    bytes_per_run: int
    measured: int | None = None
    runs: int = 12


_SOURCES = {
    "digits": (
        "scikit-learn load_digits (UCI, CC BY 4.0), trained by the recorder",
        "BSD-3-Clause",
    ),
    "fashion": ("Fashion-MNIST (Xiao et al. 2017), trained by the recorder", "MIT"),
    "austen": ("Jane Austen's novels from janeaustenr (Silge), trained by the recorder", "MIT"),
}

#: 2,410 parameters.
DIGITS_MLP = Rung(
    "mlp", {"sizes": [64, 32, 10]}, "digits", "MLP 64-32-10 on scikit-learn's digits",
    batch_size=32, every=45, bytes_per_run=680_000,
)  # fmt: skip
#: 3,658 parameters.
DIGITS_CNN = Rung(
    "cnn", {"size": 8, "channels": [8, 16], "hidden": 32}, "digits",
    "CNN with two convolutions on scikit-learn's digits",
    batch_size=32, every=45, bytes_per_run=910_000,
)  # fmt: skip
#: 7,034 parameters.
DIGITS_TRANSFORMER = Rung(
    "row-transformer", {"size": 8, "width": 16, "heads": 2, "layers": 2}, "digits",
    "transformer over the rows of scikit-learn's digits",
    batch_size=32, every=45, bytes_per_run=1_740_000,
)  # fmt: skip
#: 109,386 parameters.
FASHION_MLP = Rung(
    "mlp", {"sizes": [784, 128, 64, 10]}, "fashion", "MLP 784-128-64-10 on Fashion-MNIST",
    batch_size=64, every=67, bytes_per_run=26_800_000, measured=10_000,
)  # fmt: skip
#: 24,714 parameters.
FASHION_LSTM = Rung(
    "row-lstm", {"width": 28, "hidden": 64}, "fashion", "LSTM-64 over the rows of Fashion-MNIST",
    batch_size=64, every=67, bytes_per_run=6_100_000, measured=10_000,
)  # fmt: skip
#: 105,866 parameters.
FASHION_CNN = Rung(
    "cnn", {"size": 28, "channels": [16, 32], "hidden": 64}, "fashion",
    "CNN with two convolutions on Fashion-MNIST",
    batch_size=64, every=50, bytes_per_run=25_900_000, measured=2_000,
)  # fmt: skip
#: 77,754 parameters; batch-norm statistics beside them.
FASHION_RESNET8 = Rung(
    "resnet", {"size": 28}, "fashion", "ResNet-8 with batch norm on Fashion-MNIST",
    batch_size=64, every=50, bytes_per_run=19_200_000, measured=2_000, runs=6,
)  # fmt: skip
#: 114,512 parameters; 512 windows are 32,768 characters.
AUSTEN_TRANSFORMER = Rung(
    "character-transformer",
    {"characters": 80, "length": 64, "width": 64, "heads": 4, "layers": 2}, "austen",
    "character transformer on Jane Austen's novels",
    batch_size=32, every=84, bytes_per_run=28_100_000, measured=512, runs=6,
)  # fmt: skip


def ladder() -> Iterator[RecordedDataSet]:
    """Yield the data sets; those on `fashion` and `austen` need ``weightcast fetch`` first."""
    yield data_set(
        "digits-mlp-momentum-cosine", DIGITS_MLP, "sgd", 0.02, 3.0, schedule="cosine",
        hyperparameters={"momentum": 0.9},
    )  # fmt: skip
    for name, rung, sgd, adam, seconds in (
        ("digits-cnn", DIGITS_CNN, 0.03, 0.0007, 5.0),
        ("digits-transformer", DIGITS_TRANSFORMER, 0.02, 0.0003, 10.0),
        ("fashion-mlp", FASHION_MLP, 0.05, 0.0005, 10.0),
        ("fashion-lstm", FASHION_LSTM, 0.2, 0.001, 45.0),
        ("fashion-cnn", FASHION_CNN, 0.05, 0.0005, 90.0),
        ("fashion-resnet8", FASHION_RESNET8, 0.05, 0.001, 440.0),
    ):
        yield data_set(f"{name}-sgd", rung, "sgd", sgd, seconds)
        yield data_set(f"{name}-adam", rung, "adam", adam, seconds)
    yield data_set("austen-transformer-adam", AUSTEN_TRANSFORMER, "adam", 0.001, 250.0)


def data_set(
    name: str, rung: Rung, optimizer: str, rate: float, seconds: float, **changes: Any
) -> RecordedDataSet:
    """Return the data set of a rung, its recipe changed in what ``changes`` names."""
    recipe = Recipe(
        name=name,
        network=rung.network,
        network_options=rung.options,
        data=rung.data,
        optimizer=optimizer,
        learning_rate=rate,
        batch_size=rung.batch_size,
        steps=_SNAPSHOTS * rung.every,
        snapshot_every=rung.every,
        measured=rung.measured,
        **changes,
    )
    source, licence = _SOURCES[rung.data]
    how = {"sgd": "SGD", "adam": "Adam"}[optimizer]
    if "momentum" in recipe.hyperparameters:
        how += f" with momentum {recipe.hyperparameters['momentum']}"
    how += f" at {rate}"
    if recipe.schedule != "constant":
        how += f", {recipe.schedule} schedule"
    return RecordedDataSet(
        name=name,
        seeds=tuple(range(rung.runs)),
        description=f"{rung.what}, {how}, {recipe.steps:,} steps",
        source=source,
        licence=licence,
        recipe=recipe,
        bytes_per_run=rung.bytes_per_run,
        seconds_per_run=seconds,
    )
