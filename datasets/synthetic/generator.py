"""Synthetic sets: a family of random problems, an update rule and a schedule make a generator.

From one run's problem and start, with batches B_t drawn anew each step without replacement and
g_t = ∇L_{B_t}(w_t),

    (w_{t+1}, s_{t+1}) = update(w_t, g_t, η_t, s_t) ,

where s is the optimizer's memory (see `weightcast.datasets.synthetic.updates`). Without a batch
size every
g_t is the full gradient ∇L(w_t), and the run is deterministic from its start. Each step is a
snapshot.

**What the best forecast is.** Given the origin n, all that is still random are the later batches.
Who knows the problem, w_n and s_n errs least in mean square by the conditional expectation
E[w_{n+h} | w_n, s_n], which `Generator.expected_path` returns and no method can do better than on
average; on a single run one may, by luck. It is a bound, not a goal: a context of noisy snapshots
mostly shows too little of the problem to come near it. s_n belongs to what must be known: at one
and the same w_n a heavy ball that rolls goes elsewhere than one that rests. It is worked out again
by running the generator up to n; of later batches the expectation knows nothing.

- Where gradient and update are linear (linear regression by SGD or heavy ball, with any schedule),
  the expectation is exactly the recurrence with full gradients from (w_n, s_n).
- Where the run is deterministic, that recurrence is the run itself, and the error is 0.
- Adam's divisor also sees the gradient's variance, so full gradients would be biased. There the
  expectation is the mean of ``continuations`` further runs from (w_n, s_n) with batches of their
  own. Its squared error exceeds the least by a share of about 1 / continuations.
- The gradient of logistic regression is not linear, but nearly so over the width of the noise: a
  mean of further runs errs no less than the recurrence with full gradients, which is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.synthetic.problem import Problem, Rows
from weightcast.datasets.synthetic.streams import random_stream
from weightcast.datasets.synthetic.updates import Doubles, State, Update
from weightcast.datasets.trajectory import Metadata, Trajectory


@dataclass(frozen=True)
class Walk:
    """One run in float64.

    Attributes
    ----------
    path : ndarray, shape (T + 1, d)
    states : tuple of State
        The optimizer's memory at each snapshot.
    batches : tuple of ndarray or None
        The rows of each of the T batches.
    """

    path: Doubles
    states: tuple[State, ...]
    batches: tuple[Rows, ...]


@dataclass(frozen=True)
class Generator:
    """One synthetic data set.

    Attributes
    ----------
    name : str
        The data set's; with the seed it fixes problem, start and batches.
    family : str
        The problems' name in `weightcast.datasets.synthetic.families`.
    problem : type of Problem
    update : Update
    rates : tuple of float
        The learning rate of each step.
    batch_size : int or None
        None for full gradients.
    continuations : int
        Runs whose mean is the expected path; 0 where full gradients give it.
    """

    name: str
    family: str
    problem: type[Problem]
    update: Update
    rates: tuple[float, ...]
    batch_size: int | None = None
    continuations: int = 0

    def draw(self, seed: int) -> Problem:
        """Draw one run's problem."""
        return self.problem.draw(random_stream(self.name, seed, "problem"))

    def walk(self, seed: int) -> Walk:
        """Train one run."""
        return _walk(self, seed)

    def run(self, seed: int) -> Trajectory:
        """Generate one run; the same seed gives the same numbers.

        Returns
        -------
        Trajectory
            A snapshot a step, w_0 included. ``meta.truth`` holds the problem's ``optimum`` and the
            ``noise_floor``: the root mean square over the run's steps of the distance between
            where a step led and where the full gradient would have led, in units of weights. It is
            what stays unknown one step ahead, 0 for deterministic runs; farther ahead `oracle`
            tells.
        """
        problem, walk = self.draw(seed), self.walk(seed)
        steps = len(self.rates)
        weights = walk.path.astype(np.float32)  # (T + 1, d)
        arrays, offset = {}, 0
        for info in problem.tensors:
            flat = weights[:, offset : offset + info.size]
            arrays[info.name] = np.ascontiguousarray(flat).reshape(-1, *info.shape)
            offset += info.size
        size = self.batch_size or problem.samples or None
        meta = Metadata(
            dataset=self.name,
            seed=seed,
            recipe={
                "generator": self.family,
                **problem.settings,
                "batch_size": size,
                "steps": steps,
                "learning_rate": self.rates[0],
            },
            data=problem.sha256,
            optimizer=self.update.optimizer,
            hyperparameters=self.update.hyperparameters,
            learning_rates=self.rates,
            batch_size=size,
            steps_per_epoch=problem.samples // size if size else None,
            train_loss=tuple(problem.loss(weights.astype(np.float64)).tolist()),
            source="generated",
            licence="BSD-3-Clause",
            truth={**problem.truth(), "noise_floor": self._noise(problem, walk)},
        )
        return Trajectory.from_arrays(arrays, range(steps + 1), meta, problem.tensors)

    def expected_path(self, seed: int, weights: Doubles, origin: int, steps: int) -> Doubles:
        """Return the expectation of a run's next weights, given those at an origin.

        Parameters
        ----------
        seed : int
            The run's.
        weights : ndarray, shape (d,)
            w_n.
        origin : int
            n, in steps.
        steps : int
            How many steps ahead to look, m.

        Returns
        -------
        ndarray, shape (m, d), float64

        Raises
        ------
        InputError
            If the run has no such steps, or other weights.
        """
        if origin < 0 or steps < 1 or origin + steps > len(self.rates):
            raise InputError(
                f"{self.name} has steps 0 to {len(self.rates)}; from {origin} on, {steps} steps "
                "ahead is not among them"
            )
        size = sum(info.size for info in self.problem.tensors)
        if np.shape(weights) != (size,):
            raise InputError(f"{self.name} has {size} weights, not {np.shape(weights)}")
        problem, state = self.draw(seed), self.walk(seed).states[origin]
        w: Doubles = np.asarray(weights, dtype=np.float64)
        random = random_stream(self.name, seed, f"expectation/{origin}")
        pool = self._pool(random) if self.continuations else None
        if pool is not None:
            w = np.tile(w, (self.continuations, 1))
        path = np.empty((steps, size))
        for row, rate in enumerate(self.rates[origin : origin + steps]):
            rows = (
                pool[random.integers(len(pool), size=self.continuations)]
                if pool is not None
                else None
            )
            w, state = self.update.step(w, problem.gradient(w, rows), rate, state)
            path[row] = w.mean(axis=0) if pool is not None else w
        return path

    def oracle(self, run: Trajectory, context: int) -> Doubles:
        """Forecast a run from its snapshot ``context`` on by `expected_path`.

        Parameters
        ----------
        run : Trajectory
            One of this generator's.
        context : int
            n: the origin is snapshot w_n.

        Returns
        -------
        ndarray, shape (m, d), float64
            A row a later snapshot, the tensors laid end to end.
        """
        if run.meta.dataset != self.name:
            raise InputError(f"{run.label} is not a run of {self.name}")
        if not 0 <= context < run.n_snapshots - 1:
            raise InputError(f"{run.label} has no snapshot after w_{context} to forecast")
        last = run.snapshot(context)
        weights = np.concatenate([last[info.name].reshape(-1) for info in run.tensors])
        ahead = run.steps[context + 1 :] - run.steps[context]
        path = self.expected_path(
            run.meta.seed, weights.astype(np.float64), int(run.steps[context]), int(ahead[-1])
        )
        forecast: Doubles = path[ahead - 1]
        return forecast

    def _pool(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw batches, (p, b), that hold every sample equally often.

        Each shuffle of the data is cut into disjoint batches, so that the pool's mean gradient is
        exactly the full one: a pool of independent batches would lean to one side.
        """
        size, samples = self.batch_size or 1, self.problem.samples
        order = random.permuted(np.tile(np.arange(samples), (32, 1)), axis=1)
        return order[:, : samples - samples % size].reshape(-1, size)

    def _noise(self, problem: Problem, walk: Walk) -> float:
        if self.batch_size is None:
            return 0.0
        before = walk.path[:-1]  # (T, d)
        states = tuple(np.stack(part) for part in zip(*walk.states[:-1], strict=True))
        rates = np.asarray(self.rates)[:, None]
        expected, _ = self.update.step(before, problem.gradient(before), rates, states)
        return float(np.sqrt(((walk.path[1:] - expected) ** 2).sum(axis=1).mean()))


# A run, its forecast by the oracle at each context and its evaluator are asked for one after the
# other.
@lru_cache(maxsize=4)
def _walk(generator: Generator, seed: int) -> Walk:
    problem = generator.draw(seed)
    random = random_stream(generator.name, seed, "training")
    w = problem.start(random)
    state = generator.update.begin(len(w))
    path, states, batches = [w], [state], []
    for rate in generator.rates:
        rows: Rows = None
        if generator.batch_size is not None:
            rows = random.choice(problem.samples, size=generator.batch_size, replace=False)
        w, state = generator.update.step(w, problem.gradient(w, rows), rate, state)
        path.append(w)
        states.append(state)
        batches.append(rows)
    return Walk(np.asarray(path), tuple(states), tuple(batches))
