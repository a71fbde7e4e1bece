"""Plots and the HTML report, from a result folder alone."""

from typing import TYPE_CHECKING

from weightcast.datasets.lazily import names_from

if TYPE_CHECKING:
    from weightcast.reports.write import write_report

__all__ = ["write_report"]

_PLACES = {"write_report": "write"}
__getattr__ = names_from(__name__, _PLACES)
