"""Fixtures that all tests share."""

from collections.abc import Iterator

import pytest

from tests.stack import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """Real Kafka, S3 and PostgreSQL for the whole session, started when the first test asks for them."""
    with running_stack() as running:
        yield running
