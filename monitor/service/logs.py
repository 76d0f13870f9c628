"""Logs: one JSON object a line on standard error, or readable lines where that is a terminal.

Shell. Libraries log the same way, from warnings up. Repeated messages of the Kafka client are limited: while a broker
is away it logs the same message ten times a second.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Literal

import structlog

from monitor.printable import printable

Format = Literal["auto", "json", "text"]
_QUIET: Final = ("kafka", "alembic", "uvicorn", "sqlalchemy", "asyncio")  # their INFO is of no use to operators
# It warns of a stalled loop while the daemon processes a batch.
_MISTAKEN: Final = "kafka.net.selector"
_SELDOM_S: Final = 60.0
_MOST_REMEMBERED: Final = 1_000
_NUMBERS: Final = re.compile(r"0x[0-9a-f]+|\d+")


class Seldom(logging.Filter):
    """Limit repeated messages of a library to one in an interval; messages that differ in numbers are repeats."""

    def __init__(self, library: str, every_s: float = _SELDOM_S) -> None:
        """Set the name of the library's root logger, and the interval in seconds."""
        super().__init__()
        self._library, self._every_s = library, every_s
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how often since then

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record; the next one like it tells how many were left out."""
        if record.name.partition(".")[0] != self._library:
            return True
        key = record.name, _NUMBERS.sub("#", record.getMessage())
        when, left_out = self._said.get(key, (float("-inf"), 0))
        if record.created - when < self._every_s:
            self._said[key] = when, left_out + 1
            return False
        if len(self._said) >= _MOST_REMEMBERED:
            self._said.clear()
        self._said[key] = record.created, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like it since the last one)", ()
        return True


def shown(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return an event whose texts are printable: names in them come from whoever writes to the topics."""
    return {
        key: "\n".join(map(printable, value.split("\n"))) if isinstance(value, str) else value
        for key, value in event.items()
    }


def set_up(level: str, form: Format) -> None:
    """Configure logging to standard error.

    Args:
        level: The least level that is written, by name, such as INFO.
        form: JSON, text, or text on a terminal only (`auto`).
    """
    shared: Sequence[Any] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    )
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderers: Sequence[Any] = (
        (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True))
        if as_json
        else (shown, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    if level != "DEBUG":
        handler.addFilter(Seldom("kafka"))
        logging.getLogger(_MISTAKEN).setLevel(logging.ERROR)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(capture=True)


def warnings_only() -> None:
    """Configure logging for commands that print an answer: warnings only, on standard error."""
    if not structlog.is_configured():
        *before, renderer = structlog.get_config()["processors"]
        structlog.configure(
            processors=[*before, shown, renderer],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        )
