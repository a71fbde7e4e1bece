"""What published networks share here: their states, loaded from a file that the user names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.files.tensor_file import TensorFile
    from weightcast.datasets.trajectory import Floats


def find_state(path: str | Path, word: str) -> Path:
    """Return the path itself, or a folder's one file of tensors with a word in its name.

    Raises
    ------
    InputError
        If there is no such file, or the folder has several.
    """
    from weightcast.datasets.files.foreign import foreign
    from weightcast.datasets.files.tensor_file import ENDINGS, ending

    path = Path(path)
    with foreign(path, "a state", "name a file of tensors"):
        if not path.is_dir():
            if not path.is_file():
                raise InputError(f"state {path} is not there; name a file of tensors")
            if ending(path) is None:
                raise InputError(f"state {path} does not end in {', '.join(ENDINGS)}")
            return path
        found = [
            file for file in sorted(path.iterdir()) if ending(file) and word in file.stem.lower()
        ]
    if len(found) != 1:
        named = ", ".join(file.name for file in found) or "none"
        raise InputError(f"state {path} must hold one file with '{word}' in its name, not {named}")
    return found[0]


def load_state(
    network: torch.nn.Module, path: Path, names: Mapping[str, str], prefix: str = ""
) -> str:
    """Fill a network with the tensors of a file and return a hash of them.

    Parameters
    ----------
    network : torch.nn.Module
    path : Path
        Opened without running any code that it may hold.
    names : mapping of str to str
        What the published file calls our modules, e.g. ``{"head": "dense_12"}``; ours will do too.
    prefix : str
        Put before the file's names, for files of several networks.

    Raises
    ------
    InputError
        Naming the tensors that are missing, of another shape, or not finite.
    """
    import torch

    from weightcast.datasets.files.tensor_files import open_tensors

    file = open_tensors(path)
    file.verify()
    state: dict[str, torch.Tensor] = {}
    missing, mismatched = [], []
    digest = hashlib.sha256()
    for own, parameter in network.named_parameters():
        module, _, leaf = own.rpartition(".")
        published = f"{prefix}{names.get(module, module)}.{leaf}"
        name = published if published in file.entries else f"{prefix}{own}"
        if name not in file.entries:
            missing.append(published)
            continue
        shape, wanted = file.entries[name].shape, tuple(parameter.shape)
        if shape != wanted or not file.entries[name].floating:
            mismatched.append(f"{name} {list(shape)}, not {list(wanted)}")
            continue
        values = _read(file, name, wanted)
        digest.update(values.tobytes())
        state[own] = torch.from_numpy(values)
    if missing:
        raise InputError(f"state {path} lacks the tensors {', '.join(missing)}")
    if mismatched:
        raise InputError(f"state {path}: tensors of another shape: {'; '.join(mismatched)}")
    network.load_state_dict(state)
    network.eval()
    return digest.hexdigest()


def _read(file: TensorFile, name: str, shape: tuple[int, ...]) -> Floats:
    flat = np.empty(int(np.prod(shape)), np.float32)
    file.read_into(name, 0, flat)
    if not np.isfinite(flat).all():
        raise InputError(f"state {file.path}: tensor {name} has NaN or infinity")
    return flat.reshape(shape)
