"""A data set of one's own: recorded runs of a network that a plugin gives."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from weightcast.datasets.dataset import RecordedDataSet
from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.files.checkpoints import MANIFEST
from weightcast.datasets.given import GIVEN, give
from weightcast.datasets.networks.naming import natural_key
from weightcast.datasets.opening import open_trajectory
from weightcast.datasets.own.given import OwnGiven
from weightcast.datasets.own.network import BATCH_SIZE, OwnNetwork, has_data, what_is_missing
from weightcast.datasets.own_code import own_imports, source
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Trajectory


@dataclass(frozen=True)
class OwnDataSet(RecordedDataSet):
    """A data set that a plugin gives as a class derived from `OwnNetwork`.

    Attributes
    ----------
    code : str
        SHA-256 of the plugin's file and of the modules of its own that it imports.
    """

    code: str = ""
    given: OwnGiven = field(compare=False, kw_only=True)
    #: Where the runs are that the class names; empty where they lie in the data folder.
    files: dict[int, Path] = field(default_factory=dict, compare=False)

    @property
    def no_network(self) -> str:
        return what_is_missing(self.own)

    @property
    def own(self) -> OwnNetwork:
        """What the plugin gives."""
        return self.given.own

    @property
    def untrainable(self) -> str:
        if self.no_network:
            return f"{self.no_network}; its runs were made elsewhere"
        if self.own.runs:
            return "names the runs that it has; take runs out of its class to have them trained"
        lacking = [n for n in ("learning_rate", "steps") if getattr(self.own, n) is None]
        return f"gives no {' and no '.join(lacking)} to train by" if lacking else ""

    def path(self, seed: int, data: Path | None = None) -> Path | None:
        if self.own.runs:
            path = self.files.get(seed)
            return path if path is not None and path.exists() else None
        return super().path(seed, data)

    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        if self.own.runs:
            path = self.path(seed, data)
            if path is None:
                raise InputError(self.how_to_record((seed,)))
            run = open_trajectory(path)
            run.meta = replace(run.meta, dataset=self.name, seed=seed)
        else:
            run = super().run(seed, data)
        if self.recipe is None:
            # Whatever recipe it was recorded with elsewhere, this set has no network.
            run.meta = replace(run.meta, recipe={})
            return run
        from weightcast.datasets.own.losses import with_own_losses

        self.given.hold_to(run)
        run.meta = with_own_losses(run, self.recipe, self.given.examples().sha256)
        return run

    def size_of_run(self) -> int:
        if self.recipe is None:
            return self.bytes_per_run
        return 4 * self.given.coordinates * len(self.recipe.snapshot_steps)

    def how_to_record(self, seeds: tuple[int, ...]) -> str:
        if self.own.runs and not self.files:
            return f"data set {self.name}: there are no trajectories in {_shown(self.own.runs)}"
        if self.own.runs:
            names = ", ".join(str(self.files.get(seed, seed)) for seed in seeds[:3])
            return f"data set {self.name}: there is no trajectory at {names}"
        if self.untrainable:
            return (
                f"{len(seeds)} of {len(self.seeds)} runs of {self.name} are not here: record them "
                f"with TrajectoryRecorder and name them in the class, runs = 'FOLDER' (it "
                f"{self.untrainable})"
            )
        return super().how_to_record(seeds)


def own_dataset(name: str, cls: type[OwnNetwork]) -> OwnDataSet:
    """Make the data set of a class.

    Raises
    ------
    InputError
        If an attribute of the class is none of a data set.
    """
    own = _instance(name, cls)
    code, folder = _source_of(cls)
    files = _files(own.runs, folder, name)
    _refuse_misspelt(name, cls)
    given = OwnGiven(name, own)
    give(name, given)
    load_examples.cache_clear()  # an earlier plugin of the name may have given others
    described = " ".join((cls.__doc__ or "").strip().split("\n")[0].split())
    return OwnDataSet(
        name=name,
        seeds=tuple(sorted(files)) if own.runs else _seeds(own.seeds, name),
        description=described or "a network of the user's own",
        source=own.source,
        licence=own.licence,
        track=_track(own.track, name),
        recipe=None if what_is_missing(own) else _recipe(name, own, code),
        code=code,
        given=given,
        files=files,
    )


def _instance(name: str, cls: type[OwnNetwork]) -> OwnNetwork:
    if not isinstance(cls, type) or not issubclass(cls, OwnNetwork):
        raise InputError(f"data set {name}: derive its class from weightcast.datasets.OwnNetwork")
    return cls()


def _refuse_misspelt(name: str, cls: type[OwnNetwork]) -> None:
    """Refuse attributes that nobody would read: a learning rate that is called lr, say."""
    known = [n for n in vars(OwnNetwork) if not n.startswith("_")]
    for base in cls.__mro__[: cls.__mro__.index(OwnNetwork)]:
        for attribute, value in vars(base).items():
            plain = isinstance(value, int | float | str | Path | tuple | list | dict)
            if plain and not attribute.startswith("_") and attribute not in known:
                raise InputError(
                    f"data set {name}: {unknown('attribute', attribute, known)}; one of your own "
                    "begins with _"
                )


def _recipe(name: str, own: OwnNetwork, code: str) -> Recipe:
    steps = own.steps or 0
    for attribute in ("steps", "snapshot_every", "batch_size", "measured"):
        value = getattr(own, attribute)
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"data set {name}: {attribute} is {value!r}; it is a count from 1 on")
    return Recipe(
        name=name,
        network=GIVEN,
        network_options={"dataset": name},
        data=GIVEN,
        data_options={"dataset": name},
        optimizer=own.optimizer,
        learning_rate=float(own.learning_rate or 0.0),
        hyperparameters=dict(own.hyperparameters),
        batch_size=(own.batch_size or BATCH_SIZE) if has_data(own) else 1,
        steps=steps,
        snapshot_every=own.snapshot_every or max(1, steps // 60),
        schedule=own.schedule,
        schedule_options=dict(own.schedule_options),
        measured=own.measured,
        code=code,
    )


def _source_of(cls: type[OwnNetwork]) -> tuple[str, Path]:
    """Return the hash of a class's file and of the modules of its own, and the file's folder."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        return "", Path.cwd()
    path = Path(file).resolve()
    try:
        imported = own_imports(cls.__module__, path, [path.parent])
        # Methods that the same file registers have a hash of their own.
        beside = [each for name, each in imported.items() if not name.startswith("weightcast.")]
        contents = sorted({source(each) for each in (path, *beside) if not each.is_dir()})
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        if len(digests) == 1:
            return digests[0], path.parent
        return hashlib.sha256(" ".join(digests).encode()).hexdigest(), path.parent
    except OSError:
        return "", path.parent


def _files(runs: str | Path | Sequence[str | Path], folder: Path, name: str) -> dict[int, Path]:
    """Find the runs that a class names, by seed: the number that a name ends in, or its place."""
    named = [runs] if isinstance(runs, str | Path) else list(runs)
    found: list[Path] = []
    for one in named:
        path = (folder / one).expanduser()
        if path.is_dir() and not (path / MANIFEST).is_file():
            found += sorted(
                (p for p in path.iterdir() if _is_run(p)), key=lambda p: natural_key(p.name)
            )
        else:
            found.append(path)
    if len({path.resolve() for path in found}) < len(found):
        raise InputError(f"data set {name}: its runs name a file twice")
    numbers = [re.search(r"(\d{1,9})$", path.name.removesuffix(".safetensors")) for path in found]
    seeds = [int(number[1]) for number in numbers if number]
    if len(set(seeds)) < len(found):
        seeds = list(range(len(found)))
    return dict(zip(seeds, found, strict=True))


def _is_run(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix == ".safetensors" or (path.is_dir() and (path / MANIFEST).is_file())


def _seeds(seeds: int | Sequence[int], name: str) -> tuple[int, ...]:
    if type(seeds) is int and seeds > 0:
        return tuple(range(seeds))
    if not isinstance(seeds, int) and all(type(s) is int and s >= 0 for s in seeds) and seeds:
        return tuple(sorted(set(seeds)))
    raise InputError(f"data set {name}: seeds is {seeds!r}; say how many runs there are, or which")


def _track(track: str, name: str) -> str:
    if track not in ("main", "fine-tune"):
        raise InputError(f"data set {name}: track is {track!r}; it is 'main' or 'fine-tune'")
    return track


def _shown(runs: str | Path | Sequence[str | Path]) -> str:
    return str(runs) if isinstance(runs, str | Path) else ", ".join(map(str, runs))
