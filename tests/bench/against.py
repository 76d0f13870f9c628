"""Two trees of the project in turns on one topic: what a change costs, end to end.

    git worktree add ../before v0.1.0
    python -m tests.bench.against ../before [--partitions 12] [--predictions N] [--rounds N] [--json]

Both are run by this interpreter, each from its own directory, with the configuration and the events of this tree. The
cost is the median over rounds of the ratio within a round, so that a busy machine disturbs both. `cpu` is of all
threads of the process, `wall` from the first record to the commit of the last one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

from tests.bench.throughput import Bench
from tests.conftest import OF_KAFKA_PYTHON
from tests.servers.kafka import Cluster

HERE: Final = Path(__file__).parents[2]


def against(other: Path, predictions: int, rounds: int, partitions: int) -> dict[str, Any]:
    """Microseconds a record of both trees, and what this one costs more, as ratios."""
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="driftd-bench-") as folder, Cluster(Path(folder) / "kafka") as cluster:
        bench = Bench(Path(folder), cluster, _tell)
        topic, records, _ = bench.fill(predictions, labelled=True, partitions=partitions)
        for number in range(rounds):
            # Who begins changes, because the second one finds the topic in the memory of the machine.
            order = (other, HERE) if number % 2 else (HERE, other)
            found = {tree: _figures(bench.run("driftd", topic, records, tree)) for tree in order}
            pairs.append((found[other], found[HERE]))
            _tell(f"round {number + 1}: {_shown(found[other])} there, {_shown(found[HERE])} here")
    return {
        "records": records, "partitions": partitions, "rounds": rounds,
        **{
            name: {
                "there_us": statistics.median(before[name] for before, _ in pairs),
                "here_us": statistics.median(after[name] for _, after in pairs),
                "ratio": statistics.median(after[name] / before[name] for before, after in pairs),
            }
            for name in ("cpu", "wall")
        },
    }  # fmt: skip


def _figures(run: dict[str, Any]) -> dict[str, float]:
    return {"cpu": run["cpu_seconds"] / run["records"] * 1e6, "wall": run["us_per_record"]}


def _shown(figures: dict[str, float]) -> str:
    return f"{figures['cpu']:.2f} us of CPU ({figures['wall']:.2f} us)"


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Measure and print. -> exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__.split("\n")[0])
    parser.add_argument("tree", type=Path, help="directory of the other tree")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--predictions", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    tree = asked.tree.resolve()
    if not (tree / "tests" / "bench" / "drain.py").is_file():
        parser.error(f"{tree} is no tree of the project: it has no tests/bench/drain.py")
    found = against(tree, asked.predictions, asked.rounds, asked.partitions)
    for name in ("cpu", "wall"):
        f = found[name]
        _tell(f"{name}: {f['there_us']:.2f} us a record there, {f['here_us']:.2f} us here: {f['ratio'] - 1:+.1%}")
    if asked.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", OF_KAFKA_PYTHON, DeprecationWarning)
    sys.exit(main())
