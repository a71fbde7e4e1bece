"""Which of the things in a saved file are the network's weights.

Only what is surely a state dict is taken: a mapping of names to tensors and to nothing else, bare
or under a name that programs use for it. A tensor that lies beside other mappings, a loss or the
best accuracy so far, is no network. Where it is not sure the file is refused, with what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weightcast.datasets.files.foreign import clipped

if TYPE_CHECKING:
    import torch

#: Where programs put the state dict in what they save.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net")

#: What `plain_names` takes away.
WRAPPER_PREFIXES = ("_orig_mod.", "module.")
#: Mappings of tensors that are never a network's weights, by the beginning of their names.
_BESIDE = ("optim", "sched", "lr_sched", "scaler", "rng", "random", "callbacks", "loops", "ema_opt")
#: What modules keep in their state dicts beside tensors.
_EXTRA = "_extra_state"
_DEEPEST = 4
_MEASURED = re.compile(
    r"(^|_)(loss|acc|accuracy|epoch|step|iter|iteration|score|metric|lr|perplexity|f1|auc)(_|$)"
)


def state_dict_at(loaded: Any, key: str) -> dict[str, torch.Tensor]:
    """Return the state dict under a key, or under keys one in another, as in ``model.encoder``.

    Raises
    ------
    ValueError
        If there is none, saying what there is.
    """
    value = _at(loaded, key)
    if _is_state_dict(value):
        return find_state_dict(value)
    places = [clipped(place) for place in _state_dicts(loaded, (), set())][:5]
    raise ValueError(f"there is no state dict at {clipped(key)}, but at: {', '.join(places)}")


def _at(loaded: Any, key: str) -> Any:
    if not isinstance(loaded, Mapping):
        return None
    if key in loaded:
        return loaded[key]
    inner = (_at(loaded[k], key[len(k) + 1 :]) for k in loaded if key.startswith(f"{k}."))
    return next((value for value in inner if value is not None), None)


def find_state_dict(loaded: Any, path: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Return the one state dict in what a file held.

    Parameters
    ----------
    loaded : object
    path : tuple of str
        The keys that led to it, for the message.

    Raises
    ------
    ValueError
        If there is none or more than one, saying what there is.
    """
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}")
    if _is_state_dict(loaded):
        return {name: value for name, value in loaded.items() if not name.endswith(_EXTRA)}
    found = {key: loaded[key] for key in WRAPPERS if _leads_to_one(loaded.get(key))}
    if len({id(value) for value in found.values()}) == 1:
        key, value = next(iter(found.items()))
        return find_state_dict(value, (*path, key))
    raise ValueError(_choices(loaded, [".".join((*path, key)) for key in found], path))


def _is_state_dict(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any(isinstance(tensor, torch.Tensor) for tensor in value.values())
        and all(
            isinstance(tensor, torch.Tensor) or name.endswith(_EXTRA)
            for name, tensor in value.items()
        )
    )


def _leads_to_one(value: Any) -> bool:
    return _is_state_dict(value) or next(_state_dicts(value, (), set()), None) is not None


def _choices(loaded: Mapping[Any, Any], known: list[str], path: tuple[str, ...]) -> str:
    """Say what the file holds instead, naming mappings of tensors by the path to them."""
    places = known if len(known) > 1 else list(_state_dicts(loaded, path, set()))
    if places:
        named = ", ".join(clipped(place) for place in places[:5])
        return f"which of these is the network is not sure: {named}"
    named = ", ".join(
        f"{clipped(str(key))}: {type(value).__name__}" for key, value in loaded.items()
    )
    return f"it holds {clipped(named, 200) or 'nothing'}"


def _state_dicts(value: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[str]:
    if id(value) in seen or len(path) > _DEEPEST or not isinstance(value, Mapping):
        return
    if path and _is_state_dict(value):
        yield ".".join(path)
        return
    seen.add(id(value))
    for key, inner in value.items():
        if not str(key).lower().startswith(_BESIDE):
            yield from _state_dicts(inner, (*path, str(key)), seen)


def is_measurement(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether a tensor is a number that a training program kept, by its name.

    Examples
    --------
    >>> is_measurement("best_acc", ()), is_measurement("temperature", ())
    (True, False)
    """
    return not shape and "." not in name and _MEASURED.search(name.lower()) is not None


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name as the network itself has it, without what wrappers put before it.

    ``torch.compile`` puts ``_orig_mod.`` before a module's names, wherever it is; data parallelism
    puts ``module.`` before all of them.

    Examples
    --------
    >>> plain_names(["module._orig_mod.0.weight", "module._orig_mod.0.bias"])
    {'module._orig_mod.0.weight': '0.weight', 'module._orig_mod.0.bias': '0.bias'}

    Raises
    ------
    ValueError
        If two names become one.
    """
    plain = {
        name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in names
    }
    while plain and all(name.startswith("module.") for name in plain.values()):
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    if len(set(plain.values())) != len(plain):
        raise ValueError("two tensors have one name, but for what wrappers put before it")
    return plain
