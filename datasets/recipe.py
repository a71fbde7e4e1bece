"""The Recipe: how a recorded run was trained, enough to train it again and to rebuild its network.

The initial state and the order of the batches derive from (recipe, seed) through a hash. Two
recipes that differ in anything, the optimizer say, therefore start elsewhere even at the same seed:
shared starts leak, since runs from one start end near one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.evaluator import NetworkEvaluator


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Attributes
    ----------
    name : str
        The data set that the recipe makes.
    network : str
        A name that `weightcast.datasets.networks.build_network` knows.
    network_options : dict
    data : str
        A name that `weightcast.datasets.images.load_images` knows.
    optimizer : str
        ``"sgd"`` or ``"adam"``.
    learning_rate : float
        Constant over the run.
    hyperparameters : dict
        Passed on to the optimizer.
    batch_size : int
    steps : int
        Optimizer steps in all.
    snapshot_every : int
        Steps between snapshots.
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
        """SHA-256 of the recipe's canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def random_seed(self, seed: int, purpose: str) -> int:
        """Derive an independent 63-bit seed for one purpose of one run."""
        text = f"{self.hash}/{seed}/{purpose}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @property
    def snapshot_steps(self) -> list[int]:
        """Steps at which the weights are recorded, 0 first."""
        return list(range(0, self.steps + 1, self.snapshot_every))

    def build(self, *, with_test: bool = True) -> tuple[torch.nn.Module, NetworkEvaluator]:
        """Rebuild the network and what measures it.

        The network's values are meaningless until weights are loaded. ``with_test=False`` leaves
        the test data out.
        """
        from weightcast.datasets.evaluator import NetworkEvaluator
        from weightcast.datasets.images import load_images
        from weightcast.datasets.networks import build_network

        network = build_network(self.network, **self.network_options)
        return network, NetworkEvaluator(network, load_images(self.data), with_test=with_test)
