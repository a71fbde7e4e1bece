"""Seeing that what a fit or a cell read is what its key says.

A run's files are looked at before and after: that costs a system call a file, no reading. Where one
is not what it was when the plan was made, its contents decide.
"""

from __future__ import annotations

from collections.abc import Iterable

from weightcast.bench.plan.fits import KnownRun
from weightcast.bench.plan.run_cache import Files, RunCache
from weightcast.datasets.admission.lineage import fingerprint
from weightcast.datasets.errors import ChangedMeanwhile, InputError


class KnownBytes:
    """Runs that are read as the plan knows them, or not at all.

    Parameters
    ----------
    runs : RunCache
    elsewhere : bool
        Whether the plan was made on another machine, whose files have other numbers.
    """

    def __init__(self, runs: RunCache, *, elsewhere: bool = False) -> None:
        self._runs, self._elsewhere = runs, elsewhere
        #: What files were when their contents were last found right.
        self._right: dict[tuple[str, int], Files] = {}

    def check_all(self, known: Iterable[KnownRun]) -> None:
        """See that runs have the bytes that the plan knows.

        Raises
        ------
        ChangedMeanwhile
            If one has others, or none.
        """
        for run in known:
            self.check(run)

    def untouched(self, known: Iterable[KnownRun]) -> bool:
        """Whether nobody has written to any run's files since they were checked."""
        return all(self._runs.unchanged(run.dataset, run.seed) for run in known)

    def check(self, known: KnownRun) -> None:
        """See that a run has the bytes that the plan knows.

        Raises
        ------
        ChangedMeanwhile
            If it has others, or none.
        """
        place = known.dataset, known.seed
        if self._is_known(known):
            return
        self._runs.forget(*place)
        try:
            same = fingerprint(self._runs(*place)) == known.fingerprint
        except InputError as error:
            raise self._changed(known, f" ({error})") from None
        if not (same and self._runs.unchanged(*place)):
            raise self._changed(known)
        self._right[place] = self._runs.files(*place)

    def _is_known(self, known: KnownRun) -> bool:
        place = known.dataset, known.seed
        if place not in self._right and (self._elsewhere or not known.files):
            return False
        try:
            opened, unchanged = self._runs.files(*place), self._runs.unchanged(*place)
        except InputError:
            return False
        return unchanged and opened == self._right.get(place, known.files)

    def _changed(self, known: KnownRun, how: str = "") -> ChangedMeanwhile:
        if self._elsewhere:
            return ChangedMeanwhile(
                f"{_named(known)}: this worker reads other data than the client{how}; name a "
                "folder that both share with --data"
            )
        return ChangedMeanwhile(
            f"{_named(known)} was changed while the run was under way{how}; the same command "
            "computes anew what depends on it"
        )


def _named(known: KnownRun) -> str:
    return f"{known.dataset}, seed {known.seed}"
