"""`make simulation`: alarms of models that never change against what was promised, and how soon changes are found.

    python -m tests.simulation [--only PART] [--quick | --full] [--jobs 2] [--seed 1] [--json]

Streams of known families are fed, as panes, to the evaluation that ships. Run / promise is the mean number of checks
between alarms by the promised one: above 1 is more silent than promised, below 1 louder. The interval beside it is of
99 %; a limit is missed where chance does not explain it. Exits 1 if one is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.figures import Figure, Verdict
from tests.simulation.plan import PARTS, Task, tasks


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the figures, and return the exit code."""
    asked = _asked(arguments)
    parts = asked.only or PARTS
    wanted = tasks(parts, asked.seed, quick=asked.quick, full=asked.full, size=asked.size)
    figures = list(_in_order(wanted, asked.jobs))
    commit = _commit()
    if asked.json:
        document = {"seed": asked.seed, "commit": commit, "figures": [figure.document() for figure in figures]}
        print(json.dumps(document, indent=1))
    else:
        print(f"Seed {asked.seed}, commit {commit}.\n\n{table(figures)}")
    return 1 if any(figure.verdict is Verdict.MISSED for figure in figures) else 0


def table(figures: Sequence[Figure]) -> str:
    """Return figures as a Markdown table."""
    lines = ["| part | row | figure | limit | |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {f.part} | {f.row} | {f.value} | {f.limit} | {f.verdict} |" for f in figures]
    return "\n".join(lines)


def _commit() -> str:
    """Return the commit that is simulated, `unknown` outside a repository."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a minute: shows that everything runs, and little else")
    size.add_argument("--full", action="store_true", help="hours: 1e-4, and references of 5 and 50 windows, too")
    parser.add_argument("--jobs", type=int, default=2, help="processes; figures do not depend on it")
    parser.add_argument(
        "--size", type=float, default=1.0, help="factor of the number of references, models and streams"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one document instead of the table")
    return parser.parse_args(arguments)


def _in_order(wanted: Sequence[Task], jobs: int) -> Iterator[Figure]:
    """Run tasks side by side; yield their figures by part, in the order of the tasks."""
    began, found = time.perf_counter(), dict[int, list[Figure]]()
    with ProcessPoolExecutor(max(jobs, 1)) as pool:
        long_ones_first = sorted(enumerate(wanted), key=lambda numbered: -numbered[1].size)
        running = {pool.submit(task.run): i for i, task in long_ones_first}
        for done in as_completed(running):
            number = running[done]
            found[number] = done.result()
            _tell(f"{len(found)} of {len(wanted)}, {time.perf_counter() - began:.0f} s: {wanted[number].name}")
            for figure in found[number]:
                _tell(f"  {figure.row}: {figure.value} {figure.verdict}")
    everything = [figure for number in sorted(found) for figure in found[number]]
    yield from sorted(everything, key=lambda figure: PARTS.index(figure.part))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
