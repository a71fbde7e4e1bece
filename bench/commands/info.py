"""What the command line prints of rankings and trajectories."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.horizons import spoken
from weightcast.bench.results.inference.pairwise import Pairwise
from weightcast.bench.results.inference.ranking import Ranking
from weightcast.datasets import InputError, Trajectory, get_dataset, open_trajectory
from weightcast.datasets.admission.descent import loss_falls
from weightcast.datasets.admission.drift import drift_shares
from weightcast.datasets.admission.gates import run_gates, set_gates
from weightcast.datasets.admission.shipped import CHECKSUMS, PINNED, shipped
from weightcast.datasets.dataset import seed_ranges
from weightcast.datasets.trajectory import NotFinite
from weightcast.datasets.window import Window

_VERIFIED = {
    CHECKSUMS: "every tensor has the checksum that was written with it",
    PINNED: "no checksums, but the content is that of a run that ships with Weightcast",
    "": "no checksums: whether these are the bytes that were recorded is not known",
}
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def ranking_rows(
    ranking: Ranking,
    horizons: Sequence[str] = (),
    at_horizons: Mapping[str, Sequence[Estimate]] | None = None,
    pairwise: Pairwise | None = None,
    at_length: Mapping[str, Estimate] | None = None,
    references: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return a leaderboard's rows for the terminal; who is not ranked stands below.

    ``IQM`` is the skill by the interquartile mean over runs.

    Parameters
    ----------
    ranking : Ranking
    horizons : sequence of str, optional
        ``h5`` and so on: columns of the skills at single horizons.
    at_horizons : mapping of str to sequence of Estimate, optional
        Method → its skill at each of them.
    pairwise : Pairwise, optional
        For a column of the ranks that each may have.
    at_length : mapping of str to Estimate, optional
        Method → its skill at its best length.
    references : collection of str
        Those that are there to be measured against.
    """
    over = f"error over {ranking.standings[0].method}'s"
    rows: list[dict[str, Any]] = []
    for s in ranking.standings:
        told = (at_horizons or {}).get(s.method, [Estimate()] * len(horizons))
        rows.append(
            {
                # A label is the method's name, with parameters in brackets where they were asked.
                "method": s.method + " (reference)" * (s.method in references),
                "skill": f"{s.skill.value:+.3f}",
                "95 %": f"[{s.skill.lower:+.3f}, {s.skill.upper:+.3f}]",
                "IQM": f"{s.middle.value:+.3f}",
                **({} if at_length is None else {"at its best length": _best(s.method, at_length)}),
                **{
                    f"at {spoken(label)}": f"{one.value:+.2f}" if one.known else "—"
                    for label, one in zip(horizons, told, strict=True)
                },
                # What knows the truth is shown, but has no place among those that do not.
                "win rate": f"{s.win_rate.value:.2f}" if s.win_rate.known else "—",
                **({"ranks": _band(s.method, pairwise)} if pairwise else {}),
                "mean rank": "—" if math.isnan(s.mean_rank) else f"{s.mean_rank:.1f}",
                over: (
                    f"{s.ratio.value:.2f} [{s.ratio.lower:.2f}, {s.ratio.upper:.2f}]"
                    if s.ratio.known
                    else "—"
                ),
                "failures": s.failures,
            }
        )
    blank = dict.fromkeys([name for name in rows[0] if name not in ("method", "failures")], "—")
    return rows + [{"method": u.method, **blank, "failures": u.failures} for u in ranking.unranked]


def _best(method: str, at_length: Mapping[str, Estimate]) -> str:
    """Say a skill at the best length, for the terminal."""
    found = at_length.get(method, Estimate())
    if not found.known:
        return "—"
    return f"{found.value:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}]"


def _band(method: str, pairwise: Pairwise) -> str:
    """Say which ranks a method may have, for the terminal."""
    if method not in pairwise.methods:
        return "—"
    lower, upper = pairwise.band(method)
    return str(lower) if lower == upper else f"{lower}-{upper}"


def trajectory_info(path: Path) -> dict[str, Any]:
    """Describe a trajectory file after reading all of it.

    Of a run that diverged, the gates are those of its snapshots before that.

    Raises
    ------
    InputError
        If it is not a trajectory, its second snapshot has NaN or infinity already, or bytes are not
        those of its checksums.
    """
    run = open_trajectory(path)
    by_checksums, content = run.verify(), run.content_hash()
    broken = run.first_not_finite()
    if broken is not None and broken.snapshot < 2:
        raise InputError(f"{broken}; {broken.usable}")
    good = run if broken is None else Window(run, range(broken.snapshot))
    meta = run.meta
    described: dict[str, Any] = {
        "path": str(path),
        "dataset": meta.dataset,
        "seed": meta.seed,
        "snapshots": run.n_snapshots,
        "coordinates": run.n_coordinates,
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "kind": t.kind, "depth": t.depth}
            for t in run.tensors
        ],
        "steps": run.steps.tolist(),
        "sha256": content,
        "verified": CHECKSUMS if by_checksums else shipped(run, content),
        "gates": [gate.to_json() for gate in run_gates(good)],
        "drift": _without_nan(drift_shares([good])),
        "falls": _without_nan(loss_falls([good])),
        "not_finite": _not_finite(run, broken),
        "jumps": list(meta.jumps),
        "beside": [*run.state(0), *(info.name for info in run.fixed.infos), *run.fixed.aliases],
        "optimizer": meta.optimizer,
        "recipe": meta.recipe,
        "data": meta.data,
        "pretrained": meta.pretrained,
        "source": meta.source,
        "licence": meta.licence,
    }
    for name in METRICS:
        values = getattr(meta, name)
        if values:
            described[name] = {"first": values[0], "last": values[-1]}
    return described


def _not_finite(run: Trajectory, broken: NotFinite | None) -> str:
    """Say from where on a run is of no use; nothing where all of it is."""
    if broken is not None:
        return f"{broken}; {broken.usable}"
    if run.meta.not_finite_from is not None:
        return (
            f"weights had NaN or infinity from step {run.meta.not_finite_from} on; such snapshots "
            "were not recorded"
        )
    return ""


def trajectory_lines(found: dict[str, Any]) -> list[str]:
    """Lay a trajectory's description out for the terminal."""
    steps = found["steps"]
    lines = [
        f"{found['dataset']}, seed {found['seed']}, {found['optimizer']}",
        f"{found['coordinates']:,} coordinates, {found['snapshots']} snapshots, "
        f"steps {steps[0]} to {steps[-1]}",
        f"sha256 {found['sha256']}",
        _VERIFIED[found["verified"]],
        *([f"data sha256 {found['data']}"] if found["data"] else []),
        *([f"started from {found['pretrained']}"] if found["pretrained"] else []),
        *([found["not_finite"]] if found["not_finite"] else []),
        *([f"jumped after steps {_some([*map(str, found['jumps'])])}"] if found["jumps"] else []),
        *(
            f"  {t['name']}  {'×'.join(map(str, t['shape'])) or 'scalar'}  {t['kind']}"
            for t in found["tensors"]
        ),
        *([f"beside them: {_some(found['beside'])}"] if found["beside"] else []),
    ]
    lines += metric_lines(found)
    lines += share_lines(found)
    return lines + gate_lines(found["gates"])


def _some(names: list[str]) -> str:
    """Name a few of many."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def dataset_info(name: str, data: Path | None) -> dict[str, Any]:
    """Describe a data set by those of its runs that are here, after reading all of them.

    Raises
    ------
    InputError
        If there is no such data set, or none of its runs is here.
    """
    dataset = get_dataset(name)
    missing = dataset.missing(data)
    here = sorted(set(dataset.seeds) - set(missing)) or sorted(dataset.seeds)
    runs = [dataset.run(seed, data) for seed in here]
    first = runs[0]
    return {
        "name": name,
        "track": dataset.track,
        "what": dataset.description,
        "source": dataset.source,
        "licence": dataset.licence,
        "runs": len(runs),
        "missing": list(missing),
        "snapshots": first.n_snapshots,
        "coordinates": first.n_coordinates,
        "steps": first.steps.tolist(),
        "bytes": 4 * first.n_coordinates * first.n_snapshots * len(runs),
        "sha256": {run.meta.seed: run.content_hash() for run in runs},
        "gates": [gate.to_json() for gate in set_gates(runs, dataset.track)],
        "drift": _without_nan(drift_shares(runs)),
        "falls": _without_nan(loss_falls(runs)),
        **{
            name: {
                "first": float(np.median([getattr(run.meta, name)[0] for run in runs])),
                "last": float(np.median([getattr(run.meta, name)[-1] for run in runs])),
            }
            for name in METRICS
            if all(getattr(run.meta, name) for run in runs)
        },
    }


def dataset_lines(found: dict[str, Any]) -> list[str]:
    """Lay a data set's description out for the terminal."""
    return [
        f"{found['name']}: {found['what']}",
        f"{found['runs']} runs of {found['coordinates']:,} coordinates and {found['snapshots']} "
        f"snapshots, steps {found['steps'][0]} to {found['steps'][-1]}, "
        f"{found['bytes'] / 2**20:.1f} MiB; track {found['track']}",
        *([f"not here: seeds {seed_ranges(found['missing'])}"] if found["missing"] else []),
        *metric_lines(found, "median "),
        *share_lines(found, "median "),
        *gate_lines(found["gates"]),
    ]


def metric_lines(found: dict[str, Any], which: str = "") -> list[str]:
    """Say what losses and accuracies were at the start and at the end."""
    return [
        f"{which}{name.replace('_', ' ')}: {found[name]['first']:.4g} at the start, "
        f"{found[name]['last']:.4g} at the end"
        for name in METRICS
        if name in found
    ]


def _without_nan(shares: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(share) else share for name, share in shares.items()}


def share_lines(found: dict[str, Any], which: str = "") -> list[str]:
    """Say how much the loss falls and how much of a step lasts, where it can be told."""
    lines = []
    for key, what in (
        ("falls", "share of the train loss that training takes away"),
        ("drift", "share of a step that lasts"),
    ):
        told = [
            f"{share:.2f} {'in' if name == 'early' else 'after'} the first sixth"
            for name, share in found[key].items()
            if share is not None
        ]
        lines += [f"{which}{what}: {', '.join(told)}"] if told else []
    return lines


def gate_lines(gates: list[dict[str, Any]]) -> list[str]:
    """Say how each gate came out."""
    return [
        f"gate {gate['name']}: {'passed' if gate['passed'] else 'FAILED'}, {gate['value']:.3g} "
        f"({gate['meaning']} {gate['limit']:g})"
        for gate in gates
    ]
