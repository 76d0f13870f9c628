"""Configurations as texts."""

from __future__ import annotations

from typing import Final

import pytest

from monitor.config.load import parse
from monitor.config.schema import Configuration
from monitor.config.sections.model import ModelSection
from monitor.errors import ConfigErrors

SMALLEST: Final = """
stream: {{url: "file:./stream"{stream}}}
store: {{url: "sqlite:///driftd.db"{store}}}
models:
  m: {{task: {task}, champion: v1{model}}}
{rest}
"""


def text_with(*, stream: str = "", store: str = "", model: str = "", rest: str = "", task: str = "regression") -> str:
    """The smallest configuration with more keys in some of its sections."""
    parts = {
        name: f", {part}" if part else "" for name, part in (("stream", stream), ("store", store), ("model", model))
    }
    return SMALLEST.format(**parts, rest=rest, task=task)


def configured(**parts: str) -> Configuration:
    """The configuration of `text_with`."""
    return parse(text_with(**parts), {})


def model_with(model: str, task: str = "regression") -> ModelSection:
    """The model m with more keys."""
    return configured(model=model, task=task).models["m"]


def problems_of(text: str, **environment: str) -> list[str]:
    """Everything that is wrong with a configuration."""
    with pytest.raises(ConfigErrors) as raised:
        parse(text, environment)
    assert str(raised.value) == "\n".join(map(str, raised.value.problems))
    return [str(problem) for problem in raised.value.problems]
