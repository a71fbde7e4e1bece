"""The report as a file."""

from __future__ import annotations

from pathlib import Path

from weightcast.bench.results.tables import Results, load_results


def write_report(results: Results | Path | str, out: Path | str | None = None) -> Path:
    """Write the HTML report of a result folder and return its path.

    Parameters
    ----------
    results : Results or path
        What `weightcast.bench.load_results` returned, or the folder itself.
    out : path, optional
        The file, written whole or not at all; by default ``report.html`` in the folder.

    Raises
    ------
    InputError
        If the folder holds no results, or the file cannot be written.

    See Also
    --------
    weightcast.bench.rank : the rankings as tables.
    """
    from weightcast.datasets.files.partial_file import write_text
    from weightcast.reports.html import render_report

    if not isinstance(results, Results):
        results = load_results(Path(results))
    path = Path(out) if out is not None else results.folder / "report.html"
    write_text(path, render_report(results))
    return path
