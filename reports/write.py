"""The report as a file, and its rankings as text for other documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weightcast.bench.results.tables import Results, load_results

#: Formats beside the page, and the files that they are written to by default.
TEXT_FORMATS = {"markdown": "report.md", "latex": "report.tex"}


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
        If the folder holds no results, if nothing in it is ranked and there is a page already,
        which is left as it is, or if the file cannot be written.

    See Also
    --------
    weightcast.bench.rank : the rankings as tables.
    """
    return write_page(results, out)[0]


def write_text_format(results: Results, format: str, out: Path | None = None) -> Path:
    """Write a folder's rankings as text, and return the file's path.

    Parameters
    ----------
    results : Results
    format : str
        One of `TEXT_FORMATS`.
    out : path, optional
        The file, written whole or not at all; by default ``report.md`` or ``report.tex`` in the
        folder.

    Raises
    ------
    InputError
        If the format is unknown, if nothing in the folder is ranked, or if the file cannot be
        written.
    """
    from weightcast.datasets.errors import unknown
    from weightcast.datasets.files.partial_file import write_text
    from weightcast.reports.formats.document import document_of
    from weightcast.reports.formats.latex import latex
    from weightcast.reports.formats.markdown import markdown
    from weightcast.reports.view import View

    if format not in TEXT_FORMATS:
        raise unknown("format", format, ("html", *TEXT_FORMATS))
    document = document_of(View(results))
    text = {"markdown": markdown, "latex": latex}[format](document)
    path = out if out is not None else results.folder / TEXT_FORMATS[format]
    write_text(path, text)
    return path


def write_pages(folders: Sequence[Path], out: Path) -> tuple[Path, list[str]]:
    """Write a page a result folder, and one that leads to them; return its path.

    Parameters
    ----------
    folders : sequence of Path
        Of names of their own, which the pages get.
    out : Path
        A folder, made where there is none.

    Returns
    -------
    path : Path
    notes : list of str
        Of folders in which nothing is ranked, with the reason.

    Raises
    ------
    InputError
        If two folders have one name, ``out`` is a file, a folder holds no results, or a file cannot
        be written. Pages that were there stay until their new ones are whole.
    """
    from weightcast.datasets.errors import InputError
    from weightcast.datasets.files.partial_file import write_text
    from weightcast.reports.html import render_index, render_report, why_nothing_is_ranked
    from weightcast.reports.index import part_of
    from weightcast.reports.view import View

    names = [folder.resolve().name for folder in folders]
    for name in names:
        if name == "index":
            raise InputError("index.html leads to the others; rename the folder index")
        if names.count(name) > 1:
            raise InputError(f"two folders would have the page {name}.html; rename one of them")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the pages with --out")
    parts, notes = [], []
    for folder, name in zip(folders, names, strict=True):
        view = View(load_results(folder))
        page = render_report(view)
        if reason := why_nothing_is_ranked(view):
            notes.append(f"{folder}: nothing there is ranked: {reason}")
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / f"{name}.html", page)
        parts.append(part_of(view, f"{name}.html"))
    write_text(out / "index.html", render_index(parts))
    return out / "index.html", notes


def write_page(results: Results | Path | str, out: Path | str | None = None) -> tuple[Path, str]:
    """Write the report as `write_report` does; say, too, why it ranks nothing.

    Returns
    -------
    path : Path
    reason : str
        Empty where something is ranked.
    """
    from weightcast.datasets.errors import InputError
    from weightcast.datasets.files.partial_file import write_text
    from weightcast.reports.html import render_report, why_nothing_is_ranked
    from weightcast.reports.view import View

    if not isinstance(results, Results):
        results = load_results(Path(results))
    view = View(results)
    path = Path(out) if out is not None else results.folder / "report.html"
    page = render_report(view)
    reason = why_nothing_is_ranked(view)
    if reason and path.exists():
        raise InputError(
            f"nothing here is ranked: {reason}; {path} is left as it is, another file can be named "
            "with --out"
        )
    write_text(path, page)
    return path, reason
