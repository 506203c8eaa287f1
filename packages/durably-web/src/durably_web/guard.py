"""What is looked at before a request is listened to: its Host, its origin, the size of its body."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import ConfigurationError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HOST: Final = re.compile(r"[\w:\[][\w.:\[\]-]*")
"""A name or an address, with its port or without."""
ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s*]+")
PORTS = {"http": 80, "https": 443}
MOST_BYTES = 1_200_000
"""Of a request's body: somewhat more than the largest input that core stores by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Refuses requests that a page of another site could have made a browser send.

    Raises:
        ConfigurationError: One of the hosts or origins is none.
    """

    allowed_hosts: Collection[str] | None = None
    """Names under which the application is reached, as in URLs (`app.example`, `localhost:8000`; without a
    port: any); None: any name."""
    trusted_origins: Collection[str] = ()
    """Other origins whose pages may send changes, e.g. `http://localhost:5173`."""

    def __post_init__(self) -> None:
        for host in _texts("allowed_hosts", self.allowed_hosts, "['app.example']"):
            if not HOST.fullmatch(host):
                raise ConfigurationError(
                    f"allowed_hosts: {host!r} is no host name; say e.g. 'app.example' or 'localhost:8000', each by "
                    "name, and leave allowed_hosts out to serve any"
                )
        for origin in _texts("trusted_origins", self.trusted_origins, "['http://localhost:5173']"):
            if not ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"trusted_origins: {origin!r} is no origin; say scheme and host as a browser does, e.g. "
                    "'http://localhost:5173'"
                )

    def check(self, request: Request) -> None:
        """Let the request pass, or refuse it.

        A change is believed to come from a page of this application if the browser says so
        (`Sec-Fetch-Site`), or else if `Origin` names this host. Without either header it is no
        browser's, provided that no plain form could have sent it.

        Raises:
            HTTPException: 400, the host is not one of ours; 403, the change comes from elsewhere.
        """
        if not self._is_our_host(request.headers.get("host", "")):
            raise HTTPException(400, "This host name is not served here (allowed_hosts)")
        if request.method not in SAFE_METHODS and not self._is_from_here(request):
            raise HTTPException(403, _why(request))

    def _is_our_host(self, host: str) -> bool:
        if self.allowed_hosts is None:
            return True
        name = host_name(host)
        return any(allowed.lower() in {host.lower(), name} for allowed in self.allowed_hosts)

    def _is_from_here(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        if origin is not None and origin in self.trusted_origins:
            return True
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            # "same-site" would be any sibling subdomain, and any other port.
            return site in {"same-origin", "none"}
        if origin is not None:
            return _names(origin, request.headers.get("host", ""))
        is_json = request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        return is_json or request.headers.get("hx-request") == "true"


def _why(request: Request) -> str:
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        return "Cross-site request refused (trusted_origins)"
    return "Cross-site request refused: a program that is no browser says `content-type: application/json`"


def _texts(name: str, given: object, example: str) -> Iterator[str]:
    """Those that were given, if they are what they should be: a text alone would be taken letter by letter."""
    if isinstance(given, str) or not isinstance(given, Collection | None):
        raise ConfigurationError(f"{name} must be a list, e.g. {example}; not {given!r}")
    for one in cast("Collection[object]", given or ()):
        if not isinstance(one, str):
            raise ConfigurationError(f"{name} must be a list of texts, e.g. {example}; {one!r} is none")
        yield one


def host_name(host: str) -> str | None:
    """The name in a `Host` header, without its port; None if there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _names(origin: str, host: str) -> bool:
    """Whether this origin is this host, whatever the scheme: a proxy may have ended TLS."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        port = PORTS.get(theirs.scheme)
        return (
            port is not None
            and theirs.hostname is not None
            and (theirs.hostname, theirs.port or port) == (ours.hostname, ours.port or port)
        )
    except ValueError:
        return False


async def read_body(request: Request, *, most: int = MOST_BYTES) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413, there are more than `most` bytes; reading stopped there.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"The body has more than {most} bytes")
    return bytes(body)
