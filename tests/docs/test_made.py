"""The parts of the documentation that are made from the code are what the code says."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from monitor.aggregation.metrics import METRICS
from monitor.config.schema import Configuration
from monitor.web.metrics import DECLARED
from tests.docs.blocks import ROOT, read


def _build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = _build()


@pytest.mark.parametrize("name", sorted(BUILD.MADE))
def test_what_is_made_from_the_code_is_up_to_date(name: str) -> None:
    """`python docs/build.py` writes it anew."""
    assert read(f"docs/{name}") == BUILD.MADE[name]()


def test_every_key_has_its_row_with_a_meaning() -> None:
    """Type and default too; a secret is called one."""
    text = read("docs/configuration.md")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)

    count = sum(len(section.model_fields) for _, section in BUILD._sections("", Configuration))
    assert len(rows) == count > 100
    assert all(len(cell.strip()) > 0 for row in rows for cell in row)
    assert {name for name, *_, meaning in rows if meaning.endswith("a secret")} == {
        "url", "password", "key_password", "secret"
    }  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        "| `lateness` | duration | `5s` | how much later than others an event may come and still count |",
        "| `routes` | text → share | `{}` | shares of challengers; the rest goes to the champion |",
        "| `min_events` | whole number, at least 1 | – | and over at least so many predictions (by default 1000) |",
        "| `severity` | `warning`, `critical` | `warning` | warning or critical |",
        "| `for` | checks or duration | `1 check` | how long it has to hold: `3 checks` or 30m |",
        "| `task` | `regression`, `binary`, `multiclass` | **needed** | regression, binary or multiclass |",
    ],
)
def test_a_row_says_what_one_may_write(row: str) -> None:
    """In the words of the file, not of the code."""
    assert f"\n{row}\n" in read("docs/configuration.md")


def test_every_metric_has_its_row() -> None:
    """Those of the daemon and those of a version."""
    text = read("docs/metrics.md")

    assert all(f"\n| `{declared.name}` | {declared.kind} |" in text for declared in DECLARED)
    assert all(f"\n| `{name}` | {info.better.value} |" in text for name, info in METRICS.items())
