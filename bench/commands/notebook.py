"""The benchmark for Python: what the command line's verbs do, as functions.

>>> from weightcast.bench import run_suite, load_results, rank      # doctest: +SKIP
>>> run_suite("quick", "results/quick", methods=["last-value", "lfd2-ols"])     # doctest: +SKIP
{'ok': 448}
>>> results = load_results("results/quick")                         # doctest: +SKIP
>>> rank(results)                                                   # doctest: +SKIP

The report is `weightcast.reports.write_report`. A script calls `run_suite` under
``if __name__ == "__main__":``, as all do that start processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from weightcast.bench.results.tables import Results

#: What a path is given as.
PathLike = str | os.PathLike[str]


def run_suite(
    suite: PathLike,
    out: PathLike,
    *,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    plugins: Sequence[PathLike] = (),
    data: PathLike | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    max_memory: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    timing: bool = False,
    retry_failed: bool = False,
    tuning: int | None = None,
    missing: Literal["refuse", "record", "skip"] = "refuse",
) -> dict[str, int]:
    """Run what a result folder lacks of a suite; what is there is kept, as ``weightcast run`` does.

    How far it is goes to standard error. A method that is to run must be registered in worker
    processes too: by an installed package or by a plugin file. What is registered in a notebook
    alone is not.

    Parameters
    ----------
    suite : str or path
        A suite's name, or a ``.toml`` file.
    out : path
        The result folder.
    methods, datasets : sequence of str, optional
        Only these; by default the suite's, with those that the plugins register.
    plugins : sequence of path
        Python files that register methods or data sets.
    data : path, optional
        Folder of recorded data sets, ``DATASET/SEED.safetensors``.
    jobs : int, optional
        Worker processes; by default the suite's number.
    timeout : float, optional
        Seconds for each fit and each cell; by default the suite's.
    max_memory : int, optional
        Megabytes a worker process; by default its share of 90 % of the machine's.
    device : {"cpu", "cuda"}
        Where methods that are networks train and run.
    timing : bool
        One cell at a time, so that seconds compare.
    retry_failed : bool
        Run cells without a result again.
    tuning : int, optional
        Configurations that each method with a grid may try, 0 for defaults; by default the suite's
        number.
    missing : {"refuse", "record", "skip"}
        What is done about recorded data sets whose runs are not here.

    Returns
    -------
    dict of str to int
        How many cells of the suite have which status: ``ok``, ``failed``, ``timeout``,
        ``out-of-memory``, ``crashed`` or ``invalid``.

    Raises
    ------
    InputError
        If an argument or a file is wrong; nothing is written then.
    Interrupted
        On Ctrl-C; what was finished is stored, and the same call goes on.
    RunFailed
        If results cannot be written any more.
    """
    from weightcast.bench.commands.run import RunOptions
    from weightcast.bench.commands.run import run_suite as run
    from weightcast.bench.engine.processes.kept_process import kept_process
    from weightcast.methods import load_plugin

    if missing not in ("refuse", "record", "skip"):
        raise InputError(f"missing '{missing}' is not known; choices are refuse, record, skip")
    options = RunOptions(
        suite=os.fspath(suite),
        out=Path(out),
        methods=None if methods is None else list(methods),
        datasets=None if datasets is None else list(datasets),
        plugins=[Path(path).resolve() for path in plugins],
        data=None if data is None else Path(data),
        jobs=jobs,
        timeout=timeout,
        max_memory=max_memory,
        device=device,
        timing=timing,
        retry_failed=retry_failed,
        tuning=tuning,
        record=missing == "record",
        skip_missing=missing == "skip",
    )
    options.check()
    with kept_process():  # what a plugin does to this one would reach all that it starts
        added = [name for path in options.plugins for name in load_plugin(path)]
    options.extra_methods = added if methods is None else []
    return run(options)


def load_results(folder: PathLike) -> Results:
    """Read a result folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Results
        ``results.cells`` is a data frame with a row a cell and tier: what the cell is, its errors
        (over the distance moved: 1 is no better than the last value), its seconds and bytes.
        ``results.curves`` has errors over horizons, ``results.failures`` what has no result.

    Raises
    ------
    InputError
        If the folder holds no results that can be read.
    """
    from weightcast.bench.results.tables import load_results as load

    return load(Path(folder))


def rank(
    results: Results | PathLike,
    *,
    tier: Literal["weights", "function"] = "weights",
    metric: str | None = None,
    baseline: str = "last-value",
    datasets: Sequence[str] | None = None,
    track: str = "main",
    split: str = "seeds",
) -> pd.DataFrame:
    """Rank a result folder's methods, with run-level 95 % intervals.

    Parameters
    ----------
    results : Results or path
        What `load_results` returned, a result folder, or a CSV file with the columns
        ``method,task,error``, for which only ``baseline`` counts.
    tier : {"weights", "function"}
    metric : str, optional
        By default the tier's headline metric: ``rel_sum``, over all horizons, or ``train_loss``,
        the geometric mean over the horizons 5, 10, 20 and the last.
    baseline : str
        The method that skill is relative to.
    datasets : sequence of str, optional
        Rank on these alone.
    track : str
        ``"main"``, ``"fine-tune"`` or a shift's name.
    split : str
        ``"seeds"`` for whole runs; ``"early"``, ``"middle"`` or ``"late"`` for a window;
        ``"train-3"`` for fits on three training runs.

    Returns
    -------
    DataFrame
        A row a method, the best first: ``method``, ``skill`` (1 minus the geometric mean of its
        error over the baseline's; 1 is perfect, 0 is the baseline), ``skill_lower``,
        ``skill_upper``, ``win_rate`` with its limits (share of opponents beaten), ``mean_rank`` and
        ``failures`` (cells), ``skill_iqm`` with its limits (the skill of the middle half of all
        runs); of a result folder also ``skill_h5`` and so on with their limits, ``tier``,
        ``metric`` and the median error of each task. ``frame.attrs["notes"]`` is what a reader must
        know of it.

    Raises
    ------
    InputError
        If there are no results, or a name is unknown; the line lists the choices.
    """
    from weightcast.bench.results.file_board import rank_csv
    from weightcast.bench.results.leaderboard import board_table, rank_results
    from weightcast.bench.results.tables import Results

    if not isinstance(results, Results):
        path = Path(results)
        if path.suffix == ".csv" and not path.is_dir():
            return rank_csv(path, baseline).table
        results = load_results(path)
    board = rank_results(
        results,
        tier=tier,
        metric=metric,
        baseline=baseline,
        datasets=None if datasets is None else list(datasets),
        track=track,
        split=split,
    )
    table = board_table(board)
    table.attrs["notes"] = [note for note in board.notes if note]
    return table
