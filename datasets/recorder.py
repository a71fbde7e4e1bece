"""The recorder: trains a recipe's network with PyTorch and writes its trajectory as it goes.

No snapshot stays in memory. A run that dies leaves nothing under its name; one that ends leaves a
whole file. Training uses one thread: two runs side by side then use two cores fully, and the sums
inside a matrix product keep one order, so the same seed gives the same bytes on the same machine.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from weightcast.datasets.images import Images, load_images
from weightcast.datasets.networks import describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.stacked import StackedWriter
from weightcast.datasets.trajectory import Floats, Metadata

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def record_run(
    recipe: Recipe, seed: int, path: Path, on_step: Callable[[int], None] | None = None
) -> None:
    """Train one run and write it to ``path``.

    Parameters
    ----------
    recipe : Recipe
    seed : int
        With the recipe it fixes the initial weights and the order of the batches.
    path : Path
        The stacked file to write.
    on_step : callable, optional
        Called with the number of steps done at each snapshot, for progress.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            _train(recipe, seed, path, on_step or (lambda step: None))
    finally:
        torch.set_num_threads(threads)


def _train(recipe: Recipe, seed: int, path: Path, on_step: Callable[[int], None]) -> None:
    torch.manual_seed(recipe.random_seed(seed, "initial state"))
    network, evaluator = recipe.build()
    images = load_images(recipe.data)
    optimizer = _optimizer(recipe, network)
    batches = _batches(recipe, seed, images)
    steps = recipe.snapshot_steps
    history: dict[str, list[float]] = {name: [] for name in METRICS}
    seconds = 0.0

    with StackedWriter(path, describe_tensors(network), steps) as writer:

        def snapshot() -> None:
            writer.write(_parameters(network))
            for name, value in evaluator.measure().items():
                history[name].append(value)

        flops = _flops(network, images, recipe.batch_size)
        snapshot()
        for begin, end in itertools.pairwise(steps):
            start = time.perf_counter()
            network.train()
            for _ in range(end - begin):
                x, y = next(batches)
                optimizer.zero_grad()
                loss: torch.Tensor = nn.functional.cross_entropy(network(x), y)
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no hint here
                optimizer.step()
            seconds += time.perf_counter() - start
            snapshot()
            on_step(end)
        writer.finish(
            Metadata(
                dataset=recipe.name,
                seed=seed,
                recipe=recipe.to_json(),
                optimizer=recipe.optimizer,
                hyperparameters=recipe.hyperparameters,
                learning_rates=(recipe.learning_rate,) * recipe.steps,
                batch_size=recipe.batch_size,
                steps_per_epoch=-(-len(images.train_y) // recipe.batch_size),
                seconds_per_step=seconds / recipe.steps,
                flops_per_step=flops,
                source=f"trained on {recipe.data} by the recorder",
                licence="BSD-3-Clause",
                train_loss=tuple(history["train_loss"]),
                train_accuracy=tuple(history["train_accuracy"]),
                test_loss=tuple(history["test_loss"]),
                test_accuracy=tuple(history["test_accuracy"]),
            )
        )


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
    }
    return kinds[recipe.optimizer](
        network.parameters(), lr=recipe.learning_rate, **recipe.hyperparameters
    )


def _batches(
    recipe: Recipe, seed: int, images: Images
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffle the training data anew every epoch, for ever; the last batch may be short."""
    random = np.random.default_rng(recipe.random_seed(seed, "batches"))
    count = len(images.train_y)
    while True:
        order = torch.from_numpy(random.permutation(count))
        for start in range(0, count, recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            yield images.train_x[rows], images.train_y[rows]


def _parameters(network: nn.Module) -> list[Floats]:
    return [
        parameter.detach().numpy().astype(np.float32, copy=False)
        for parameter in network.parameters()
        if parameter.requires_grad
    ]


def _flops(network: nn.Module, images: Images, batch_size: int) -> int:
    """Count one step's forward and backward FLOPs; the optimizer's own are left out."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        x, y = images.train_x[:batch_size], images.train_y[:batch_size]
        loss: torch.Tensor = nn.functional.cross_entropy(network(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad()
    return int(counter.get_total_flops())
