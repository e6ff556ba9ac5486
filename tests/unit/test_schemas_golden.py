"""Records as real systems send them, and what each must become: one file each in `tests/golden/records`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import DecodeError, encode
from schemas.intake import Intake, read_record
from schemas.messages import RecordPosition

RECORDS = Path(__file__).parent.parent / "golden" / "records"
POSITION = RecordPosition(
    "Xb0yWmn4Q8mZ3f9n1c5r2A", "analysis.images", 3, 1042, datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
)
ALLOWED = frozenset({"images", "uploads"})


@pytest.mark.parametrize(
    "name", [path.name.removesuffix(".expected.json") for path in sorted(RECORDS.glob("*.expected.json"))]
)
def test_golden_record(name: str) -> None:
    expected = json.loads((RECORDS / f"{name}.expected.json").read_text(encoding="utf-8"))
    headers = [(header, text.encode()) for header, text in expected.pop("headers", [])]
    del expected["about"]
    try:
        outcome = _as_json(read_record(_value(name), headers, POSITION, ALLOWED))
    except DecodeError as error:
        outcome = {"refused": str(error.code)}
    assert outcome == expected


def test_every_value_has_its_expectation() -> None:
    values = {path.name.partition(".value.")[0] for path in RECORDS.glob("*.value.*")}
    expectations = {path.name.removesuffix(".expected.json") for path in RECORDS.glob("*.expected.json")}
    assert values | {"tombstone"} == expectations


def _value(name: str) -> bytes | None:
    found = list(RECORDS.glob(f"{name}.value.*"))
    return found[0].read_bytes() if found else None


def _as_json(intake: Intake) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    if intake.items:
        outcome["items"] = [
            {
                "request": json.loads(encode(item.request)),
                "index": item.index,
                "fallback_key": item.fallback_key,
            }
            for item in intake.items
        ]
    if intake.skipped:
        outcome["skipped"] = list(intake.skipped)
    return outcome
