from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import (
    Coalesce,
    ConflictError,
    Durably,
    Run,
    RunFilter,
    RunsSnapshot,
    RunUpdate,
    StepContext,
    ValidationError,
    job,
)
from durably_web.auditing import AuditEntry
from durably_web.auth import OPERATIONS, AuthConfig, Payload, RunOperation, TriggerRequest
from durably_web.caller import Caller
from durably_web.gate import Gate
from tests.web.requests import request


@dataclass(frozen=True)
class User:
    org: str
    role: str = "editor"


class Day(BaseModel, strict=True):
    at: int


@job
async def work(step: StepContext, text: str) -> str:
    if text == "fail":
        raise ValueError(text)
    return text


@job
async def plan(step: StepContext, day: Day) -> None: ...


@pytest.fixture
async def durably(tmp_path: Path) -> AsyncIterator[Durably]:
    instance = Durably(f"sqlite:///{tmp_path}/app.db", jobs=[work, plan])
    await instance.migrate()
    yield instance
    await instance.close()


async def by_header(request: Request) -> User | None:
    org = request.headers.get("org")
    return None if org is None else User(org, request.headers.get("role", "editor"))


def own(user: User, asked: RunFilter) -> RunFilter:
    return asked.and_labels(org=user.org)


def labels(user: User) -> dict[str, str]:
    return {"org": user.org}


TENANTS = AuthConfig(authenticate=by_header, scope_runs=own, trigger_labels=labels)


async def caller(
    durably: Durably, org: str, auth: AuthConfig[User] = TENANTS, *, role: str = "editor"
) -> Caller[User]:
    return await Gate(durably, auth).admit(request(headers={"org": org, "role": role}))


async def status_of(answer: Awaitable[object]) -> tuple[int, str]:
    try:
        await answer
    except HTTPException as refusal:
        return refusal.status_code, refusal.detail
    return 200, ""


NOT_FOUND = (404, "Run not found")

# A run of somebody else's

OPERATIONS_OF_A_CALLER: dict[str, Callable[[Caller[User], str], Awaitable[object]]] = {
    "read": lambda who, id: who.run(id),
    "steps": lambda who, id: who.steps(id),
    "logs": lambda who, id: who.logs(id),
    "explain": lambda who, id: who.explain(id),
    "subscribe": lambda who, id: who.subscribe(id),
    "retry": lambda who, id: who.retry(id),
    "retrigger": lambda who, id: who.retrigger(id),
    "signal": lambda who, id: who.signal(id, "approved"),
    "cancel": lambda who, id: who.cancel(id),
    "delete": lambda who, id: who.delete_run(id),
}


def by_role(user: User, run: Run, operation: RunOperation) -> None:
    """Tenants kept apart by this hook alone."""
    if run.labels.get("org") != user.org:
        raise HTTPException(403, "Not yours")


HOOKED = AuthConfig(authenticate=by_header, on_run_access=by_role, trigger_labels=labels)


@pytest.mark.parametrize("auth", [TENANTS, HOOKED], ids=["scope", "hook"])
@pytest.mark.parametrize("operation", OPERATIONS_OF_A_CALLER)
@pytest.mark.parametrize("state", ["waiting", "ended"])
async def test_a_foreign_run_does_not_exist(
    durably: Durably, auth: AuthConfig[User], operation: str, state: str
) -> None:
    ours = await caller(durably, "ours", auth)
    theirs = await caller(durably, "theirs", auth)
    run = await theirs.trigger(TriggerRequest(job_name="work", input="x"))
    if state == "ended":
        await durably.cancel(run.id)
    before = await durably.get_run(run.id)
    act = OPERATIONS_OF_A_CALLER[operation]

    assert await status_of(act(ours, run.id)) == NOT_FOUND
    assert await status_of(act(ours, "unknown")) == NOT_FOUND
    assert await durably.get_runs() == [before]
    # It is the caller that makes the difference, not the state.
    with_conflicts = {"waiting": {"retry", "retrigger", "delete"}, "ended": {"signal", "cancel"}}[state]
    try:
        await act(theirs, run.id)
    except ConflictError:
        assert operation in with_conflicts
    else:
        assert operation not in with_conflicts


PERMISSIONS: dict[str, tuple[RunOperation, Callable[[Caller[User], str], Awaitable[object]]]] = {
    **{
        name: ("read" if name == "explain" else cast("RunOperation", name), act)
        for name, act in OPERATIONS_OF_A_CALLER.items()
    },
    "last logs": ("logs", lambda who, id: who.last_logs(id, limit=1)),
}


@pytest.mark.parametrize("verb", PERMISSIONS)
@pytest.mark.parametrize("state", ["waiting", "ended"])
async def test_each_verb_needs_the_permission_that_is_named_like_it(
    durably: Durably, verb: str, state: str
) -> None:
    operation, act = PERMISSIONS[verb]
    auth = AuthConfig(authenticate=by_header, on_run_access=lambda user, run, asked: asked != operation)
    who = await caller(durably, "ours", auth)
    run = await who.trigger(TriggerRequest(job_name="work", input="x"))
    if state == "ended":
        await durably.cancel(run.id)
    before = await durably.get_run(run.id)

    assert await status_of(act(who, run.id)) == (NOT_FOUND if operation == "read" else (403, "Forbidden"))
    assert await durably.get_runs() == [before]


@pytest.mark.parametrize(("is_scoped", "says", "sees"), [(True, True, 1), (False, False, 0), (True, None, 0)])
async def test_who_sees_the_workers_is_the_applications_to_say(
    durably: Durably, is_scoped: bool, says: bool | None, sees: int
) -> None:
    auth = AuthConfig(
        authenticate=by_header,
        scope_runs=own if is_scoped else None,
        sees_workers=None if says is None else lambda user: says,
    )
    await durably.start()
    assert len(await (await caller(durably, "ours", auth)).workers()) == sees


def readers(user: User, run: Run, operation: RunOperation) -> bool | None:
    return user.role == "editor" or operation == "read"


async def test_somebody_who_may_only_read_is_told_so(durably: Durably) -> None:
    auth = AuthConfig(authenticate=by_header, scope_runs=own, on_run_access=readers, trigger_labels=labels)
    run = await (await caller(durably, "ours", auth)).trigger(TriggerRequest(job_name="work", input="x"))
    reader = await caller(durably, "ours", auth, role="reader")
    foreign = await caller(durably, "theirs", auth, role="reader")

    assert (await reader.run(run.id)).id == run.id
    assert await status_of(reader.cancel(run.id)) == (403, "Forbidden")
    assert await status_of(foreign.cancel(run.id)) == NOT_FOUND
    assert (await durably.get_runs())[0].status == "pending"


async def test_trouble_in_a_hook_is_no_refusal(durably: Durably) -> None:
    def broken(user: User, run: Run, operation: RunOperation) -> None:
        raise HTTPException(503, "The directory is down")

    auth = AuthConfig(authenticate=by_header, on_run_access=broken)
    handle = durably.get_job("work")
    assert handle is not None
    run = await handle.trigger("x")
    assert await status_of((await caller(durably, "ours", auth)).run(run.id)) == (
        503,
        "The directory is down",
    )


# Lists


async def test_a_list_holds_what_is_there_for_its_caller(durably: Durably) -> None:
    ours, theirs = await caller(durably, "ours"), await caller(durably, "theirs")
    mine = await ours.trigger(TriggerRequest(job_name="work", input="x"))
    await theirs.trigger(TriggerRequest(job_name="work", input="x"))

    assert [run.id for run in await ours.runs(RunFilter())] == [mine.id]
    assert (await ours.count_by_status(RunFilter(), cap=10))["pending"].number == 1
    assert await ours.runs(RunFilter(labels={"org": "theirs"})) == []
    assert await ours.runs(RunFilter(status=("failed",))) == []
    update = await anext(await ours.subscribe_runs(RunFilter()))
    assert isinstance(update, RunsSnapshot)
    assert [run.id for run in update.runs] == [mine.id]


def forgetful(user: User, asked: RunFilter) -> RunFilter:
    return RunFilter(labels={"org": user.org})


def overwriting(user: User, asked: RunFilter) -> RunFilter:
    return RunFilter(labels={**asked.labels, "org": user.org})


@pytest.mark.parametrize("careless", [forgetful, overwriting])
async def test_a_scope_can_only_narrow(
    durably: Durably, careless: Callable[[User, RunFilter], RunFilter]
) -> None:
    auth = AuthConfig(authenticate=by_header, scope_runs=careless, trigger_labels=labels)
    ours = await caller(durably, "ours", auth)
    await ours.trigger(TriggerRequest(job_name="work", input="x"))

    assert len(await ours.runs(RunFilter(status=("pending",)))) == 1
    assert await ours.runs(RunFilter(status=("failed",))) == []
    assert await ours.runs(RunFilter(labels={"org": "theirs"})) == []


async def test_following_may_have_a_scope_of_its_own(durably: Durably) -> None:
    async def nothing(user: User, asked: RunFilter) -> RunFilter:
        return RunFilter(is_nothing=True)

    auth = AuthConfig(authenticate=by_header, scope_runs_subscribe=nothing)
    ours = await caller(durably, "ours", auth)
    await ours.trigger(TriggerRequest(job_name="work", input="x"))

    update = await anext(await ours.subscribe_runs(RunFilter()))
    assert isinstance(update, RunsSnapshot)
    assert (len(update.runs), len(await ours.runs(RunFilter()))) == (0, 1)


async def test_a_list_is_bounded(durably: Durably) -> None:
    handle = durably.get_job("work")
    assert handle is not None
    await handle.batch_trigger(["x"] * 201)
    ours = await caller(durably, "ours", AuthConfig(authenticate=by_header))
    assert len(await ours.runs(RunFilter(), limit=10_000)) == 200
    update = await anext(await ours.subscribe_runs(RunFilter(), limit=10_000))
    assert isinstance(update, RunsSnapshot)
    assert len(update.runs) == 200


# Triggering


async def test_a_trigger_gets_its_callers_labels(durably: Durably) -> None:
    ours = await caller(durably, "ours")
    run = await ours.trigger(TriggerRequest(job_name="work", input="x", labels={"kind": "k", "org": "ours"}))
    assert run.labels == {"kind": "k", "org": "ours"}

    foreign = TriggerRequest(job_name="work", input="x", labels={"org": "theirs"})
    assert (await status_of(ours.trigger(foreign)))[0] == 403
    unknown = TriggerRequest(job_name="nobody's", input="x")
    assert await status_of(ours.trigger(unknown)) == (404, "Job not found: nobody's")
    assert len(await durably.get_runs()) == 1


async def test_nobody_makes_a_run_that_they_could_not_see(durably: Durably) -> None:
    def scope(user: User, asked: RunFilter) -> RunFilter:
        return asked.and_labels(org=user.org).and_jobs("work")

    ours = await caller(durably, "ours", AuthConfig(authenticate=by_header, scope_runs=scope))
    for wanted in (
        TriggerRequest(job_name="work", input="x"),
        TriggerRequest(job_name="work", input="x", labels={"org": "theirs"}),
        TriggerRequest(job_name="plan", input={"at": 1}, labels={"org": "ours"}),
    ):
        assert (await status_of(ours.trigger(wanted)))[0] == 403
    assert await durably.get_runs() == []


async def test_a_hook_sees_each_trigger_and_retrigger_with_its_labels(durably: Durably) -> None:
    seen: list[TriggerRequest] = []

    async def note(user: User, wanted: TriggerRequest) -> None:
        seen.append(wanted)
        if wanted.input == "secret":
            raise HTTPException(403, "Not that")

    auth = AuthConfig(authenticate=by_header, on_trigger=note, scope_runs=own, trigger_labels=labels)
    ours = await caller(durably, "ours", auth)
    run = await ours.trigger(TriggerRequest(job_name="work", input="x", concurrency_key="k"))
    await durably.cancel(run.id)
    assert (await ours.retrigger(run.id)).labels == {"org": "ours"}
    again = TriggerRequest(job_name="work", input="x", concurrency_key="k", labels={"org": "ours"})
    assert seen == [again, again]

    handle = durably.get_job("work")
    assert handle is not None
    other = await handle.trigger("secret", labels={"org": "ours"})
    await durably.cancel(other.id)
    assert await status_of(ours.retrigger(other.id)) == (403, "Not that")


@pytest.mark.parametrize("auth", [TENANTS, HOOKED], ids=["scope", "hook"])
async def test_a_key_does_not_hand_over_another_tenants_run(durably: Durably, auth: AuthConfig[User]) -> None:
    ours, theirs = await caller(durably, "ours", auth), await caller(durably, "theirs", auth)
    wanted = TriggerRequest(
        job_name="work", input="x", idempotency_key="same", concurrency_key="key", coalesce="skip"
    )
    run = await theirs.trigger(wanted)
    assert (await theirs.trigger(wanted)).id == run.id

    taken = (409, "This key is in use already")
    assert await status_of(ours.trigger(wanted)) == taken
    ways: tuple[Coalesce, ...] = ("skip", "reject")
    for coalesce in ways:
        joining = TriggerRequest(job_name="work", input="x", concurrency_key="key", coalesce=coalesce)
        assert await status_of(ours.trigger(joining)) == taken
    taking_over = TriggerRequest(job_name="work", input="x", concurrency_key="key", coalesce="replace")
    assert (await status_of(ours.trigger(taking_over)))[0] == 403
    assert (await durably.get_runs())[0].status == "pending"
    with pytest.raises(ConflictError, match=run.id):
        await theirs.trigger(
            TriggerRequest(job_name="work", input="x", concurrency_key="key", coalesce="reject")
        )


async def test_an_input_is_checked_as_json(durably: Durably) -> None:
    ours = await caller(durably, "ours")
    run = await ours.trigger(TriggerRequest(job_name="plan", input={"at": 3}))
    assert run.input == Day(at=3)
    with pytest.raises(ValidationError) as refusal:
        await ours.trigger(TriggerRequest(job_name="plan", input={"at": "soon"}))
    assert refusal.value.fields == ("at",)


# Around it


def told(entries: list[AuditEntry[User]]) -> list[tuple[str, str, str, str, str | None]]:
    return [
        (one.ctx.org, one.action, one.outcome, one.job_name, None if one.run is None else one.run.id)
        for one in entries
    ]


async def test_every_change_is_told_with_who_made_it(durably: Durably) -> None:
    entries: list[AuditEntry[User]] = []

    async def audit(entry: AuditEntry[User]) -> None:
        entries.append(entry)

    ours = await Gate(durably, TENANTS, audit=audit).admit(request(headers={"org": "ours"}))
    run = await ours.trigger(TriggerRequest(job_name="work", input="x"))
    await ours.signal(run.id, "approved")
    await ours.cancel(run.id)
    await ours.retry(run.id)
    await ours.cancel(run.id)
    new = await ours.retrigger(run.id)
    await ours.delete_run(run.id)
    await ours.runs(RunFilter())
    assert await status_of(ours.cancel(run.id)) == NOT_FOUND

    changes = ["trigger", "signal", "cancel", "retry", "cancel", "retrigger", "delete"]
    assert told(entries) == [
        ("ours", action, "done", "work", new.id if action == "retrigger" else run.id) for action in changes
    ]
    # As it was before.
    assert [one.run.status for one in entries if one.run is not None and one.action == "delete"] == [
        "cancelled"
    ]


async def test_what_is_refused_or_cannot_be_done_is_told(durably: Durably) -> None:
    entries: list[AuditEntry[User]] = []

    def not_secret(user: User, wanted: TriggerRequest) -> bool:
        return wanted.input != "secret"

    auth = AuthConfig(
        authenticate=by_header,
        scope_runs=own,
        on_run_access=readers,
        on_trigger=not_secret,
        trigger_labels=labels,
    )
    gate = Gate(durably, auth, audit=entries.append)
    ours = await gate.admit(request(headers={"org": "ours"}))
    reader = await gate.admit(request(headers={"org": "ours", "role": "reader"}))
    theirs = await gate.admit(request(headers={"org": "theirs"}))
    run = await ours.trigger(TriggerRequest(job_name="work", input="x", concurrency_key="k"))
    entries.clear()

    assert (await status_of(reader.cancel(run.id)))[0] == 403
    assert (await status_of(reader.run(run.id, "delete")))[0] == 403
    assert (await status_of(reader.logs(run.id)))[0] == 403  # nothing would change
    assert (await status_of(theirs.cancel(run.id)))[0] == 404
    assert (await status_of(ours.trigger(TriggerRequest(job_name="work", input="secret"))))[0] == 403
    with pytest.raises(ConflictError):
        await ours.retry(run.id)
    with pytest.raises(ConflictError):
        await ours.retrigger(run.id)
    joining = TriggerRequest(job_name="work", input="x", concurrency_key="k", coalesce="reject")
    with pytest.raises(ConflictError):
        await ours.trigger(joining)
    assert (await status_of(theirs.trigger(joining)))[0] == 409
    assert told(entries) == [
        ("ours", "cancel", "refused", "work", run.id),
        ("ours", "delete", "refused", "work", run.id),
        ("ours", "trigger", "refused", "work", None),
        ("ours", "retry", "conflict", "work", run.id),
        ("ours", "retrigger", "conflict", "work", run.id),
        ("ours", "trigger", "conflict", "work", None),
        ("theirs", "trigger", "conflict", "work", None),
    ]


async def test_an_audit_that_breaks_changes_no_answer(
    durably: Durably, caplog: pytest.LogCaptureFixture
) -> None:
    async def audit(entry: AuditEntry[User]) -> None:
        raise OSError("the disk is full")

    ours = await Gate(durably, TENANTS, audit=audit).admit(request(headers={"org": "ours"}))
    run = await ours.trigger(TriggerRequest(job_name="work", input="x"))
    assert (await ours.cancel(run.id)).status == "cancelled"
    with pytest.raises(ConflictError):
        await ours.cancel(run.id)
    said = [record.getMessage() for record in caplog.records if record.name == "durably.web"]
    assert said == [
        f"audit failed: {action} of job work, run {run.id}: {outcome}"
        for action, outcome in (("trigger", "done"), ("cancel", "done"), ("cancel", "conflict"))
    ]


async def test_buttons_are_offered_as_the_application_says(durably: Durably) -> None:
    run = await (await caller(durably, "ours")).trigger(TriggerRequest(job_name="work", input="x"))
    assert await (await caller(durably, "ours")).allowed(run) == set(OPERATIONS)

    auth = AuthConfig(authenticate=by_header, allowed=lambda user, run: ["read", "retry"])
    assert await (await caller(durably, "ours", auth)).allowed(run) == {"read", "retry"}


async def test_a_list_that_is_followed_begins_with_what_may_be_seen(durably: Durably) -> None:
    def hide(user: User, payload: Payload) -> None:
        return None

    who = await caller(durably, "ours", AuthConfig(authenticate=by_header, redact=hide))
    await who.trigger(TriggerRequest(job_name="work", input="secret"))
    update = await anext(await who.subscribe_runs(RunFilter()))
    assert isinstance(update, RunsSnapshot)
    assert [run.input_json for run in update.runs] == ['"[hidden]"']


async def test_a_subscription_tells_of_the_run(durably: Durably) -> None:
    ours = await caller(durably, "ours")
    run = await ours.trigger(TriggerRequest(job_name="work", input="x"))
    await durably.cancel(run.id)
    updates: list[RunUpdate] = [update async for update in await ours.subscribe(run.id)]
    assert len(updates) == 1
    assert [update async for update in await ours.subscribe(run.id, after=updates[0].cursor)] == []
