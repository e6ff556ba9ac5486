import os
import socket
from collections.abc import Iterator

import pytest

from infra.local import ports
from infra.local.component import Port
from schemas.errors import ErrorCode


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_taken_port_is_named_with_its_holder_and_its_variable(listener: socket.socket) -> None:
    number = listener.getsockname()[1]
    with pytest.raises(ports.PortTaken) as caught:
        ports.require_free("kafka", [Port(number, "LOCAL_KAFKA_PORT")])
    assert caught.value.code == ErrorCode.STACK_PORT_TAKEN
    for part in (f"port {number} ", "kafka", f"process {os.getpid()} (", "LOCAL_KAFKA_PORT"):
        assert part in caught.value.message


def test_a_listener_on_every_address_takes_the_port_too() -> None:
    with socket.create_server(("", 0)) as everywhere:
        assert not ports.is_free(everywhere.getsockname()[1])


def test_a_port_is_free_again_when_its_listener_has_gone(listener: socket.socket) -> None:
    number = listener.getsockname()[1]
    assert ports.answers(number)
    # A connection that the server closes first stays in TIME_WAIT, and is no obstacle.
    with socket.create_connection(("127.0.0.1", number)):
        listener.accept()[0].close()
    listener.close()
    assert not ports.answers(number)
    assert ports.is_free(number)
    ports.require_free("s3", [Port(number, "LOCAL_S3_PORT")])
