"""A model in Hugging Face's cache: its branches are revisions, and those whose names have a step.

A model's folder there, ``models--ORGANISATION--NAME``, has a file for each branch in ``refs/``,
which holds a commit, and a folder for each commit in ``snapshots/``, whose files are links.
"""

from __future__ import annotations

import re
from pathlib import Path

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL = re.compile(r"models--(?:.+--)?(?P<name>.+)")
_MOST_BRANCHES = 100_000


def branches(folder: Path) -> dict[Path, Path] | None:
    """Return the folder that each branch of a cached model lies in.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of Path to Path, or None
        By a path whose name is the branch's; None where the folder is not that of a cached model.
        A branch whose files are not in the cache has a folder that does not exist.

    Raises
    ------
    InputError
        If the folder is the whole cache or one commit in it, or if a branch holds no commit.
    """
    _refuse_near_misses(folder)
    if not ((folder / "refs").is_dir() and (folder / "snapshots").is_dir()):
        return None
    found: dict[Path, Path] = {}
    for path in sorted((folder / "refs").rglob("*")):
        parts = path.relative_to(folder / "refs").parts
        if path.is_dir() or "pr" in parts[:-1]:  # a pull request is no branch
            continue
        if len(found) == _MOST_BRANCHES:
            raise InputError(f"{folder / 'refs'} holds more than {_MOST_BRANCHES:,} branches")
        with path.open("rb") as file:
            commit = file.read(64).decode("ascii", "replace").strip()
        if not _COMMIT.fullmatch(commit):
            raise InputError(
                f"{path} holds no commit, but {clipped(repr(commit))}; get the branch again"
            )
        found[folder / "refs" / "-".join(parts)] = folder / "snapshots" / commit
    return found


def model_name(folder: Path) -> str:
    """Return what a folder's run is called: a model's own name, without those of the cache.

    Examples
    --------
    >>> model_name(Path("hub/models--EleutherAI--pythia-14m")), model_name(Path("runs/mine"))
    ('pythia-14m', 'mine')
    """
    found = _MODEL.fullmatch(folder.name)
    return found["name"] if found else folder.name


def _refuse_near_misses(folder: Path) -> None:
    models = [path.name for path in sorted(folder.glob("models--*")) if (path / "refs").is_dir()]
    if models:
        more = f" and {len(models) - 3} more" if len(models) > 3 else ""
        raise InputError(
            f"{folder} is a whole cache; name one model in it: "
            f"{', '.join(map(clipped, models[:3]))}{more}"
        )
    if folder.name == "snapshots" and (folder.parent / "refs").is_dir():
        raise InputError(
            f"{folder} holds commits, which have no order; name the model's folder, {folder.parent}"
        )
