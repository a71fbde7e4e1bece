"""Tracks apart from the headline: the fine-tunes' own ranking, and what each task shares."""

from __future__ import annotations

from weightcast.bench.plan.place import WHOLE
from weightcast.bench.plan.sharing import TRAITS
from weightcast.reports.sections.leaderboard import Standings, standings
from weightcast.reports.tables import Column, Table, words
from weightcast.reports.view import View

FINE_TUNE = "fine-tune"


def fine_tune_standings(view: View) -> list[Standings]:
    """Rank the fine-tunes, a ranking a tier; empty where there are none."""
    columns = {"weights": "rel_sum", "function": "train_loss"}
    found = []
    for tier, column in columns.items():
        ranked = view.rank(tier=tier, track=FINE_TUNE)
        # Without a ranking the medians stand in all other sections anyway.
        if ranked.board is not None:
            title = f"Fine-tunes: {tier}"
            found.append(standings(view, ranked, title, f"forest-fine-tune-{tier}", column))
    return found


def sharing_table(view: View) -> Table | None:
    """Tabulate what each task's training and test runs share; None without such a track."""
    cells = view.results.cells
    places = cells[cells["track"] != "main"][["track", "dataset", "trained_on", "split"]]
    if places.empty:
        return None
    table = Table(
        "What test runs have in common with the runs that were trained or validated on, looked up "
        "run by run; partly: some of it, or some of the test runs.",
        [
            Column("track", numeric=False),
            Column("trained on", numeric=False),
            Column("tested on", numeric=False),
            *(Column(spoken, numeric=False) for spoken in TRAITS.values()),
        ],
    )
    for track, dataset, trained_on, split in sorted(set(places.itertuples(index=False, name=None))):
        found = view.results.sharing.get((dataset, trained_on, track, split), {})
        table.rows.append(
            [
                words(track, note="" if split == WHOLE else split),
                words(trained_on),
                words(dataset),
                *(words(found.get(name, "not noted")) for name in TRAITS),
            ]
        )
    return table
