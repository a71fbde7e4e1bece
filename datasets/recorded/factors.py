"""One thing changed: size of network, batches or data, length of the run, or learning rate.

Each data set is a rung of the ladder, trained by plain SGD at its rate, with one thing changed. A
shorter run, in as many snapshots, is an earlier phase of training, a longer one a later. Beside the
rung itself they tell which of the things that set a small network on few examples apart from a
larger one on many decides how well forecasts do.
"""

from __future__ import annotations

from collections.abc import Iterator

from weightcast.datasets.dataset import RecordedDataSet
from weightcast.datasets.recorded.ladder import DIGITS_MLP, FASHION_MLP, Rung, data_set

#: Examples to train on: with fewer, losses spike at this rate once there is next to none left.
_FEW = 3000
#: 109,210 parameters, as many as the MLP on clothes has, within two in a thousand.
DIGITS_MLP_WIDE = DIGITS_MLP._replace(
    options={"sizes": [64, 1456, 10]}, what="MLP 64-1456-10 on scikit-learn's digits",
    bytes_per_run=26_700_000,
)  # fmt: skip
#: 2,395 parameters, as many as the MLP on digits has, within one in a hundred.
FASHION_MLP_NARROW = FASHION_MLP._replace(
    options={"sizes": [784, 3, 10]}, what="MLP 784-3-10 on Fashion-MNIST", bytes_per_run=620_000,
)  # fmt: skip


def factors() -> Iterator[RecordedDataSet]:
    """Yield the data sets; those on `fashion` need ``weightcast fetch`` first."""
    for name, rung, seconds in (
        ("digits-mlp-wide", DIGITS_MLP_WIDE, 7.0),
        ("digits-mlp-batch4", _batches(DIGITS_MLP, 4), 4.0),
        ("digits-mlp-batch1024", _batches(DIGITS_MLP, 1024), 6.0),
        ("fashion-mlp-narrow", FASHION_MLP_NARROW, 6.0),
        ("fashion-mlp-batch1024", _batches(FASHION_MLP, 1024), 35.0),
        ("fashion-mlp-early", FASHION_MLP._replace(every=10), 6.0),
        ("digits-mlp-late", DIGITS_MLP._replace(every=450), 25.0),
    ):
        yield data_set(f"{name}-sgd", rung, "sgd", 0.05, seconds)
    # As far along as `late`, and as the rung on clothes, if rate times steps is how far.
    fast = DIGITS_MLP._replace(every=90)
    yield data_set("digits-mlp-fast-sgd", fast, "sgd", 0.25, 6.0)
    slow = FASHION_MLP._replace(every=670)
    yield data_set("fashion-mlp-slow-sgd", slow, "sgd", 0.005, 100.0)
    few = FASHION_MLP._replace(what=f"{FASHION_MLP.what}'s first {_FEW:,} images")
    yield data_set("fashion-mlp-few-sgd", few, "sgd", 0.05, 10.0, data_options={"train": _FEW})


def _batches(rung: Rung, size: int) -> Rung:
    return rung._replace(batch_size=size, what=f"{rung.what} in batches of {size:,}")
