"""Every method against every other, as ``weightcast leaderboard --pairs`` shows and writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightcast.bench.results.inference.friedman import Friedman
from weightcast.bench.results.inference.pairwise import LEVEL, Pairwise

if TYPE_CHECKING:
    import pandas as pd


def pairs_rows(order: list[str], pairs: Pairwise, found: Friedman | str) -> list[dict[str, Any]]:
    """Lay the matrix out for the terminal: rows are numbered, and columns are those numbers.

    Parameters
    ----------
    order : list of str
        Of rows and columns; who was not compared is left out.
    pairs : Pairwise
    found : Friedman or str
        Its mean ranks, where there are any, are a column.
    """
    named = [method for method in order if method in pairs.methods]
    places = [pairs.methods.index(method) for method in named]
    rows = []
    for number, (row, method) in enumerate(zip(places, named, strict=True), 1):
        told: dict[str, Any] = {"#": number, "method": method}
        if isinstance(found, Friedman):
            told["mean rank"] = f"{found.mean_ranks[found.methods.index(method)]:.2f}"
        for other, column in enumerate(places, 1):
            star = "*" if pairs.p[row, column] < LEVEL else ""
            told[str(other)] = "—" if row == column else f"{pairs.won[row, column]:.0%}{star}"
        rows.append(told)
    return rows


def pairs_notes(found: Friedman | str) -> list[str]:
    """Say what the matrix says, and what Friedman's test says."""
    return [
        "a row's share of runs in which its error is lower than the column's; * clear at 5 % "
        "(Wilcoxon over runs, Stouffer over data sets, Holm over pairs)",
        found.spoken if isinstance(found, Friedman) else found,
    ]


def pairs_table(
    order: list[str], pairs: Pairwise, found: Friedman | str, **about: str
) -> pd.DataFrame:
    """Return a row an ordered pair, as ``--pairs --csv`` writes it.

    ``won``, ``ratio`` and ``p`` are `Pairwise`'s. Of Friedman's test ``mean_rank``, ``p_nemenyi``,
    ``critical_difference``, ``friedman``, ``friedman_p`` and ``blocks`` of ``block`` are empty
    where there is none.
    """
    import pandas as pd

    named = [method for method in order if method in pairs.methods]
    rows = []
    for method in named:
        for other in named:
            if method == other:
                continue
            at = pairs.methods.index(method), pairs.methods.index(other)
            row: dict[str, Any] = {"method": method, "other": other}
            row |= {"won": pairs.won[at], "ratio": pairs.ratio[at], "p": pairs.p[at]}
            rows.append(row | _of_friedman(method, other, found) | about)
    return pd.DataFrame(rows)


def _of_friedman(method: str, other: str, found: Friedman | str) -> dict[str, Any]:
    names = (
        "mean_rank", "p_nemenyi", "critical_difference",
        "friedman", "friedman_p", "blocks", "block",
    )  # fmt: skip
    if isinstance(found, str):
        return dict.fromkeys(names)
    own, against = found.methods.index(method), found.methods.index(other)
    values = (
        found.mean_ranks[own], found.pairs[own, against], found.critical_difference,
        found.statistic, found.p, found.blocks, found.of,
    )  # fmt: skip
    return dict(zip(names, values, strict=True))
