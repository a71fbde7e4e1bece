"""A data set's runs, opened once a process, and what tells that they are still those opened."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weightcast.datasets import InputError, Trajectory, get_dataset
from weightcast.datasets.admission.known_runs import checked_lineage
from weightcast.datasets.admission.lineage import Lineage
from weightcast.datasets.errors import ChangedMeanwhile
from weightcast.datasets.files.identity import Identity, identify

#: What a run's files are; empty for a run that has none.
Files = tuple[Identity, ...]

#: How often something is read again that changes meanwhile.
TRIES = 3
#: Runs that are read at once: as fast as the processor hashes, whatever the disk does.
_READERS = min(8, os.cpu_count() or 1)


class RunCache:
    """A data set's runs, opened once a process.

    Parameters
    ----------
    data : Path, optional
        Folder of recorded data sets.
    most : int, optional
        Bytes that runs may take which have no file; of more the first are made anew when they are
        asked for. All are kept by default.
    """

    def __init__(self, data: Path | None, most: int | None = None) -> None:
        self._data, self._most = data, most
        #: Bytes of the runs that lie in memory, those first that were made first.
        self._held: dict[tuple[str, int], int] = {}
        self._runs: dict[tuple[str, int], Trajectory] = {}
        self._paths: dict[tuple[str, int], tuple[Path, ...]] = {}
        self._files: dict[tuple[str, int], Files] = {}
        self._lineages: dict[str, dict[int, Lineage]] = {}

    def __call__(self, dataset: str, seed: int) -> Trajectory:
        if (dataset, seed) not in self._runs:
            self._open(dataset, seed)
        return self._runs[dataset, seed]

    def _open(self, dataset: str, seed: int) -> None:
        run = get_dataset(dataset).run(seed, self._data)
        self._paths[dataset, seed] = run.files
        files = identify(run.files, settled=True)
        if files:
            # Once more, now that it is known of which files: another may have come in between.
            run = get_dataset(dataset).run(seed, self._data)
        self._runs[dataset, seed], self._files[dataset, seed] = run, files
        if not files:
            self._held[dataset, seed] = 4 * run.n_snapshots * run.n_coordinates
            while self._most is not None and sum(self._held.values()) > self._most:
                self.forget(*next(iter(self._held)))
                if (dataset, seed) not in self._runs:  # larger than all that may be kept
                    self._runs[dataset, seed] = run
                    break

    def forget(self, dataset: str, seed: int) -> None:
        """Have a run opened anew when it is asked for next."""
        self._runs.pop((dataset, seed), None)
        self._held.pop((dataset, seed), None)

    def files(self, dataset: str, seed: int) -> Files:
        """Return what a run's files were just before it was opened."""
        self(dataset, seed)
        return self._files[dataset, seed]

    def unchanged(self, dataset: str, seed: int) -> bool:
        """Whether a run's files are what they were just before it was opened."""
        self(dataset, seed)
        return identify(self._paths[dataset, seed]) == self._files[dataset, seed]

    def all(self, dataset: str) -> list[Trajectory]:
        """Return every run of a data set, in ascending order of seed."""
        return [self(dataset, seed) for seed in sorted(get_dataset(dataset).seeds)]

    def lineages(self, dataset: str) -> dict[int, Lineage]:
        """Return every run's lineage by seed, found by reading the runs whole.

        Raises
        ------
        InputError
            If a run has NaN or infinity or is damaged, changes while it is read, jumped to a
            forecast, or if runs differ in tensors or steps.
        """
        if dataset not in self._lineages:
            runs = self.all(dataset)
            for run in runs:
                if run.meta.jumps:
                    raise InputError(
                        f"{run.label} jumped to a forecast after step {run.meta.jumps[0]:,}: what "
                        "it did then is no training that forecasts can be measured on; record it "
                        'with jump="never", or leave it out of the data set'
                    )
                if run.tensors != runs[0].tensors or run.steps.tolist() != runs[0].steps.tolist():
                    raise InputError(
                        f"{run.label} and {runs[0].label} differ in their tensors or steps"
                    )
            seeds = [run.meta.seed for run in runs]
            # Hashing and reading leave other threads alone.
            with ThreadPoolExecutor(_READERS) as pool:
                read = pool.map(lambda seed: self._lineage(dataset, seed), seeds)
                self._lineages[dataset] = dict(zip(seeds, read, strict=True))
        return self._lineages[dataset]

    def _lineage(self, dataset: str, seed: int) -> Lineage:
        for _ in range(TRIES):
            found = checked_lineage(self(dataset, seed))
            if self.unchanged(dataset, seed):
                return found
            self.forget(dataset, seed)
        raise ChangedMeanwhile(
            f"{dataset}, seed {seed}, changes while it is read; run again once nobody writes to it"
        )
