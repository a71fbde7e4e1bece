"""What the learned networks cost: an update, a million coordinates, and a fit, on one thread.

The first table sets the encoder of `transformer` and `patchtst` beside torch's own layers with the
same sizes, as ratios measured in turn. The second fits methods on rotation 0 of recorded sets.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from weightcast.bench.scoring.tuning import validation_error
from weightcast.datasets import get_dataset, make_task
from weightcast.datasets.splits import rotate
from weightcast.methods import make_method
from weightcast.methods.encoder import EncoderLayer
from weightcast.methods.training import run_network

WIDTH, HEADS, BATCH, SLICE = 32, 4, 128, 512


class _Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(EncoderLayer(WIDTH, HEADS), EncoderLayer(WIDTH, HEADS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(tokens.permute(2, 1, 0).contiguous())
        return out


class _Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(tokens)
        return out


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the least CPU seconds of three rounds, after one to warm up."""
    best = float("inf")
    work()
    for _ in range(3):
        start = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time() - start) / rounds)
    return best


def _update(network: nn.Module, optimizer: torch.optim.Adam, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    network(x).square().mean().backward()
    optimizer.step()


def _forward(network: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        network(x)


def _encoders(rounds: int) -> None:
    print(f"two layers, width {WIDTH}: ms an update ({BATCH} rows), s a million coordinates")
    for tokens in (11, 5):
        found = []
        for make in (_Torchs, _Ours):
            network = make()
            optimizer = torch.optim.Adam(network.parameters(), fused=True)
            batch, many = torch.randn(BATCH, tokens, WIDTH), torch.randn(SLICE, tokens, WIDTH)

            update = partial(_update, network, optimizer, batch)
            forward = partial(_forward, network, many)
            found.append((_seconds(update, rounds), _seconds(forward, rounds) / SLICE * 1e6))
        (their_update, their_forward), (our_update, our_forward) = found
        print(
            f"{tokens:3} tokens  torch {1e3 * their_update:6.2f} {their_forward:6.1f}"
            f"   here {1e3 * our_update:6.2f} {our_forward:6.1f}"
            f"   ratio {their_update / our_update:5.2f} {their_forward / our_forward:5.2f}"
        )


def _fits(methods: list[str], datasets: list[str], updates: int | None) -> None:
    print("method         data set           val.   test  fit CPU s  updates  s a million")
    for dataset in datasets:
        data = get_dataset(dataset)
        split = rotate(data.seeds, 4)[0]
        train, validation, test = (
            [data.run(seed) for seed in seeds]
            for seeds in (split.train, split.validation, split.test)
        )
        task = make_task(train[0], 10)
        for name in methods:
            method = make_method(name, {} if updates is None else {"updates": updates})
            start = time.process_time()
            method.fit(train, validation, task)
            fit = time.process_time() - start
            rows = torch.randn(20_000, 11).numpy()
            network, width = method.network_, len(task.horizons)
            forward = _seconds(partial(run_network, network, "cpu", width, rows), 1)
            errors = [validation_error(method, runs, task, None) for runs in (validation, test)]
            print(
                f"{name:14} {dataset:18} {errors[0]:.4f} {errors[1]:.4f} {fit:8.1f} "
                f"{method.diagnostics()['updates_made']:9} {forward * 50:10.1f}"
            )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="transformer,patchtst,lstm")
    parser.add_argument("--datasets", default="digits-mlp-sgd,linreg-sgd")
    parser.add_argument("--updates", type=int)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    _encoders(options.rounds)
    _fits(options.methods.split(","), options.datasets.split(","), options.updates)


if __name__ == "__main__":
    main()
