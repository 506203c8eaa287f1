"""The application below the mount: who is let in, which page answers, what happens when it cannot."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from durably import Durably, NotRunningError, RunNotFoundError, StoreError, ValidationError
from durably_web import answers, downloads
from durably_web.actions import Actions
from durably_web.api import DurablyHandler
from durably_web.assets import ASSETS
from durably_web.auth import RunOperation
from durably_web.components.props import from_query
from durably_web.doorbell import Hub
from durably_web.gate import Answered, Gate
from durably_web.guard import Guard
from durably_web.kit import COMPONENTS, Kit
from durably_web.live import live
from durably_web.mistakes import wrong_answer
from durably_web.mounting import is_elsewhere, relocate
from durably_web.pages import Pages
from durably_web.sealing import Seal
from durably_web.sent import Form
from durably_web.unavailable import unavailable
from durably_web.urls import Urls, with_query
from durably_web.visits import Place, Recent, Visit, page_of

Handler: TypeAlias = Callable[[Visit], Awaitable[Response]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

logger: logging.Logger = logging.getLogger("durably.web")

ACTIONS: Final[tuple[RunOperation, ...]] = ("cancel", "retry", "retrigger", "delete")
THEMES: Final = frozenset({"light", "dark"})
THEME_COOKIE: Final = "dw-theme"
YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What an application says about its dashboard."""

    prefix: str | None
    csp: str | None
    login_url: str | None
    csrf_token: Callable[[Request], tuple[str, str]] | None
    api: bool
    seal: Seal


class _Route(Route):
    """Refuses other methods in the site's words: the router would do so in those of the application around us."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        *,
        methods: Sequence[str] = ("GET",),
        refusing: Callable[[int, Mapping[str, str]], ASGIApp],
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self._otherwise = refusing(405, {"allow": ", ".join(sorted(self.methods or ()))})

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_for_that = scope["method"] in (self.methods or ())
        await (super().handle if is_for_that else self._otherwise)(scope, receive, send)


class Site:
    """Answers the requests below a mount."""

    def __init__(
        self, durably: Durably, gate: Gate[Any], guard: Guard, kit: Kit, options: SiteOptions
    ) -> None:
        self._durably = durably
        self._gate = gate
        self._guard = guard
        self._kit = kit
        self._options = options
        self._pages = Pages(kit, csp=options.csp)
        self._actions = Actions(kit, self._pages)
        self._recent = Recent(durably.environment.monotonic)
        self._hub = Hub(durably)
        self._is_told_where = self._is_told_who = False
        # No redirects to other spellings of a path: the mount may not be what the router thinks it is.
        self._router = Router(self._routes(), redirect_slashes=False, default=self._refusing(404))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if not self._is_told_where and is_elsewhere(scope, self._options.prefix):
            self._is_told_where = True
            logger.warning(
                "the dashboard is mounted at %r, and its links lead to prefix=%r; that is right only behind a "
                "proxy which makes the one of the other",
                scope["root_path"], self._options.prefix,
            )  # fmt: skip
        await self._router(relocate(scope, self._options.prefix), receive, send)

    def _routes(self) -> list[BaseRoute]:
        page, part, of_run, of_job = self._page, self._fragment, self._of_run, self._of_job
        pages, actions = self._pages, self._actions
        route = partial(_Route, refusing=self._refusing)
        routes: list[BaseRoute] = [
            route("/static/{digest}/{name}", _asset),
            route("/", page(pages.overview)),
            route("/jobs", page(pages.jobs)),
            route("/jobs/{job_name}", of_job(pages.job)),
            route("/jobs/{job_name}/trigger", of_job(actions.trigger), methods=["POST"]),
            route("/workers", page(pages.workers)),
            route("/runs", page(pages.runs)),
            route("/runs/{run_id}", of_run(pages.run)),
            route("/runs/{run_id}/logs.ndjson", of_run(downloads.log)),
            route("/runs/{run_id}/{which}.json", of_run(downloads.payload)),
            route("/runs/{run_id}/error.txt", of_run(downloads.error)),
            route("/runs/bulk", page(actions.bulk), methods=["POST"]),
            route("/runs/{run_id}/signal", of_run(actions.signal), methods=["POST"]),
            *(
                route(f"/runs/{{run_id}}/{one}", of_run(partial(actions.act, action=one)), methods=["POST"])
                for one in ACTIONS
            ),
            route("/-/theme", page(self._theme), methods=["POST"]),
            route("/-/press", page(actions.press), methods=["POST"]),
            route("/-/live", part(lambda visit: live(visit.request, visit.caller, self._hub))),
            route("/-/{component}", part(self._component)),
        ]
        if self._options.api:
            # Who may do what, and from where, is decided by the same two.
            routes.append(Mount("/api", DurablyHandler(self._durably, self._gate, guard=self._guard)))
        return routes

    # Who is let in

    async def visit(self, request: Request) -> Visit:
        """Let somebody in.

        Raises:
            HTTPException: The request is refused.
            Answered: The application answered it itself.
        """
        self._guard.check(request)
        urls = Urls(request.scope["root_path"])
        return await self.admit(request, urls, is_ours=self._is_our_page(request))

    async def admit(self, request: Request, urls: Urls, *, is_ours: bool) -> Visit:
        """Let in whoever looks at a page, ours or a host's.

        Raises:
            HTTPException: They may not.
            Answered: The application answered it itself.
        """
        caller = await self._gate.admit(request)
        place = self._place(request)
        return Visit(
            request=request,
            urls=urls,
            now=place.now,
            theme=place.theme,
            csrf=place.csrf,
            durably=self._durably,
            caller=caller,
            recent=self._recent,
            seal=self._options.seal,
            draw=self._kit.render,
            is_ours=is_ours,
        )

    def _is_our_page(self, request: Request) -> bool:
        """Whether the page that is looked at, or a part of which is asked for, is below the mount."""
        base = quote(request.scope["root_path"], safe="/:")
        page = page_of(request).partition("?")[0]
        return page == base or page.startswith(f"{base}/")

    def _place(self, request: Request) -> Place:
        theme = request.cookies.get(THEME_COOKIE)
        return Place(
            request=request,
            urls=Urls(request.scope.get("root_path", "")),
            now=datetime.fromtimestamp(self._durably.environment.now(), UTC),
            theme=theme if theme in THEMES else None,
            csrf=self._token(request),
        )

    def _token(self, request: Request) -> tuple[str, str] | None:
        if self._options.csrf_token is None:
            return None
        match cast("object", self._options.csrf_token(request)):
            case (str(name), str(value)):
                return name, value
            case other:
                raise wrong_answer("csrf_token", other, "the name of a form's field, and its value")

    def _page(self, handler: Handler) -> Endpoint:
        async def answer(request: Request) -> Response:
            # A script puts what a form is answered into a part of a page; whoever only looks gets a page.
            is_part = request.method == "POST" and answers.is_htmx(request)
            trouble = self._trouble_part if is_part else self._trouble_page
            return await self._answered(request, handler, trouble)

        return answer

    def _of_run(self, handler: Callable[[Visit, str], Awaitable[Response]]) -> Endpoint:
        return self._page(lambda visit: handler(visit, visit.request.path_params["run_id"]))

    def _of_job(self, handler: Callable[[Visit, str], Awaitable[Response]]) -> Endpoint:
        return self._page(lambda visit: handler(visit, visit.request.path_params["job_name"]))

    def _fragment(self, handler: Handler) -> Endpoint:
        async def answer(request: Request) -> Response:
            return await self._answered(request, handler, self._trouble_part)

        return answer

    async def _answered(
        self,
        request: Request,
        handler: Handler,
        trouble: Callable[[Request, HTTPException, str | None], Response],
    ) -> Response:
        # Caught here, and not by the handlers of the application around us: they speak JSON, or worse.
        request_id: str | None = None
        try:
            return await handler(await self.visit(request))
        except Answered as answered:
            return answered.response
        except HTTPException as problem:
            error = problem
        except RunNotFoundError:
            error = HTTPException(404)
        except ValidationError:
            error = HTTPException(400)
        except (StoreError, NotRunningError) as problem:
            error = unavailable(problem, request.url.path)
        except Exception:
            request_id = self._durably.environment.new_id()
            logger.exception("request %s failed: %s %s", request_id, request.method, request.url.path)
            error = HTTPException(500)
        return trouble(request, error, request_id)

    def _trouble_page(self, request: Request, error: HTTPException, request_id: str | None) -> Response:
        login = self._login(request)
        if error.status_code == 401 and login is not None and request.method in {"GET", "HEAD"}:
            return answers.go(login)
        if error.status_code == 401 and not self._is_told_who:
            self._is_told_who = True
            logger.warning(
                "%s was refused: authenticate knows nobody who sent it. Say login_url=… and visitors are sent to "
                "your login; while you develop: authenticate=allow_local",
                request.url.path,
            )
        response = self._pages.trouble(self._place(request), error, request_id=request_id)
        response.headers.update(error.headers or {})
        return response

    def _trouble_part(self, request: Request, error: HTTPException, request_id: str | None) -> Response:
        login = self._login(request)
        headers = dict(error.headers or {})
        if error.status_code == 401 and login is not None:
            # The page goes there; else the login page would be put into a part of it.
            headers["hx-redirect"] = login
        return answers.fragment(self._kit.trouble(error), status=error.status_code, headers=headers)

    def _login(self, request: Request) -> str | None:
        page = page_of(request)
        if self._options.login_url is None or page.startswith(self._options.login_url):
            return None
        return with_query(self._options.login_url, {"next": page})

    def _refusing(self, status: int, headers: Mapping[str, str] | None = None) -> ASGIApp:
        async def refuse(visit: Visit) -> Response:
            raise HTTPException(status, headers=headers)

        async def refused(scope: Scope, receive: Receive, send: Send) -> None:
            response = await self._page(refuse)(Request(scope, receive))
            await response(scope, receive, send)

        return refused

    # What is asked for

    async def _component(self, visit: Visit) -> Response:
        kind = COMPONENTS.get(visit.request.path_params["component"])
        if kind is None:
            raise HTTPException(404)
        component = from_query(kind, visit.request.query_params.multi_items())
        return answers.fragment(await self._kit.inside(component, visit))

    async def _theme(self, visit: Visit) -> Response:
        form = await Form.of(visit.request)
        response = answers.go(answers.back(form.get("next"), visit.urls.overview()))
        theme = form.get("theme")
        response.set_cookie(
            THEME_COOKIE,
            theme if theme in THEMES else "",
            max_age=YEAR if theme in THEMES else 0,
            path=quote(visit.urls.base) or "/",
            httponly=True,
            samesite="lax",
        )
        return response


async def _asset(request: Request) -> Response:
    asset = ASSETS.get(request.path_params["name"])
    if asset is None:
        return Response("Not found", 404, answers.SAFE, media_type="text/plain")
    return asset.response(request.path_params["digest"])
