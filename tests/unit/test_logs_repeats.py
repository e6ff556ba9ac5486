"""Lines of Kafka's client that come again and again are written now and then."""

import logging

from infra.logs import SeldomRepeated


def line(text: str, at_s: float, name: str = "infra.kafka") -> logging.LogRecord:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, text, None, None)
    record.created = at_s
    return record


def test_the_same_line_with_other_numbers_is_held_back_for_a_while() -> None:
    seldom = SeldomRepeated("infra.kafka")
    assert seldom.filter(line("127.0.0.1:29092/1: refused after 1ms", 0))
    assert not seldom.filter(line("127.0.0.1:29092/1: refused after 20ms", 1))
    assert not seldom.filter(line("127.0.0.1:29092/1: refused after 3ms", 9))
    again = line("127.0.0.1:29092/1: refused after 7ms", 11)
    assert seldom.filter(again)
    assert again.getMessage() == "127.0.0.1:29092/1: refused after 7ms (2 more like this before)"


def test_other_lines_pass() -> None:
    seldom = SeldomRepeated("infra.kafka")
    assert seldom.filter(line("one", 0))
    assert seldom.filter(line("another", 0))
    assert seldom.filter(line("one", 0, name="consumers.sink"))
    assert seldom.filter(line("one", 0.1, name="consumers.sink"))


def test_no_more_is_remembered_than_has_a_limit() -> None:
    seldom = SeldomRepeated("infra.kafka")
    for number in range(5000):
        assert seldom.filter(line("x" * number, 0))
