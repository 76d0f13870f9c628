"""The streams under contract."""

from __future__ import annotations

import pytest

from tests.contracts.streams import BACKENDS, Backend


@pytest.fixture(params=["memory", "files", pytest.param("kafka", marks=pytest.mark.kafka)])
def stream(request: pytest.FixtureRequest) -> Backend:
    """Each of the streams that there are."""
    return BACKENDS[request.param](request)
