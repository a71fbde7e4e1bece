"""The report as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weightcast.bench.results.tables import Results, load_results

if TYPE_CHECKING:
    from weightcast.reports.view import View


def write_report(results: Results | View | Path | str, out: Path | str | None = None) -> Path:
    """Write the HTML report of a result folder and return its path.

    Parameters
    ----------
    results : Results, View or path
        What `weightcast.bench.load_results` returned, or the folder itself.
    out : path, optional
        The file, written whole or not at all; by default ``report.html`` in the folder.

    Raises
    ------
    InputError
        If the folder holds no results, if nothing in it is ranked and there is a page already,
        which is left as it is, or if the file cannot be written.

    See Also
    --------
    weightcast.bench.rank : the rankings as tables.
    """
    from weightcast.datasets.errors import InputError
    from weightcast.datasets.files.partial_file import write_text
    from weightcast.reports.html import render_report, why_nothing_is_ranked
    from weightcast.reports.view import View

    if isinstance(results, (str, Path)):
        results = load_results(Path(results))
    view = View(results) if isinstance(results, Results) else results
    path = Path(out) if out is not None else view.results.folder / "report.html"
    page = render_report(view)
    if path.exists() and (reason := why_nothing_is_ranked(view)):
        raise InputError(
            f"nothing here is ranked: {reason}; {path} is left as it is, another file can be named "
            "with --out"
        )
    write_text(path, page)
    return path
