"""Blocks are resampled in runs of neighbours, each as often as any other."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.pipeline.simulation import stationary_bootstrap


@given(blocks=st.integers(1, 50), length=st.floats(1.0, 100.0), seed=st.integers(0, 1_000))
def test_every_place_is_one_of_the_blocks(blocks: int, length: float, seed: int) -> None:
    places = list(islice(stationary_bootstrap(blocks, length, np.random.default_rng(seed)), 100))

    assert all(0 <= place < blocks for place in places)


def test_runs_have_their_mean_length_and_blocks_come_equally_often() -> None:
    places = list(islice(stationary_bootstrap(100, 10.0, np.random.default_rng(0)), 50_000))
    ends = sum(after != (before + 1) % 100 for before, after in pairwise(places))

    assert len(places) / ends == pytest.approx(10.0, rel=0.05)
    assert np.bincount(places, minlength=100).std() < 60
