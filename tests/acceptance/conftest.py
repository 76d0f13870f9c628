"""Data sets with known answers; `make acceptance DATA=folder` says where they are. Otherwise nothing is collected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "DRIFTD_DATA" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the data sets."""
    return Path(os.environ["DRIFTD_DATA"]).resolve()
