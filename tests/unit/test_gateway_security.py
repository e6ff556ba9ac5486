"""Who the gateway lets in, and how often."""

import pytest

from gateway.problems import Refused
from gateway.security import Rates


def test_a_caller_may_ask_for_so_many_a_minute() -> None:
    now_s = 100.0
    rates = Rates(60, lambda: now_s)
    rates.take("a", 60)
    with pytest.raises(Refused, match="2 more fit in 2 s") as raised:
        rates.take("a", 2)
    assert raised.value.code == "rate_limited"
    rates.take("b", 60)
    now_s += 2
    rates.take("a", 2)
    with pytest.raises(Refused):
        rates.take("a", 1)
    now_s += 3600
    with pytest.raises(Refused):
        rates.take("a", 61)
    rates.take("a", 60)


def test_zero_is_any_number() -> None:
    Rates(0).take("a", 10**9)
