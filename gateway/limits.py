"""How much of a request's body is read, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.problems import Refused, response
from schemas.errors import ErrorCode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PLAIN_BYTES = 1024 * 1024
"""For a body that is no form: it has no files."""


class BodyLimit:
    """ASGI middleware: a body that is too large is refused as soon as that shows, whatever its header says.

    Args:
        max_bytes: of a form, all its files together.
        timeout_s: until its last byte is there.
    """

    def __init__(self, app: Any, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/")
        most = self._max_bytes if is_form else min(PLAIN_BYTES, self._max_bytes)
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            await response(ErrorCode.UPLOAD_TOO_LARGE, _too_large(most))(scope, receive, send)
            return
        await self._app(scope, self._limited(receive, most), send)

    def _limited(self, receive: Receive, most: int) -> Receive:
        taken, ended = 0, False
        end_at = asyncio.get_running_loop().time() + self._timeout_s

        async def limited() -> Message:
            nonlocal taken, ended
            if ended:
                # What comes after the body is the client's leaving, which may take its time.
                return await receive()
            try:
                async with asyncio.timeout_at(end_at):
                    message = await receive()
            except TimeoutError:
                what = f"the body did not arrive within {self._timeout_s:g} s (GATEWAY_UPLOAD_TIMEOUT_S)"
                raise Refused(ErrorCode.UPLOAD_TIMEOUT, what) from None
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > most:
                raise Refused(ErrorCode.UPLOAD_TOO_LARGE, _too_large(most))
            return message

        return limited


def _too_large(most: int) -> str:
    return f"the body is larger than {most} bytes"
