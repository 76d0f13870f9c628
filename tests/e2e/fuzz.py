"""Mutated events, configurations and HTTP requests, by seed: none may be a traceback, a hang or a wrong count.

    python -m tests.e2e.fuzz --minutes 3 --seed 1          # each of the three in turns; `make soak` does it too
    python -m tests.e2e.fuzz --only events --seed 17 --rounds 1

A round has a seed of its own and begins anew, so what it found is found again with `--rounds 1` and that seed. Says
what was tried; saves the input of each fault, and exits 1 where there was one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.e2e import fuzz_config, fuzz_events, fuzz_http
from tests.e2e.odd import Fault


@dataclass
class Tally:
    """What rounds of one kind have tried."""

    tried: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    rounds: int = 0


Round = Callable[[random.Random, Path], tuple[Counter[str], list[Fault]]]
KINDS: Final[Mapping[str, Round]] = {
    "events": fuzz_events.a_round,
    "configuration": fuzz_config.a_round,
    "http": fuzz_http.a_round,
}


def run(kind: str, seed: int, *, rounds: int = 0, seconds: float = 0.0) -> Tally:
    """Run rounds with seeds from `seed` on: so many, or until so much time has passed."""
    tally = Tally()
    began = time.monotonic()
    while tally.rounds < rounds or time.monotonic() - began < seconds:
        of_round = seed + tally.rounds
        with tempfile.TemporaryDirectory(prefix="driftd-fuzz-") as folder:
            tried, faults = KINDS[kind](random.Random(of_round), Path(folder))
        tally.tried += tried
        tally.faults += [fault.of_seed(of_round) for fault in faults]
        tally.rounds += 1
    return tally


def save(kind: str, fault: Fault, directory: Path) -> Path:
    """Write the input of a fault into a file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{kind}-{fault.seed}-{len(list(directory.iterdir()))}.input"
    path.write_bytes(fault.input)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3, help="in all")
    parser.add_argument("--rounds", type=int, default=0, help="of each kind, instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(KINDS))
    parser.add_argument("--save", type=Path, default=Path("fuzz-faults"), help="folder of inputs that did harm")
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else list(KINDS)
    seconds = 0.0 if arguments.rounds else arguments.minutes * 60 / len(kinds)
    found = 0
    for kind in kinds:
        tally = run(kind, arguments.seed, rounds=arguments.rounds, seconds=seconds)
        last = arguments.seed + tally.rounds - 1
        print(
            f"{kind}: seeds {arguments.seed} to {last}: {sum(tally.tried.values())} tried, {len(tally.faults)} faults"
        )
        print(f"  {', '.join(f'{name} {count}' for name, count in sorted(tally.tried.items()))}", flush=True)
        for fault in tally.faults:
            print(f"FAULT of seed {fault.seed}: {fault.what}\n  input: {save(kind, fault, arguments.save)}", flush=True)
        found += len(tally.faults)
    print(f"FAILED: {found} faults" if found else "PASSED: nothing did harm")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
