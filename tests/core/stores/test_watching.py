"""What is new to those who watch, and why a run is not executed, by a clock in the test's hand."""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durably.explain import (
    AboutToStart,
    BehindKey,
    BesideSuspect,
    BodyEnding,
    Ended,
    Explanation,
    NoFreeSlot,
    NoWorkerAlive,
    NoWorkerKnowsJob,
    Running,
    ScheduledFor,
    explain,
)
from durably.models import LogEntry, Step
from durably.stores.sqlite import watching
from durably.stores.sqlite.reads import list_logs
from durably.stores.values import Notes
from durably_testing.conformance.watching import follow
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import BROKEN, LEASE, HandClock, Stage


async def why(stage: Stage, id: str = "it") -> Explanation:
    facts = await stage.store.facts(id)
    assert facts is not None
    return explain(facts, lease_seconds=LEASE)


def at(clock: HandClock) -> datetime:
    return datetime.fromtimestamp(clock.wall, UTC)


def stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


async def test_a_look_sees_the_run_and_its_tail_as_of_one_moment(
    another: OpenAnother, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await another()
    await stage.trigger("it")
    lease = (await stage.take()).lease
    await stage.store.note(lease, Notes(logs=[stage.line(sequence=1)]))

    def somebody_cancels_first(*args: Any, **options: Any) -> Sequence[LogEntry]:
        with contextlib.closing(sqlite3.connect(file)) as other, other:
            other.execute("UPDATE durably_runs SET status = 'cancelled', change = 99")
        return list_logs(*args, **options)

    monkeypatch.setattr(watching, "list_logs", somebody_cancels_first)
    tail = await follow(stage)
    assert tail.run is not None
    assert (tail.is_terminal, tail.run.status) == (False, "running")
    later = await follow(stage, change=tail.run.change, after=1)
    assert later.run is not None
    assert (later.is_terminal, later.run.status) == (True, "cancelled")


async def test_a_run_without_any_worker_says_so(stage: Stage) -> None:
    await stage.trigger("it")
    assert await why(stage) == NoWorkerAlive(last_heard_at=None)
    await stage.introduce("w1")
    heard = at(stage.clock)
    assert isinstance(await why(stage), AboutToStart)
    stage.clock.advance(LEASE)
    answer = await why(stage)
    assert answer == NoWorkerAlive(last_heard_at=heard)
    assert str(answer) == f"no worker is alive; the last was heard from at {stamp(heard)}"


async def test_a_run_of_an_unknown_job_names_what_is_known(stage: Stage) -> None:
    await stage.introduce("w1")
    await stage.trigger("it", job_name="other")
    answer = await why(stage)
    assert isinstance(answer, NoWorkerKnowsJob)
    assert ([worker.id for worker in answer.workers], answer.job_name) == (["w1"], "other")
    assert str(answer) == "no live worker knows the job 'other'; worker w1 (process 1 on here) know job"


async def test_a_run_that_finds_all_slots_taken_names_the_workers(stage: Stage) -> None:
    await stage.introduce("w1", slots=1)
    await stage.trigger("first")
    await stage.take("w1")
    await stage.trigger("it")
    answer = await why(stage)
    assert isinstance(answer, NoFreeSlot)
    assert [worker.id for worker in answer.workers] == ["w1"]
    assert str(answer) == "no free slot: 1 of 1 taken on worker w1 (process 1 on here)"
    await stage.introduce("w2", slots=1)
    answer = await why(stage)
    assert isinstance(answer, AboutToStart)
    assert [worker.id for worker in answer.workers] == ["w2"]
    assert str(answer) == "about to start: worker w2 (process 1 on here) can take it at the next look"


async def test_a_running_run_names_its_worker_its_step_and_its_leases_end(stage: Stage) -> None:
    await stage.introduce("w1")
    await stage.trigger("it")
    lease = (await stage.take("w1")).lease
    await stage.save(lease, stage.step("done", sequence=1))
    await stage.store.note(lease, Notes(started=[stage.step("parse", "running", sequence=2, position=2)]))
    answer = await why(stage)
    until = at(stage.clock) + timedelta(seconds=LEASE)
    assert isinstance(answer, Running)
    assert (answer.worker_id, answer.until, answer.steps) == ("w1", until, ("parse",))
    assert answer.worker is not None
    assert str(answer) == (
        f"running on worker w1 (process 1 on here), in step 'parse'; its lease lasts until {stamp(until)}"
    )


async def test_a_run_whose_worker_fell_silent_waits_for_another_one(stage: Stage) -> None:
    await stage.introduce("w1")
    await stage.trigger("it")
    await stage.take("w1")
    await stage.crash()
    assert isinstance(await why(stage), NoWorkerAlive)
    await stage.introduce("w2")
    assert isinstance(await why(stage), AboutToStart)


async def test_a_scheduled_run_tells_its_instant_whether_or_not_it_has_a_key(stage: Stage) -> None:
    instant = at(stage.clock) + timedelta(seconds=1000)
    await stage.trigger("holder", concurrency_key="k", key_scope="job")
    await stage.take()
    await stage.trigger("it", concurrency_key="k", key_scope="job", delay=1000)
    answer = await why(stage)
    assert answer == ScheduledFor(instant=instant)
    assert str(answer) == f"scheduled for {stamp(instant)}"


async def test_a_run_behind_a_key_names_the_holder_and_its_place(stage: Stage) -> None:
    def keyed(position: int, status: str, since: datetime) -> str:
        return (
            f"behind concurrency key 'k', held by run holder ({status}) since "
            f"{stamp(since)}; place {position} in the queue"
        )

    await stage.introduce("w1")
    triggered = at(stage.clock)
    await stage.trigger_keyed("holder", "second", "third")
    assert isinstance(await why(stage, "holder"), AboutToStart)
    answer = await why(stage, "second")
    assert isinstance(answer, BehindKey)
    assert (answer.holder_id, answer.holder_status, answer.since) == ("holder", "pending", triggered)
    begun = at(stage.clock)
    [claim] = (await stage.ask("w1")).claims
    for position, id in enumerate(("second", "third"), start=1):
        answer = await why(stage, id)
        assert answer == BehindKey(
            key="k", holder_id="holder", holder_status="running", since=begun, position=position
        )
        assert str(answer) == keyed(position, "running", begun)
    # Handed back it keeps the key, and is no part of the queue.
    await stage.store.release([claim.lease])
    answer = await why(stage, "third")
    assert isinstance(answer, BehindKey)
    assert (answer.holder_status, answer.position) == ("pending", 2)
    assert isinstance(await why(stage, "holder"), AboutToStart)
    # A cancelled body keeps the key until it has ended.
    await stage.take("w1")
    await stage.store.cancel("holder", token="t")
    answer = await why(stage, "second")
    assert isinstance(answer, BehindKey)
    assert (answer.holder_id, answer.holder_status) == ("holder", "cancelled")


async def test_a_run_sent_back_while_its_body_still_ends_waits_for_that(stage: Stage) -> None:
    await stage.introduce("w1")
    await stage.trigger("it")
    until = at(stage.clock) + timedelta(seconds=LEASE)
    lease = (await stage.take("w1")).lease
    await stage.store.cancel("it", token="a")
    await stage.store.retry("it", token="b")
    answer = await why(stage)
    assert answer == BodyEnding(worker_id="w1", until=until)
    assert "cancelled body" in str(answer)
    await stage.store.release([lease])
    assert isinstance(await why(stage), AboutToStart)


async def test_a_run_whose_workers_execute_a_suspect_alone_says_so(stage: Stage) -> None:
    await stage.trigger("suspect")
    for worker in ("w0", "w1"):
        await stage.take(worker)
        await stage.crash(worker)
    await stage.introduce("w2")
    claim = await stage.take("w2")
    assert claim.suspect
    await stage.trigger("it")
    answer = await why(stage)
    assert isinstance(answer, BesideSuspect)
    assert ([worker.id for worker in answer.workers], answer.runs) == (["w2"], ("suspect",))
    assert "run suspect" in str(answer)
    # Once it has made a checkpoint it is like any other.
    await stage.save(claim.lease)
    assert isinstance(await why(stage), AboutToStart)


async def test_a_run_that_has_ended_tells_how(stage: Stage) -> None:
    await stage.trigger("it")
    lease = (await stage.take()).lease
    await stage.finish(lease, BROKEN)
    now = at(stage.clock)
    answer = await why(stage)
    assert answer == Ended(status="failed", ended_at=now, error=BROKEN.error)
    assert str(answer) == f"failed at {stamp(now)}: ValueError: no"


async def test_the_entries_of_a_tail_are_what_lists_show(stage: Stage) -> None:
    await stage.trigger("it")
    lease = (await stage.take()).lease
    await stage.save(lease, stage.step(sequence=2), Notes(logs=[stage.line(sequence=1)]))
    entries = (await follow(stage)).entries
    assert [entry for entry in entries if isinstance(entry, Step)] == list(
        await stage.store.list_steps("it", after=0)
    )
    assert [entry for entry in entries if isinstance(entry, LogEntry)] == list(
        await stage.store.list_logs("it", after=0, limit=None)
    )
