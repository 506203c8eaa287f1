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
from durably.filters import RunFilter
from durably.models import LogEntry, Step
from durably.stores.sqlite import watching
from durably.stores.sqlite.reads import list_logs
from durably.stores.values import Notes
from durably.stores.watching import Seen, Tail
from tests.core.stores.conftest import OpenAnother
from tests.core.stores.stage import BROKEN, LEASE, STATES, HandClock, Stage, bring_to


async def why(stage: Stage, id: str = "it") -> Explanation:
    facts = await stage.store.facts(id)
    assert facts is not None
    return explain(facts, lease_seconds=LEASE)


def at(clock: HandClock) -> datetime:
    return datetime.fromtimestamp(clock.wall, UTC)


# News


@pytest.mark.parametrize("state", STATES)
async def test_the_end_of_a_run_and_its_absence_are_news_to_everybody(stage: Stage, state: str) -> None:
    await bring_to(stage, state)
    seen = Seen("it")
    is_over = state in {"missing", "completed", "failed", "cancelled", "cancelled, body alive"}
    assert list(await stage.store.news([seen])) == ([seen] if is_over else [])


async def test_a_change_a_step_and_a_line_are_news_to_those_who_have_not_seen_them(stage: Stage) -> None:
    await stage.trigger("it")
    await stage.trigger("other")
    lease = (await stage.take_all())["it"]
    known = Seen("it", (await stage.run("it")).change, 0)
    assert list(await stage.store.news([known])) == []
    await stage.store.note(lease, Notes(logs=[stage.line(sequence=1)]))
    assert list(await stage.store.news([known])) == [known]
    known = Seen("it", known.change, 1)
    assert list(await stage.store.news([known])) == []
    await stage.save(lease, stage.step(sequence=2))
    assert list(await stage.store.news([known])) == [known]
    known = Seen("it", known.change, 2)
    assert list(await stage.store.news([known])) == []
    await stage.store.release([lease])
    assert list(await stage.store.news([known, Seen("it")])) == [known]


async def test_any_change_of_any_run_is_news_to_those_who_watch_all(stage: Stage) -> None:
    change = (await stage.trigger("it")).change
    assert list(await stage.store.news([Seen(None, change)])) == []
    await stage.trigger("other")
    assert list(await stage.store.news([Seen(None, change)])) == [Seen(None, change)]


# Following


async def follow(stage: Stage, *, change: int = 0, after: int = 0, limit: int = 100) -> Tail:
    tail = await stage.store.follow("it", change=change, after=after, limit=limit)
    assert tail is not None
    return tail


def numbers(tail: Tail) -> list[tuple[str, int]]:
    return [("step" if isinstance(entry, Step) else "line", entry.sequence) for entry in tail.entries]


async def test_the_tail_holds_steps_and_lines_in_the_order_of_their_numbers(stage: Stage) -> None:
    await stage.trigger("it")
    lease = (await stage.take()).lease
    for number in (2, 5):
        await stage.store.note(lease, Notes(logs=[stage.line(sequence=number)]))
    for number in (3, 9):
        await stage.save(lease, stage.step(f"step-{number}", sequence=number))
    whole = [("line", 2), ("step", 3), ("line", 5), ("step", 9)]
    tail = await follow(stage)
    assert (numbers(tail), tail.is_whole) == (whole, True)
    for limit in (1, 2, 3, 4):
        tail = await follow(stage, limit=limit)
        assert (numbers(tail), tail.is_whole) == (whole[:limit], limit == 4)
    assert numbers(await follow(stage, after=3, limit=1)) == [("line", 5)]
    assert numbers(await follow(stage, after=9)) == []
    # Only how far it goes.
    end = await stage.store.follow("it", change=0, after=None, limit=100)
    assert end is not None
    assert (numbers(end), end.sequence, end.is_whole) == ([], 9, True)


async def test_the_run_comes_with_the_tail_only_when_it_has_changed(stage: Stage) -> None:
    await stage.trigger("it")
    first = (await follow(stage)).run
    assert first is not None
    assert (await follow(stage, change=first.change)).run is None
    await stage.finish((await stage.take()).lease)
    last = await follow(stage, change=first.change)
    assert last.run is not None
    assert (last.run.status, last.is_terminal) == ("completed", True)
    assert (await follow(stage, change=last.run.change)).is_terminal
    assert await stage.store.follow("missing", change=0, after=0, limit=1) is None
    assert await stage.store.follow("missing", change=0, after=None, limit=1) is None


async def test_a_number_is_never_given_twice_even_if_a_retry_drops_the_last_step(stage: Stage) -> None:
    await stage.trigger("it")
    lease = (await stage.take()).lease
    await stage.store.note(lease, Notes(logs=[stage.line(sequence=3)]))
    await stage.save(lease, stage.step("bad", "failed", sequence=7, error=BROKEN.error))
    await stage.finish(lease, BROKEN)
    await stage.store.retry("it", token="t")
    assert (await stage.take()).last_sequence == 7


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


# Surveying


async def test_a_survey_goes_on_where_the_last_one_ended(stage: Stage) -> None:
    for number in range(5):
        await stage.trigger(f"run-{number}", job_name="odd" if number % 2 else "even")
    filter = RunFilter(job_name=("odd",))
    first = await stage.store.survey(filter, after=None, limit=10)
    assert ([run.id for run in first.runs], first.is_present) == (["run-3", "run-1"], True)
    await stage.store.cancel("run-0", token="t")
    nothing = await stage.store.survey(filter, after=first.change, limit=10)
    assert (list(nothing.runs), nothing.is_present, nothing.change > first.change) == ([], False, True)
    for id in ("run-3", "run-2", "run-1"):
        await stage.store.cancel(id, token="t")
    told: list[str] = []
    cursor = nothing.change
    while (page := await stage.store.survey(filter, after=cursor, limit=1)).runs:
        told += [run.id for run in page.runs]
        cursor = page.change
    assert told == ["run-3", "run-1"]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (RunFilter(), ["a", "b", "c"]),
        (RunFilter(job_name=("x",)), ["a", "b"]),
        (RunFilter(status=("cancelled",)), ["b"]),
        (RunFilter(labels={"k": "v"}), ["b", "c"]),
        (RunFilter(labels={"k": "v", "l": "w"}), ["c"]),
        (RunFilter(labels={"k": "v", "l": "w"}, job_name=("x",)), []),
        (RunFilter(job_name=("y", "z"), status=("pending", "failed")), ["c"]),
    ],
)
async def test_a_survey_tells_what_the_filter_asks_for(
    stage: Stage, filter: RunFilter, expected: list[str]
) -> None:
    await stage.trigger("a", job_name="x")
    await stage.trigger("b", job_name="x", labels={"k": "v"})
    await stage.trigger("c", job_name="y", labels={"k": "v", "l": "w"})
    await stage.store.cancel("b", token="t")
    changed = await stage.store.survey(filter, after=0, limit=10)
    assert sorted(run.id for run in changed.runs) == expected
    assert [run.change for run in changed.runs] == sorted(run.change for run in changed.runs)
    present = await stage.store.survey(filter, after=None, limit=10)
    assert sorted(run.id for run in present.runs) == expected


async def test_a_cursor_that_this_store_has_not_reached_begins_anew(stage: Stage) -> None:
    # As after a backup was put back.
    await stage.trigger("it")
    survey = await stage.store.survey(RunFilter(), after=10_000, limit=10)
    assert ([run.id for run in survey.runs], survey.is_present) == (["it"], True)


# Explaining


async def test_a_run_without_any_worker_says_so(stage: Stage) -> None:
    await stage.trigger("it")
    assert await why(stage) == NoWorkerAlive(last_heard_at=None)
    await stage.introduce("w1")
    heard = at(stage.clock)
    assert isinstance(await why(stage), AboutToStart)
    stage.clock.advance(LEASE)
    answer = await why(stage)
    assert answer == NoWorkerAlive(last_heard_at=heard)
    assert str(answer) == f"no worker is alive; the last was heard from at {heard.isoformat(sep=' ')}"


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
        "running on worker w1 (process 1 on here), in step 'parse'; its lease lasts until "
        f"{until.isoformat(sep=' ')}"
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
    assert str(answer) == f"scheduled for {instant.isoformat(sep=' ')}"


async def test_a_run_behind_a_key_names_the_holder_and_its_place(stage: Stage) -> None:
    def keyed(position: int, status: str, since: datetime) -> str:
        return (
            f"behind concurrency key 'k', held by run holder ({status}) since "
            f"{since.isoformat(sep=' ')}; place {position} in the queue"
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
    assert str(answer) == f"failed at {now.isoformat(sep=' ')}: ValueError: no"


async def test_facts_of_a_missing_run_are_none(stage: Stage) -> None:
    assert await stage.store.facts("missing") is None


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
