"""What the command line prints of rankings and trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weightcast.bench.statistics import Ranking
from weightcast.datasets import open_trajectory
from weightcast.datasets.gates import run_gates


def ranking_rows(ranking: Ranking) -> list[dict[str, Any]]:
    """Return a leaderboard's rows for the terminal."""
    return [
        {
            "method": s.method,
            "skill": f"{s.skill:+.3f}",
            "95 %": f"[{s.skill_lower:+.3f}, {s.skill_upper:+.3f}]",
            "win rate": f"{s.win_rate:.2f}",
            "mean rank": f"{s.mean_rank:.1f}",
            f"error over {ranking.standings[0].method}'s": (
                f"{s.ratio:.2f} [{s.ratio_lower:.2f}, {s.ratio_upper:.2f}]"
            ),
            "failures": s.failures,
        }
        for s in ranking.standings
    ]


def trajectory_info(path: Path) -> dict[str, Any]:
    """Describe a trajectory file after reading all of it.

    Raises
    ------
    InputError
        If it is not a trajectory, or holds NaN or infinity.
    """
    run = open_trajectory(path)
    run.check_finite()
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
        "sha256": run.content_hash(),
        "gates": [gate.to_json() for gate in run_gates(run)],
        "optimizer": meta.optimizer,
        "recipe": meta.recipe,
        "source": meta.source,
        "licence": meta.licence,
    }
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        values = getattr(meta, name)
        if values:
            described[name] = {"first": values[0], "last": values[-1]}
    return described


def trajectory_lines(found: dict[str, Any]) -> list[str]:
    """Lay a trajectory's description out for the terminal."""
    steps = found["steps"]
    lines = [
        f"{found['dataset']}, seed {found['seed']}, {found['optimizer']}",
        f"{found['coordinates']:,} coordinates, {found['snapshots']} snapshots, "
        f"steps {steps[0]} to {steps[-1]}",
        f"sha256 {found['sha256']}",
        *(
            f"  {t['name']}  {'×'.join(map(str, t['shape'])) or 'scalar'}  {t['kind']}"
            for t in found["tensors"]
        ),
    ]
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        if name in found:
            lines.append(
                f"{name.replace('_', ' ')}: {found[name]['first']:.4g} at the start, "
                f"{found[name]['last']:.4g} at the end"
            )
    for gate in found["gates"]:
        state = "passed" if gate["passed"] else "FAILED"
        lines.append(
            f"gate {gate['name']}: {state}, {gate['value']:.3g} ({gate['meaning']} {gate['limit']})"
        )
    return lines
