"""What several commands share: options, the file, names that must exist, and how answers are printed.

Shell.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from monitor.config.load import read
from monitor.config.schema import Configuration

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="DRIFTD_CONFIG", help="The configuration file.", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the configuration.")]
CONFIG = Path("driftd.yaml")

_WIDE = 200  # columns where nobody's terminal says how many: a table in a file is not to be folded
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def configuration(path: Path) -> Configuration:
    """The configuration. Raises `ConfigError`."""
    return read(path)


def known(what: str, name: str, names: Collection[str]) -> str:
    """The name, if it is one of those. Raises a usage error that tells the nearest."""
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(sorted(names)) or 'none'}"
    raise typer.BadParameter(f"there is no {what} {name}; {hint}")


def show_json(document: Mapping[str, Any]) -> None:
    """On standard output, as one line that a program reads."""
    typer.echo(json.dumps(document, allow_nan=False))
