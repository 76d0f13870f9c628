"""A short run of each fuzzer, with fixed seeds; the long one is part of `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import fuzz
from tests.e2e.odd import Fault


@pytest.mark.parametrize(("kind", "rounds"), [("events", 2), ("configuration", 3), ("http", 1)])
def test_nothing_of_what_is_mutated_does_harm(kind: str, rounds: int) -> None:
    tally = fuzz.run(kind, seed=1, rounds=rounds)

    assert [f"seed {fault.seed}: {fault.what}: {fault.input[:300]!r}" for fault in tally.faults] == []
    assert tally.rounds == rounds


def test_a_fault_is_told_with_its_seed_and_its_input_is_kept(tmp_path: Path) -> None:
    path = fuzz.save("events", Fault("it broke", b"{}").of_seed(17), tmp_path / "faults")

    assert "events-17" in path.name
    assert path.read_bytes() == b"{}"
