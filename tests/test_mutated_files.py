"""Files that somebody damaged or made up: each is refused in one line, or opens as what it says.

What an opened file says is read a second time by other means: the safetensors library, `torch.load`
without a memory map, the JSON as it lies.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file

from weightcast.datasets import InputError, Metadata, TensorInfo, Trajectory, open_trajectory
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.importing.run import import_run
from weightcast.datasets.importing.trainer_state import read_trainer_state
from weightcast.methods.published import load_state

Said = dict[str, Any]
Tree = Any
STEPS = [0, 5, 40]


def weights(step: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {
        "0.weight": torch.randn(3, 2, generator=draw),
        "0.bias": torch.randn(3, generator=draw),
        "1.weight": torch.randn(1, 3, generator=draw),
    }


def run() -> Trajectory:
    arrays = {
        name: np.stack([weights(step)[name].numpy() for step in STEPS]) for name in weights(0)
    }
    infos = [TensorInfo(name, array.shape[1:], "linear", 0) for name, array in arrays.items()]
    meta = Metadata(
        "toy", 3, learning_rates=(0.1,) * 30 + (0.05,) * 10, train_loss=(3.0, 2.0, 1.5),
        optimizer="sgd", hyperparameters={"momentum": 0.9}, steps_per_epoch=4,
    )  # fmt: skip
    return Trajectory.from_arrays(arrays, STEPS, meta, infos)


# --- what a file says, as we read it and by other means ---------------------------------------


def said_by(opened: Trajectory) -> Said:
    meta = opened.meta
    return {
        "steps": opened.steps.tolist(),
        "meta": [meta.dataset, meta.seed, meta.optimizer, meta.hyperparameters, meta.train_loss],
        "rates": list(meta.learning_rates),
        **{f"w/{t.name}": opened.read(t).reshape(-1, *t.shape) for t in opened.tensors},
    }


def described(steps: list[int], meta: Tree) -> Said:
    rates = [rate for rate, count in meta.get("learning_rates", []) for _ in range(count)]
    return {
        "steps": steps,
        "meta": [
            meta["dataset"], meta["seed"], meta.get("optimizer", "unknown"),
            meta.get("hyperparameters", {}), tuple(meta.get("train_loss", [])),
        ],
        "rates": rates,
    }  # fmt: skip


def open_stacked(path: Path) -> Said:
    opened = open_trajectory(path)
    opened.verify()
    return said_by(opened)


def stacked_by_other_means(path: Path) -> Said:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tree = json.loads(header["__metadata__"]["trajectory"])
    arrays = safetensors.numpy.load(data)
    return described(tree["steps"], tree["metadata"]) | {f"w/{n}": a for n, a in arrays.items()}


def open_folder(path: Path) -> Said:
    return said_by(open_trajectory(path.parent))


def folder_by_other_means(path: Path) -> Said:
    tree = json.loads(path.read_text(encoding="utf-8"))
    files = [s["files"] for s in tree["snapshots"]]
    loaded = [torch.load(path.parent / names[0], weights_only=True) for names in files]
    return described([s["step"] for s in tree["snapshots"]], tree["metadata"]) | {
        f"w/{t['name']}": np.stack([state[t["name"]].numpy() for state in loaded])
        for t in tree["tensors"]
    }


def imported(path: Path) -> Said:
    """Import the folder around a checkpoint; what is above it counts for one in a folder."""
    folder = path.parent.parent if path.parent.name.startswith("checkpoint") else path.parent
    found = said_by(import_run(folder, folder.parent / "out.safetensors").run)
    return {key: value for key, value in found.items() if key == "steps" or key[:2] == "w/"}


def _stacks(states: list[dict[str, torch.Tensor]]) -> Said:
    floats = [name for name, value in states[0].items() if value.is_floating_point()]
    return {"steps": STEPS} | {
        f"w/{name}": np.stack([state[name].float().numpy() for state in states]) for name in floats
    }


def torch_by_other_means(path: Path) -> Said:
    # Without a memory map torch holds records to their sizes, archives' readers to checksums.
    files = [path.parent / f"step_{step}{path.suffix}" for step in STEPS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of another protocol, which say the same
        return _stacks([torch.load(file, map_location="cpu", weights_only=True) for file in files])


def shards_by_other_means(path: Path) -> Said:
    states = []
    for step in STEPS:
        state: dict[str, torch.Tensor] = {}
        for file in sorted((path.parent.parent / f"checkpoint-{step}").glob("*.safetensors")):
            arrays = safetensors.numpy.load(file.read_bytes())
            state |= {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        states.append(state)
    return _stacks(states)


def open_log(path: Path) -> Said:
    return read_trainer_state(path.parent, STEPS)


def log_by_other_means(path: Path) -> Said:
    tree = json.loads(path.read_text(encoding="utf-8"))
    said: Said = {}
    for field, key in (("train_loss", "loss"), ("test_loss", "eval_loss")):
        logs = {log["step"]: log[key] for log in tree["log_history"] if log.get(key) is not None}
        if logs and min(logs) <= STEPS[0]:
            said[field] = tuple(logs[max(s for s in logs if s <= step)] for step in STEPS)
    return said


def _network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1, bias=False))


def open_state(path: Path) -> Said:
    network = _network()
    load_state(network, path, {})
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def state_by_other_means(path: Path) -> Said:
    return {n: a for n, a in safetensors.numpy.load(path.read_bytes()).items() if n in weights(0)}


def same(one: Tree, other: Tree) -> bool:
    """Compare as bytes and to the type; NaN is NaN."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, float) and type(other) in (int, float):
        return one == float(other)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


# --- mutations --------------------------------------------------------------------------------

#: What JSON may hold in the place of a value; the last ones are text, for a parser alone.
STRANGE: list[Any] = [
    None, True, -1, 0, 1.5, 10**25, 2**63, -(2**63), float("nan"), float("inf"), "x", "\ud800",
    "a\nb", "..", "m" * 300, [], {}, [[0, 1]], {"a": {}}, 10**12,
]  # fmt: skip
RAW = ["9" * 5000, "1" + "0" * 400, "[" * 100_000, '{"a":' * 5000, "1e999", "-", '"\\ud800"']
_HOLE = "@hole@"


def _places(tree: Tree, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def edited_json(text: str, draw: np.random.Generator) -> str:
    """Change one thing in a JSON text."""
    tree = json.loads(text)
    paths = list(_places(tree))
    path = paths[draw.integers(len(paths))]
    *above, key = path
    holder = tree
    for step in above:
        holder = holder[step]
    action = draw.integers(7)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[f"{key}s"] = holder.pop(key)
    elif action == 2:
        siblings = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        other = siblings[draw.integers(len(siblings))]
        holder[key], holder[other] = holder[other], holder[key]
    elif action == 3 and isinstance(holder, dict):
        twice = json.dumps(str(key)) + ":"
        compact = json.dumps(tree, separators=(",", ":"))
        return compact.replace(twice, f"{twice}0,{twice}", 1)
    elif action == 4:
        holder[key] = _HOLE
        return json.dumps(tree).replace(json.dumps(_HOLE), RAW[draw.integers(len(RAW))])
    elif action == 5 and type(holder[key]) in (int, float):
        holder[key] += [1, -1, 8, 2**31, -0.5][draw.integers(5)]
    else:
        holder[key] = STRANGE[draw.integers(len(STRANGE))]
    return json.dumps(tree)


def edited_header(data: bytes, draw: np.random.Generator) -> bytes:
    """Change one thing in the header of a safetensors file, or in the JSON within it."""
    end = 8 + int.from_bytes(data[:8], "little")
    text = data[8:end].decode()
    header = json.loads(text)
    if "trajectory" in header.get("__metadata__", {}) and draw.integers(2):
        inner = edited_json(header["__metadata__"]["trajectory"], draw)
        header["__metadata__"]["trajectory"] = inner
        text = json.dumps(header)
    else:
        text = edited_json(text, draw)
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data[end:]


def edited_bytes(data: bytes, draw: np.random.Generator) -> bytes:
    """Flip bits, cut, lengthen, blank or exchange bytes."""
    changed = bytearray(data)
    one, other = sorted(draw.integers(len(data), size=2).tolist())
    action = draw.integers(6)
    if action <= 1:
        for place in draw.integers(len(data), size=1 + draw.integers(3)):
            changed[place] ^= 1 << int(draw.integers(8))
    elif action == 2:
        del changed[one:]
    elif action == 3:
        changed += bytes(draw.integers(256, size=1 + draw.integers(40), dtype=np.uint8))
    elif action == 4:
        changed[one : one + 16] = bytes(len(changed[one : one + 16]))
    else:
        width = min(8, len(data) - other)
        changed[one : one + width], changed[other : other + width] = (
            data[other : other + width], data[one : one + width],
        )  # fmt: skip
    return bytes(changed)


def mutate_safetensors(data: bytes, draw: np.random.Generator) -> bytes:
    return edited_header(data, draw) if draw.integers(3) else edited_bytes(data, draw)


def mutate_json(data: bytes, draw: np.random.Generator) -> bytes:
    if draw.integers(4):
        return edited_json(data.decode(), draw).encode("utf-8", "surrogatepass")
    return edited_bytes(data, draw)


# --- kinds of file ----------------------------------------------------------------------------


def make_stacked(folder: Path) -> Path:
    write_stacked(run(), folder / "run.safetensors")
    return folder / "run.safetensors"


def make_checkpoints(ending: str, *, archive: bool = True) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for step in STEPS:
            file = folder / f"step_{step}{ending}"
            torch.save(weights(step), file, _use_new_zipfile_serialization=archive)
        return folder / f"step_5{ending}"

    return make


def make_manifest(folder: Path) -> Path:
    make_checkpoints(".pt")(folder)
    return import_run(folder, None).path


def make_shards(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for step in STEPS:
            inner = folder / f"checkpoint-{step}"
            inner.mkdir()
            places = {}
            for index, names in enumerate((["0.weight"], ["0.bias", "1.weight"]), 1):
                shard = f"model-0000{index}-of-00002.safetensors"
                save_file({name: weights(step)[name] for name in names}, inner / shard)
                places |= dict.fromkeys(names, shard)
            text = json.dumps({"metadata": {"total_size": 48}, "weight_map": places})
            (inner / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        return folder / "checkpoint-5" / file

    return make


def make_log(folder: Path) -> Path:
    logs: list[dict[str, float]] = [
        {"step": 0, "loss": 3.0, "learning_rate": 0.1},
        {"step": 5, "loss": 2.0, "eval_loss": 2.5},
        {"step": 30, "loss": 1.0, "learning_rate": 0.05},
    ]
    text = json.dumps({"log_history": logs, "epoch": 4.0, "global_step": 40})
    (folder / "trainer_state.json").write_text(text, encoding="utf-8")
    return folder / "trainer_state.json"


def make_state(folder: Path) -> Path:
    save_file(weights(0), folder / "state.safetensors")
    return folder / "state.safetensors"


class Kind(NamedTuple):
    make: Callable[[Path], Path]
    mutate: Callable[[bytes, np.random.Generator], bytes]
    read: Callable[[Path], Said]
    otherwise: Callable[[Path], Said]


def _log(path: Path) -> Said:
    return {key: value for key, value in open_log(path).items() if key.endswith("n_loss")}


def _log_otherwise(path: Path) -> Said:
    return {key: value for key, value in log_by_other_means(path).items() if key == "train_loss"}


INDEX, SHARD = "model.safetensors.index.json", "model-00002-of-00002.safetensors"
KINDS = {
    "stacked": Kind(make_stacked, mutate_safetensors, open_stacked, stacked_by_other_means),
    "manifest": Kind(make_manifest, mutate_json, open_folder, folder_by_other_means),
    "pt": Kind(make_checkpoints(".pt"), edited_bytes, imported, torch_by_other_means),
    "bin": Kind(
        make_checkpoints(".bin", archive=False), edited_bytes, imported, torch_by_other_means
    ),
    "shard": Kind(make_shards(SHARD), mutate_safetensors, imported, shards_by_other_means),
    "index": Kind(make_shards(INDEX), mutate_json, imported, shards_by_other_means),
    "trainer-state": Kind(make_log, mutate_json, _log, _log_otherwise),
    "published-state": Kind(make_state, mutate_safetensors, open_state, state_by_other_means),
}


def outcome(kind: Kind, path: Path) -> str:
    """Return ``refused`` or ``same``, or say what went wrong."""
    try:
        found = kind.read(path)
    except InputError as error:
        return "several lines" if len(str(error).splitlines()) != 1 else "refused"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {str(error)[:100]}"
    try:
        return "same" if same(found, kind.otherwise(path)) else "other than it says"
    except Exception as error:
        return f"accepted, though {type(error).__name__}: {str(error)[:100]}"


def outcomes(kind: Kind, folder: Path, cases: range) -> dict[int, str]:
    whole = folder / "whole"
    whole.mkdir()
    name = kind.make(whole).relative_to(whole)
    original = (whole / name).read_bytes()
    work = folder / "work"
    found = {}
    for case in cases:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        (work / name).write_bytes(kind.mutate(original, np.random.default_rng(case)))
        found[case] = outcome(kind, work / name)
    return found


def _bad(found: dict[int, str]) -> dict[int, str]:
    return {case: what for case, what in found.items() if what not in ("refused", "same")}


@pytest.mark.parametrize("name", KINDS)
def test_when_a_file_is_whole_then_it_says_the_same_by_either_means(
    name: str, tmp_path: Path
) -> None:
    kind = KINDS[name]
    assert outcome(kind, kind.make(tmp_path)) == "same"


@pytest.mark.parametrize("name", KINDS)
def test_when_a_file_is_mutated_then_it_is_refused_in_one_line_or_opens_as_what_it_says(
    name: str, tmp_path: Path
) -> None:
    assert _bad(outcomes(KINDS[name], tmp_path, range(38))) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_when_thousands_of_files_are_mutated_then_none_gets_through(
    name: str, tmp_path: Path
) -> None:
    assert _bad(outcomes(KINDS[name], tmp_path, range(1000, 1375))) == {}


@pytest.mark.parametrize("shape", [[3, 10**12], [10**15], [100, 100]])
def test_when_a_description_tells_of_more_than_its_files_hold_then_no_room_is_made_for_it(
    tmp_path: Path, shape: list[int]
) -> None:
    path = KINDS["manifest"].make(tmp_path)
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["tensors"][0]["shape"] = shape
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(InputError, match=r"coordinates, and \S+ has [0-9,]+ bytes"):
        open_trajectory(path.parent)
