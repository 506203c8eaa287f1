"""The front door of the web package."""

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import Unpack

from durably import ConfigurationError, Durably
from durably_web.answers import CSP
from durably_web.auth import AuthConfig
from durably_web.guard import Guard
from durably_web.kit import Kit
from durably_web.mounting import check_prefix
from durably_web.policy import AuditEntry, Policy
from durably_web.site import Site, SiteOptions
from durably_web.templating import Templates

if TYPE_CHECKING:
    from os import PathLike

Ctx = TypeVar("Ctx")


class DurablyWebOptions(TypedDict, total=False):
    """Options of `DurablyWeb`."""

    prefix: str | None
    """Where it is mounted, as the browser sees it, e.g. `/durably`. Starlette and FastAPI tell it by
    themselves; Litestar and proxies that strip a part of the path do not."""
    templates: "str | PathLike[str] | None"
    """A folder with templates of yours: `durably/components/run_progress.html` is taken instead of ours."""
    login_url: str | None
    """Where somebody who is not signed in is sent; the page they wanted comes along as `next`."""
    csp: str | None
    """The Content-Security-Policy of the pages; None leaves it to you."""
    allowed_hosts: Collection[str] | None
    """Names under which the application is reached; others are refused. Default: any."""
    trusted_origins: Collection[str]
    """Other origins whose pages may send changes."""
    csrf_token: Callable[[Request], tuple[str, str]] | None
    """The name of a form field and its value, for applications whose middleware asks for one."""
    audit: Callable[[AuditEntry[Any]], object] | None
    """Called after each change that somebody made."""


class DurablyWeb(Generic[Ctx]):
    """A dashboard for the jobs of an instance: an ASGI application to be mounted.

        web = DurablyWeb(durably, authenticate=current_user)
        app.mount("/durably", web)

    Args:
        durably: The instance. The application opens and closes it.
        authenticate: Who sends a request, as whatever you know of them; None is refused. While you
            develop: `allow_local`.
        auth: In its place: who may see and do what.
        **options: See `DurablyWebOptions`.

    Raises:
        ConfigurationError: Nobody authenticates, or an option cannot be used.
    """

    def __init__(
        self,
        durably: Durably,
        *,
        authenticate: Callable[[Request], Awaitable[Ctx | Response | None]] | None = None,
        auth: AuthConfig[Ctx] | None = None,
        **options: Unpack[DurablyWebOptions],
    ) -> None:
        self.durably: Durably = durably
        unknown = options.keys() - DurablyWebOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(DurablyWebOptions.__annotations__)
            raise ConfigurationError(f"unknown option {min(unknown)!r}; there are: {known}")
        self._templates = Templates(options.get("templates"))
        self._kit = Kit(self._templates)
        guard = Guard(
            allowed_hosts=options.get("allowed_hosts"), trusted_origins=options.get("trusted_origins", ())
        )
        self._site = Site(
            durably,
            Policy(durably, _only(authenticate, auth), audit=options.get("audit")),
            guard,
            self._kit,
            SiteOptions(
                prefix=check_prefix(options.get("prefix")),
                csp=options.get("csp", CSP),
                login_url=options.get("login_url"),
                csrf_token=options.get("csrf_token"),
            ),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as any ASGI application does."""
        if scope["type"] == "http":
            await self._site(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    def wrap(self, app: ASGIApp, path: str) -> ASGIApp:
        """An application that answers below `path` itself and hands everything else to `app`.

        For frameworks that mount nothing: `application = web.wrap(get_asgi_application(), "/durably")`.
        """
        mount = check_prefix(path)
        if not mount:
            raise ConfigurationError("wrap needs a path of its own, e.g. '/durably'")

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            place: str = scope.get("path", "")
            if scope["type"] == "http" and (place == mount or place.startswith(f"{mount}/")):
                await self({**scope, "root_path": scope.get("root_path", "") + mount}, receive, send)
            else:
                await app(scope, receive, send)

        return wrapped


def _only(
    authenticate: Callable[[Request], Awaitable[Ctx | Response | None]] | None, auth: AuthConfig[Ctx] | None
) -> AuthConfig[Ctx]:
    if authenticate is not None and auth is None:
        return AuthConfig(authenticate=authenticate)
    if auth is not None and authenticate is None:
        return auth
    raise ConfigurationError(
        "DurablyWeb needs to know who asks: give either authenticate=… (a function of the request) or "
        "auth=AuthConfig(…); while you develop: authenticate=allow_local"
    )


async def _live(receive: Receive, send: Send) -> None:
    """Say yes to a server that starts and stops it as the only application."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
