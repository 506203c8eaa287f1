"""Who is asking: every request is let in as a `Caller`, or refused."""

from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from durably import ConfigurationError, Durably
from durably_web.auditing import AuditEntry
from durably_web.auth import AuthConfig
from durably_web.caller import Caller
from durably_web.hooks import check_hook, settle
from durably_web.mistakes import expect, wrong_answer

Ctx = TypeVar("Ctx")


class Answered(Exception):  # noqa: N818 - it is no error
    """The application has answered this request itself."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Gate(Generic[Ctx]):
    """Lets requests in, each as a caller.

    Args:
        durably: The instance they come for.
        auth: Who may do what.
        on_request: Called for each request that was let in, before it is read.
        audit: Called for each change that somebody made, or was kept from.

    Raises:
        ConfigurationError: There is nobody who authenticates, or a function cannot be called.
    """

    def __init__(
        self,
        durably: Durably,
        auth: AuthConfig[Ctx],
        *,
        on_request: Callable[[], object] | None = None,
        audit: Callable[[AuditEntry[Ctx]], object] | None = None,
    ) -> None:
        expect("the first argument", durably, Durably, "an instance, e.g. Durably('sqlite:///app.db')")
        if not callable(getattr(auth, "authenticate", None)):
            raise ConfigurationError(
                "auth must be an AuthConfig whose authenticate is a function of the request; "
                "while you develop: AuthConfig(authenticate=allow_local)"
            )
        check_hook("on_request", on_request)
        check_hook("audit", audit, "entry")
        self._durably = durably
        self._auth = auth
        self._on_request = on_request
        self._audit = audit

    async def admit(self, request: Request) -> Caller[Ctx]:
        """Who sends this request.

        Raises:
            HTTPException: 401, nobody whom the application knows; or what `authenticate` raised.
            Answered: It answered the request itself.
        """
        ctx: Ctx | Response | None = await settle(self._auth.authenticate(request))
        if isinstance(ctx, Response):
            raise Answered(ctx)
        if ctx is request:
            raise wrong_answer("authenticate", ctx, "who sends the request")
        if ctx is None or not _is_somebody(ctx):
            raise HTTPException(401, "Unauthorized")
        if self._on_request is not None:
            await settle(self._on_request())
        return Caller(self._durably, self._auth, ctx, self._audit)


def _is_somebody(ctx: object) -> bool:
    """False is what a check answers that forgot to refuse; nobody is a user too, in Starlette and in Django."""
    return bool(ctx) and getattr(ctx, "is_authenticated", True) is not False
