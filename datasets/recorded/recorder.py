"""The recorder: trains a recipe's network with PyTorch and writes its trajectory as it goes.

No snapshot stays in memory. A run that dies leaves nothing under its name; one that ends leaves a
whole file. What a long one had done by then is kept in hidden files, with which the next recording
of the same run goes on.

Training on the CPU uses one thread: two runs side by side then use two cores fully, and the sums
inside a matrix product keep one order, so the same seed gives the same bytes on the same machine.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from weightcast.datasets.device import device_name, torch_device
from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.evaluator import NetworkEvaluator, network_state, rebuild
from weightcast.datasets.examples.examples import Examples, inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.files.partial_file import UnfinishedFile
from weightcast.datasets.files.stacked import StackedWriter, header_room
from weightcast.datasets.given import GIVEN
from weightcast.datasets.networks.build import describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.recorded.training_state import Progress, TrainingState
from weightcast.datasets.recording.observed import Parts
from weightcast.datasets.state import Fixed, StateInfo
from weightcast.datasets.trajectory import Floats, Metadata

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def record_run(
    recipe: Recipe,
    seed: int,
    path: Path,
    on_step: Callable[[int], None] | None = None,
    device: str = "cpu",
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
        Called with the number of steps done, for progress: when training begins, which is after 0
        of them or where a run that was broken off goes on, and after each.
    device : {"cpu", "cuda"}
        A GPU starts from the same weights and sees the same batches, but it rounds differently, and
        not always alike: its runs are others than the CPU's, and say so.

    Raises
    ------
    InputError
        If the recipe cannot be followed, there is no such device, or the training loss is no longer
        finite.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gpus = [torch.cuda.current_device()] if torch_device(device).type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=gpus):
            _train(recipe, seed, path, on_step or (lambda step: None), device)
    finally:
        torch.set_num_threads(threads)


def _train(
    recipe: Recipe, seed: int, path: Path, on_step: Callable[[int], None], device: str
) -> None:
    torch.manual_seed(recipe.random_seed(seed, "initial state"))
    network, evaluator = rebuild(recipe, device=device)
    if evaluator.needs_own_network:
        # Measuring must leave no trace in what is trained; where it leaves none, one network's
        # memory is spared.
        network = copy.deepcopy(network)
    examples = load_examples(recipe.data, **recipe.data_options)
    optimizer = _optimizer(recipe, network)
    steps, rates = recipe.snapshot_steps, recipe.learning_rates
    tensors, state = describe_tensors(network), network_state(network)
    states = [StateInfo.of(name, buffer.cpu().numpy()) for name, buffer in state.items()]
    meta = _metadata(recipe, seed, network, examples, device)
    fixed = Fixed(aliases=_aliases(network, [t.name for t in tensors] + list(state)))
    room = header_room(tensors, steps, meta, states, fixed)
    saved = TrainingState(path, meta, network, optimizer)
    file = UnfinishedFile(path)
    with StackedWriter(path, tensors, steps, room, states, fixed, file) as writer:
        recording = _Recording(recipe, seed, network, evaluator, writer, file, saved)
        begun = recording.begin(steps)
        on_step(begun)
        batches = _batches(recipe, seed, examples, begun, torch_device(device))
        for begin, end in itertools.pairwise(steps[steps.index(begun) :]):
            start = time.perf_counter()
            network.train()
            for step in range(begin, end):
                x, y = next(batches)
                for group in optimizer.param_groups:
                    group["lr"] = rates[step]
                optimizer.zero_grad()
                examples.loss(network, x, y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                on_step(step + 1)
            if device == "cuda":
                torch.cuda.synchronize()  # it works on when the last step's call has returned
            recording.seconds += time.perf_counter() - start
            recording.snapshot(end)
            if end < steps[-1]:
                recording.save(end)
        metrics: dict[str, Any] = {
            name: tuple(values) for name, values in recording.history.items()
        }
        seconds = recording.seconds / recipe.steps
        writer.finish(replace(meta, seconds_per_step=seconds, **metrics))
    saved.remove()


@dataclass
class _Recording:
    """A run's snapshots with what is measured at them, and its state saved now and then.

    Attributes
    ----------
    seconds : float
        Spent training.
    history : dict of str to list of float
        What was measured at each snapshot.
    """

    recipe: Recipe
    seed: int
    network: nn.Module
    evaluator: NetworkEvaluator
    writer: StackedWriter
    file: UnfinishedFile
    saved: TrainingState
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=lambda: {m: [] for m in METRICS})

    def begin(self, steps: list[int]) -> int:
        """Take the first snapshot, or go on with what was left; return the step to go on from."""
        progress = self.saved.read()
        if progress is not None and not self.writer.go_on(
            1 + steps.index(progress.step), progress.checksums
        ):
            self.saved.pass_over("the snapshots beside it are not those that were recorded")
            progress = None
        if progress is None:
            self.snapshot(0)
            return 0
        self.saved.restore()
        self.file.keep = True
        self.seconds, self.history = progress.seconds, progress.history
        return progress.step

    def snapshot(self, step: int) -> None:
        """Write and measure the weights; a run that diverged is not gone on with."""
        arrays = _parameters(self.network)
        state = network_state(self.network)
        self.writer.write(list(arrays.values()), [b.cpu().numpy() for b in state.values()])
        if self.evaluator.needs_own_network:
            measured = self.evaluator.measure(arrays)
        else:
            measured = self.evaluator.measure_loaded()
        for name, value in measured.items():
            self.history[name].append(value)
        loss = self.history["train_loss"][-1]
        if not math.isfinite(loss):
            self.file.keep = False
            self.saved.remove()
            raise InputError(
                f"{self.recipe.name}, seed {self.seed}: the training loss is {loss} at step "
                f"{step}; lower the learning rate"
            )

    def save(self, step: int) -> None:
        """Save what the run needs to go on from this snapshot, if it is time to."""
        if self.saved.due:
            start = time.perf_counter()
            self.file.sync()
            progress = Progress(step, self.writer.checksums(), self.history, self.seconds)
            self.saved.save(progress, start)
            self.file.keep = True


def _metadata(
    recipe: Recipe, seed: int, network: nn.Module, examples: Examples, device: str
) -> Metadata:
    """Return what is known of a run before it is trained."""
    return Metadata(
        dataset=recipe.name,
        seed=seed,
        recipe=recipe.to_json(),
        data=examples.sha256,
        pretrained=_pretrained(recipe, network),
        optimizer=recipe.optimizer,
        hyperparameters=recipe.hyperparameters,
        learning_rates=recipe.learning_rates,
        batch_size=recipe.batch_size,
        steps_per_epoch=-(-len(examples.train_y) // recipe.batch_size),
        flops_per_step=_flops(recipe, network, examples),
        source=f"trained on {examples.source} by the recorder"
        + (f", on a GPU ({device_name(device)})" if device != "cpu" else ""),
        licence=examples.licence,
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
    recipe: Recipe, seed: int, examples: Examples, skip: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffle the training data anew every epoch, for ever; the last batch may be short.

    The first ``skip`` batches are passed over.
    """
    random = np.random.default_rng(recipe.random_seed(seed, "batches"))
    count = len(examples.train_y)
    while True:
        order = torch.from_numpy(random.permutation(count))
        for start in range(0, count, recipe.batch_size):
            if skip:
                skip -= 1
                continue
            rows = order[start : start + recipe.batch_size]
            yield inputs(examples.train_x[rows].to(device)), examples.train_y[rows].to(device)


def _parameters(network: nn.Module) -> dict[str, Floats]:
    return {
        name: parameter.detach().cpu().numpy().astype(np.float32, copy=False)
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def _flops(recipe: Recipe, network: nn.Module, examples: Examples) -> int | None:
    """Count one step's forward and backward FLOPs; the optimizer's own are left out."""
    from torch.utils.flop_counter import FlopCounterMode

    x, y = inputs(examples.train_x[: recipe.batch_size]), examples.train_y[: recipe.batch_size]
    if recipe.data == GIVEN:
        # A loss of somebody's own looks its numbers up, so there must be some.
        alike = copy.deepcopy(network)
        with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
            examples.loss(alike, x, y).backward()  # type: ignore[no-untyped-call]
        return int(counter.get_total_flops()) or None
    # Without numbers: nothing is computed, and recurrent layers are plain products, where the CPU's
    # fused ones are opaque to the counter.
    shapes = copy.deepcopy(network).to("meta")
    with FlopCounterMode(display=False) as counter:
        examples.loss(shapes, x.to("meta"), y.to("meta")).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
