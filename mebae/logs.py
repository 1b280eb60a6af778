"""Logging: one line an event on stderr, without anything personal."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import TextIO

import structlog


def configure_logging(*, quiet: bool = False) -> None:
    """One line an event on stderr, ours and the libraries'. Exceptions go without their messages, which may quote a lead.

    `quiet` is for commands, which say what there is to say themselves.
    """
    level = logging.ERROR if quiet else logging.INFO
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(_trace),
    ]
    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(True)


def _trace(exc_info: structlog.typing.ExcInfo) -> str:
    """Where it went wrong and the kind of error, for it and what caused it; never a message."""
    lines: list[str] = []
    one: BaseException | None = exc_info[1]
    while one is not None:
        kind = type(one)
        lines.append(f"{kind.__module__}.{kind.__qualname__}")
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in _frames(one.__traceback__)]
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if one is not None:
            lines.append("because of")
    return "\n".join(lines)


def _frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    return traceback.extract_tb(trace)[-8:]


def _plain(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    out.write(_trace(exc_info))
