"""Reading the file: YAML, secrets from the environment and from files, errors that say where and what to do.

Shell: reads files and the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from monitor.config.schema import Configuration
from monitor.errors import ConfigError, ConfigErrors

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key that stands twice: the first one would be lost in silence."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str | int | float | bool) and key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}", key, "this key stands twice")
        seen.add(key if isinstance(key, str | int | float | bool) else id(key))
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration in a file.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; then all that is wrong is told.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), None, f"cannot be read: {error}") from error
    return parse(text, environment)


def parse(text: str, environment: Mapping[str, str]) -> Configuration:
    """The configuration in a text. Raises `ConfigError`."""
    try:
        # The loader is a safe one with a stricter mapping.
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError("the file", None, f"is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError("the file", None, "a mapping with stream, store and models is needed")
    raw = _with_environment(raw, "", environment)
    try:
        return Configuration.model_validate(raw)
    except ValidationError as error:
        raise ConfigErrors([_problem(e) for e in error.errors()]) from None


def _with_environment(value: Any, path: str, environment: Mapping[str, str]) -> Any:
    """Texts with ${NAME} replaced by the environment's value."""
    if isinstance(value, dict):
        return {k: _with_environment(v, f"{path}.{k}" if path else str(k), environment) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_environment(v, f"{path}[{i}]", environment) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(path, match[0], f"the environment has no variable {match[1]}")
        return environment[match[1]]

    return _VARIABLE.sub(replaced, value)


def _problem(error: Any) -> ConfigError:
    """One of pydantic's errors, in our words."""
    location = [part for part in error["loc"] if part not in ("[key]",)]
    path = _path(location)
    kind, got = error["type"], error.get("input")
    shown = got if isinstance(got, str | int | float | bool) else None
    match kind:
        case "extra_forbidden":
            names = _keys_at(location[:-1])
            nearest = difflib.get_close_matches(str(location[-1]), names, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known keys: {', '.join(names)}"
            return ConfigError(path, None, f"unknown key; {hint}")
        case "missing":
            return ConfigError(path, None, "is needed")
        case "value_error":
            words = str(error["ctx"]["error"])
            return ConfigError(path or "the file", shown, words)
        case _:
            return ConfigError(path, shown, error["msg"][0].lower() + error["msg"][1:])


def _path(location: list[Any]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(location: list[Any]) -> list[str]:
    """The keys that the schema knows at a place."""
    section: Any = Configuration
    for part in location:
        if isinstance(section, type) and issubclass(section, BaseModel):
            field = next((f for name, f in section.model_fields.items() if part in (name, f.alias)), None)
            section = _section_of(field.annotation) if field is not None else None
        elif isinstance(section, _Items):
            section = section.item
    if isinstance(section, type) and issubclass(section, BaseModel):
        return [f.alias or name for name, f in section.model_fields.items()]
    return []


class _Items:
    """A list or a mapping of sections."""

    def __init__(self, item: Any) -> None:
        self.item = item


def _section_of(annotation: Any) -> Any:
    """The section that a field holds, alone or in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_section_of(a) for a in getattr(annotation, "__args__", ())]
    inner = next((f for f in found if f is not None), None)
    if inner is None:
        return None
    return _Items(inner) if getattr(annotation, "__origin__", None) in (list, dict) else inner
