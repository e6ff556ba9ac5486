"""Log lines: readable on a terminal, JSON otherwise."""

import logging
import sys
from datetime import UTC, datetime

import msgspec

from infra.settings import LogSettings, load

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure() -> None:
    """Sends every log line of this process to stderr, as LOG_LEVEL and LOG_FORMAT say.

    Raises:
        SettingError: one of them has no such value.
    """
    settings = load(LogSettings)
    handler = logging.StreamHandler(sys.stderr)
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=settings.level, force=True)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """One line: time, level, process, logger, message, then what `extra` names."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(processName)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        return f"{line}  {extra}" if extra else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the same fields, and `extra` beside them."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "process": record.processName,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
