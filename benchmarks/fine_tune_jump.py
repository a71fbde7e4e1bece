"""Jump with a forecaster at 20 % of a MiniLM fine-tune and train on, beside plain training.

Trains by the recipe of ``sentiment-minilm-adamw`` (22.7 million parameters, 600 steps of AdamW).
Up to the jump there is one training; then it goes on twice, with equal batches, dropout and state
of the optimizer: once as it was, once from the weights that the forecaster made of the last
snapshots. The forecast is taken whatever it does to the loss.

The target is what plain training has at its end, the mean of its last three measurements. A
training is there at the first measurement that has it and keeps it for three in a row; plain
training is there at its end at the latest. Seconds are those of training and forecasting, not of
measuring. The two go on in turns, so that a busy machine slows both.

``python benchmarks/fine_tune_jump.py`` takes half an hour on one core of a busy machine, and the
files of ``weightcast fetch minilm-l6`` and ``movie-reviews``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from weightcast.bench.progress.bar import progress_bar
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import InputError, Metadata, RecordedDataSet, Trajectory, get_dataset
from weightcast.datasets.evaluator import NetworkEvaluator
from weightcast.datasets.examples.examples import Examples, cross_entropy, inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.files.partial_file import write_text
from weightcast.datasets.networks.build import build_network, describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats
from weightcast.datasets.window import Window
from weightcast.methods import make_method
from weightcast.methods.forecaster import Forecaster

DATASET = "sentiment-minilm-adamw"
#: So many measurements in a row must have the target, and so many at the end of plain training
#: make it.
KEPT = 3
#: What is asked of both trainings, and whether more of it is better.
TARGETS = {"test_accuracy": True, "train_loss": False}


@dataclass
class Curve:
    """What was measured of one training.

    Attributes
    ----------
    steps : list of int
        Optimizer steps done at each measurement.
    seconds : list of float
        Seconds of training and forecasting up to it.
    values : dict of str to list of float
        Train and test loss and accuracy.
    """

    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: int, seconds: float, measured: Mapping[str, float]) -> None:
        """Append one measurement."""
        self.steps.append(step)
        self.seconds.append(seconds)
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)

    def target(self, name: str) -> float:
        """Return the mean of the last measurements."""
        return float(np.mean(self.values[name][-KEPT:]))

    def reached(self, name: str, target: float) -> int | None:
        """Return the first measurement from which on the target is had ``KEPT`` times in a row."""
        values = np.asarray(self.values[name])
        had = values >= target if TARGETS[name] else values <= target
        for place in range(len(had) - KEPT + 1):
            if had[place : place + KEPT].all():
                return place
        return None


class Training:
    """A network under way: its optimizer, its own stream of random numbers, what it cost so far.

    Parameters
    ----------
    recipe : Recipe
    seed : int
        With the recipe it fixes the start and the batches.
    measured : int
        Measure on so many training and so many test examples.
    """

    def __init__(self, recipe: Recipe, seed: int, measured: int) -> None:
        torch.manual_seed(recipe.random_seed(seed, "initial state"))
        self.network = build_network(recipe.network, **recipe.network_options)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, **recipe.hyperparameters
        )
        self.step, self.seconds, self.curve = 0, 0.0, Curve()
        self._examples = load_examples(recipe.data, **recipe.data_options)
        self._batches = list(_batches(recipe, seed, self._examples))
        self._rates = recipe.learning_rates
        self._random = torch.get_rng_state()
        self._measured = measured

    def fork(self) -> Training:
        """Return a copy that goes on as this one would, dropout included."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network)
        other.optimizer = torch.optim.AdamW(other.network.parameters())
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        other.curve = copy.deepcopy(self.curve)
        return other

    def train(self, until: int) -> None:
        """Train up to a step."""
        torch.set_rng_state(self._random)  # dropout is to fall alike in both trainings
        self.network.train()
        start = time.perf_counter()
        for step in range(self.step, until):
            rows = self._batches[step]
            for group in self.optimizer.param_groups:
                group["lr"] = self._rates[step]
            self.optimizer.zero_grad()
            logits = self.network(inputs(self._examples.train_x[rows]))
            loss = cross_entropy(logits, self._examples.train_y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.seconds += time.perf_counter() - start
        self.step = until
        self._random = torch.get_rng_state()

    def evaluate(self) -> dict[str, float]:
        """Return train and test loss and accuracy of the weights as they are."""
        training = self.network.training
        evaluator = NetworkEvaluator(self.network, self._examples, measured=self._measured)
        measured = evaluator.measure_loaded()
        self.network.train(training)
        return measured

    def measure(self) -> None:
        """Append what `evaluate` returns to the curve; it costs no seconds."""
        self.curve.add(self.step, self.seconds, self.evaluate())

    def land(self, weights: Mapping[str, Floats], seconds: float) -> None:
        """Go on from other weights, with the optimizer's state as it is."""
        start = time.perf_counter()
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(torch.from_numpy(weights[name]))
        self.seconds += seconds + time.perf_counter() - start


def _batches(recipe: Recipe, seed: int, examples: Examples) -> Iterator[torch.Tensor]:
    """Yield the rows of each step's batch: the training data, shuffled anew every epoch."""
    random = np.random.default_rng(recipe.random_seed(seed, "batches"))
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(recipe.steps):
        if len(order) == 0:
            order = torch.from_numpy(random.permutation(len(examples.train_y)))
        yield order[: recipe.batch_size]
        order = order[recipe.batch_size :]


class Snapshots:
    """The last snapshots of a training, in memory.

    Parameters
    ----------
    network : Module
    steps : sequence of int
        The steps at which they are taken, evenly spaced.
    """

    def __init__(self, network: nn.Module, steps: Sequence[int]) -> None:
        self.steps = list(steps)
        self.tensors = describe_tensors(network)
        self._arrays = {
            info.name: np.empty((len(steps), *info.shape), dtype=np.float32)
            for info in self.tensors
        }

    def take(self, training: Training) -> float:
        """Keep the weights if their step is one of those; return the seconds that it took."""
        if training.step not in self.steps:
            return 0.0
        start = time.perf_counter()
        row = self.steps.index(training.step)
        for name, parameter in training.network.named_parameters():
            self._arrays[name][row] = parameter.detach().numpy()
        return time.perf_counter() - start

    def forecast(self, method: Forecaster, task: ForecastTask) -> dict[str, Floats]:
        """Return the forecast weights at the task's last horizon."""
        meta = Metadata(task.dataset, task.seed, optimizer=task.optimizer)
        window = Trajectory.from_arrays(self._arrays, self.steps, meta, self.tensors)
        landed = {info.name: np.empty(info.size, dtype=np.float32) for info in self.tensors}
        for block in ForecastStream(method, window, task):
            landed[block.tensor.name][block.rows] = block.forecast[:, -1]
        return {info.name: landed[info.name].reshape(info.shape) for info in self.tensors}


def make_jump_task(recipe: Recipe, steps: Sequence[int], ahead: int, seed: int) -> ForecastTask:
    """Ask for so many snapshots after the last of these steps."""
    every = steps[1] - steps[0]
    return ForecastTask(
        dataset=recipe.name,
        context=len(steps) - 1,
        horizons=np.arange(1, ahead + 1, dtype=np.float32),
        context_steps=np.asarray(steps, dtype=np.int64),
        horizon_steps=steps[-1] + every * np.arange(1, ahead + 1, dtype=np.int64),
        learning_rates=np.asarray(recipe.learning_rates, dtype=np.float64),
        optimizer=recipe.optimizer,
        hyperparameters=dict(recipe.hyperparameters),
        seed=seed,
    )


def fitted_method(
    name: str, dataset: RecordedDataSet, task: ForecastTask, seed: int, data: Path | None
) -> tuple[Forecaster, float]:
    """Make the forecaster; fit one that learns on recorded runs of other seeds. Return the seconds.

    Raises
    ------
    InputError
        If it learns and no such run is here, or the runs are not recorded at the task's steps.
    """
    method = make_method(name)
    if method.get_tag("provenance") != "fit-on-train-split":
        return method.fit([], [], task), 0.0
    others = [s for s in dataset.seeds if s != seed and s not in dataset.missing(data)]
    if not others:
        raise InputError(
            f"{name} learns from other runs, and none of {dataset.name} is here; name their folder "
            f"with --data, or record one: weightcast record {dataset.name} --seeds {seed + 1}"
        )
    wanted = [*task.context_steps.tolist(), *task.horizon_steps.tolist()]
    runs = []
    for other in others:
        run = dataset.run(other, data)
        steps = run.steps.tolist()
        if not set(wanted) <= set(steps):
            raise InputError(
                f"{run.label} is recorded every {steps[1]} steps, which does not give the context "
                f"and horizon at steps {wanted[0]} to {wanted[-1]}; change --every"
            )
        places = [steps.index(step) for step in wanted]
        runs.append(Window(run, range(places[0], places[-1] + 1, places[1] - places[0])))
    start = time.perf_counter()
    # With one run there is none to choose on but itself.
    method = method.fit(runs[:-1] or runs, runs[-1:], task)
    return method, time.perf_counter() - start


@dataclass(frozen=True)
class Jump:
    """What the jump did.

    Attributes
    ----------
    method : str
    step : int
    context_steps : list of int
    ahead_steps : int
        Optimizer steps after the jump's that the forecast is for.
    fit_seconds : float
        Not counted as the training's: a fit serves all runs.
    forecast_seconds : float
    before, after : dict of str to float
        What was measured of the weights that training had, and of those that it went on from.
    """

    method: str
    step: int
    context_steps: list[int]
    ahead_steps: int
    fit_seconds: float
    forecast_seconds: float
    before: dict[str, float]
    after: dict[str, float]


def compare(options: argparse.Namespace) -> tuple[Curve, Curve, Jump]:
    """Train plainly and with the jump; return both curves and what the jump did.

    Raises
    ------
    InputError
        If the snapshots before the jump, or the jump, do not fit into the training.
    """
    dataset = get_dataset(DATASET)
    assert isinstance(dataset, RecordedDataSet)
    assert dataset.recipe is not None
    recipe, jump_at = dataset.recipe, options.jump_at
    first = jump_at - options.context * options.every
    if first < 0 or jump_at >= recipe.steps:
        raise InputError(
            f"a jump at step {jump_at} of {recipe.steps} does not fit {options.context} intervals "
            f"of {options.every} steps before it; change --jump-at, --context or --every"
        )
    steps = range(first, jump_at + 1, options.every)
    ahead = options.ahead or max(1, options.context // 2)
    task = make_jump_task(recipe, steps, ahead, options.seed)
    method, fit_seconds = fitted_method(options.method, dataset, task, options.seed, options.data)
    measure_at = {*range(0, recipe.steps, options.measure_every), jump_at, recipe.steps}
    before_jump = sorted(s for s in measure_at | set(steps) if 0 < s <= jump_at)
    after_jump = sorted(s for s in measure_at if s > jump_at)
    total = jump_at + 2 * (recipe.steps - jump_at)

    with progress_bar("training", len(before_jump) + 2 * len(after_jump)) as advance:
        began = time.perf_counter()

        def done(step: int, trained: int) -> None:
            spent = time.perf_counter() - began
            advance(f"step {step}", spent / trained * (total - trained))

        plain = Training(recipe, options.seed, options.measured)
        snapshots = Snapshots(plain.network, steps)
        took = snapshots.take(plain)
        plain.measure()
        for step in before_jump:
            plain.train(step)
            took += snapshots.take(plain)
            if step in measure_at:
                plain.measure()
            done(step, step)

        jumped = plain.fork()
        start = time.perf_counter()
        landing = snapshots.forecast(method, task)
        took += time.perf_counter() - start
        del snapshots
        before = jumped.evaluate()
        jumped.land(landing, took)
        after = jumped.evaluate()
        # Where plain training has the last weights before the jump, this one has those after it.
        for name, value in after.items():
            jumped.curve.values[name][-1] = value
        jumped.curve.seconds[-1] = jumped.seconds
        for step in after_jump:
            for training in (plain, jumped):
                training.train(step)
                training.measure()
                done(step, plain.step + jumped.step - jump_at)
    ahead_steps = int(task.horizon_steps[-1]) - jump_at
    jump = Jump(options.method, jump_at, list(steps), ahead_steps, fit_seconds, took, before, after)
    return plain.curve, jumped.curve, jump


def summary(plain: Curve, jumped: Curve) -> dict[str, dict[str, float | int | None]]:
    """Return each target with the steps and seconds of both; None where the jump lost it."""
    found: dict[str, dict[str, float | int | None]] = {}
    for name in TARGETS:
        target = plain.target(name)
        row: dict[str, float | int | None] = {"target": target}
        for who, curve in (("plain", plain), ("jumped", jumped)):
            place = curve.reached(name, target)
            if place is None and curve is plain:
                place = len(curve.steps) - 1  # its mean at the end is the target
            row[f"{who}_steps"] = None if place is None else curve.steps[place]
            row[f"{who}_seconds"] = None if place is None else curve.seconds[place]
            row[f"{who}_end"] = curve.target(name)
        found[name] = row
    return found


def report(plain: Curve, jumped: Curve, jump: Jump) -> Iterator[str]:
    """Lay out the comparison."""
    yield (
        f"{jump.method} at step {jump.step}, from {len(jump.context_steps)} snapshots to "
        f"{jump.ahead_steps} steps ahead: {jump.forecast_seconds:.1f} s; the jump took the train "
        f"loss from {jump.before['train_loss']:.4f} to {jump.after['train_loss']:.4f} and the test "
        f"accuracy from {jump.before['test_accuracy']:.3f} to {jump.after['test_accuracy']:.3f}"
    )
    if jump.fit_seconds:
        yield f"its fit on other runs took {jump.fit_seconds:.1f} s, which are not counted below"
    yield f"{'step':>6} {'train loss':>21} {'test accuracy':>21} {'seconds':>17}"
    yield f"{'':6}" + 3 * f" {'plain':>10} {'jumped':>10}"
    for i, step in enumerate(plain.steps):
        cells = [
            f"{curve.values[name][i]:10.4f}" for name in ("train_loss", "test_accuracy")
            for curve in (plain, jumped)
        ]  # fmt: skip
        cells += [f"{curve.seconds[i]:10.1f}" for curve in (plain, jumped)]
        yield f"{step:6} " + " ".join(cells)
    for name, row in summary(plain, jumped).items():
        what = name.replace("_", " ")
        ends = f"{what}: {row['plain_end']:.4f} at the end of plain training, the target"
        yield f"{ends}; {row['jumped_end']:.4f} at the end of the other"
        for who in ("plain", "jumped"):
            steps, seconds = row[f"{who}_steps"], row[f"{who}_seconds"]
            when = "not within the budget" if steps is None else f"{steps} steps, {seconds:.0f} s"
            yield f"  {who:7} {when}"
        yield f"  {verdict(row)}"


def verdict(row: Mapping[str, float | int | None]) -> str:
    """Say who reached a target first, in steps."""
    plain, jumped = row["plain_steps"], row["jumped_steps"]
    assert plain is not None
    if jumped is None:
        return "plain training was better: with the jump the target was not reached and kept"
    if jumped == plain:
        return "both at the same step"
    first = "the jump" if jumped < plain else "plain training"
    return f"{first} was first by {abs(plain - jumped)} steps"


def write_json(
    path: Path, options: argparse.Namespace, plain: Curve, jumped: Curve, jump: Jump
) -> None:
    """Write all that was measured."""
    written = {
        "dataset": DATASET,
        "seed": options.seed,
        "measured_examples": options.measured,
        "kept_for": KEPT,
        "jump": asdict(jump),
        "targets": summary(plain, jumped),
        "plain": asdict(plain),
        "jumped": asdict(jumped),
    }
    write_text(path, json.dumps(written, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="ols-line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jump-at", type=int, default=120, metavar="STEP")
    parser.add_argument("--every", type=int, default=10, help="steps between snapshots")
    parser.add_argument("--context", type=int, default=12, help="snapshots before the last")
    parser.add_argument("--ahead", type=int, help="snapshots to jump; half the context by default")
    parser.add_argument("--measure-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--measured", type=int, default=512, help="examples to measure on")
    parser.add_argument("--data", type=Path, help="folder of recorded runs, for methods that learn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        plain, jumped, jump = compare(options)
    except InputError as error:
        parser.error(str(error))
    print("\n".join(report(plain, jumped, jump)))
    if options.json:
        write_json(options.json, options, plain, jumped, jump)
    return 0


if __name__ == "__main__":
    sys.exit(main())
