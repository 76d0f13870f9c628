"""Reading of the configuration file: YAML, variables of the environment, and errors that name key and remedy.

Shell: reads files and the environment. Errors never contain the value of a secret, nor one from the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from monitor.config import units
from monitor.config.schema import Configuration
from monitor.config.sections.base import Misfits
from monitor.errors import ConfigError, ConfigErrors
from monitor.files import read_small

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BRACKET: Final = re.compile(r"[\[\]{}]")
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_MERGE: Final = "tag:yaml.org,2002:merge"
_MOST_BYTES: Final = 4 << 20  # of the file
_MOST_VALUES: Final = 200_000  # those that aliases repeat included
_DEEPEST: Final = 50
_LONGEST_NUMBER: Final = 100  # characters
_MOST_ERRORS: Final = 100  # that are told at once
_QUOTED: Final = re.compile(r"'([^']*)'")


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, of which the first would be lost silently."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make the value of a node; one that YAML takes for a number or date and cannot read is told with its line."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a number of thousands of digits, the 31st of February
            why = "has too many digits" if "digits" in str(error) else str(error)
            told = f"a number or date that cannot be read: {why}; put a text in quotes"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError):  # `!!bool maybe`, `!!int ""`
            told = f"the value does not fit its tag {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    """Read a number; one of thousands of digits, or parts (`1:59:59`), takes long or fails in the middle."""
    if len(loader.construct_scalar(node)) > _LONGEST_NUMBER:
        raise ValueError("has too many digits")
    number: float = loader.construct_yaml_int(node) if node.tag == _INT else loader.construct_yaml_float(node)
    if node.tag == _INT and abs(number) >= 1 << 64:
        raise ValueError("is not less than 2^64")
    return number


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue  # merged keys may be overridden
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str | int | float | bool) and key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}", key, "this key stands twice")
        seen.add(key if isinstance(key, str | int | float | bool) else id(key))
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(_INT, _number)
_Loader.add_constructor(_FLOAT, _number)


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read and validate a configuration file.

    Args:
        path: The file.
        environment: Variables that `${NAME}` refers to.

    Raises:
        ConfigError: The file cannot be read, or is invalid; then the error has all problems.
    """
    try:
        text = read_small(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), None, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), None, f"is not UTF-8: byte {error.start}") from error
    return parse(text, environment, str(path))


def parse(text: str, environment: Mapping[str, str], name: str = "the file") -> Configuration:
    """Parse and validate a configuration.

    Args:
        text: The YAML text.
        environment: Variables that `${NAME}` refers to.
        name: Name of the file in errors.

    Raises:
        ConfigError: The text is invalid; the error has all problems.
    """
    try:
        if "&" in text or _flow_depth(text) > _DEEPEST:  # only there: it reads the text once more
            _refuse_excess(text, name)
        # A safe loader with a stricter mapping.
        raw = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(name, None, f"is not YAML: {_marked(error)}") from None
    except RecursionError:
        _refuse_excess(text, name)
        raise ConfigError(name, None, f"is not YAML: nested more than {_DEEPEST} levels deep") from None
    except yaml.YAMLError as error:
        raise ConfigError(name, None, f"is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(name, None, "a mapping with stream, store and models is needed")
    reading = _Reading(environment)
    raw = reading.filled(raw, "")
    if reading.problems:
        raise ConfigErrors(reading.problems)
    try:
        return Configuration.model_validate(raw)
    except ValidationError as error:
        problems = [problem for e in error.errors()[:_MOST_ERRORS] for problem in _problems(e, reading.written)]
    raise ConfigErrors(problems)


def substituted(text: str, where: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text with every `${NAME}` replaced by the variable of the environment.

    Args:
        text: The text.
        where: Key or option that it belongs to, for errors.
        environment: The variables.

    Raises:
        ConfigError: There is no such variable.
    """
    reading = _Reading(environment)
    found = str(reading.filled(text, where))
    if reading.problems:
        raise ConfigErrors(reading.problems)
    return found


def _flow_depth(text: str) -> int:
    """Return how deeply brackets are nested, those in quotes and comments included."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse_excess(text: str, name: str) -> None:
    """Refuse YAML that is nested too deeply, or that its aliases make far larger than it is."""
    open_since: list[int] = []  # values before each collection that is still open
    anchors: list[str | None] = []
    held: dict[str, int] = {}  # values behind each anchor
    values = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            values += held.get(event.anchor or "", 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_since.append(values)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = anchors.pop(), open_since.pop()
            if anchor is not None:
                held[anchor] = values + 1 - before
        if isinstance(event, yaml.NodeEvent):
            values += 1
        where = "" if event.start_mark is None else f"line {event.start_mark.line + 1}: "
        if len(open_since) > _DEEPEST:
            raise ConfigError(name, None, f"is not YAML: {where}nested more than {_DEEPEST} levels deep")
        if values > _MOST_VALUES:
            raise ConfigError(name, None, f"{where}more than {_MOST_VALUES} values, those behind aliases counted")


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{where}{error.problem or error.context}"


class _Reading:
    """Substitutes variables of the environment; `written` has the original of each text that was substituted."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.written: dict[str, str] = {}
        self.problems: list[ConfigError] = []

    def filled(self, value: Any, path: str) -> Any:
        """Return the value with every ${NAME} in its texts replaced."""
        if isinstance(value, dict):
            return {self._key(k, path): self.filled(v, _path([path, str(k)])) for k, v in value.items()}
        if isinstance(value, list):
            return [self.filled(v, f"{path}[{i}]") for i, v in enumerate(value)]
        if not isinstance(value, str) or _VARIABLE.search(value) is None:
            return value
        for name in _VARIABLE.findall(value):
            if name not in self._environment:
                hint = f"the environment has no variable {name}"
                self.problems.append(ConfigError(path, f"${{{name}}}", hint))
        text = _VARIABLE.sub(lambda match: self._environment.get(match[1], ""), value)
        self.written[text] = value
        return text

    def _key(self, key: Any, path: str) -> str:
        try:
            return str(units.text(key))
        except ValueError as error:
            self.problems.append(ConfigError(_path([path, str(key)]), None, str(error)))
            return str(key)


# -- errors ----------------------------------------------------------------------------------------------


def _problems(error: Any, written: Mapping[str, str]) -> list[ConfigError]:
    """Translate an error of pydantic; a check of several keys may have found several problems."""

    def shown(got: object) -> object:
        return written.get(got, got) if isinstance(got, str) else got

    location = list(error["loc"])
    if location and location[-1] == "[key]":
        location[-2:] = [str(location[-2])]
    path, got = _path(location), error.get("input")
    context = error.get("ctx") or {}
    if isinstance(context.get("error"), Misfits):
        return [
            ConfigError(f"{path}.{misfit.path}" if path else misfit.path, shown(misfit.got), misfit.hint)
            for misfit in context["error"].found
        ]
    match error["type"]:
        case "extra_forbidden":
            return [ConfigError(path, None, f"unknown key; {_nearest(str(location[-1]), _keys_at(location[:-1]))}")]
        case "missing":
            return [ConfigError(path, None, "is needed")]
    hint = _hint(error["type"], context, got, location)
    return [ConfigError(path or "the file", shown(_printable(got, location)), hint)]


def _hint(kind: str, context: Mapping[str, Any], got: object, location: Sequence[Any]) -> str:
    match kind:
        case "value_error":
            return str(context["error"])
        case "enum" | "literal_error":
            names = _QUOTED.findall(str(context["expected"]))
            nearest = difflib.get_close_matches(str(got).lower(), names, 1, 0.75)
            return f"one of {', '.join(names)} is needed" + (f"; did you mean {nearest[0]}?" if nearest else "")
        case "bool_type" | "bool_parsing":
            return "true or false is needed"
        case "list_type":
            return "a list is needed, such as [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "a mapping is needed"
        case "greater_than_equal":
            return f"at least {context['ge']}"
        case "less_than_equal":
            return f"at most {context['le']}"
        case "too_short":
            return "cannot be empty" if isinstance(got, str) else "at least one is needed"
        case "too_long":
            return f"at most {context['max_length']} characters"
        case "string_pattern_mismatch":
            field = _at(location)
            is_topic = isinstance(field, FieldInfo) and "topic" in (field.description or "")
            return "letters, digits, . _ and - only, at most 249" if is_topic else "no control characters"
        case "string_unicode":
            return "half of a character is no text: write it whole, or leave it out"
        case _:
            return f"does not fit ({kind})"


def _printable(got: object, location: Sequence[Any]) -> object:
    """Return the value to print; None for a secret, and for lists and mappings."""
    field = _at(location)
    if isinstance(field, FieldInfo) and not field.repr:
        return None
    return got if isinstance(got, str | int | float | bool) else None


def _nearest(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, names, 1)
    return f"did you mean {nearest[0]}?" if nearest else f"known keys: {', '.join(names)}"


def _path(location: Sequence[Any]) -> str:
    text = ""
    for part in location:
        key = str(part) if str(part).isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{key}" if text and key else key
    return text


# -- the schema at a place -------------------------------------------------------------------------------


class _Items:
    """A list or a mapping whose members are sections."""

    def __init__(self, item: Any) -> None:
        self.item = item


def _at(location: Sequence[Any]) -> Any:
    """Return the field at a location or, for a member, its section; None beyond the schema."""
    found: Any = Configuration
    for part in location:
        section = _section_of(found.annotation) if isinstance(found, FieldInfo) else found
        if isinstance(section, type) and issubclass(section, BaseModel):
            found = next((f for name, f in section.model_fields.items() if part == (f.alias or name)), None)
        elif isinstance(section, _Items):
            found = section.item
        else:
            return found  # a member of a list of plain values: the description of the list applies
    return found


def _keys_at(location: Sequence[Any]) -> list[str]:
    """Return the keys that the schema has at a location."""
    found = _at(location)
    section = _section_of(found.annotation) if isinstance(found, FieldInfo) else found
    if isinstance(section, type) and issubclass(section, BaseModel):
        return [f.alias or name for name, f in section.model_fields.items()]
    return []


def _section_of(annotation: Any) -> Any:
    """Return the section of a field, alone or as the member of a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_section_of(a) for a in getattr(annotation, "__args__", ())]
    inner = next((f for f in found if f is not None), None)
    if inner is None:
        return None
    return _Items(inner) if getattr(annotation, "__origin__", None) in (list, dict) else inner
