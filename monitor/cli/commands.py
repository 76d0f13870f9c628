"""The commands by name, and the modules that have them.

A module is imported when its command is asked for: help and completion come at once, and `status` loads no client of
Kafka.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

from monitor.printable import printable

ROOT: Final = "driftd"  # also the name of the distribution


class Entry(NamedTuple):
    """A command: the module of `monitor.cli` that has it, and the line of the overview."""

    module: str
    help: str


COMMANDS: Final = {
    "run": Entry("service", "Run the daemon."),
    "replay": Entry("service", "Process recorded events and print a summary."),
    "demo": Entry("service", "Show the main job in a minute, without a server."),
    "check-config": Entry("setup", "Validate the configuration and its references."),
    "topics": Entry("setup", "Check or create the topics, or go past unreadable bytes."),
    "simulate": Entry("simulate", "Count the false alarms of a model on its own reference."),
    "reference": Entry("reference", "Build, list, show, accept or relearn references."),
    "status": Entry("operate", "Show counts, health, active versions and what fires."),
    "alerts": Entry("record", "List what fires, or what has fired."),
    "decisions": Entry("record", "List who serves, since when, why and by whom."),
    "history": Entry("history", "Print the stored metrics of windows."),
    "explain": Entry("explain", "Explain which changes would be found, and how soon."),
    "inspect": Entry("operate", "Show the state of one request."),
    "silence": Entry("operate", "Publish no alerts of a model for some time."),
    "silences": Entry("record", "List silences that have not ended."),
    "rollback": Entry("operate", "Make a version the champion."),
    "recover": Entry("operate", "End a fallback and acknowledge rollbacks."),
}


class Commands(TyperGroup):
    """The commands of the table, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the overview."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        from monitor.service import logs

        logs.warnings_only()
        return load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the arguments; a name that does not exist is answered with the nearest one."""
        if args[0] not in COMMANDS and (nearest := difflib.get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f"there is no command {printable(args[0])}; did you mean {nearest[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the overview without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def load(name: str) -> Any:
    """Import the module of a command and return the command."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    import_module(f"monitor.cli.{COMMANDS[name].module}").register(app)
    return get_group(app).commands[name]
