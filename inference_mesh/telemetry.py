"""Logs: events with fields on standard error, each with the ids of its request and its trace.

Owns the form of a log line. Never logs a prompt, a completion or a credential: callers pass
fields, not texts of users, and of an exception its class and frames are told, not its message.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import re
import sys
import time
import traceback

import orjson

from inference_mesh.tracing import current_trace_id

current_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_REPR = re.compile(r"[<(\n]")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class EventLogger:
    """A logger of events: a short constant name, and fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log a detail for developers."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log a change of state, or one finished call."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what works on, but needs a look."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what failed."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log a fault of ours with its traceback."""
        self._logger.exception(event, extra={"fields": fields})

    def _log(self, level: int, event: str, fields: dict[str, object]) -> None:
        """As the logger does it, without the search for the line of code, which no log line names."""
        logger = self._logger
        if logger.isEnabledFor(level):
            record = logging.LogRecord(logger.name, level, "", 0, event, (), None)
            record.fields = fields
            logger.handle(record)


def get_logger(name: str) -> EventLogger:
    """The event logger of a module."""
    return EventLogger(name)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, event, request_id, trace_id, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line: dict[str, object] = {
            "time": _iso_time(record.created),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": _event(record),
            **_context_fields(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = exception_text(record.exc_info[1])
        return _json(line)


class TextFormatter(logging.Formatter):
    """The same for a person's eyes."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        fields = {**_context_fields(), **getattr(record, "fields", {})}
        details = " ".join(f"{key}={value}" for key, value in fields.items())
        head = f"{_iso_time(record.created)} {record.levelname:<7} {self._service}"
        line = f"{head}: {_event(record)} {details}"
        return f"{line}\n{exception_text(record.exc_info[1])}" if record.exc_info else line


def configure_logging(service: str, level: str = "info", log_format: str = "json") -> None:
    """Send the logs of this process to standard error, in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if log_format == "json" else TextFormatter(service))
    # Lines name no thread and no process: looking them up would cost a tenth of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("httpx", "httpcore", "grpc", "asyncio"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))


def exception_text(error: BaseException | None) -> str:
    """The class and the frames of an exception and of those that it came from; no message.

    A message may quote what a user sent. Only the system's own words for an error of the system
    are told, such as "Connection refused".
    """
    if error is None:
        return ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    text = f"{frames}{type(error).__name__}{said}"
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f"\nwithin it:\n{exception_text(one)}" for one in error.exceptions)
    origin = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{exception_text(origin)}\nfollowed by:\n{text}" if origin is not None else text


def _event(record: logging.LogRecord) -> str:
    """The name of what happened. asyncio adds the reprs of tasks and arguments: they are left out."""
    message = record.getMessage()
    return _REPR.split(message, maxsplit=1)[0].strip() if record.name == "asyncio" else message


def _context_fields() -> dict[str, str]:
    fields = {"request_id": current_request_id.get(), "trace_id": current_trace_id()}
    return {key: value for key, value in fields.items() if value}


def _json(line: dict[str, object]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except (TypeError, ValueError):  # half a character, or a number of more than 64 bits
        return json.dumps(line, default=str)


def _iso_time(seconds: float) -> str:
    return f"{_iso_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=2)
def _iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
