"""How many GETs are kept in flight."""

from consumers.analyzer.fetching import LEAST_FETCHES, FetchConcurrency


def settle(latency_s: float, demand: float, most: int = 64, looks: int = 30) -> int:
    """GETs in flight after a while, for a store of one latency and a decoder that takes `demand` a second."""
    concurrency = FetchConcurrency(4, most)
    in_flight = concurrency.wanted([], 0.0)
    for look in range(1, looks + 1):
        rate = min(demand, in_flight / latency_s)
        in_flight = concurrency.wanted([latency_s] * int(rate), float(look))
    return in_flight


def test_a_near_store_needs_few() -> None:
    assert settle(latency_s=0.003, demand=200) == LEAST_FETCHES


def test_a_distant_store_gets_as_many_as_keep_the_decoder_fed() -> None:
    assert 200 * 0.05 <= settle(latency_s=0.05, demand=200) <= 5 * 200 * 0.05


def test_they_never_exceed_the_limit() -> None:
    assert settle(latency_s=0.5, demand=1000, most=64) == 64


def test_latency_that_more_of_them_bring_about_does_not_call_for_more() -> None:
    concurrency = FetchConcurrency(4, 64)
    concurrency.wanted([], 0.0)
    concurrency.wanted([0.003] * 100, 1.0)
    for look in range(2, 20):
        assert concurrency.wanted([0.100] * 100, float(look)) == LEAST_FETCHES


def test_they_become_fewer_one_at_a_time() -> None:
    concurrency = FetchConcurrency(4, 64)
    concurrency.wanted([], 0.0)
    high = concurrency.wanted([0.05] * 200, 1.0)
    assert high == 40
    assert concurrency.wanted([0.05], 2.0) == 39
