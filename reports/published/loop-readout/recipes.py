"""A recipe on scikit-learn's digits for the suite `loop-readout`, with noisier batches.

Only networks, data and batch sizes count: the loop tier has optimizers and rates of its own.
"""

from typing import Any

from weightcast.datasets import Recipe, RecordedDataSet, register_dataset


def _recipe(name: str, what: str, sizes: list[int], batch_size: int) -> None:
    options: dict[str, Any] = {"sizes": sizes}
    recipe = Recipe(
        name=name,
        network="mlp",
        network_options=options,
        data="digits",
        optimizer="sgd",
        learning_rate=0.05,
        batch_size=batch_size,
        steps=2700,
        snapshot_every=45,
    )
    register_dataset(
        RecordedDataSet(
            name=name,
            seeds=tuple(range(12)),
            description=f"{what} on scikit-learn's digits, batches of {batch_size}",
            source="scikit-learn load_digits (UCI, CC BY 4.0)",
            licence="BSD-3-Clause",
            recipe=recipe,
        )
    )


_recipe("digits-mlp-batch-8", "MLP 64-32-10", [64, 32, 10], 8)
