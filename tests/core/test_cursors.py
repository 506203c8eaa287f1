"""Long steps that resume in their middle: what a body says of how far it has come, and who hears it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import assert_type

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    NotStorableError,
    PayloadTooLargeError,
    Retry,
    StepContext,
    StepError,
    StepOutsideRunError,
    StoredValueError,
    job,
)
from durably.journal import Journal
from durably.stores.values import ClaimRequest, Notes, StepRecord
from tests.core.test_keeper import store_of
from tests.core.test_leases import Clocks
from tests.core.test_waits import reach

AT_ONCE = Retry(3, delay=0)
IN_AN_HOUR = Retry(3, delay=3600, max_delay=3600, jitter=False)


class Mark(BaseModel):
    row: int
    file: str


class Import:
    """Five rows, one after the other; the row that is `broken` fails as often as is said."""

    def __init__(self, broken: int = 3, failures: int = 1) -> None:
        self.broken: int = broken
        self.failures: int = failures
        self.began_at: list[int | None] = []
        self.rows: list[int] = []

    def __call__(self, step: StepContext) -> int:
        begin = step.cursor(int)
        self.began_at.append(begin)
        for row in range(begin or 0, 5):
            if row == self.broken and self.failures > 0:
                self.failures -= 1
                raise OSError(f"no row {row}")
            self.rows.append(row)
            step.save_cursor(row + 1)
        return len(self.rows)

    async def later(self, step: StepContext) -> int:
        return self(step)


async def stored(durably: Durably, run_id: str, *wanted: object) -> None:
    """Wait until the cursors of the run's steps are these."""
    async with asyncio.timeout(5):
        while [step.cursor for step in await durably.get_steps(run_id)] != list(wanted):
            await asyncio.sleep(0.002)


# Who gets it


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_the_next_attempt_goes_on_where_the_last_one_was(durably: Durably, kind: str) -> None:
    load = Import(failures=2)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        if kind == "plain":
            return await step.run("load", load, step, retry=AT_ONCE)
        return await step.run("load", load.later, step, retry=AT_ONCE)

    run = await importer.trigger(0)
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert (done.output, load.rows, load.began_at) == (5, [0, 1, 2, 3, 4], [None, 3, 3])
    [step] = await durably.get_steps(run.id)
    assert (step.attempt, step.cursor) == (3, None)


async def test_it_survives_a_suspension_between_attempts(url: str) -> None:
    clocks = Clocks()
    load = Import()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def importer(step: StepContext, input: int) -> int:
            return await step.run("load", load, step, retry=IN_AN_HOUR)

        run = await importer.trigger(0)
        await durably.process_one()
        [step] = await durably.get_steps(run.id)
        assert ((await reach(durably, run.id, "waiting")).status, step.cursor) == ("waiting", 3)
        clocks.wall += 3601
        await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == 5
    assert (load.rows, load.began_at) == ([0, 1, 2, 3, 4], [None, 3])


async def test_it_survives_the_retry_of_the_failed_run(durably: Durably) -> None:
    load = Import(failures=2)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        await step.run("before", int)
        return await step.run("load", load, step, retry=Retry(2, delay=0))

    run = await importer.trigger(0)
    await durably.process_one()
    failed = await durably.get_run(run.id)
    assert failed is not None
    assert (failed.status, failed.error and failed.error.steps) == ("failed", ("load",))
    await durably.retry(run.id)
    [_, step] = await durably.get_steps(run.id)
    assert (step.status, step.attempt, step.cursor, step.error) == ("running", 0, 3, None)
    assert [one.number for one in step.attempts] == [1, 2]

    # A fresh budget: two failures more would end it, one does not.
    load.failures = 1
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    [_, step] = await durably.get_steps(run.id)
    assert (done.output, load.rows, load.began_at) == (5, [0, 1, 2, 3, 4], [None, 3, 3, 3])
    assert (step.status, step.attempt, step.position, step.cursor) == ("completed", 2, 2, None)
    assert [one.number for one in step.attempts] == [1, 2, 1]


async def test_a_step_without_a_cursor_is_dropped_by_a_retry_as_ever(durably: Durably) -> None:
    load = Import(broken=0)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        return await step.run("load", load, step)

    run = await importer.trigger(0)
    await durably.process_one()
    await durably.retry(run.id)
    assert await durably.get_steps(run.id) == []


async def test_it_survives_the_next_attempt_at_the_job(durably: Durably) -> None:
    load = Import()

    @durably.job(retry=AT_ONCE)
    async def importer(step: StepContext, input: int) -> int:
        return await step.run("load", load, step)

    run = await importer.trigger(0)
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.attempt, load.began_at) == (5, 2, [None, 3])


async def test_it_survives_a_stop_however_shortly_it_was_saved_before(file_url: str) -> None:
    began_at: list[int | None] = []
    saved = asyncio.Event()

    @job
    async def importer(step: StepContext, input: int) -> int:
        async def load() -> int:
            began_at.append(step.cursor(int))
            if len(began_at) == 1:
                step.log.info("saving")
                step.save_cursor(7)
                saved.set()
                await asyncio.sleep(60)
            return len(began_at)

        return await step.run("load", load)

    first = Durably(file_url, jobs=[importer], polling_interval=60)
    await first.init()
    run = await first.register(importer).trigger(0)
    await saved.wait()
    await first.stop(drain=0)
    await first.close()
    async with Durably(file_url, jobs=[importer], polling_interval=60) as second:
        assert (await second.wait_for_run(run.id, timeout=5)).output == 2
        # Neither is what was told in the last moment.
        assert [line.message for line in await second.get_logs(run.id)] == ["saving"]
    assert began_at == [None, 7]


async def test_each_item_of_a_map_has_its_own(durably: Durably) -> None:
    began_at: dict[str, list[str | None]] = {}

    @durably.job(retry=AT_ONCE)
    async def importer(step: StepContext, input: int) -> list[str]:
        async def load(item: str) -> str:
            begin = step.cursor(str)
            began_at.setdefault(item, []).append(begin)
            step.save_cursor(f"half of {item}")
            await asyncio.sleep(0)
            if begin is None and item != "b":
                raise OSError("no")
            return item

        return await step.map("load", load, ["a", "b", "c"], key=str)

    run = await importer.trigger(0)
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == ["a", "b", "c"]
    assert began_at == {"a": [None, "half of a"], "b": [None], "c": [None, "half of c"]}


async def test_a_completed_step_leaves_none_to_another_run_or_link(durably: Durably) -> None:
    load = Import(failures=0)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        total = await step.run("load", load, step)
        if input < 1:
            await step.continue_as_new(input + 1)
        return total

    run = await importer.trigger(0)
    await durably.process_until_idle()
    await durably.retrigger(run.id)
    await durably.process_until_idle()
    assert load.began_at == [None, None, None]


async def test_the_cursor_of_a_step_that_did_not_complete_ends_with_its_link(durably: Durably) -> None:
    load = Import(failures=1)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        try:
            return await step.run("load", load, step)
        except Exception:  # noqa: BLE001
            await step.continue_as_new(input + 1)

    await importer.trigger(0)
    await durably.process_until_idle()
    assert load.began_at == [None, None]


# What is saved


async def test_any_value_that_survives_storage_may_be_saved(durably: Durably) -> None:
    found: list[object] = []

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        def load() -> None:
            mark = step.cursor(Mark)
            assert_type(mark, Mark | None)
            numbers = step.cursor(list[int]) if mark is None else None
            found.append((mark, numbers))
            # It answers what was saved last, by this attempt too.
            step.save_cursor(Mark(row=7, file="a.csv"))
            found.append(step.cursor(Mark))
            raise OSError("once more")

        await step.run("load", load, retry=Retry(2, delay=0))

    await importer.trigger(0)
    await durably.process_one()
    mark = Mark(row=7, file="a.csv")
    assert found == [(None, None), mark, (mark, None), mark]


async def test_a_value_that_does_not_survive_is_an_error_where_it_is_saved(durably: Durably) -> None:
    said: list[Exception] = []

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        def load() -> None:
            step.save_cursor(1)
            for wrong in ({1: "a"}, object(), "x" * 2_000_000, float("nan"), {"a": (1, 2)}):
                try:
                    step.save_cursor(wrong)
                except (NotStorableError, PayloadTooLargeError) as error:
                    said.append(error)
            assert step.cursor(int) == 1
            raise OSError("no")

        await step.run("load", load)

    run = await importer.trigger(0)
    await durably.process_one()
    kinds = [type(error) for error in said]
    assert kinds == [NotStorableError, NotStorableError, PayloadTooLargeError, *[NotStorableError] * 2]
    assert all("the cursor of step 'load'" in str(error) for error in said)
    [step] = await durably.get_steps(run.id)
    assert step.cursor == 1


async def test_a_cursor_of_another_type_is_an_error_where_it_is_asked_for(durably: Durably) -> None:
    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        def load() -> None:
            step.save_cursor("a")
            with pytest.raises(
                StoredValueError, match="the cursor of step 'load' as stored does not fit Mark"
            ):
                step.cursor(Mark)

        await step.run("load", load)

    run = await importer.trigger(0)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).status == "completed"


async def test_it_belongs_into_a_step(durably: Durably) -> None:
    @durably.job
    async def importer(step: StepContext, input: int) -> str:
        for ask in (partial(step.save_cursor, 1), partial(step.cursor, int)):
            with pytest.raises(StepError, match="between steps; it belongs into the body of a step"):
                ask()
        return "asked"

    run = await importer.trigger(0)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == "asked"
    assert await importer.run_inline(0) == "asked"


async def test_it_belongs_into_a_step_of_its_own_run(durably: Durably) -> None:
    contexts: list[StepContext] = []

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        contexts.append(step)

        def load() -> None:
            for ask in (partial(contexts[0].save_cursor, 1), partial(contexts[0].cursor, int)):
                with pytest.raises(StepOutsideRunError):
                    ask()

        if input == 1:
            await step.run("load", load)

    for number in (0, 1):
        run = await importer.trigger(number)
        await durably.process_one()
        assert (await durably.wait_for_run(run.id)).status == "completed"


async def test_inline_a_step_hears_what_it_has_saved_itself(durably: Durably) -> None:
    load = Import(failures=0)

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        def careful() -> int:
            with pytest.raises(NotStorableError):
                step.save_cursor(object())
            total = load(step)
            assert step.cursor(int) == 5
            return total

        return await step.run("load", careful)

    assert await importer.run_inline(0) == 5
    assert load.began_at == [None]


# When it is stored


async def test_it_is_stored_within_moments_while_the_step_executes(durably: Durably) -> None:
    gate = threading.Event()
    go_on = threading.Event()

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        def load() -> None:
            for row in range(1000):
                step.save_cursor(row)
            gate.wait(5)
            step.save_cursor("later")
            go_on.wait(5)

        await step.run("load", load)

    await durably.start()
    run = await importer.trigger(0)
    await stored(durably, run.id, 999)
    gate.set()
    await stored(durably, run.id, "later")
    go_on.set()
    await durably.wait_for_run(run.id, timeout=5)


async def test_it_is_stored_with_the_next_commit_of_the_run(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the timer it would come in a minute.
    monkeypatch.setattr("durably.keeper.NOTES_DELAY", 60)
    saved, gate = asyncio.Event(), asyncio.Event()

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        async def load() -> None:
            step.save_cursor(1)
            saved.set()
            await gate.wait()

        async def other() -> None:
            await saved.wait()

        await asyncio.gather(step.run("load", load), step.run("other", other))

    await durably.start()
    run = await importer.trigger(0)
    # The step beside it is not long enough to be seen; the one that is has become known by its cursor.
    await stored(durably, run.id, 1, None)
    [load, other] = await durably.get_steps(run.id)
    assert (load.name, load.status, other.status) == ("load", "running", "completed")
    assert load.sequence < other.sequence
    gate.set()
    await durably.wait_for_run(run.id, timeout=5)


async def test_an_attempt_whose_time_is_up_saves_nothing_over_the_next_one(durably: Durably) -> None:
    release, saved = threading.Event(), threading.Event()
    said: list[str] = []
    began_at: list[int | None] = []

    @durably.job
    async def importer(step: StepContext, input: int) -> int:
        def load() -> int:
            began_at.append(step.cursor(int))
            step.save_cursor(len(began_at))
            if len(began_at) == 1:
                release.wait(5)
                try:
                    step.save_cursor(99)
                except asyncio.CancelledError as error:
                    said.append(str(error))
                saved.set()
                return 0
            release.set()
            saved.wait(5)
            return step.cursor(int) or 0

        return await step.run("load", load, retry=Retry(2, delay=0), timeout=0.2)

    run = await importer.trigger(0)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == 2
    assert began_at == [None, 1]
    assert said == ["step 'load': its time is up"]


async def test_a_step_that_becomes_known_by_its_cursor_does_so_above_what_was_seen(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durably.keeper.NOTES_DELAY", 60)
    seen, saved = asyncio.Event(), asyncio.Event()

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        async def load() -> None:
            await seen.wait()
            step.save_cursor(1)
            saved.set()
            await asyncio.sleep(60)

        async def others() -> None:
            await step.run("first", int)
            seen.set()
            await saved.wait()
            await step.run("second", int)

        await asyncio.gather(step.run("load", load), others())

    await durably.start()
    run = await importer.trigger(0)
    await stored(durably, run.id, 1, None, None)
    load, first, second = await durably.get_steps(run.id)
    assert first.sequence < load.sequence < second.sequence


def test_a_cursor_stays_in_the_journal_until_it_is_known_to_be_written() -> None:
    journal = Journal(0, filled=lambda: None)
    step = StepRecord(name="load", status="running", position=1, attempt=1, sequence=1, started_at=0.0)
    journal.cursor(step, "1")
    first = journal.page()
    assert [one.cursor_json for one in first.notes.cursors] == ["1"]
    journal.cursor(step, "2")
    second = journal.page()
    # The first page's outcome is in doubt, and then known: the newer cursor is not affected.
    assert [one.cursor_json for one in second.notes.cursors] == ["2"]
    journal.written(first)
    assert [one.cursor_json for one in journal.page().notes.cursors] == ["2"]
    journal.written(second)
    assert (journal.page().notes.cursors, journal.is_empty) == ((), True)


async def test_a_suspect_is_trusted_again_once_it_has_come_further(durably: Durably) -> None:
    begun: list[int] = []
    same, further, saved = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @durably.job
    async def importer(step: StepContext, input: int) -> None:
        async def load() -> None:
            begun.append(input)
            if input == 0:
                await same.wait()
                step.save_cursor(step.cursor(int))
                saved.set()
                await further.wait()
                step.save_cursor(8)
                await asyncio.sleep(60)

        await step.run("load", load)

    run = await importer.trigger(0)
    for worker in ("one", "two"):
        # A worker that claims the run, comes to 7, and is never heard of again.
        request = ClaimRequest(
            worker_id=worker, jobs=["importer"], limit=1, lease_seconds=0.001, max_crashes=5
        )
        [claim] = (await store_of(durably).claim(request)).claims
        step = StepRecord(name="load", status="running", position=1, attempt=1, sequence=1, started_at=0.0)
        answer = await store_of(durably).note(claim.lease, Notes(cursors=[replace(step, cursor_json="7")]))
        assert answer == "applied"
        await asyncio.sleep(0.01)
    await durably.start()
    await until(lambda: begun == [0])
    await importer.trigger(1)
    same.set()
    await saved.wait()
    # What it said before, it may say again: nothing new is begun beside it.
    await asyncio.sleep(0.2)
    assert begun == [0]
    further.set()
    await until(lambda: begun == [0, 1])
    after = await durably.get_run(run.id)
    assert after is not None
    assert after.crashes == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
