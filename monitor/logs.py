"""Logs: one JSON object a line to standard error, or lines for people where that is a terminal.

Shell. What libraries log goes the same way, from warnings up.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal

import structlog

Format = Literal["auto", "json", "text"]
_QUIET: Final = ("kafka", "alembic", "uvicorn", "sqlalchemy", "asyncio")  # their INFO is not an operator's


def set_up(level: str, form: Format) -> None:
    """Send everything to standard error. `level` is a name such as INFO."""
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
        else (structlog.dev.ConsoleRenderer(),)
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(capture=True)


def warnings_only() -> None:
    """What commands that answer and end have to say, on standard error: their standard output is the answer."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        )
