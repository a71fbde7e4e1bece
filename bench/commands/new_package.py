"""`weightcast new-method` and `new-dataset`: a small package to start from, that works as it is."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from weightcast.datasets.errors import InputError
from weightcast.datasets.registry import all_datasets
from weightcast.methods.registry import all_methods

TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class Kind:
    """What a package holds.

    Attributes
    ----------
    template : str
        The folder of its templates, and the template of its module.
    noun : str
        How it is spoken of.
    """

    template: str
    noun: str


METHOD = Kind("method", "method")
DATASET = Kind("dataset", "data set")


@dataclass(frozen=True)
class NewPackage:
    """What was written.

    Attributes
    ----------
    name : str
    folder : Path
    files : tuple of str
        Relative to the folder, the module first.
    """

    kind: Kind
    name: str
    folder: Path
    files: tuple[str, ...]

    def commands(self) -> list[str]:
        """List what to type next, in order."""
        if self.kind is METHOD:
            first = f"weightcast check {self.name}"
            only = f"--methods {self.name},last-value,damped-line,lfd2"
        else:
            first = f"weightcast info {self.name}"
            only = f"--datasets {self.name} --methods last-value,damped-line,lfd2"
        return [
            f"cd {self.folder}",
            "pip install -e .",
            first,
            f"weightcast run --suite quick {only}",
            "weightcast leaderboard results/quick",
        ]


def new_package(kind: Kind, name: str, out: Path | None = None) -> NewPackage:
    """Write a package with a module, a test, an entry point and a README.

    Parameters
    ----------
    kind : Kind
        `METHOD` or `DATASET`.
    name : str
        In kebab-case; what it is registered as.
    out : Path, optional
        The folder, which must not be there; ``./NAME`` by default.

    Raises
    ------
    InputError
        If the name cannot be used, the folder is there, or it cannot be written. Nothing is left.
    """
    module = _module(kind, name)
    folder = Path(name) if out is None else out
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is there already; name another folder with --out")
    layout = {
        f"{kind.template}.py.j2": f"{module}/__init__.py",
        "test.py.j2": f"tests/test_{module}.py",
        "pyproject.toml.j2": "pyproject.toml",
        "README.md.j2": "README.md",
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / kind.template),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    words = {
        "name": name,
        "module": module,
        "class_name": "".join(word.capitalize() for word in name.split("-")),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for template, target in layout.items():
                path = made / target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(environment.get_template(template).render(words), "utf-8")
            made.chmod(0o777 & ~_umask())
            os.rename(made, folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    return NewPackage(kind, name, folder, tuple(layout.values()))


def _module(kind: Kind, name: str) -> str:
    """Return the name of the module, once all that would be in its way is ruled out."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(
            f"'{name}' is not kebab-case that begins with a letter, e.g. my-{kind.template}"
        )
    if name in (all_methods() if kind is METHOD else all_datasets()):
        raise InputError(f"a {kind.noun} named '{name}' is registered already; choose another name")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise InputError(
            f"'{name}' would be the Python module '{module}', which is there already; choose a "
            f"longer name, e.g. my-{name}"
        )
    return module


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
