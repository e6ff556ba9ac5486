"""A TCP proxy between a client and a real server that makes their conversation fail in chosen ways."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import msgspec

CHUNK = 65_536
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the bytes; by default nothing does."""

    latency_s: float = 0.0
    """Each piece of an answer comes so much later."""
    bytes_per_s: float | None = None
    """How fast answers come."""
    silent: bool = False
    """Nothing passes, and connections stay."""
    cut_after_bytes: int | None = None
    """An answer ends, and its connection with it, after so many bytes."""
    garbled: bool = False
    """The body of an HTTP answer becomes random bytes of the same number."""
    instead: bytes | None = None
    """Answers every piece of a request, which does not reach the server."""
    cut_at: bytes | None = None
    """A piece of a request with these bytes reaches the server; its connection ends before the answer."""


class FaultProxy:
    """Passes connections on to a server, as far as its trouble allows.

    Args:
        target: where the server listens.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._trouble = Trouble()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    @contextlib.contextmanager
    def trouble(self, trouble: Trouble) -> Iterator[None]:
        """Has trouble as long as it is entered; afterwards the connections it spoiled are cut."""
        self._trouble = trouble
        try:
            yield
        finally:
            self._trouble = Trouble()
            self.cut()

    def cut(self) -> None:
        """Ends every connection."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _end(connection)

    def close(self) -> None:
        """Listens no longer."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        with self._lock:
            self._connections |= {client, server}
        threading.Thread(target=self._pass_answers, args=(server, client), daemon=True).start()
        self._pass_requests(client, server)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(CHUNK):
                self._wait_out_silence()
                trouble = self._trouble
                if trouble.instead is not None:
                    client.sendall(trouble.instead)
                    break
                server.sendall(piece)
                if trouble.cut_at is not None and trouble.cut_at in piece:
                    break
        self._end_both(client, server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while piece := server.recv(self._piece_size()):
                self._wait_out_silence()
                trouble = self._trouble
                time.sleep(trouble.latency_s)
                if trouble.garbled:
                    piece = _garbled(piece)
                if trouble.bytes_per_s is not None:
                    time.sleep(len(piece) / trouble.bytes_per_s)
                if trouble.cut_after_bytes is not None and passed + len(piece) > trouble.cut_after_bytes:
                    client.sendall(piece[: trouble.cut_after_bytes - passed])
                    break
                client.sendall(piece)
                passed += len(piece)
        self._end_both(client, server)

    def _piece_size(self) -> int:
        return CHUNK if self._trouble.bytes_per_s is None else 1

    def _wait_out_silence(self) -> None:
        while self._trouble.silent:
            time.sleep(0.05)

    def _end_both(self, *connections: socket.socket) -> None:
        with self._lock:
            self._connections -= set(connections)
        for connection in connections:
            _end(connection)


def _garbled(piece: bytes) -> bytes:
    head, found, body = piece.partition(b"\r\n\r\n") if piece.startswith(b"HTTP/") else (b"", b"", piece)
    return head + found + os.urandom(len(body))


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
