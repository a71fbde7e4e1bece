"""The recorder: trains a recipe's network with PyTorch and writes its trajectory as it goes.

No snapshot stays in memory. A run that dies leaves nothing under its name; one that ends leaves a
whole file. Training uses one thread: two runs side by side then use two cores fully, and the sums
inside a matrix product keep one order, so the same seed gives the same bytes on the same machine.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.evaluator import cross_entropy, network_state, rebuild
from weightcast.datasets.examples.examples import Examples, inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.files.stacked import StackedWriter, header_room
from weightcast.datasets.networks.build import describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.recording.observed import Parts
from weightcast.datasets.state import Fixed, StateInfo
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

    Raises
    ------
    InputError
        If the recipe cannot be followed, or the training loss is no longer finite.
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
    network, evaluator = rebuild(recipe)
    in_place = not evaluator.needs_own_network
    if not in_place:
        # Measuring must leave no trace in what is trained; where it leaves none, one network's
        # memory is spared.
        network = copy.deepcopy(network)
    examples = load_examples(recipe.data, **recipe.data_options)
    optimizer = _optimizer(recipe, network)
    batches = _batches(recipe, seed, examples)
    steps, rates = recipe.snapshot_steps, recipe.learning_rates
    tensors, state = describe_tensors(network), network_state(network)
    states = [StateInfo.of(name, buffer.numpy()) for name, buffer in state.items()]
    meta = Metadata(
        dataset=recipe.name,
        seed=seed,
        recipe=recipe.to_json(),
        data=examples.sha256,
        pretrained=_pretrained(recipe, network),
        optimizer=recipe.optimizer,
        hyperparameters=recipe.hyperparameters,
        learning_rates=rates,
        batch_size=recipe.batch_size,
        steps_per_epoch=-(-len(examples.train_y) // recipe.batch_size),
        flops_per_step=_flops(network, examples, recipe.batch_size),
        source=f"trained on {examples.source} by the recorder",
        licence=examples.licence,
    )
    history: dict[str, list[float]] = {name: [] for name in METRICS}
    seconds = 0.0
    fixed = Fixed(aliases=_aliases(network, [t.name for t in tensors] + list(state)))
    room = header_room(tensors, steps, meta, states, fixed)
    with StackedWriter(path, tensors, steps, room, states, fixed) as writer:

        def snapshot(step: int) -> None:
            arrays = _parameters(network)
            writer.write(arrays, [buffer.numpy() for buffer in state.values()])
            if in_place:
                measured = evaluator.measure_loaded()
            else:
                names = [info.name for info in tensors]
                measured = evaluator.measure(dict(zip(names, arrays, strict=True)))
            for name, value in measured.items():
                history[name].append(value)
            if not math.isfinite(history["train_loss"][-1]):
                raise InputError(
                    f"{recipe.name}, seed {seed}: the training loss is "
                    f"{history['train_loss'][-1]} at step {step}; lower the learning rate"
                )

        snapshot(0)
        for begin, end in itertools.pairwise(steps):
            start = time.perf_counter()
            network.train()
            for step in range(begin, end):
                x, y = next(batches)
                for group in optimizer.param_groups:
                    group["lr"] = rates[step]
                optimizer.zero_grad()
                cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            seconds += time.perf_counter() - start
            snapshot(end)
            on_step(end)
        writer.finish(
            replace(
                meta,
                seconds_per_step=seconds / recipe.steps,
                train_loss=tuple(history["train_loss"]),
                train_accuracy=tuple(history["train_accuracy"]),
                test_loss=tuple(history["test_loss"]),
                test_accuracy=tuple(history["test_accuracy"]),
            )
        )


def _aliases(network: nn.Module, recorded: list[str]) -> dict[str, str]:
    """Return the further names of tied tensors; what is frozen the recipe rebuilds."""
    found = Parts.of(network).aliases
    return {name: first for name, first in found.items() if first in recorded}


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    if recipe.optimizer not in kinds:
        raise unknown("optimizer", recipe.optimizer, kinds)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        return kinds[recipe.optimizer](trained, lr=recipe.learning_rate, **recipe.hyperparameters)
    except TypeError as error:
        raise InputError(f"optimizer {recipe.optimizer}: {error}") from None


def _pretrained(recipe: Recipe, network: nn.Module) -> str:
    if "pretrained" not in recipe.network_options:
        return ""
    from weightcast.datasets.networks.pretrained import describe_start

    return describe_start(network, recipe.network_options)


def _batches(
    recipe: Recipe, seed: int, examples: Examples
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffle the training data anew every epoch, for ever; the last batch may be short."""
    random = np.random.default_rng(recipe.random_seed(seed, "batches"))
    count = len(examples.train_y)
    while True:
        order = torch.from_numpy(random.permutation(count))
        for start in range(0, count, recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            yield inputs(examples.train_x[rows]), examples.train_y[rows]


def _parameters(network: nn.Module) -> list[Floats]:
    return [
        parameter.detach().numpy().astype(np.float32, copy=False)
        for parameter in network.parameters()
        if parameter.requires_grad
    ]


def _flops(network: nn.Module, examples: Examples, batch_size: int) -> int:
    """Count one step's forward and backward FLOPs; the optimizer's own are left out."""
    from torch.utils.flop_counter import FlopCounterMode

    # Without numbers: nothing is computed, and recurrent layers are plain products, where the CPU's
    # fused ones are opaque to the counter.
    shapes = copy.deepcopy(network).to("meta")
    x, y = inputs(examples.train_x[:batch_size]), examples.train_y[:batch_size]
    with FlopCounterMode(display=False) as counter:
        cross_entropy(shapes(x.to("meta")), y.to("meta")).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
