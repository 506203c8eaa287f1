"""Triggering, looking, ending, sending back, removing, waiting."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, Field

from durably import (
    BatchItem,
    ConflictError,
    Durably,
    JobHandle,
    JobNotFoundError,
    PayloadTooLargeError,
    Run,
    RunCancelledError,
    RunFailedError,
    RunNotFoundError,
    StepContext,
    StoredValueError,
    ValidationError,
    WaitTimeoutError,
    define_job,
)
from tests.core.unchecked import unchecked


class Mail(BaseModel):
    to: str = Field(default="ann@example.org", pattern="@")
    copies: int = 1


class Sent(BaseModel):
    to: str


async def send(step: StepContext, input: Mail) -> Sent:
    """Send mail."""
    if input.copies < 0:
        raise ValueError("no such thing")
    return await step.run("send", lambda: Sent(to=input.to), result=Sent)


SEND = define_job(name="send", input=Mail, output=Sent, run=send)


@pytest.fixture
def mail(durably: Durably) -> JobHandle[Mail, Sent]:
    return durably.register(SEND)


# Triggering


async def test_a_new_run_is_pending_and_says_created(mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(Mail(copies=3), labels={"app.kubernetes.io/name": "post"}, priority=2)
    assert (run.status, run.disposition, run.priority) == ("pending", "created", 2)
    assert run.input == Mail(copies=3)
    assert run.labels == {"app.kubernetes.io/name": "post"}
    assert run.created_at.utcoffset() == timedelta(0)
    assert run.completed_step_count == 0
    assert "example.org" not in repr(run)


async def test_an_idempotency_key_answers_the_first_run(mail: JobHandle[Mail, Sent]) -> None:
    runs = await asyncio.gather(*(mail.trigger(Mail(copies=n), idempotency_key="one") for n in range(20)))
    assert len({run.id for run in runs}) == 1
    assert sorted(run.disposition or "" for run in runs) == ["created"] + ["idempotent"] * 19
    assert len({run.input.copies for run in runs}) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"concurrency_key": ""}, "concurrency_key"),
        ({"idempotency_key": "x" * 513}, "idempotency_key"),
        ({"idempotency_key": "\ud800"}, "idempotency_key"),
        ({"idempotency_key": 7}, "idempotency_key"),
        ({"labels": {"two words": "x"}}, "labels"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"priority": 1.5}, "priority"),
        ({"priority": 10**9}, "priority"),
        ({"delay": -1}, "delay"),
        ({"delay": "soon"}, "delay"),
        ({"delay": float("inf")}, "delay"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),  # noqa: DTZ001 - that is the point
        ({"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "delay"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_options_that_cannot_be_used_are_refused_and_nothing_is_stored(
    durably: Durably, mail: JobHandle[Mail, Sent], options: dict[str, object], field: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        await unchecked(mail.trigger)(Mail(), **options)
    assert field in caught.value.fields
    assert await durably.get_runs() == []


async def test_an_input_that_does_not_fit_names_its_field_and_is_not_stored(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    wrong: object = {"to": "hidden-value", "copies": 1}
    with pytest.raises(ValidationError, match="'send'") as caught:
        await unchecked(mail.trigger)(wrong)
    assert caught.value.fields == ("to",)
    assert "hidden-value" not in str(caught.value)
    assert await durably.get_runs() == []


async def test_an_input_that_is_too_large_is_refused(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    with pytest.raises(PayloadTooLargeError, match="1048576"):
        await mail.trigger(Mail(to="@" + "x" * 1_048_576))
    assert await durably.get_runs() == []


async def test_a_batch_is_stored_whole_or_not_at_all(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    bad: object = {"copies": "many"}
    with pytest.raises(ValidationError):
        await unchecked(mail.batch_trigger)([Mail(), bad])
    assert await durably.get_runs() == []
    assert await mail.batch_trigger([]) == []

    runs = await mail.batch_trigger(
        [Mail(copies=1), BatchItem(Mail(copies=2), {"idempotency_key": "b"}), Mail(copies=3)],
        labels={"batch": "1"},
    )
    assert [run.input.copies for run in runs] == [1, 2, 3]
    assert [run.idempotency_key for run in runs] == [None, "b", None]
    assert {run.labels["batch"] for run in runs} == {"1"}
    assert [run.position for run in runs] == sorted(run.position for run in runs)


async def test_a_delay_is_kept_as_an_instant(mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(Mail(), delay=timedelta(hours=1))
    assert run.due_at is not None
    assert timedelta(minutes=59) < run.due_at - run.created_at < timedelta(minutes=61)
    moment = datetime(2040, 1, 1, tzinfo=UTC)
    assert (await mail.trigger(Mail(), run_at=moment)).due_at == moment


# Looking


async def test_listing_is_newest_first_and_pages_by_position(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    runs = await mail.batch_trigger([Mail(copies=n) for n in range(7)])
    newest = [run.id for run in reversed(runs)]

    assert [run.id for run in await durably.get_runs()] == newest
    assert [run.id for run in await durably.get_runs(limit=2, offset=1)] == newest[1:3]
    assert [run.id for run in await durably.get_runs(offset=5)] == newest[5:]
    assert await durably.get_runs(offset=100) == []
    page = await durably.get_runs(limit=3)
    after = await durably.get_runs(limit=3, before=page[-1].position)
    assert [run.id for run in page + after] == newest[:6]


async def test_filters_by_status_job_and_labels(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    other = durably.register(define_job(name="other", input=Mail, output=Sent, run=send))
    one = await mail.trigger(Mail(), labels={"tenant": "a", "kind.x/y": "1"})
    two = await mail.trigger(Mail(), labels={"tenant": "b", "kind.x/y": "1"})
    three = await other.trigger(Mail(), labels={"tenant": "a"})
    await durably.cancel(two.id)

    async def ids(**filters: object) -> list[str]:
        runs: list[Run] = await unchecked(durably.get_runs)(**filters)
        return [run.id for run in runs]

    assert await ids(status="cancelled") == [two.id]
    assert await ids(status=["cancelled", "pending"]) == [three.id, two.id, one.id]
    assert await ids(status=[], job_name=[]) == [three.id, two.id, one.id]
    assert await ids(job_name="other") == [three.id]
    assert await ids(job_name=["other", "send"]) == [three.id, two.id, one.id]
    assert await ids(labels={"tenant": "a"}) == [three.id, one.id]
    assert await ids(labels={"tenant": "a", "kind.x/y": "1"}) == [one.id]
    assert await ids(labels={"tenant": "a"}, job_name="send", status="pending") == [one.id]
    assert [run.id for run in await mail.get_runs(labels={"tenant": "a"})] == [one.id]
    assert await durably.count_runs(status="pending") == 2
    assert await durably.count_runs(cap=1) == 1
    with pytest.raises(ValidationError, match="there is no 'leased'"):
        await ids(status="leased")
    with pytest.raises(ValidationError, match="must not be negative"):
        await ids(limit=-1)


async def test_a_handle_does_not_see_other_jobs_runs(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    other = durably.register(define_job(name="other", input=Mail, output=Sent, run=send))
    run = await other.trigger(Mail())
    assert await mail.get_run(run.id) is None
    assert await other.get_run(run.id) is not None
    assert await durably.get_run("missing") is None


async def test_changes_are_read_by_their_cursor(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    one, two = await mail.batch_trigger([Mail(), Mail()])
    seen = await durably.get_changes(after=0)
    assert [run.id for run in seen] == [one.id, two.id]
    await durably.cancel(one.id)
    (changed,) = await durably.get_changes(after=seen[-1].change)
    assert (changed.id, changed.status) == (one.id, "cancelled")
    assert await durably.get_changes(after=changed.change) == []


async def test_output_as_reads_an_unknown_jobs_output(file_url: str, another: Callable[..., Durably]) -> None:
    knows, looks = another(), another(worker=False)
    await knows.init()
    await looks.init()
    handle = knows.register(SEND)
    result = await handle.trigger_and_wait(Mail(), timeout=5)
    run = await looks.get_run(result.id)
    assert run is not None
    assert run.output == {"to": "ann@example.org"}
    assert run.output_as(Sent) == result.output == Sent(to="ann@example.org")


async def test_an_output_that_no_longer_fits_says_so(
    another: Callable[..., Durably],
) -> None:
    class Newer(BaseModel):
        recipient: str

    async def newer(step: StepContext, input: Mail) -> Newer:
        raise NotImplementedError

    old, new = another(), another(worker=False)
    await old.init()
    await new.init()
    result = await old.register(SEND).trigger_and_wait(Mail(), timeout=5)
    new.register(define_job(name="send", input=Mail, output=Newer, run=newer))
    run = await new.get_run(result.id)
    assert run is not None
    with pytest.raises(StoredValueError, match="recipient"):
        _ = run.output


# Ending, sending back, removing


async def test_a_pending_run_is_cancelled_for_good(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(Mail())
    assert (await durably.cancel(run.id)).status == "cancelled"
    assert not await durably.process_one()
    with pytest.raises(ConflictError, match="cannot cancel cancelled run") as caught:
        await durably.cancel(run.id)
    assert (caught.value.run_id, caught.value.status) == (run.id, "cancelled")


async def test_verbs_refuse_what_is_not_there_or_not_ready(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    run = await mail.trigger(Mail())
    for verb in (durably.cancel, durably.retry, durably.retrigger, durably.delete_run):
        with pytest.raises(RunNotFoundError, match="missing"):
            await verb("missing")
    for verb in (durably.retry, durably.retrigger, durably.delete_run):
        with pytest.raises(ConflictError, match="pending"):
            await verb(run.id)
    await durably.process_one()
    for verb in (durably.cancel, durably.retry):
        with pytest.raises(ConflictError, match="completed"):
            await verb(run.id)


async def test_retry_of_a_cancelled_run_goes_on(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(Mail())
    await durably.cancel(run.id)
    again = await durably.retry(run.id)
    assert (again.id, again.status, again.completed_at) == (run.id, "pending", None)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == Sent(to="ann@example.org")


async def test_retrigger_makes_a_fresh_run(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(
        Mail(copies=2),
        labels={"a": "b"},
        concurrency_key="k",
        idempotency_key="i",
        priority=3,
    )
    await durably.process_one()
    fresh = await durably.retrigger(run.id)
    assert fresh.id != run.id
    assert (fresh.status, fresh.disposition) == ("pending", "created")
    assert (fresh.input, fresh.labels) == (Mail(copies=2), {"a": "b"})
    assert (fresh.concurrency_key, fresh.priority) == ("k", 3)
    assert fresh.idempotency_key is None


async def test_retrigger_needs_the_job_and_an_input_that_fits(
    another: Callable[..., Durably],
) -> None:
    class Stricter(BaseModel):
        to: str
        subject: str

    async def stricter(step: StepContext, input: Stricter) -> None: ...

    old, new = another(), another(worker=False)
    await old.init()
    await new.init()
    result = await old.register(SEND).trigger_and_wait(Mail(), timeout=5)
    with pytest.raises(JobNotFoundError, match="'send'"):
        await new.retrigger(result.id)
    new.register(define_job(name="send", input=Stricter, run=stricter))
    with pytest.raises(ValidationError, match="cannot retrigger"):
        await new.retrigger(result.id)


async def test_delete_removes_the_run_and_all_it_had(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    run = await mail.trigger(Mail(), labels={"a": "b"})
    await durably.process_one()
    await durably.delete_run(run.id)
    assert await durably.get_run(run.id) is None
    assert await durably.get_steps(run.id) == []
    assert await durably.get_runs(labels={"a": "b"}) == []


async def test_purge_removes_old_ended_runs_in_bounded_batches(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    ended = await mail.batch_trigger([Mail()] * 3)
    await durably.process_until_idle()
    kept = await mail.trigger(Mail())
    assert await durably.purge_runs(older_than=3600) == 0
    assert await durably.purge_runs(older_than=0.0001, limit=2) == 2
    assert await durably.purge_runs(older_than=0.0001) == 1
    assert [run.id for run in await durably.get_runs()] == [kept.id]
    assert len(ended) == 3
    with pytest.raises(ValidationError, match="older_than"):
        await durably.purge_runs(older_than=-1)


async def test_many_are_cancelled_and_retried_by_filter(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    await mail.batch_trigger([Mail(copies=n) for n in range(250)], labels={"wave": "1"})
    spared = await mail.trigger(Mail())
    assert await durably.cancel_runs(labels={"wave": "1"}) == 250
    assert await durably.cancel_runs(labels={"wave": "1"}) == 0
    assert await durably.retry_runs(labels={"wave": "1"}) == 0
    assert await durably.retry_runs(status="cancelled", labels={"wave": "1"}) == 250
    assert await durably.count_runs(status="pending") == 251
    assert (still := await durably.get_run(spared.id)) is not None
    assert still.status == "pending"


# Waiting


async def test_waiting_tells_how_the_run_ended(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    good, bad, gone = await mail.batch_trigger([Mail(), Mail(copies=-1), Mail()])
    waits = [asyncio.create_task(durably.wait_for_run(run.id)) for run in (good, bad, gone)]
    await asyncio.sleep(0)
    await durably.cancel(gone.id)
    await durably.process_until_idle()
    done, failed, cancelled = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(done, Run)
    assert done.output == Sent(to="ann@example.org")
    assert isinstance(failed, RunFailedError)
    assert (failed.error_type, failed.error_message) == ("ValueError", "no such thing")
    assert isinstance(cancelled, RunCancelledError)
    # And the same at once, now that they have ended.
    assert (await durably.wait_for_run(good.id)).status == "completed"
    with pytest.raises(RunFailedError):
        await durably.wait_for_run(bad.id)
    with pytest.raises(RunNotFoundError):
        await durably.wait_for_run("missing")


async def test_a_timeout_does_not_stop_the_run(durably: Durably, mail: JobHandle[Mail, Sent]) -> None:
    with pytest.raises(WaitTimeoutError, match=r"0\.01 s; it goes on") as caught:
        await mail.trigger_and_wait(Mail(), timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    await durably.process_one()
    assert (await durably.wait_for_run(caught.value.run_id)).status == "completed"
    with pytest.raises(ValidationError, match="timeout"):
        await durably.wait_for_run(caught.value.run_id, timeout=-1)


async def test_ends_in_another_process_are_noticed(another: Callable[..., Durably]) -> None:
    works, waits = another(), another(worker=False)
    await works.init()
    await waits.init()
    works.register(SEND)
    handle = waits.register(SEND)
    async with asyncio.timeout(5):
        assert (await handle.trigger_and_wait(Mail())).output == Sent(to="ann@example.org")
        with pytest.raises(RunFailedError, match="no such thing"):
            await handle.trigger_and_wait(Mail(copies=-1))
        await works.stop()
        run = await handle.trigger(Mail())
        waiting = asyncio.create_task(waits.wait_for_run(run.id))
        await asyncio.sleep(0.05)
        await works.cancel(run.id)
        with pytest.raises(RunCancelledError):
            await waiting
        run = await handle.trigger(Mail())
        waiting = asyncio.create_task(waits.wait_for_run(run.id))
        await asyncio.sleep(0.05)
        await works.cancel(run.id)
        await works.delete_run(run.id)
        with pytest.raises((RunNotFoundError, RunCancelledError)):
            await waiting


async def test_a_cancelled_waiter_leaves_nothing_behind(
    durably: Durably, mail: JobHandle[Mail, Sent]
) -> None:
    run = await mail.trigger(Mail())
    waiting = asyncio.create_task(durably.wait_for_run(run.id))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.01)
    assert [task.get_name() for task in asyncio.all_tasks()].count("durably:waiters") == 0
