"""Who may do what, as the application says it."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from durably import Coalesce, Run, RunFilter
from durably_web.guard import host_name
from durably_web.hooks import check_hook

Ctx = TypeVar("Ctx")

RunOperation: TypeAlias = Literal[
    "read", "steps", "logs", "subscribe", "retry", "retrigger", "signal", "cancel", "delete"
]
"""What may be done with a run that exists."""
OPERATIONS: tuple[RunOperation, ...] = get_args(RunOperation)

CHANGES: frozenset[RunOperation] = frozenset({"retry", "retrigger", "signal", "cancel", "delete"})
"""Those of them after which something is another than before."""
PayloadKind: TypeAlias = Literal["input", "output", "error", "traceback", "step", "progress", "log", "key"]
"""What `redact` is asked about: a run's input and output; the message and the traceback of an error; what
a step returned, a signal sent to it, or the cursor it has saved; the text of a progress; a line of the log
and its fields; an idempotency key, a concurrency key, a signal's key."""

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers that proxies set: a peer on this machine may stand for anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRequest:
    """What somebody asks to have executed."""

    job_name: str
    input: object = field(repr=False)
    """Plain JSON values, not yet checked against the job."""
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    coalesce: Coalesce | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Something that a run was given, said or answered, before it is shown to somebody."""

    kind: PayloadKind
    value: object = field(repr=False)
    """Plain JSON values; a text is asked about as such."""
    run: Run
    """Whose it is, as it is stored."""
    step_name: str | None = None
    """The step whose it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig(Generic[Ctx]):
    """Who may do what: how a request is authenticated, and what its sender may see and do.

    A hook refuses by raising Starlette's `HTTPException` (FastAPI's is one). All but `authenticate`
    may be plain or async functions.

    Raises:
        ConfigurationError: One of them is no function, or cannot be called with what it is called with.
    """

    authenticate: Callable[[Request], Awaitable[Ctx | Response | None]]
    """Who sends this request, as whatever the other hooks want to know of them. None and all that is false is
    refused with 401, and so is a user whose `is_authenticated` is; a response is sent as it is."""
    scope_runs: Callable[[Ctx, RunFilter], RunFilter | Awaitable[RunFilter]] | None = None
    """Which runs there are for them: the asked filter, narrowed. It holds for single runs as well: one
    outside of it does not exist. Whatever is returned, nothing beyond the asked filter is shown.
    Default: all runs."""
    scope_runs_subscribe: Callable[[Ctx, RunFilter], RunFilter | Awaitable[RunFilter]] | None = None
    """The same for following the list of runs. Default: `scope_runs`."""
    on_run_access: Callable[[Ctx, Run, RunOperation], object] | None = None
    """Asked before each operation on a run within the scope; refuses by raising, or by answering something
    false. None is no refusal.
    Somebody who may not even `read` the run is told that it does not exist."""
    on_trigger: Callable[[Ctx, TriggerRequest], object] | None = None
    """Asked before a run is made, by a trigger or by a retrigger; refuses as `on_run_access` does. The
    labels of `trigger_labels` are in the request already."""
    trigger_labels: Callable[[Ctx], Mapping[str, str] | Awaitable[Mapping[str, str]]] | None = None
    """Labels that every run they trigger gets; a request that gives one of them another value is refused."""
    allowed: Callable[[Ctx, Run], Collection[RunOperation] | Awaitable[Collection[RunOperation]]] | None = (
        None
    )
    """Which buttons a page shows them for this run. It only hides; the other hooks decide."""
    redact: Callable[[Ctx, Payload], object] | None = None
    """What they see of payloads: asked for each, before anything of it is shown, by whatever view. It
    answers the value as it is, another one, or None: then `[hidden]` stands there. So it does if the hook
    raises, which is logged without the value. A plain function."""
    sees_workers: Callable[[Ctx], bool | Awaitable[bool]] | None = None
    """Whether they see the workers: hosts, processes, and the jobs they know. Default: whoever sees all
    runs does, which means that there is no `scope_runs`."""

    def __post_init__(self) -> None:
        check_hook("authenticate", self.authenticate, "request")
        check_hook("scope_runs", self.scope_runs, "ctx", "asked")
        check_hook("scope_runs_subscribe", self.scope_runs_subscribe, "ctx", "asked")
        check_hook("on_run_access", self.on_run_access, "ctx", "run", "operation")
        check_hook("on_trigger", self.on_trigger, "ctx", "request")
        check_hook("trigger_labels", self.trigger_labels, "ctx")
        check_hook("allowed", self.allowed, "ctx", "run")
        check_hook("redact", self.redact, "ctx", "payload", is_plain=True)
        check_hook("sees_workers", self.sees_workers, "ctx")


async def allow_local(request: Request) -> str:
    """Let in whoever sits at this machine: for development, as `authenticate`.

    The peer must be a loopback address, the name in the URL too, and no proxy in between: else a web
    page somewhere else could speak for a browser here.

    Raises:
        HTTPException: 403, the request comes from elsewhere.
    """
    peer = None if request.client is None else request.client.host
    is_direct = not any(name in request.headers for name in FORWARDED)
    if not (is_direct and is_loopback(peer) and is_loopback(host_name(request.headers.get("host", "")))):
        raise HTTPException(403, "Only requests from this machine are allowed (allow_local)")
    return "local"


def is_loopback(host: str | None) -> bool:
    """Whether this is an address or name of the machine itself."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
