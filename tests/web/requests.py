"""Requests as an ASGI server would hand them over."""

from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.types import Message


def request(
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    body: Iterable[bytes] = (),
    client: str | None = "127.0.0.1",
) -> Request:
    """A request whose body comes in these pieces; header names in lower case."""
    pieces = iter(body)
    named = {"host": "localhost:8000", **(headers or {})}

    async def receive() -> Message:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": None if client is None else (client, 1),
        "server": ("localhost", 8000),
        "scheme": "http",
    }
    return Request(scope, receive)
