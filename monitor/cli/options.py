"""Options, checks and output shared by several commands.

Shell.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import markup
from rich.console import Console

from monitor.config.load import read
from monitor.config.schema import Configuration
from monitor.printable import printable

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="DRIFTD_CONFIG", help="The configuration file.", show_default=True),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the configuration.")]
CONFIG = Path("driftd.yaml")
MOST: Final = 1_000_000_000  # that an option may ask for: databases count in 64 bits

_WIDE = 200  # columns without a terminal: a table written to a file is not to be folded
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def configuration(path: Path) -> Configuration:
    """Read the configuration.

    Raises:
        ConfigError: It cannot be read, or is invalid.
    """
    return read(path)


def known(what: str, name: str, names: Collection[str]) -> str:
    """Check that a name is one of `names`, and return it.

    Args:
        what: What it names, for the message.
        name: The name to check.
        names: The known names.

    Raises:
        typer.BadParameter: It is not; the message suggests the nearest one.
    """
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(sorted(names)) or 'none'}"
    raise typer.BadParameter(printable(f"there is no {what} {name}; {hint}"))


def escape(text: str) -> str:
    """Return a text for a console: nothing in it is markup, and nothing in it moves the cursor."""
    return markup.escape(printable(text))


def show_json(document: Mapping[str, Any]) -> None:
    """Print a document to standard output as one line of JSON."""
    typer.echo(json.dumps(document, allow_nan=False))
