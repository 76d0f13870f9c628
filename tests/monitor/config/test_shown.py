"""`config/driftd.yaml` shows every key, with its default where there is one, and can be used as it is."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monitor.config import build
from monitor.config.load import parse
from monitor.config.schema import Configuration
from monitor.spec import Task
from monitor.stream.connect import connect

SHOWN = Path(__file__).parents[3] / "config" / "driftd.yaml"
TEXT = SHOWN.read_text(encoding="utf-8")
# A key that is shown, but not in force, with all that is indented below it.
_OFF = re.compile(r"^( *)#(\w+:.*(?:\n\1#  .*)*)", re.MULTILINE)
ENVIRONMENT = {"KEY_PASSWORD": "x", "KAFKA_PASSWORD": "x", "PAGER_SECRET": "whsec_" + "c2VjcmV0" * 4}

Step = str  # a key; "[]" for each member of a list, "*" for each value of a mapping
Place = tuple[Step, ...]

# Where two keys exclude each other, one is off. To try it, the other one has to go.
EXCLUDES = {
    "url_file": ["url"],
    "password_file": ["password"],
    "key_password_file": ["key_password"],
    "path": ["learn"],
    "columns": ["learn"],
    "events": ["span", "min_events", "pane", "max_span"],
}
# Keys that say nothing without others.
NEEDS: dict[str, dict[str, Any]] = {
    "positive": {"task": "binary", "rules": [], "outcomes": None},
    "columns": {"path": "references/r.csv"},
    "every": {"events": 5_000, **dict.fromkeys(("span", "min_events", "pane"), ...)},
}
# What has a default, but is shown with another value, because the default would show nothing.
EXAMPLES = {("models", "*", "reference", "learn")}


def places(section: type[BaseModel], at: Place = ()) -> Iterator[tuple[Place, FieldInfo]]:
    """Every key of the schema, with how to get there."""
    for name, field in section.model_fields.items():
        here = (*at, field.alias or name)
        yield here, field
        for inner, steps in sections_in(field.annotation):
            yield from places(inner, (*here, *steps))


def sections_in(annotation: Any) -> Iterator[tuple[type[BaseModel], Place]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ()
        return
    step: Place = {list: ("[]",), dict: ("*",)}.get(get_origin(annotation), ())
    for part in get_args(annotation):
        for inner, more in sections_in(part):
            yield inner, (*step, *more)


def found(document: Any, place: Place) -> list[Any]:
    """What stands at a place, in each of the members that have it."""
    if not place:
        return [document]
    step, rest = place[0], place[1:]
    if step == "[]":
        members = document if isinstance(document, list) else [document] if isinstance(document, dict) else []
    elif step == "*":
        members = list(document.values())
    else:
        members = [document[step]] if isinstance(document, dict) and step in document else []
    return [value for member in members for value in found(member, rest)]


def on(shown: re.Match[str]) -> str:
    """A key that was off."""
    return shown[1] + shown[2].replace(f"\n{shown[1]}#", f"\n{shown[1]}")


ALL_ON = yaml.safe_load(_OFF.sub(on, TEXT))
IN_FORCE = yaml.safe_load(TEXT)
PLACES = list(places(Configuration))


def test_the_file_can_be_used_as_it_is() -> None:
    """It names no file that is not there, and needs nothing of the environment."""
    config = parse(TEXT, {})
    (model,) = build.core(config).models

    assert (model.name, model.task) == ("heat_predictor", Task.REGRESSION)
    assert (config.stream.url, config.store.url) == ("kafka://localhost:9092", "sqlite:///driftd.db")
    assert model.reference.path is None
    assert build.security(config).protocol == "PLAINTEXT"
    connect(config.stream.url, config.stream.events)


@pytest.mark.parametrize("place", [place for place, _ in PLACES], ids=".".join)
def test_every_key_is_shown(place: Place) -> None:
    """In its place; in force, or in a comment that only lacks its `#`."""
    assert found(ALL_ON, place)


def test_every_key_that_is_in_force_is_one_of_the_schema() -> None:
    """Loading it says so too; this is for those that are off."""
    known = {place for place, _ in PLACES}
    for number, line in enumerate(TEXT.splitlines(), 1):
        off = re.match(r" *#(\w+):", line)
        assert off is None or any(place[-1] == off[1] for place in known), f"line {number}: {line}"


def _defaults() -> list[tuple[Place, Any]]:
    return [
        (place, field.get_default())
        for place, field in PLACES
        if not field.is_required()
        and not isinstance(field.default, BaseModel | None)
        and field.default not in ([], {})
        and "[]" not in place
        and place not in EXAMPLES
    ]


@pytest.mark.parametrize(
    ("place", "default"), _defaults(), ids=lambda value: ".".join(value) if isinstance(value, tuple) else ""
)
def test_a_key_that_has_a_default_is_shown_with_it(place: Place, default: object) -> None:
    """So that copying the file changes nothing."""
    value: Any = parse(TEXT, {})
    for step in place:
        if step == "*":
            (value,) = value.values()
        else:
            value = getattr(value, step)

    assert value == default


OFF = list(_OFF.finditer(TEXT))


@pytest.mark.parametrize("number", range(len(OFF)), ids=lambda i: OFF[i][2].partition(":")[0])
def test_what_is_off_can_be_switched_on(number: int) -> None:
    """Alone; where it excludes another key, in place of that one."""
    shown = OFF[number]
    text = TEXT[: shown.start()] + on(shown) + TEXT[shown.end() :]
    document = yaml.safe_load(text)
    key = shown[2].partition(":")[0]
    switched = copy.deepcopy(document)
    for section in _with_key(switched, key, IN_FORCE):
        for other in EXCLUDES.get(key, []):
            section.pop(other, None)
        for other, value in NEEDS.get(key, {}).items():
            if value is ...:
                section.pop(other, None)
            else:
                section[other] = value

    parse(yaml.safe_dump(switched), ENVIRONMENT)


def _with_key(document: Any, key: str, before: Any) -> Iterator[dict[str, Any]]:
    """Sections that have a key now and had not before."""
    if isinstance(document, dict):
        if key in document and not (isinstance(before, dict) and key in before):
            yield document
        for name, value in list(document.items()):
            yield from _with_key(value, key, before.get(name) if isinstance(before, dict) else None)


def test_comments_stand_where_they_can_be_read() -> None:
    """Lines of at most 120 characters, and no tabs."""
    assert all(len(line) <= 120 and "\t" not in line for line in TEXT.splitlines())
