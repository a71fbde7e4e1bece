"""A reader's run held against released tables, which `leaderboard --csv` wrote.

A released ranking has medians and no runs. What it says of a method on a data set is therefore
compared with the interval that the reader's own runs give.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightcast.bench.engine.store.store import NAME
from weightcast.bench.results.apart import by_dataset
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError
from weightcast.datasets.files.foreign import foreign

if TYPE_CHECKING:
    import pandas as pd

SAME, INSIDE, OUTSIDE = "same", "inside", "outside"
#: Errors nearer than this, relative to each other, are one number computed on two machines.
_EQUAL = 1e-3
_ERROR = "error of "
_NEEDED = {"method", "tier", "metric"}


@dataclass(frozen=True)
class Held:
    """One released number beside the reader's own.

    Attributes
    ----------
    table : str
        The file it stands in.
    tier, metric, method, task : str
    released, here : float
        Median errors over runs.
    released_skill, skill, skill_lower, skill_upper : float
        1 − the error over the last value's, as released, and as the reader's runs say with their
        95 % interval.
    verdict : str
        ``same``: the errors agree to a thousandth. ``inside``: the released skill is within the
        reader's interval. ``outside``: it is not.
    """

    table: str
    tier: str
    metric: str
    method: str
    task: str
    released: float
    here: float
    released_skill: float
    skill: float
    skill_lower: float
    skill_upper: float
    verdict: str


def is_released(folder: Path) -> bool:
    """Whether a folder holds rankings as tables, and no results."""
    return folder.is_dir() and not (folder / NAME).exists() and bool(_tables(folder))


def hold_against(tables: Path, results: Results, tier: str | None = None) -> list[Held]:
    """Compare a folder's results with released rankings, on each data set that both have.

    Parameters
    ----------
    tables : Path
        A folder of rankings as CSV.
    results : Results
    tier : str, optional
        By default every tier that both have.

    Returns
    -------
    list of Held
        Each released number once, those outside first.

    Raises
    ------
    InputError
        If a table cannot be read, or nothing is in both.
    """
    found: dict[tuple[str, str, str, str], Held] = {}
    own: dict[tuple[str, str], pd.DataFrame | None] = {}
    for name, table in _tables(tables).items():
        at = str(table["tier"].iloc[0]), str(table["metric"].iloc[0])
        if tier is not None and at[0] != tier:
            continue
        if at not in own:
            own[at] = _own(results, *at)
        mine = own[at]
        for held in [] if mine is None else _held(name, table, mine, *at):
            found.setdefault((held.tier, held.metric, held.method, held.task), held)
    if not found:
        raise InputError(f"{tables} and {results.folder} have no method and data set in common")
    order = (OUTSIDE, INSIDE, SAME)
    return sorted(found.values(), key=lambda h: (order.index(h.verdict), h.tier, h.task, h.method))


def held_rows(found: list[Held]) -> list[dict[str, Any]]:
    """Return a dictionary a number."""
    return [asdict(one) for one in found]


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the rankings in a folder; other tables are passed over."""
    import pandas as pd

    found = {}
    for path in sorted(folder.glob("*.csv")):
        with foreign(path, "a ranking", "name another folder"):
            table = pd.read_csv(path)
        if len(table) and set(table.columns) >= _NEEDED and _medians(table):
            found[path.name] = table
    return found


def _medians(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(_ERROR)]


def _own(results: Results, tier: str, metric: str) -> pd.DataFrame | None:
    """Return what the reader's runs say of each data set; None where they have no such metric."""
    try:
        board = rank_results(results, tier=tier, metric=metric)
    except InputError:
        return None
    table = by_dataset(results, board, tier=tier)
    if table.empty:
        return None
    place = table["dataset"] + ", context " + table["context"].astype(str)
    return table.assign(task=place).set_index(["method", "task"])


def _held(name: str, table: pd.DataFrame, own: pd.DataFrame, tier: str, metric: str) -> list[Held]:
    found = []
    rows = table.set_index("method")
    for column in _medians(table) if BASELINE in rows.index else []:
        task = column.removeprefix(_ERROR)
        for method, error in rows[column].dropna().items():
            if (method, task) not in own.index or method == BASELINE:
                continue
            mine = own.loc[(method, task)]
            released = 1 - float(error) / float(rows.loc[BASELINE, column])
            if abs(float(mine["error"]) / float(error) - 1) < _EQUAL:
                verdict = SAME
            else:
                within = mine["skill_lower"] <= released <= mine["skill_upper"]
                verdict = INSIDE if within else OUTSIDE
            found.append(
                Held(
                    table=name, tier=tier, metric=metric, method=str(method), task=task,
                    released=float(error), here=float(mine["error"]), released_skill=released,
                    skill=float(mine["skill"]), skill_lower=float(mine["skill_lower"]),
                    skill_upper=float(mine["skill_upper"]), verdict=verdict,
                )
            )  # fmt: skip
    return found
