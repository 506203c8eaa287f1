"""The front door of the web package."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import Unpack

from durably import ConfigurationError, Durably, JobHandle, LogEntry, RunFilter, RunStatus
from durably_web.answers import CSP
from durably_web.auth import AuthConfig
from durably_web.components.base import Component
from durably_web.embedding import InTemplates, Ui
from durably_web.gate import Answered, Gate
from durably_web.guard import Guard
from durably_web.hooks import check_hook
from durably_web.kit import COMPONENTS, HasHtml, Kit
from durably_web.mistakes import expect, nearest
from durably_web.mounting import check_prefix, find_mount, is_below
from durably_web.options import DurablyWebOptions, check_options
from durably_web.sealing import Seal
from durably_web.site import Site, SiteOptions
from durably_web.templating import Templates
from durably_web.urls import Urls
from durably_web.views import (
    JobView,
    RunActionsOf,
    RunsPage,
    RunView,
    WebContext,
    view_job,
    view_run,
    view_runs,
)
from durably_web.visits import AnyRequest, Visit, request_of

if TYPE_CHECKING:
    from starlette.templating import Jinja2Templates

    from durably_web.caller import Caller

logger: logging.Logger = logging.getLogger("durably.web")

MOST_TOLD: Final = 100

Ctx = TypeVar("Ctx")
In = TypeVar("In")
Out = TypeVar("Out")
Renderer = TypeVar("Renderer", bound=Callable[[Any], HasHtml])


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
        check_options(options)
        self._templates = Templates(options.get("templates"))
        self._kit = Kit(self._templates)
        guard = Guard(
            allowed_hosts=options.get("allowed_hosts"), trusted_origins=options.get("trusted_origins", ())
        )
        self._prefix = check_prefix(options.get("prefix"))
        self._seal = Seal(options.get("secret_key"))
        self._site = Site(
            durably,
            Gate(durably, _only(authenticate, auth), audit=options.get("audit")),
            guard,
            self._kit,
            SiteOptions(
                prefix=self._prefix,
                csp=options.get("csp", CSP),
                login_url=options.get("login_url"),
                csrf_token=options.get("csrf_token"),
                api=options.get("api", False),
                seal=self._seal,
            ),
        )

        self._told: set[str] = set()
        self.ui: Ui = Ui(self)
        """Components for pages of yours: `await web.ui.run_progress(request, run_id)`, or
        `web.ui.lazy.run_progress(run_id)`, which fetches itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as any ASGI application does."""
        if scope["type"] == "http":
            await self._site(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    # Values, for pages that bring their own HTML

    async def use_job(
        self,
        request: AnyRequest,
        job: JobHandle[In, Out],
        *,
        initial_run_id: str | None = None,
        auto_resume: bool = True,
        follow_latest: bool = True,
        max_logs: int = 100,
    ) -> JobView[In, Out]:
        """A job, and the run of it that a page would show.

        Args:
            request: Who asks.
            job: The job.
            initial_run_id: The run to begin with.
            auto_resume: Else one that goes on, or is to begin.
            follow_latest: Whether the newest run takes the place of one that has ended.
            max_logs: How many lines of its log, the last ones.

        Raises:
            HTTPException: They may not.
        """
        expect(
            "use_job", job, JobHandle, "given the job itself, not its name: web.use_job(request, import_csv)"
        )
        caller = (await self.visit(request)).caller
        return await view_job(
            caller,
            job,
            initial_run_id=initial_run_id,
            auto_resume=auto_resume,
            follow_latest=follow_latest,
            max_logs=max_logs,
        )

    async def use_job_run(
        self, request: AnyRequest, run_id: str | None, *, max_logs: int = 100
    ) -> RunView[Any, Any] | None:
        """A run and the end of its log; None if there is none for them.

        Raises:
            HTTPException: They may not.
        """
        expect("use_job_run", run_id, str | None, "given a run's id, or None")
        caller = (await self.visit(request)).caller
        return None if run_id is None else await view_run(caller, run_id, max_logs=max_logs)

    async def use_job_logs(
        self, request: AnyRequest, run_id: str | None, *, max_logs: int = 100
    ) -> Sequence[LogEntry]:
        """The end of a run's log, in order; nothing if there is no such run for them.

        Raises:
            HTTPException: They may not.
        """
        view = await self.use_job_run(request, run_id, max_logs=max_logs)
        return () if view is None else view.logs

    async def use_runs(
        self,
        request: AnyRequest,
        *,
        job_name: str | Sequence[str] = (),
        status: RunStatus | Sequence[RunStatus] = (),
        labels: Mapping[str, str] | None = None,
        page: int = 0,
        page_size: int = 10,
    ) -> RunsPage:
        """A page of runs, newest first.

        Raises:
            HTTPException: They may not.
            ValidationError: A status or a label is none.
        """
        expect("labels", labels, Mapping | None, "a mapping, e.g. {'org': 'acme'}")
        expect("job_name", job_name, Sequence, "a job's name, or several")
        asked = RunFilter(
            job_name=(job_name,) if isinstance(job_name, str) else job_name,
            status=(status,) if isinstance(status, str) else status,
            labels=labels or {},
        )
        return await view_runs((await self.visit(request)).caller, asked, page=page, page_size=page_size)

    async def actions(self, request: AnyRequest) -> RunActionsOf[Ctx]:
        """What may be done with runs, as whoever asks.

        Raises:
            HTTPException: They may not.
        """
        return RunActionsOf((await self.visit(request)).caller)

    async def context(self, request: Request) -> WebContext[Ctx]:
        """Who asks, for `Depends(web.context)`.

        Raises:
            HTTPException: They may not.
        """
        caller: Caller[Ctx] = (await self.visit(request)).caller
        return WebContext(ctx=caller.ctx, durably=self.durably, actions=RunActionsOf(caller))

    # In pages of others

    @property
    def kit(self) -> Kit:
        """Renders the components."""
        return self._kit

    async def visit(self, request: AnyRequest) -> Visit:
        """Let in whoever looks at this page of yours; once for each request.

        Raises:
            HTTPException: They may not.
        """
        of_page = request_of(request, "what a page of yours shows")
        key = f"durably_web.visit.{id(self)}"
        known: Visit | None = of_page.scope.get(key)
        if known is None:
            try:
                known = await self._site.admit(of_page, self.urls(of_page), is_ours=False)
            except Answered as answered:
                raise _raised(answered.response) from None
            of_page.scope[key] = known
        return known

    def point_out(self, component: Component) -> None:
        """Tell once, in the log, of a job that there is not, and of one whose name is nearly the same."""
        job = component.about_job
        if job is None or job in self.durably.jobs or job in self._told or len(self._told) >= MOST_TOLD:
            return
        meant = nearest(job, self.durably.jobs)
        if meant:
            self._told.add(job)
            logger.warning("%s: there is no job %r%s", component.name, job, meant)

    def seal(self, job: str, input: object, idempotency_key: str | None) -> str:
        """What a button triggers, as nobody else can write it.

        Raises:
            ConfigurationError: There is no `secret_key`, no such job, or the input is too large.
            ValidationError: The input does not fit the job.
        """
        return self._seal.seal(self.durably, job, input, idempotency_key)

    def urls(self, request: Request | None) -> Urls:
        """Where the dashboard is, as seen from this request.

        Raises:
            ConfigurationError: Nobody tells; say `prefix`.
        """
        return Urls(find_mount(request, self, self._prefix))

    def install(self, templates: "Jinja2Templates | Environment") -> None:
        """Put `durably` into your Jinja templates: `{{ durably.run_progress(run_id) }}`.

        Templates of yours with the names of ours (`durably/components/run_progress.html`) are taken
        instead of them from now on.
        """
        expect(
            "install",
            getattr(templates, "env", templates),
            Environment,
            "given Jinja2Templates or an Environment",
        )
        environment = templates if isinstance(templates, Environment) else templates.env
        # Jinja2 says narrower what may be in it than it takes.
        shared: dict[str, object] = environment.globals  # pyright: ignore[reportAssignmentType]
        shared["durably"] = InTemplates(self)
        if environment.loader is not None:
            self._templates.prefer(environment.loader)

    def component(self, name: str) -> Callable[[Renderer], Renderer]:
        """Have a function render a component: it takes what the template would, and answers HTML.

            @web.component("run_progress")
            def progress(c): return htpy.progress(value=c.run.progress.current)

        Raises:
            ConfigurationError: There is no such component.
        """
        expect("component", name, str, "given a name: @web.component('run_progress')")
        if name not in COMPONENTS:
            raise ConfigurationError(
                f"there is no component {name!r}{nearest(name, COMPONENTS)}; there are: "
                f"{', '.join(sorted(COMPONENTS))}"
            )

        def replace(renderer: Renderer) -> Renderer:
            check_hook(f"component({name!r})", renderer, "c", is_plain=True)
            self._kit.renderers[name] = renderer
            return renderer

        return replace

    def wrap(self, app: ASGIApp, path: str) -> ASGIApp:
        """An application that answers below `path` itself and hands everything else to `app`.

        For frameworks that mount nothing: `application = web.wrap(get_asgi_application(), "/durably")`.
        """
        mount = check_prefix(path, "path")
        if not mount:
            raise ConfigurationError("wrap needs a path of its own, e.g. '/durably'")

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and is_below(scope, mount):
                await self({**scope, "root_path": scope.get("root_path", "") + mount}, receive, send)
            else:
                await app(scope, receive, send)

        return wrapped


def _raised(answer: Response) -> HTTPException:
    """What the application answered in place of its page, as what the framework around makes an answer of."""
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
    return HTTPException(answer.status_code if answer.status_code >= 300 else 401, headers=headers)


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


async def _lifespan(receive: Receive, send: Send) -> None:
    """Say yes to a server that starts and stops it as the only application."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
