"""Eight badly behaved methods beside `last-value`: their statuses, and what the engine costs.

Each method of a plugin misbehaves in its own way in every cell. The script prints each one's
statuses and how far its longest cell went beyond the time limit; then the seconds of a second run
of the same command, and the harness's own time beside that of a method, a network and the scoring.
Exit status 1 where a status is not the one expected, a cell took more than two seconds longer than
the limit, or the second run started a worker or took more than two seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from weightcast.bench.results.tables import load_results

#: Method → what it does in `predict_block`, and the status that its cells must have.
METHODS = {
    "raises": ("raise RuntimeError('no forecast today')", "failed"),
    "no-memory": ("raise MemoryError", "out-of-memory"),
    "allocates": (
        "held = []\n        while True: held.append(np.ones(1_000_000))",
        "out-of-memory",
    ),
    "segfaults": ("ctypes.string_at(0)", "crashed"),
    "sleeps": ("time.sleep(3600)", "timeout"),
    "ignores-sigterm": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        while True: time.sleep(60)",
        "timeout",
    ),
    "returns-nan": ("return np.full((len(context), len(task.horizons)), np.nan)", "invalid"),
    "wrong-shape": ("return context", "invalid"),
}
HEAD = """import ctypes, signal, time
import numpy as np
from weightcast.methods import CoordinateForecaster, register
"""
METHOD = '''

@register("{name}")
class {cls}(CoordinateForecaster):
    """Misbehaves."""
    def predict_block(self, context, task):
        {body}
'''
SUITE = """
name = "bad-methods"
datasets = ["digits-mlp-sgd"]
methods = ["last-value"]
contexts = [10]
rotations = 4
"""
#: Seconds that a cell may go beyond its limit, and that a run with nothing to do may take.
OVER, NOTHING = 2.0, 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument("--max-memory", type=int, default=1500)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        suite, plugin, out = (Path(folder) / name for name in ("suite.toml", "bad.py", "out"))
        suite.write_text(SUITE, encoding="utf-8")
        plugin.write_text(
            HEAD
            + "".join(
                METHOD.format(name=name, cls=name.title().replace("-", ""), body=body)
                for name, (body, _) in METHODS.items()
            ),
            encoding="utf-8",
        )
        command = [
            sys.executable, "-P", "-c", "from weightcast.bench.cli import main; main()", "run",
            "--suite", str(suite), "--out", str(out), "--plugin", str(plugin),
            "--timeout", str(options.timeout), "--max-memory", str(options.max_memory),
            "--jobs", str(options.jobs),
        ]  # fmt: skip
        first, said = _run(command)
        second, again = _run(command)
        cells = load_results(out).cells
    ok = _statuses(cells, options.timeout)
    print(f"first run {first:.1f} s: {said}")
    print(f"second run {second:.2f} s (limit {NOTHING:g}): {again}")
    good = cells[(cells["method"] == "last-value") & (cells["tier"] == "weights")]
    own = 1e3 * (good["overhead_seconds"] - good["scoring_seconds"])
    print(
        f"a cell of last-value: {1e3 * good['cell_seconds'].median():.1f} ms, of which the "
        f"harness {own.median():.1f} ms (largest {own.max():.1f}), scoring "
        f"{1e3 * good['scoring_seconds'].median():.1f} ms, the network "
        f"{1e3 * good['network_seconds'].median():.1f} ms"
    )
    return 0 if ok and second <= NOTHING and said == again else 1


def _run(command: list[str]) -> tuple[float, str]:
    """Return a run's seconds and its last line."""
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout.splitlines()[-1]


def _statuses(cells: pd.DataFrame, timeout: float) -> bool:
    ok = True
    for name, (_, expected) in ({"last-value": ("", "ok")} | METHODS).items():
        mine = cells[(cells["method"] == name) & (cells["tier"] == "weights")]
        statuses = mine["status"].unique().tolist()
        longest = mine["cell_seconds"].astype(float).max()
        right = statuses == [expected] and len(mine) == 12 and not longest > timeout + OVER
        ok &= right
        over = f", {longest - timeout:+.2f} s beyond the limit" if expected == "timeout" else ""
        print(
            f"{name}: {len(mine)} cells {', '.join(statuses)}, longest {longest:.2f} s{over}"
            f"{'' if right else f'; expected {expected}'}"
        )
    return ok


if __name__ == "__main__":
    sys.exit(main())
