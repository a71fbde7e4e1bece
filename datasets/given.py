"""Networks that are given by plugins, with what they learn from, by the name of their data set.

A recipe names its network and its data. Those of the package have names of their own; of a plugin's
both are called `GIVEN`, and an option says of which data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

#: What a recipe calls a network, and data, that a plugin gives.
GIVEN = "own"


class Given(Protocol):
    """A network of somebody's own."""

    def build(self) -> torch.nn.Module:
        """Build the network, with random weights of its own."""

    def examples(self) -> Any:
        """Return what it learns from, as `Examples`; loaded once a process."""

    def check(self) -> None:
        """See that it can be built, and that its loss can be differentiated.

        Raises
        ------
        InputError
            Saying what is wrong in the plugin.
        """


_given: dict[str, Given] = {}


def give(dataset: str, given: Given) -> None:
    """Have the network of a data set found by its name."""
    _given[dataset] = given


def given_by(dataset: str) -> Given:
    """Look up the network of a plugin's data set.

    Raises
    ------
    InputError
        If no plugin has registered it here.
    """
    if dataset not in _given:
        raise InputError(
            f"network and loss of the data set {dataset} are in a plugin that is not loaded; name "
            "it with --plugin"
        )
    return _given[dataset]
