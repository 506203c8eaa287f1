"""Whoever reads a run's rows by their numbers never finds one added below the last it has seen."""

import asyncio
from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from durably import Durably, StepContext
from durably.execution import Execution, current_execution
from durably.journal import Journal, Page
from durably.stores.values import Answer, Lease, NewSignal, Notes, StepRecord, Wait


class Nothing(BaseModel):
    pass


def here() -> Execution:
    execution = current_execution.get()
    assert execution is not None
    return execution


async def numbers(durably: Durably, run_id: str) -> list[int]:
    steps, lines = await durably.get_steps(run_id), await durably.get_logs(run_id)
    return sorted([*(step.sequence for step in steps), *(line.sequence for line in lines)])


class Reader:
    """Notes the highest number that is visible, and finds what is added below."""

    def __init__(self, durably: Durably, run_id: str) -> None:
        self._durably = durably
        self._run_id = run_id
        self.seen: dict[tuple[str, object], int] = {}
        self.late: list[int] = []

    async def look(self) -> None:
        rows: dict[tuple[str, object], int] = {}
        for step in await self._durably.get_steps(self._run_id):
            rows["step", step.name] = step.sequence
        for line in await self._durably.get_logs(self._run_id):
            rows["line", line.sequence] = line.sequence
        last = max(self.seen.values(), default=0)
        self.late += [
            number for key, number in rows.items() if number != self.seen.get(key) and number <= last
        ]
        self.seen = rows


async def test_a_line_that_a_thread_writes_while_a_step_is_saved_comes_after_it(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Journal.page
    lines = iter(range(100))

    def page_and_a_line(journal: Journal) -> Page:
        """The thread's line comes at the worst moment: once the page is taken."""
        page = original(journal)
        if (number := next(lines)) < 3:
            here_is[0].log.info(f"line {number}")
        return page

    here_is: list[StepContext] = []

    @durably.job
    async def job(step: StepContext, input: Nothing) -> None:
        here_is.append(step)
        reader = Reader(durably, step.run_id)
        monkeypatch.setattr(Journal, "page", page_and_a_line)
        for number in range(4):
            await step.run(f"step-{number}", asyncio.sleep, 0)
            await reader.look()
            await here().flush(started_before=0)
            await reader.look()
        assert reader.late == []
        assert len(reader.seen) == 4 + 3

    await durably.start()
    await job.trigger_and_wait(Nothing(), timeout=10)


async def test_the_mark_of_a_running_step_comes_after_what_its_neighbours_have_written(
    durably: Durably,
) -> None:
    late: list[int] = []

    @durably.job
    async def job(step: StepContext, input: Nothing) -> None:
        reader = Reader(durably, step.run_id)

        async def work() -> None:
            step.log.info("soon")
            await here().flush(started_before=0)
            await reader.look()
            await here().flush(started_before=float("inf"))
            await reader.look()
            assert [one.status for one in await durably.get_steps(step.run_id)] == ["running"]

        await step.run("work", work)
        await reader.look()
        late.extend(reader.late)

    await durably.start()
    await job.trigger_and_wait(Nothing(), timeout=10)
    assert late == []


async def test_waits_that_end_at_once_take_no_number_that_is_given_again(durably: Durably) -> None:
    @durably.job
    async def job(step: StepContext, input: Nothing) -> None:
        await asyncio.gather(*(step.wait_for_signal(name, Nothing) for name in "abc"))
        for number in range(3):
            step.log.info(f"line {number}")
        await step.run("last", asyncio.sleep, 0)

    run = await job.trigger(Nothing())
    for name in "abc":
        await durably.signal(name, Nothing(), run_id=run.id)
    await durably.start()
    await durably.wait_for_run(run.id, timeout=10)
    found = await numbers(durably, run.id)
    assert len(found) == 4 + 3
    assert len(set(found)) == len(found)


async def test_a_wait_that_ends_while_the_run_is_parked_comes_after_what_was_seen(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    suspend = store.suspend
    readers: list[Reader] = []

    async def signal_first(
        lease: Lease, waits: Sequence[Wait], notes: Notes, /, *, until: float | None
    ) -> Answer:
        await readers[0].look()
        sent = NewSignal(id="s", name="approval", payload_json="{}", run_id=lease.run_id)
        await store.send_signal(sent)
        answer = await suspend(lease, waits, notes, until=until)
        await readers[0].look()
        return answer

    monkeypatch.setattr(store, "suspend", signal_first)

    @durably.job
    async def job(step: StepContext, input: Nothing) -> None:
        readers.append(Reader(durably, step.run_id))

        async def chat() -> None:
            await asyncio.sleep(0)
            await step.run("chat", asyncio.sleep, 0)

        await asyncio.gather(step.wait_for_signal("approval", Nothing), chat())

    await durably.start()
    run = await job.trigger(Nothing())
    await durably.wait_for_run(run.id, timeout=10)
    assert {("step", "approval"), ("step", "chat")} <= readers[0].seen.keys()
    assert readers[0].late == []


async def test_an_attempt_at_a_write_has_a_number_of_its_own(durably: Durably) -> None:
    """Told in full by the tests of following; here that the page behind it is the newest, too."""
    journal = Journal(0, filled=lambda: None)
    assert [journal.number(), journal.number(3), journal.number()] == [1, 2, 5]
    assert journal.marks(started_before=1) == []
    record = StepRecord(name="a", status="running", position=1, attempt=1, sequence=1, started_at=2)
    journal.step_started(record)
    assert journal.marks(started_before=1) == []
    assert journal.marks(started_before=2) == [record]
    assert journal.is_empty
