"""Answering requests: each is let in, read, and answered in the words of the reference."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar, cast

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from durably import ConfigurationError, Durably, RunFilter, RunStatus
from durably_web.answers import SAFE
from durably_web.api.refusals import refusal
from durably_web.api.streams import Streams
from durably_web.api.wire import STATUSES, Wire, client_run, client_step, dump
from durably_web.auditing import AuditEntry
from durably_web.auth import AuthConfig, TriggerRequest
from durably_web.caller import MOST_LISTED, Caller
from durably_web.gate import Gate
from durably_web.guard import Guard, read_body
from durably_web.mounting import relocate

Ctx = TypeVar("Ctx")

Endpoint: TypeAlias = Callable[[Request, Caller[Any]], Awaitable[ASGIApp]]

DEEPEST_OFFSET = 100_000
"""Passing over rows takes time for each of them."""
MOST_DIGITS = 9
THROTTLE = 0.1
"""Seconds between two progresses of a run in one stream."""
LONGEST_THROTTLE = 60_000
LABEL = "label."


class DurablyHandler(Generic[Ctx]):
    """An ASGI application; `create_durably_handler` makes it."""

    def __init__(
        self, durably: Durably, gate: Gate[Ctx], *, guard: Guard, throttle: float = THROTTLE
    ) -> None:
        self._durably = durably
        self._gate = gate
        self._guard = guard
        self.streams: Streams = Streams(durably, throttle=throttle)
        self._endpoints: Mapping[tuple[str, str], Endpoint] = {
            ("GET", "/run"): self._run,
            ("GET", "/runs"): self._runs,
            ("GET", "/steps"): self._steps,
            ("GET", "/subscribe"): self._subscribe,
            ("GET", "/runs/subscribe"): self._subscribe_runs,
            ("POST", "/trigger"): self._trigger,
            ("POST", "/retrigger"): self._retrigger,
            ("POST", "/cancel"): self._cancel,
            ("DELETE", "/run"): self._delete,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"this application serves http, not {scope['type']}")
        request = Request(relocate(scope), receive)
        response = await self._answer(request)
        await response(request.scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        try:
            self._guard.check(request)
            caller = await self._gate.admit(request)
            path: str = request.scope["path"].removeprefix(request.scope["root_path"])
            endpoint = self._endpoints.get((request.method, path))
            if endpoint is None:
                return PlainTextResponse("Not Found", status_code=404, headers=SAFE)
            return await endpoint(request, caller)
        except Exception as error:  # noqa: BLE001 - every one is answered, and the unknown ones are logged
            return refusal(error, self._durably.environment)

    # Looking

    async def _run(self, request: Request, caller: Caller[Any]) -> Response:
        return _json(client_run(await caller.run(_run_id(request))))

    async def _runs(self, request: Request, caller: Caller[Any]) -> Response:
        query = request.query_params
        limit, offset = _number(query, "limit"), _number(query, "offset")
        if offset is not None and offset > DEEPEST_OFFSET:
            _refuse(f"Invalid offset: must be at most {DEEPEST_OFFSET}; narrow the filter instead")
        runs = await caller.runs(
            _filter(query), limit=MOST_LISTED if limit is None else limit, offset=offset or 0
        )
        return _json([client_run(run) for run in runs])

    async def _steps(self, request: Request, caller: Caller[Any]) -> Response:
        run_id = _run_id(request)
        steps = await caller.steps(run_id)
        return _json([client_step(run_id, step) for step in steps if step.status != "running"])

    async def _subscribe(self, request: Request, caller: Caller[Any]) -> ASGIApp:
        return await self.streams.of_run(caller, _run_id(request), request.headers.get("last-event-id"))

    async def _subscribe_runs(self, request: Request, caller: Caller[Any]) -> ASGIApp:
        query = request.query_params
        asked = RunFilter(job_name=query.getlist("jobName"), labels=_labels(query))
        return await self.streams.of_runs(caller, asked, request.headers.get("last-event-id"))

    # Changing

    async def _trigger(self, request: Request, caller: Caller[Any]) -> Response:
        run = await caller.trigger(_trigger_request(await read_body(request)))
        return _json({"runId": run.id, "disposition": run.disposition})

    async def _retrigger(self, request: Request, caller: Caller[Any]) -> Response:
        run = await caller.retrigger(_run_id(request))
        return _json({"success": True, "runId": run.id})

    async def _cancel(self, request: Request, caller: Caller[Any]) -> Response:
        await caller.cancel(_run_id(request))
        return _json({"success": True})

    async def _delete(self, request: Request, caller: Caller[Any]) -> Response:
        await caller.delete_run(_run_id(request))
        return _json({"success": True})


def create_durably_handler(
    durably: Durably,
    *,
    auth: AuthConfig[Ctx],
    sse_throttle_ms: int = 100,
    on_request: Callable[[], object] | None = None,
    audit: Callable[[AuditEntry[Ctx]], object] | None = None,
    allowed_hosts: Collection[str] | None = None,
    trusted_origins: Collection[str] = (),
) -> DurablyHandler[Ctx]:
    """An ASGI application that answers as the reference's handler does, to be mounted anywhere.

    `@coji/durably-react` and anything else that speaks its HTTP interface works with it. Runs may be
    executed by any process on the database.

    Args:
        durably: Whose runs are served. It must be open (`init`, or `migrate` with `worker=False`)
            before the first request, or be opened by `on_request`.
        auth: Who may do what. There is no way without: while you develop use
            `AuthConfig(authenticate=allow_local)`.
        sse_throttle_ms: The least time between two progress events of a run in one stream; the latest
            one is always told. 0: each that there is.
        on_request: Called for each authenticated request, before anything else; plain or async.
        audit: Called for each change that somebody made, or was kept from; plain or async.
        allowed_hosts: Host names under which requests are served; None: any.
        trusted_origins: Other origins whose pages may send changes, e.g. a development server's
            `http://localhost:5173`. Reading from there needs CORS headers beside.

    Raises:
        ConfigurationError: `auth` has nobody who authenticates, or a setting cannot be used.
    """
    if isinstance(sse_throttle_ms, bool) or not 0 <= sse_throttle_ms <= LONGEST_THROTTLE:
        raise ConfigurationError(
            f"sse_throttle_ms must be milliseconds from 0 to {LONGEST_THROTTLE}, not {sse_throttle_ms!r}"
        )
    return DurablyHandler(
        durably,
        Gate(durably, auth, on_request=on_request, audit=audit),
        guard=Guard(allowed_hosts=allowed_hosts, trusted_origins=trusted_origins),
        throttle=sse_throttle_ms / 1000,
    )


def _json(value: Wire | list[Wire]) -> Response:
    return Response(dump(value), media_type="application/json", headers=SAFE)


def _run_id(request: Request) -> str:
    return request.query_params.get("runId") or _refuse("runId query parameter is required")


def _filter(query: QueryParams) -> RunFilter:
    statuses: list[RunStatus] = []
    for word in query.getlist("status"):
        if word not in STATUSES:
            _refuse(f"Invalid status: {word or 'empty value'}. Must be one of: {', '.join(STATUSES)}")
        statuses += STATUSES[word]
    return RunFilter(status=statuses, job_name=query.getlist("jobName"), labels=_labels(query))


def _labels(query: QueryParams) -> dict[str, str]:
    return {name.removeprefix(LABEL): value for name, value in query.multi_items() if name.startswith(LABEL)}


def _number(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        _refuse(f"Invalid {name}: must be a non-negative integer")
    return int(text)


def _trigger_request(body: bytes) -> TriggerRequest:
    try:
        wanted: object = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        _refuse("The body must be JSON")
    if not isinstance(wanted, dict):
        _refuse("The body must be a JSON object")
    fields = cast("dict[str, Any]", wanted)
    job_name, labels = fields.get("jobName"), fields.get("labels")
    if not isinstance(job_name, str) or not job_name:
        _refuse("jobName is required")
    if not isinstance(labels, dict | None):
        _refuse("labels must be an object of strings")
    return TriggerRequest(
        job_name=job_name,
        input=fields.get("input"),
        idempotency_key=fields.get("idempotencyKey"),
        concurrency_key=fields.get("concurrencyKey"),
        coalesce=fields.get("coalesce"),
        labels=cast("dict[str, str]", labels or {}),
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(message: str) -> NoReturn:
    raise HTTPException(400, message)
