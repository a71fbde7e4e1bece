"""The Recipe: how a recorded run was trained, enough to train it again and to rebuild its network.

The initial state and the order of the batches derive from (recipe, seed) through a hash. Two
recipes that differ in anything, the optimizer say, therefore start elsewhere even at the same seed:
shared starts leak, since runs from one start end near one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.given import GIVEN, given_by
from weightcast.datasets.rates import constant, cosine, stepped

SCHEDULES: dict[str, Callable[..., tuple[float, ...]]] = {
    "constant": constant,
    "cosine": cosine,
    "step": stepped,
}


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Attributes
    ----------
    name : str
        The data set that the recipe makes.
    network : str
        A name that `weightcast.datasets.networks.build.build_network` knows.
    network_options : dict
    data : str
        A name that `weightcast.datasets.examples.load.load_examples` knows.
    optimizer : str
        ``"sgd"``, ``"adam"`` or ``"adamw"``.
    learning_rate : float
        The schedule's highest.
    hyperparameters : dict
        Passed on to the optimizer.
    batch_size : int
    steps : int
        Optimizer steps in all.
    snapshot_every : int
        Steps between snapshots.
    schedule : str
        ``"constant"``, ``"cosine"`` (down to zero) or ``"step"``.
    schedule_options : dict
        For ``"step"``: ``milestones``, the steps at which the rate falls, and ``factor``.
    measured : int or None
        How many examples losses and accuracies are measured on, the first of the training and the
        first of the test data, the same ones at every snapshot; all where there are fewer, or by
        default. Measuring all of a large set at every snapshot would take longer than training.
    data_options : dict
        Passed on to `load_examples`.
    code : str
        SHA-256 of the plugin that gives network and data, where one does. No random seed
        derives from it, so that a comment in the file starts no run elsewhere.
    """

    name: str
    network: str
    data: str
    optimizer: str
    learning_rate: float
    batch_size: int
    steps: int
    snapshot_every: int
    network_options: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    measured: int | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values, without those that are at their default.

        A field added later, with what was done before as its default, thus leaves the hash and so
        the random seeds of older recipes as they were.
        """
        plain = {f.name: f.default_factory() for f in fields(self) if callable(f.default_factory)}
        plain |= {f.name: f.default for f in fields(self) if f.default is not MISSING}
        return {key: value for key, value in asdict(self).items() if plain.get(key) != value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Read `to_json`'s dictionary.

        Raises
        ------
        InputError
            If the dictionary is not a recipe's.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"this recipe cannot be rebuilt: {error}") from None

    @property
    def hash(self) -> str:
        """SHA-256 of the recipe's canonical JSON, but for the code."""
        said = replace(self, code="").to_json()
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def random_seed(self, seed: int, purpose: str) -> int:
        """Derive an independent 63-bit seed for one purpose of one run."""
        text = f"{self.hash}/{seed}/{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @property
    def snapshot_steps(self) -> list[int]:
        """Steps at which the weights are recorded, 0 first."""
        return list(range(0, self.steps + 1, self.snapshot_every))

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rate of each step, shape (steps,).

        Raises
        ------
        InputError
            If the schedule is not known or does not have such an option.
        """
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        try:
            return SCHEDULES[self.schedule](self.learning_rate, self.steps, **self.schedule_options)
        except TypeError as error:
            raise InputError(f"schedule {self.schedule}: {error}") from None

    def require(self) -> None:
        """See that the files of data and of a pretrained model are here, without loading them.

        A network that a plugin gives is built, and its loss taken once.

        Raises
        ------
        InputError
            Naming the command that fetches what is missing, or what is wrong in the plugin.
        """
        from weightcast.datasets.examples.load import FETCHED
        from weightcast.datasets.fetching.fetch import fetched_files
        from weightcast.datasets.fetching.materials import MATERIALS

        if self.data == GIVEN:
            given_by(**self.data_options).check()
        if self.data in FETCHED:
            fetched_files(FETCHED[self.data])
        pretrained = self.network_options.get("pretrained")
        if pretrained in MATERIALS:
            fetched_files(pretrained)
