"""Suites: a named list of tasks and methods, in a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from weightcast.bench.plan.faults import Fault, at_names, faults_of, refused
from weightcast.bench.plan.loop_settings import LoopSettings
from weightcast.bench.plan.toml_lines import Place
from weightcast.datasets import InputError, all_datasets, get_dataset
from weightcast.datasets.errors import unknown
from weightcast.methods import all_methods, get_method, make_method
from weightcast.methods.adapter_name import canonical_name
from weightcast.methods.label import parse_label

SUITES = Path(__file__).parents[1] / "suites"
#: Counts in a suite end here; what is larger is a slip of the finger.
LARGEST = 1_000_000

_DataSet = Annotated[str, Field(json_schema_extra={"takes": "a data set"})]


class MethodEntry(BaseModel):
    """A method with the parameters that the suite asks for."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        json_schema_extra={"takes": "a name, or a table with name and params"},
    )

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def params_json(self) -> str:
        """The parameters as sorted JSON, ``{}`` for the defaults."""
        return json.dumps(self.params, sort_keys=True)


class Shift(BaseModel):
    """A track that fits on one data set and tests on another.

    Attributes
    ----------
    track : str
        What differs between the two.
    train, test : str
        Data sets. The track ``shift-cadence`` takes one data set for both.
    every : int
        Test runs are seen at every so many-th snapshot; training runs at each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    track: Literal["shift-optimizer", "shift-architecture", "shift-cadence", "shift-task"]
    train: _DataSet
    test: _DataSet
    every: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _something_shifts(self) -> Self:
        if self.track == "shift-cadence":
            if self.every == 1:
                raise ValueError("a shift of cadence needs every = 2 or more")
        elif self.train == self.test:
            raise ValueError("train and test are the same data set: nothing shifts")
        return self


class Suite(BaseModel):
    """What a benchmark runs.

    Attributes
    ----------
    name, description : str
    datasets : list of str
        Data sets by name; ``"*"`` stands for every registered one.
    methods : list of MethodEntry
        Names, or tables with ``name`` and ``params``; ``"*"`` stands for every registered one.
    contexts : list of int
        Context lengths n.
    rotations : int
        Folds over runs; every run is tested once.
    windows : list of str
        ``"early"``, ``"middle"``, ``"late"``: halves of each run, as tasks beside the whole run.
    train_runs : list of int
        Numbers of training runs: for each, tasks whose fits learn from that many of a rotation's
        training runs, the first by seed, beside those on all of them. Validation and test runs are
        the same.
    shifts : list of Shift
        Tracks that fit here and test there.
    repeats : int
        Seeds under which methods that draw random numbers are fitted; all others are fitted once.
    tuning : int
        Configurations that each method with a grid may try on validation runs; 0 for defaults.
    tiers : list of str
    batch_norm : str
        What statistics the batch norms of a network get with forecast weights. ``"re-estimate"``:
        those of training data under these weights, as the recorded run's own losses were measured.
        ``"keep"``: those that the run recorded at the origin. ``"forecast"``: the method forecasts
        them as it does weights, from those that the context recorded; where it does not, they are
        kept. `weightcast.bench.scoring.batch_norm` says what is then held against what.
    batch_norm_batches : int, optional
        Re-estimate on so many batches of the recipe's size, the first of the training data; on all
        the training data that are measured by default.
    lengths : bool
        Whether the function tier measures each forecast at its best length too, chosen by training
        loss; `weightcast.bench.scoring.lengths` says how, and what it costs.
    loop : LoopSettings
        How the tier ``loop`` runs, where it is one of them.
    sample : int
        Coordinates in the fixed sample on which slow methods run.
    seed : int
    jobs : int
        Worker processes where the command line names no number.
    timeout : float
        Seconds for each fit and each cell where the command line names none.
    """

    # No guesses: true is no number of jobs, "10" no context, infinity no time.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    description: str = ""
    datasets: list[_DataSet] = Field(
        min_length=1, json_schema_extra={"takes": 'a list of data sets, or "*"'}
    )
    methods: list[MethodEntry] = Field(
        min_length=1,
        json_schema_extra={"takes": 'a list of names, or of tables with name and params, or "*"'},
    )
    contexts: list[Annotated[int, Field(ge=1, le=LARGEST)]] = Field(default=[10], min_length=1)
    rotations: int = Field(default=4, ge=3, le=LARGEST)
    repeats: int = Field(default=1, ge=1, le=LARGEST)
    windows: list[Literal["early", "middle", "late"]] = []
    train_runs: list[Annotated[int, Field(ge=1, le=LARGEST)]] = []
    shifts: list[Shift] = []
    tuning: int = Field(default=0, ge=0, le=LARGEST)
    tiers: list[Literal["weights", "function", "loop"]] = ["weights", "function"]
    loop: LoopSettings = LoopSettings()
    batch_norm: Literal["re-estimate", "keep", "forecast"] = "re-estimate"
    batch_norm_batches: int | None = Field(default=None, ge=1, le=LARGEST)
    lengths: bool = False
    sample: int = Field(default=128, ge=1, le=LARGEST)
    seed: int = Field(default=0, ge=0, lt=2**63)
    jobs: int = Field(default=1, ge=1, le=4096)
    timeout: float = Field(default=3600.0, gt=0, le=31_622_400)
    #: The file that it was read from, and what was in it.
    _source: tuple[Path, str] | None = PrivateAttr(default=None)

    @field_validator("methods", mode="before")
    @classmethod
    def _names_are_entries(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [_entry(entry) if isinstance(entry, str) else entry for entry in value]

    @field_validator("batch_norm_batches")
    @classmethod
    def _batches_are_to_estimate_on(cls, value: int | None, info: ValidationInfo) -> int | None:
        rule = info.data.get("batch_norm", "re-estimate")
        if value is not None and rule != "re-estimate":
            raise ValueError(
                f"statistics are estimated on batches, and batch_norm = '{rule}' estimates none; "
                "leave one of the two out"
            )
        return value

    @field_validator("lengths")
    @classmethod
    def _lengths_are_of_networks(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "function" not in info.data.get("tiers", ["function"]):
            raise ValueError(
                "lengths are chosen by the real network's training loss, which the tier function "
                "measures; add it to tiers, or leave lengths out"
            )
        return value

    def resolve(self, methods: list[str] | None = None, datasets: list[str] | None = None) -> Suite:
        """Return the suite with ``"*"`` spelt out and narrowed to some methods and data sets.

        Methods named here that the suite lacks are added, with the parameters that their label has,
        so that a plugin runs in any suite. Adapters' names become canonical.

        Raises
        ------
        InputError
            If a method, a parameter or a data set is unknown, naming all that are.
        """
        if self._source is not None:
            chosen_here = None if methods is None else {canonical_name(name) for name in methods}
            if faults := self._unknown(chosen_here, datasets):
                raise refused(*self._source, faults)
        entries = _spell_out(
            [e.model_copy(update={"name": canonical_name(e.name)}) for e in self.methods],
            MethodEntry(name="*"),
            [MethodEntry(name=n) for n in all_methods()],
        )
        if methods is not None:
            entries = _named(methods, entries)
        names = _spell_out(self.datasets, "*", list(all_datasets()))
        shifts = self.shifts
        if datasets is not None:
            names = datasets
            shifts = [s for s in shifts if {s.train, s.test} <= set(datasets)]
        for shift in shifts:
            get_dataset(shift.train)
            get_dataset(shift.test)
        for entry in entries:
            make_method(entry.name, entry.params)
        for name in names:
            get_dataset(name)
        return self.model_copy(update={"methods": entries, "datasets": names, "shifts": shifts})

    def _unknown(
        self, methods: Collection[str] | None, datasets: Collection[str] | None
    ) -> list[Fault]:
        """Return a fault for each name and parameter that is not registered, of what is to run."""
        found: list[Fault] = []
        for index, entry in enumerate(self.methods):
            if entry.name == "*" or (
                methods is not None and canonical_name(entry.name) not in methods
            ):
                continue
            place: Place = ("methods", index)
            try:
                get_method(entry.name)
                place = (*place, "params")
                make_method(entry.name, entry.params)
            except InputError as error:
                found.append(Fault(place, str(error)))
        if datasets is None:
            found += at_names(self.datasets, ("datasets",), get_dataset)
        for index, shift in enumerate(self.shifts):
            if datasets is None or {shift.train, shift.test} <= set(datasets):
                for side in ("train", "test"):
                    names = [getattr(shift, side)]
                    faults = at_names(names, (), get_dataset)
                    found += [Fault(("shifts", index, side), fault.why) for fault in faults]
        return found

    def on_device(self, device: str) -> Suite:
        """Return the suite with every method that takes a device on this one.

        What the suite itself says of a method's device stays.

        Raises
        ------
        InputError
            If no method takes one, and no network is measured.
        """
        take = [e for e in self.methods if "device" in get_method(e.name).get_param_names()]
        if not take and "function" not in self.tiers:
            raise InputError(
                f"no method of this run takes a device, and no network is measured; leave --device "
                f"{device} out"
            )
        entries = [
            e.model_copy(update={"params": {"device": device} | e.params}) if e in take else e
            for e in self.methods
        ]
        return self.model_copy(update={"methods": entries})

    def to_toml(self) -> str:
        """Write the suite as TOML that `load_suite` reads."""
        import tomli_w

        unused = set() if "loop" in self.tiers else {"loop"}
        return tomli_w.dumps(self.model_dump(exclude_none=True, exclude=unused))


def suite_names() -> list[str]:
    """Return the names of the suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """Load a suite by name, or from a ``.toml`` file.

    Raises
    ------
    InputError
        If there is no such suite, or the file is not a suite's; all that is wrong with it is said,
        with the lines.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in suite_names():
            raise unknown("suite", name, suite_names())
        path = SUITES / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"suite file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"suite file {path} cannot be read: it is not UTF-8 text") from None
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Beside what is no TOML, numbers of thousands of digits and nests of thousands of brackets.
        raise InputError(f"suite file {path} cannot be read: {error}") from None
    try:
        suite = Suite.model_validate(found)
    except ValidationError as error:
        raise refused(path, text, [*faults_of(error, Suite), *_unknown_names(found)]) from None
    suite._source = path, text
    return suite


def _unknown_names(found: dict[str, Any]) -> list[Fault]:
    """Return a fault for each unknown name in a file that is wrong otherwise, as far as it goes."""
    faults = []
    for key, check in (("datasets", get_dataset), ("methods", get_method)):
        names = found.get(key)
        if isinstance(names, list):
            names = [one.get("name") if isinstance(one, dict) else one for one in names]
            faults += at_names(names, (key,), check)
    methods = found.get("methods")
    return faults + _unknown_params(methods if isinstance(methods, list) else [])


def _unknown_params(methods: list[Any]) -> list[Fault]:
    """Return a fault for each parameter that a method of a known name does not have."""
    faults = []
    for index, one in enumerate(methods):
        if not (isinstance(one, dict) and isinstance(one.get("params"), dict)):
            continue
        name = one.get("name")
        try:
            if not isinstance(name, str) or name == "*":
                continue
            get_method(name)
        except InputError:
            continue  # that has its own fault
        try:
            make_method(name, one["params"])
        except InputError as error:
            faults.append(Fault(("methods", index, "params"), str(error)))
    return faults


def _entry(label: str) -> dict[str, Any]:
    """Take a method's label apart."""
    name, params = parse_label(canonical_name(label))
    return {"name": name, "params": params}


def _named(labels: list[str], entries: list[MethodEntry]) -> list[MethodEntry]:
    """Return what labels name: of a suite's entries those alike, or else a new one.

    A name without parameters stands for all entries of that name.
    """
    found: list[MethodEntry] = []
    for asked in (MethodEntry(**_entry(label)) for label in labels):
        alike = [e for e in entries if e.name == asked.name and asked.params in ({}, e.params)] or [
            asked
        ]
        found += [e for e in alike if e not in found]
    return found


def _spell_out(given: list[Any], star: Any, everything: list[Any]) -> list[Any]:
    """Put everything in the star's place, and drop repetitions."""
    spelt: list[Any] = []
    for entry in given:
        spelt += [e for e in (everything if entry == star else [entry]) if e not in spelt]
    return spelt
