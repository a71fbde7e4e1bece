"""The benchmark: suites, protocol, metrics, runner, result store, statistics, command line.

For Python, in a notebook say, it offers the names below; `weightcast.reports.write_report` writes
the report. Nothing heavy loads before a function is called.
"""

from typing import TYPE_CHECKING

from weightcast.datasets.lazily import names_from

if TYPE_CHECKING:
    from weightcast.bench.commands.notebook import load_results, rank, run_suite
    from weightcast.bench.commands.run import Interrupted, RunFailed
    from weightcast.bench.results.tables import Results

__all__ = ["Interrupted", "Results", "RunFailed", "load_results", "rank", "run_suite"]

_PLACES = {
    "Interrupted": "commands.run",
    "Results": "results.tables",
    "RunFailed": "commands.run",
    "load_results": "commands.notebook",
    "rank": "commands.notebook",
    "run_suite": "commands.notebook",
}
__getattr__ = names_from(__name__, _PLACES)
