"""The page about the architecture is walked: its callables exist, and each is reached from the first by name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAYS = ("The way of an event", "The way of a message")


class Hop(NamedTuple):
    """A row: a callable, and those that it calls."""

    name: str
    calls: tuple[str, ...]


def hops(way: str) -> list[Hop]:
    """The rows of a section."""
    section = PAGE.split(f"## {way}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return [Hop(name.strip(" `"), tuple(re.findall(r"`([^`]+)`", calls))) for _, name, calls, *_ in rows]


def found(name: str) -> Callable[..., Any]:
    """What `module:attribute` names."""
    module, _, path = name.partition(":")
    value: Any = importlib.import_module(module)
    for attribute in path.split("."):
        value = getattr(value, attribute)
    named: Callable[..., Any] = value
    return named


def called_by(function: Callable[..., Any]) -> Iterator[str]:
    """Last names of everything that the source of a function calls, or hands on to be called."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=attr):
                    yield attr
                case ast.Name(id=name):
                    yield name


ROWS = [(way, hop) for way in WAYS for hop in hops(way)]


@pytest.mark.parametrize(("way", "hop"), ROWS, ids=[hop.name for _, hop in ROWS])
def test_a_callable_of_the_page_exists_and_calls_the_next_ones_by_name(way: str, hop: Hop) -> None:
    called = set(called_by(found(hop.name)))

    assert {name.rpartition(":")[2].rpartition(".")[2] for name in hop.calls} <= called
    assert all(callable(found(name)) for name in hop.calls)


@pytest.mark.parametrize("way", WAYS)
def test_every_row_is_reached_from_the_first(way: str) -> None:
    rows = hops(way)
    reached = {rows[0].name}
    for hop in rows:
        assert hop.name in reached, f"no earlier row calls {hop.name}"
        reached.update(hop.calls)


def test_the_way_of_an_event_goes_from_the_poll_to_the_outbox_and_that_of_a_message_to_the_topic() -> None:
    """The stages that the page promises, in this order."""
    names = [hop.name for way in WAYS for hop in hops(way)]
    stages = (
        "StreamInput.poll", "EventDecoder.decode", "JoinStage.join", "Panes.add", "ModelMonitor.run", "StageOne.close",
        "Window.push", "Evaluator.check", "DriftEpisode.update", "rules:judge", "ServingController.decide",
        "AlertNumbering.publish_all", "StoreWriter._outgoing", "DeliveryLoop.step", "StreamDestination._send",
    )  # fmt: skip
    at = [next(i for i, name in enumerate(names) if name.endswith(stage)) for stage in stages]

    assert at == sorted(at)


def test_nothing_is_drained_outside_the_commit() -> None:
    """What has changed since the last commit is asked for where a commit is prepared, and nowhere else."""
    drains: set[tuple[str, str]] = set()
    for path in (ROOT / "monitor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                drains |= {
                    (str(path.relative_to(ROOT / "monitor")), node.name)
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Call)
                    and isinstance(inner.func, ast.Attribute)
                    and inner.func.attr.startswith(("drain_", "take_"))
                }
    assert drains == {
        ("aggregation/outcomes.py", "drain_dirty"),
        ("join/log.py", "prepare_commit"),
        ("pipeline/answer_buffer.py", "drain_changes"),  # called by the model's, as that of the pairs is
        ("pipeline/early_metrics.py", "drain_changes"),
        ("pipeline/model.py", "prepare_commit"),
        ("pipeline/outcome_log.py", "rows"),  # called by the model's
        ("pipeline/pair_buffer.py", "drain_changes"),
        ("pipeline/pipeline.py", "_drain_codes"),
        ("pipeline/pipeline.py", "prepare_commit"),
        ("pipeline/stage_one.py", "drain_fragments"),
        ("reference/active.py", "drain_changes"),
        ("reference/learners.py", "drain_fresh"),  # called by the model's references, as those that are renewed are
        ("reference/rolling_set.py", "drain_changes"),
    }
