"""Splits over runs: every run is tested once, on methods that saw other runs only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weightcast.datasets.errors import InputError


@dataclass(frozen=True)
class Split:
    """The seeds of one rotation, each tuple ascending."""

    rotation: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def rotate(seeds: Sequence[int], rotations: int) -> list[Split]:
    """Cut runs into as many folds as rotations; each fold is the test set once.

    Rotation r tests on fold r, validates on fold r + 1 and trains on the rest. Fold f holds the
    runs at places f, f + rotations, ... in ascending order of seed, so the split does not depend
    on the order in which runs are given.

    Raises
    ------
    InputError
        If there are fewer than three rotations, or too few runs to give each fold one.
    """
    ordered = sorted(seeds)
    if len(set(ordered)) != len(ordered):
        raise InputError("a run is given twice; each seed may appear once in a split")
    if rotations < 3:
        raise InputError(f"{rotations} rotations leave no runs to train on; use at least 3")
    if len(ordered) < rotations:
        raise InputError(f"{len(ordered)} runs cannot be cut into {rotations} rotations")
    folds = [tuple(ordered[fold::rotations]) for fold in range(rotations)]
    splits = []
    for rotation in range(rotations):
        validation = (rotation + 1) % rotations
        train = [
            seed
            for fold, members in enumerate(folds)
            if fold not in (rotation, validation)
            for seed in members
        ]
        splits.append(Split(rotation, tuple(sorted(train)), folds[validation], folds[rotation]))
    return splits
