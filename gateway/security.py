"""Who may come in, and what browsers are told."""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from gateway.problems import Refused, response
from schemas.errors import ErrorCode

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OPEN_PATHS = frozenset({"/livez", "/readyz"})
HERE = frozenset({"127.0.0.1", "localhost", "::1"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer that does not say otherwise."""

CALLERS = 10_000
"""Whose rates are remembered; beyond that the one that was silent for the longest begins anew."""


class Guard:
    """ASGI middleware: keys, the origin of writes, and headers that make browsers careful.

    Args:
        keys: what a caller must show as `Authorization: Bearer …`; with none everybody may come in.
        only_here: whether it is to be asked for by a name of this machine: the name of a stranger's site may
            lead a browser here, whose scripts would then be of our origin.
    """

    def __init__(self, app: Any, keys: Iterable[str], *, only_here: bool) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._only_here = only_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sends = _with_headers(send)
        headers = Headers(scope=scope)
        if self._only_here and _host(headers.get("host", "")) not in HERE:
            what = f"{headers.get('host')!r} is no name of this machine (GATEWAY_API_KEYS opens it to others)"
            await response(ErrorCode.ORIGIN_REFUSED, what)(scope, receive, sends)
            return
        if scope["method"] not in READING and not _same_origin(headers):
            what = f"the page at {headers.get('origin')} may not write here"
            await response(ErrorCode.ORIGIN_REFUSED, what)(scope, receive, sends)
            return
        caller = self._caller(headers, scope)
        if caller is None and scope["path"] not in OPEN_PATHS:
            what = "the request has no `Authorization: Bearer …` with one of GATEWAY_API_KEYS"
            await response(ErrorCode.UNAUTHENTICATED, what)(scope, receive, sends)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, sends)

    def _caller(self, headers: Headers, scope: Scope) -> str | None:
        """A name for who asks, that does not tell the key; None for strangers."""
        if not self._digests:
            return str((scope.get("client") or ("", 0))[0])
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key)
        # All of them, always: how long it takes says nothing.
        known = [hmac.compare_digest(given, digest) for digest in self._digests]
        return given.hex() if kind.lower() == "bearer" and any(known) else None


class Rates:
    """How many images each caller may ask for: so many a minute, and as many at once.

    Args:
        per_minute: 0 for any number.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller: what was left, and when."""

    def take(self, caller: str, count: int) -> None:
        """Counts images.

        Raises:
            Refused: the caller has asked for too many.
        """
        if not self._per_minute:
            return
        now_s = self._clock()
        left, at_s = self._left.pop(caller, (float(self._per_minute), now_s))
        left = min(self._per_minute, left + (now_s - at_s) * self._per_minute / 60)
        enough = left >= count
        self._left[caller] = (left - count if enough else left, now_s)
        if len(self._left) > CALLERS:
            self._left.popitem(last=False)
        if not enough:
            again_s = math.ceil((count - left) * 60 / self._per_minute)
            what = f"{self._per_minute} images a minute are allowed (GATEWAY_UPLOADS_PER_MINUTE)"
            raise Refused(ErrorCode.RATE_LIMITED, f"{what}; {count} more fit in {again_s} s")


def _same_origin(headers: Headers) -> bool:
    """Whether a browser says that a page of ours asks, or no browser asks at all."""
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False


def _host(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sends


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
