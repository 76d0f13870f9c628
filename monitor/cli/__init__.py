"""The command line `driftd`.

Shell. Results go to standard output, as JSON with `--json`; progress and errors go to standard error. Exit codes: 0
success, 64 usage error, 65 an input file cannot be read, 70 internal error, 75 a dependency is unavailable, 78 the
configuration or the content of the store is invalid.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version as installed
from typing import Annotated, Final

import typer

from monitor.cli.commands import ROOT, Commands
from monitor.errors import AddressTaken, ConfigError, ConfigErrors, DriftdError, InputFileError, StoreError, StreamError
from monitor.printable import printable

USAGE, BAD_INPUT, FAULT, AWAY, CONFIGURATION, INTERRUPTED = 64, 65, 70, 75, 78, 130
_HELP: Final = """Watches machine-learning models in production.

It reads predictions and outcomes, raises alerts when inputs drift or quality degrades, rolls back failing versions
and switches to fallbacks. One file configures it: `config/driftd.yaml` explains every key.
"""

app = typer.Typer(
    name=ROOT, cls=Commands, help=_HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"{ROOT} {installed(ROOT)}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the release.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: Command-line arguments; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if unreadable := next((a for a in given if not _is_text(a)), None):
        _say(f"{unreadable}: an argument is not UTF-8; write it in UTF-8, or give the file another name")
        return USAGE
    try:
        code = app(args=given, standalone_mode=False)
    except typer.TyperException as error:
        error.message = _lines(error.message)  # names in it come from arguments, and from events
        show = getattr(error, "show", None)  # usage errors show the usage too
        if show is None:
            _say(error.format_message())
        else:
            show()
        return USAGE
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except ConfigErrors as error:
        for problem in error.problems:
            _say(str(problem))
        return CONFIGURATION
    except ConfigError as error:
        _say(str(error))
        return CONFIGURATION
    except InputFileError as error:
        _say(str(error))
        return BAD_INPUT
    except AddressTaken as error:
        _say(str(error))
        return AWAY
    except (StreamError, StoreError) as error:
        _say(str(error))
        return AWAY if error.retryable else CONFIGURATION
    except DriftdError as error:
        _say(str(error))
        return FAULT
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does.
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001 - the last resort: an internal error has its own exit code
        traceback.print_exc()
        return FAULT
    return int(code or 0)


def _is_text(argument: str) -> bool:
    """Return whether an argument was UTF-8: what was not holds lone surrogates, which nothing can store or print."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _say(text: str) -> None:
    sys.stderr.write(f"driftd: {_lines(text)}\n")
