"""Log lines: readable on a terminal, JSON otherwise."""

import logging
import re
import sys
from collections import Counter
from datetime import UTC, datetime

import msgspec

from infra.settings import LogSettings, load

_NUMBERS = re.compile(r"\d+")
_MOST_KINDS = 1000

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
    handler.addFilter(SeldomRepeated("infra.kafka"))
    logging.basicConfig(handlers=[handler], level=settings.level, force=True)


class SeldomRepeated(logging.Filter):
    """Lets a line of one logger pass only once in a while, told from others without its numbers.

    While no broker is there, Kafka's client says so forty times a second.
    """

    INTERVAL_S = 10.0

    def __init__(self, logger_name: str) -> None:
        super().__init__()
        self._logger_name = logger_name
        self._passed_at_s: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name != self._logger_name:
            return True
        kind = _NUMBERS.sub("0", record.getMessage())
        before = self._passed_at_s.get(kind)
        if before is not None and record.created - before < self.INTERVAL_S:
            self._held_back[kind] += 1
            return False
        if len(self._passed_at_s) >= _MOST_KINDS:
            self._passed_at_s.clear()
            self._held_back.clear()
        self._passed_at_s[kind] = record.created
        held_back = self._held_back.pop(kind, 0)
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} more like this before)", ()
        return True


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
