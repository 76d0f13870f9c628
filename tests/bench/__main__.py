"""`make bench`: speed and memory, side by side in one run.

    python -m tests.bench [PARTS] [--predictions N] [--rounds N] [--json]

Absolute figures are of this machine and of this minute; the ratios are what can be compared. Exits 1 if one of the
project's bounds is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from typing import Any

LEAST_RATIO = 0.65
MOST_MB = 500.0
MOST_CHECK_MS = 2.0
MOST_ALERT_S = 2.0
MOST_FREEZING_S = 5.0  # of discrete features
PARTITIONS = 12
PARTS = ("throughput", "partitions", "memory", "latency", "checks", "windows", "freezing", "peers")


def main() -> int:
    """Run the parts that are asked for. -> exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--predictions", type=int, default=400_000, help="of the throughput run")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="predictions that wait in the memory run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # one of the packages that are compared has everything logged
    unknown = set(asked.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    parts = asked.parts or PARTS
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    }
    _tell(f"on {results['machine']}")
    if "checks" in parts:
        from tests.bench.checks import by_window_size

        results["checks"] = by_window_size(_tell)
    if "windows" in parts:
        from tests.bench.windows import several

        results["windows"] = [several(asked.rounds, panes, _tell) for panes in (10, 25)]
    if "freezing" in parts:
        from tests.bench.freezing import freezing

        results["freezing"] = freezing(_tell)
    if "peers" in parts:
        from tests.bench.checks import peers

        results["peers"] = peers(4 * asked.rounds, _tell)
    if "throughput" in parts:
        from tests.bench.throughput import throughput

        results["throughput"] = t = throughput(asked.predictions, asked.rounds, _tell)
        _tell(
            f"{t['records']} records, {t['bytes_per_prediction']} bytes a prediction, 20 numeric features, 2 versions, "
            f"KS and Wasserstein on all features (2 048 points), window 5 min checked every 30 s, half labelled, SQLite"
        )
        _tell(_speed(t))
    if "partitions" in parts:
        from tests.bench.throughput import throughput

        results["partitions"] = t = throughput(asked.predictions, asked.rounds, _tell, partitions=PARTITIONS)
        _tell(f"the same in {PARTITIONS} partitions: {_speed(t)}")
    if "memory" in parts:
        from tests.bench.throughput import memory

        results["memory"] = m = memory(asked.waiting, _tell)
        _tell(f"{m['rss_mb']:.0f} MB resident, {m['peak_mb']:.0f} MB at most, with {m['waiting']} predictions waiting")
    if "latency" in parts:
        from tests.bench.latency import latency

        results["latency"] = la = latency(asked.rounds, _tell)
        _tell(
            f"alerts on their topic {la['median_s']:.2f} s after the end of the window, {la['worst_s']:.2f} s at worst"
        )
    missed = _missed(results)
    for text in missed:
        _tell(f"MISSED: {text}")
    if asked.json:
        print(json.dumps({**results, "missed": missed}))
    return 1 if missed else 0


def _speed(t: dict[str, Any]) -> str:
    driftd = f"driftd {t['driftd_us']:.2f} us ({t['driftd_cpu_us']:.2f} us of CPU): {t['ratio']:.2f} of raw drain"
    return (
        f"raw drain {t['raw_us']:.2f} us a record, {driftd}, {t['driftd_per_second']:.0f} records a second on one core"
    )


def _missed(results: dict[str, Any]) -> list[str]:
    found = []
    if "throughput" in results and results["throughput"]["ratio"] < LEAST_RATIO:
        found.append(
            f"throughput is {results['throughput']['ratio']:.2f} of raw drain, at least {LEAST_RATIO} is wanted"
        )
    if "memory" in results and results["memory"]["rss_mb"] > MOST_MB:
        found.append(f"{results['memory']['rss_mb']:.0f} MB resident, at most {MOST_MB:.0f} are wanted")
    slow = [c for c in results.get("checks", ()) if c["ms"] > MOST_CHECK_MS]
    found += [f"a check of a window of {c['window']} takes {c['ms']:.2f} ms, {MOST_CHECK_MS} are wanted" for c in slow]
    if "freezing" in results and results["freezing"]["discrete"]["process_s"] > MOST_FREEZING_S:
        taken = results["freezing"]["discrete"]["process_s"]
        found.append(f"freezing 200 discrete features takes {taken:.1f} s of CPU, {MOST_FREEZING_S} are wanted")
    if "latency" in results and results["latency"]["worst_s"] > MOST_ALERT_S:
        found.append(f"an alert took {results['latency']['worst_s']:.2f} s, {MOST_ALERT_S} are wanted")
    return found


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    sys.exit(main())
