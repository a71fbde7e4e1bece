"""A folder that `from_pretrained` opens: a forecast checkpoint with what lay beside the original.

The configuration, tokenizer and the like are copied from the checkpoint at the origin, as they are,
but that a configuration which names the weights' type names the one that was written.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from weightcast.datasets import InputError
from weightcast.datasets.files.foreign import foreign, read_json
from weightcast.datasets.files.partial_file import write_text
from weightcast.datasets.trajectory import OrdinaryCheckpoint

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
#: What programs leave beside weights that loading them takes, or what goes with them.
COMPANIONS = (
    CONFIG, ADAPTER_CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "chat_template.jinja",
    "preprocessor_config.json", "processor_config.json", "modules.json",
)  # fmt: skip
_WEIGHTS, _ADAPTER = "model.safetensors", "adapter_model.safetensors"
#: What a configuration calls the weights' type.
_TYPE_KEYS = ("dtype", "torch_dtype")
_MOST_BYTES = 2**24


def weights_file(out: Path, checkpoint: OrdinaryCheckpoint | None) -> tuple[Path, bool]:
    """Return the file that ``--out`` means, and whether ``--out`` is a folder around it.

    Raises
    ------
    InputError
        If it is another kind of file, or a folder that holds something else.
    """
    if out.suffix == ".safetensors" and not out.is_dir():
        return out, False
    if out.suffix[1:].isalpha() and not out.is_dir():
        raise InputError(
            f"--out {out} is not the name of a .safetensors file, nor of a folder: give "
            f"{out.with_suffix('.safetensors')}, or a name without an ending for a folder that "
            "from_pretrained opens"
        )
    others = (
        sorted(set(os.listdir(out)) - {_WEIGHTS, _ADAPTER, *COMPANIONS}) if out.is_dir() else []
    )
    others = [name for name in others if not name.endswith(".partial")]
    if others:
        raise InputError(f"--out {out} holds {others[0]}; name a new folder")
    adapter = checkpoint is not None and (checkpoint.folder / ADAPTER_CONFIG).is_file()
    return out / (_ADAPTER if adapter else _WEIGHTS), True


def copy_companions(folder: Path, checkpoint: OrdinaryCheckpoint | None, dtype: str) -> list[str]:
    """Copy what lies beside a checkpoint into a folder and return the names.

    Parameters
    ----------
    folder : Path
    checkpoint : OrdinaryCheckpoint or None
    dtype : str
        torch's name of the type of the weights that were written.

    Raises
    ------
    InputError
        If something cannot be read or written.
    """
    names = [name for name in COMPANIONS if checkpoint and (checkpoint.folder / name).is_file()]
    for name in names:
        assert checkpoint is not None
        source = checkpoint.folder / name
        if name == CONFIG:
            write_text(folder / name, _config(source, dtype))
            continue
        try:
            shutil.copyfile(source, folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be written: {error.strerror}") from None
    return names


def _config(path: Path, dtype: str) -> str:
    """Return a configuration with the type that was written, where it names one."""
    with foreign(path, "a model's configuration", "mend it, or name a file with --out"):
        said = read_json(path, _MOST_BYTES)
        keys = [key for key in _TYPE_KEYS if isinstance(said, dict) and said.get(key)]
        if all(said[key] == dtype for key in keys):
            return path.read_text(encoding="utf-8")
        return json.dumps({**said, **dict.fromkeys(keys, dtype)}, indent=2) + "\n"
