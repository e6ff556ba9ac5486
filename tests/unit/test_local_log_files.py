from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from infra.local.log_files import Line, LogReader, last_lines, moment_of

YEAR = datetime.now(UTC).year


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T05:08:45.970Z INFO  KafkaRaftServer: started", "2026-11-23 05:08:45.970000"),
        ("2026-11-23 05:08:40.369 UTC [12211] LOG:  ready", "2026-11-23 05:08:40.369000"),
        ('{"time":"2026-11-23T05:25:36.819041Z","level":"info"}', "2026-11-23 05:25:36.819041"),
        ("2026-11-23 05:25:36 no fraction", "2026-11-23 05:25:36.000000"),
        ("E1123 05:09:55.073801 client.go:282 failed", f"{YEAR}-11-23 05:09:55.073801"),
        ("    at java.base/java.lang.Thread.run(Thread.java:1474)", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(text: str, expected: str | None) -> None:
    assert moment_of(text) == expected


def write(path: Path, *lines: str) -> Path:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def test_logs_are_merged_by_time_and_tracebacks_stay_whole(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "2026-01-01 00:00:01 a", "  trace of a", "2026-01-01 00:00:04 d")
    two = write(tmp_path / "two", "2026-01-01 00:00:02 b", "2026-01-01 00:00:03 c")
    reader = LogReader({"one": one, "two": two})
    texts = [line.text[-1] for line in reader.last(10)]
    reader.close()
    assert texts == ["a", "a", "b", "c", "d"]


def test_only_the_last_lines_of_each_log_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "log", *map(str, range(100)))
    assert last_lines(path, 3) == ["97", "98", "99"]
    assert last_lines(path, 0) == []
    assert last_lines(tmp_path / "missing", 3) == []


def test_following_goes_on_where_reading_ended(tmp_path: Path) -> None:
    path = write(tmp_path / "log", "first")
    with path.open("a") as file:
        file.write("half")
    reader = LogReader({"kafka": path})
    assert [line.text for line in reader.last(10)] == ["first"]
    write(path, " and whole", "next")
    assert list(islice(reader.follow(), 2)) == [Line("kafka", "half and whole"), Line("kafka", "next")]
    reader.close()


def test_following_a_log_that_is_set_aside_and_one_that_appears(tmp_path: Path) -> None:
    path = write(tmp_path / "log", "old")
    reader = LogReader({"kafka": path, "sink": tmp_path / "later"})
    reader.last(10)
    path.rename(tmp_path / "log.1")
    write(path, "new")
    write(tmp_path / "later", "appeared")
    assert {line.text for line in islice(reader.follow(), 2)} == {"new", "appeared"}
    reader.close()


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe broken\r\n")
    assert last_lines(tmp_path / "log", 1) == ["\ufffd\ufffd broken"]
