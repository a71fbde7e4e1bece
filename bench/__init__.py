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
    from weightcast.bench.training.forecast import Forecast, forecast
    from weightcast.bench.training.forecasting import Forecasting, Tried

__all__ = [
    "Forecast",
    "Forecasting",
    "Interrupted",
    "Results",
    "RunFailed",
    "Tried",
    "forecast",
    "load_results",
    "rank",
    "run_suite",
]

_PLACES = {
    "Forecast": "training.forecast",
    "Forecasting": "training.forecasting",
    "Interrupted": "commands.run",
    "Results": "results.tables",
    "RunFailed": "commands.run",
    "Tried": "training.forecasting",
    "forecast": "training.forecast",
    "load_results": "commands.notebook",
    "rank": "commands.notebook",
    "run_suite": "commands.notebook",
}
__getattr__ = names_from(__name__, _PLACES)
