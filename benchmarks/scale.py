"""Memory of `weightcast run` on runs of 5.6 GB each, as ratios to a limit of 1.5 GiB.

Generates three runs (the fewest that can be rotated) with the tensors of DistilBERT, 66,955,010
coordinates and 21 snapshots, 5.6 GB a run, and runs the `weights` tier on them in a process of its
own with one worker. Prints the highest resident memory of the parent and of its workers as ratios
to the limit, the seconds, and what each method took; exit status 1 over the limit or where a cell
failed. The second `weightcast run` finds nothing to do: its seconds are what resuming costs.

Run with `python benchmarks/scale.py`: 17 GB of disk where the system keeps temporary files (a disk,
not memory; ``TMPDIR`` names another), or in ``--keep DIR``, whose runs the next time uses again.
`--layers 1 --vocabulary 1000` is a trial of a minute, with 2.2 GB.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from weightcast.bench.progress.bar import Advance, progress_bar
from weightcast.datasets import InputError, Metadata, TensorInfo, open_trajectory
from weightcast.datasets.files.stacked import StackedWriter

LIMIT = 1.5 * 2**30
POLL_SECONDS = 0.05

NAME = "distilbert-size-generated"
RUNS, SNAPSHOTS, CONTEXT = 3, 21, 10
METHODS = ("last-value", "damped-line", "lfd2-ols", "lfd-full")
COLUMNS = ("fit_seconds", "predict_seconds", "predict_seconds_per_million", "rel_sum")
HIDDEN, INTERMEDIATE, POSITIONS, CLASSES = 768, 3072, 512, 2
VOCABULARY, LAYERS, COORDINATES = 30_522, 6, 66_955_010

#: Standard deviations of the start, of the first snapshot's drift and of the first one's noise.
START, DRIFT, NOISE = 0.04, 0.004, 0.001
#: What drift and noise keep of themselves from one snapshot to the next.
DECAY = 0.9
#: Coordinates generated at a time; they stay in the processor's cache.
BLOCK = 1 << 16

PLUGIN = f"""\
from weightcast.datasets import RecordedDataSet, register_dataset

register_dataset(
    RecordedDataSet(
        name="{NAME}",
        seeds={tuple(range(RUNS))},
        description="generated runs with the tensors of DistilBERT",
        source="generated from a seed",
        licence="BSD-3-Clause",
    )
)
"""
SUITE = f"""\
name = "scale"
datasets = ["{NAME}"]
methods = {list(METHODS)}
contexts = [{CONTEXT}]
rotations = {RUNS}
tiers = ["weights"]
"""


@dataclass
class Watched:
    """What a command took: seconds, and the highest resident bytes of its processes."""

    seconds: float
    parent: int
    workers: int


def distilbert(vocabulary: int, layers: int) -> list[TensorInfo]:
    """List the tensors of a DistilBERT with a classifier, as ``named_parameters()`` would."""
    layer = "distilbert.transformer.layer"
    modules: list[tuple[str, tuple[int, ...], str]] = [
        ("distilbert.embeddings.word_embeddings", (vocabulary, HIDDEN), "embedding"),
        ("distilbert.embeddings.position_embeddings", (POSITIONS, HIDDEN), "embedding"),
        ("distilbert.embeddings.LayerNorm", (HIDDEN,), "norm"),
    ]
    for i in range(layers):
        modules += [
            (f"{layer}.{i}.attention.{part}_lin", (HIDDEN, HIDDEN), "linear")
            for part in ("q", "k", "v", "out")
        ]
        modules += [
            (f"{layer}.{i}.sa_layer_norm", (HIDDEN,), "norm"),
            (f"{layer}.{i}.ffn.lin1", (INTERMEDIATE, HIDDEN), "linear"),
            (f"{layer}.{i}.ffn.lin2", (HIDDEN, INTERMEDIATE), "linear"),
            (f"{layer}.{i}.output_layer_norm", (HIDDEN,), "norm"),
        ]
    modules += [
        ("pre_classifier", (HIDDEN, HIDDEN), "linear"),
        ("classifier", (CLASSES, HIDDEN), "linear"),
    ]
    infos, offset = [], 0
    for depth, (module, shape, kind) in enumerate(modules):
        parts = [("weight", shape, kind)]
        if kind != "embedding":
            parts.append(("bias", shape[:1], "norm" if kind == "norm" else "bias"))
        for leaf, own, its in parts:
            infos.append(TensorInfo(f"{module}.{leaf}", own, its, depth, offset))
            offset += infos[-1].size
    return infos


def generate(path: Path, infos: Sequence[TensorInfo], seed: int, advance: Advance) -> None:
    """Write one run: from a start of its own along a drift that dies down, with noise."""
    random = np.random.Generator(np.random.SFC64(seed))
    size = sum(info.size for info in infos)
    weights, drift = (random.standard_normal(size, dtype=np.float32) for _ in range(2))
    weights *= np.float32(START)
    drift *= np.float32(DRIFT)
    tensors = [weights[i.offset : i.offset + i.size].reshape(i.shape) for i in infos]
    noise = np.empty(BLOCK, dtype=np.float32)
    with StackedWriter(path, infos, range(SNAPSHOTS)) as writer:
        for step in range(SNAPSHOTS):
            left = np.float32(DECAY**step)
            for start in range(0, size, BLOCK) if step else ():
                moved = noise[: min(BLOCK, size - start)]
                random.standard_normal(out=moved, dtype=np.float32)
                moved *= NOISE * left
                moved += left * drift[start : start + BLOCK]
                weights[start : start + BLOCK] += moved
            writer.write(tensors)
            advance(f"run {seed}")
        rates = (0.1,) * (SNAPSHOTS - 1)
        writer.finish(Metadata(NAME, seed, optimizer="sgd", learning_rates=rates))


def generate_missing(folder: Path, infos: Sequence[TensorInfo]) -> None:
    """Write the runs that the folder lacks or has with other tensors."""
    paths = [folder / NAME / f"{seed}.safetensors" for seed in range(RUNS)]
    missing = [seed for seed, path in enumerate(paths) if not _is_here(path, infos)]
    needed = 4 * SNAPSHOTS * sum(info.size for info in infos) * len(missing)
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise InputError(
            f"the runs take {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; "
            "name a folder on another disk with --keep"
        )
    with progress_bar("generating", SNAPSHOTS * len(missing)) as advance:
        for seed in missing:
            generate(paths[seed], infos, seed, advance)


def _is_here(path: Path, infos: Sequence[TensorInfo]) -> bool:
    return path.exists() and list(open_trajectory(path).tensors) == list(infos)


def watch(command: Sequence[str | Path], cache: Path) -> Watched:
    """Run a command; poll the resident memory of its process and of all that come from it."""
    start = time.perf_counter()
    parent = workers = 0
    with subprocess.Popen(command, env={**os.environ, "WEIGHTCAST_CACHE": str(cache)}) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            parent = max(parent, _resident(root))
            workers = max([workers, *map(_resident, _descendants(root))])
            time.sleep(POLL_SECONDS)
    if process.returncode != 0:
        sys.exit(process.returncode)
    return Watched(time.perf_counter() - start, parent, workers)


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _resident(process: psutil.Process) -> int:
    """Return a process's resident bytes; 0 once it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def cells(weightcast: Path, results: Path) -> list[dict[str, str]]:
    """Return the rows of `weightcast export`."""
    table = results / "cells.csv"
    subprocess.run([weightcast, "export", results, table], check=True, stdout=subprocess.DEVNULL)
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def method_lines(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Lay out each method's mean seconds, a fit and a forecast of one run, and its error."""
    by_method: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_method[row["method"]].append(row)
    yield "method          fit s  predict s  s/million  rel_sum"
    for name, own in by_method.items():
        fit, predict, million, error = (
            float(np.mean([float(row[column] or "nan") for row in own])) for column in COLUMNS
        )
        yield f"{name:12} {fit:8.2f} {predict:10.2f} {million:10.4f} {error:8.4f}"


def measure(folder: Path) -> bool:
    """Run the suite twice on the folder's runs, print the figures; return whether all is well."""
    plugin, suite = folder / "plugin.py", folder / "scale.toml"
    plugin.write_text(PLUGIN, encoding="utf-8")
    suite.write_text(SUITE, encoding="utf-8")
    # New for each call, and the cache with it: what an earlier one left would be found, not run.
    work = Path(tempfile.mkdtemp(prefix="results-", dir=folder))
    results, cache = work / "results", work / "cache"
    weightcast = Path(sys.executable).with_name("weightcast")
    command: list[str | Path] = [weightcast, "run", "--suite", suite, "--out", results]
    command += ["--plugin", plugin, "--data", folder, "--jobs", "1"]
    first, second = watch(command, cache), watch(command, cache)
    rows = cells(weightcast, results)
    ok = len(rows) == RUNS * len(METHODS) and all(row["status"] == "ok" for row in rows)
    print("\n".join(method_lines(rows)))
    print(f"run: {first.seconds:.1f} s; again, with nothing to do: {second.seconds:.1f} s")
    for what, peak in (("parent", max(first.parent, second.parent)), ("worker", first.workers)):
        ok &= peak <= LIMIT
        print(f"{what}: {peak / 2**20:,.0f} MiB resident, ratio {peak / LIMIT:.3f} (limit 1)")
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep runs and results here")
    options = parser.parse_args()
    infos = distilbert(options.vocabulary, options.layers)
    coordinates = sum(info.size for info in infos)
    if (options.vocabulary, options.layers) == (VOCABULARY, LAYERS):
        assert coordinates == COORDINATES
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    place = nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory()
    with place as folder:
        try:
            generate_missing(Path(folder), infos)
        except InputError as error:
            parser.error(str(error))
        size = f"{4 * SNAPSHOTS * coordinates / 1e9:.2f} GB"
        print(
            f"{coordinates:,} coordinates, {SNAPSHOTS} snapshots, {RUNS} runs of {size}", flush=True
        )
        return 0 if measure(Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
