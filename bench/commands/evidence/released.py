"""The benchmark's released rows that are nearest to a run: same kind of network, same optimizer.

`released.csv` is written by ``reports/published/rows.py`` from the released rankings, and a test
holds it to them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from weightcast.datasets import Recipe, Trajectory, get_dataset

#: What a recipe calls a network → its kind.
_KINDS = {
    "mlp": "MLP",
    "cnn": "CNN",
    "resnet": "CNN",
    "row-transformer": "transformer",
    "character-transformer": "transformer",
    "row-lstm": "recurrent network",
}


@dataclass(frozen=True)
class ReleasedRow:
    """One method on one data set, as released.

    Attributes
    ----------
    folder : str
        The suite, and its folder in ``reports/published``.
    tier, metric, method, dataset : str
    context : int
    ratio : float
        The method's median error or loss over the last value's.
    sets : int
        Over how many data sets the skill is.
    skill, skill_lower, skill_upper : float
        With its 95 % interval over runs.
    """

    folder: str
    tier: str
    metric: str
    method: str
    dataset: str
    context: int
    ratio: float
    sets: int
    skill: float
    skill_lower: float
    skill_upper: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def nearest_rows(run: Trajectory, method: str) -> list[ReleasedRow]:
    """Find the rows of a method on the released data sets that are most like a run.

    Parameters
    ----------
    run : Trajectory
    method : str
        With parameters or without.

    Returns
    -------
    list of ReleasedRow
        On the run's own data set where that was released, else on those of its kind of network and
        optimizer, with momentum or without as it has, else of its kind of network; none where there
        is no such set.
    """
    name = method.partition("(")[0]
    rows = [row for row in _released() if row.method == name]
    own = [row for row in rows if row.dataset == run.meta.dataset]
    alike = [row for row in rows if _kind_of_set(row.dataset) == kind_of(run)]
    optimizer = [row for row in alike if _optimizer(row.dataset) == family(run.meta.optimizer)]
    heavy = bool(run.meta.hyperparameters.get("momentum"))
    momentum = [row for row in optimizer if _has_momentum(row.dataset) == heavy]
    return own or momentum or optimizer or alike


def kind_of(run: Trajectory) -> str:
    """Say what kind of network a run is of, by its recipe or else by its tensors."""
    network = run.meta.recipe.get("network")
    if isinstance(network, str) and network in _KINDS:
        return _KINDS[network]
    kinds = {info.kind for info in run.tensors}
    rules = (
        ("recurrent network", {"recurrent"}),
        ("transformer", {"attention", "embedding"}),
        ("CNN", {"conv"}),
        ("MLP", {"linear"}),
    )
    return next((kind for kind, told in rules if kinds & told), "network")


def family(optimizer: str) -> str:
    """Return ``"adam"`` for Adam and its kin, else the optimizer's own name.

    Examples
    --------
    >>> family("AdamW"), family("sgd")
    ('adam', 'sgd')
    """
    name = optimizer.lower()
    return "adam" if "adam" in name else name


def _kind_of_set(dataset: str) -> str:
    recipe = _recipe(dataset)
    return _KINDS.get(recipe.network, "") if recipe else ""


def _optimizer(dataset: str) -> str:
    recipe = _recipe(dataset)
    return family(recipe.optimizer) if recipe else ""


def _has_momentum(dataset: str) -> bool:
    recipe = _recipe(dataset)
    return bool(recipe and recipe.hyperparameters.get("momentum"))


def _recipe(dataset: str) -> Recipe | None:
    found = getattr(get_dataset(dataset), "recipe", None)
    return found if isinstance(found, Recipe) else None


def _released() -> Sequence[ReleasedRow]:
    text = files(__package__).joinpath("released.csv").read_text(encoding="utf-8")
    return [
        ReleasedRow(
            row["folder"], row["tier"], row["metric"], row["method"], row["dataset"],
            int(row["context"]), float(row["ratio"]), int(row["sets"]),
            *(float(row[f"skill{end}"]) for end in ("", "_lower", "_upper")),
        )
        for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip
