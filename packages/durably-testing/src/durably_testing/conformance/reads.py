"""Looking at runs, steps and logs."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from durably import RunFilter
from durably.spi import Notes
from durably_testing.conformance.stage import BROKEN, Stage

HOUR = timedelta(hours=1)


async def created_by_the_hour(stage: Stage) -> datetime:
    """Runs 0 to 9, created an hour apart; the third and the last were deleted. Answers when the first was."""
    first = stage.clock.now()
    for number in range(10):
        await stage.trigger(str(number), labels={"parity": str(number % 2)})
        stage.clock.advance(3600)
    for gone in ("2", "9"):
        await stage.store.cancel(gone, token="t")
        await stage.store.delete(gone, token="t")
    return datetime.fromtimestamp(first, UTC)


SINCE = (None, -1, 0, 0.5, 2, 5, 8, 9, 50)
BEFORE = (None, -1, 0, 2.5, 3, 7, 9, 50)


class ReadsContract:
    """Looking at runs, steps and logs."""

    async def test_a_limit_of_zero_lists_nothing(self, stage: Stage) -> None:
        await stage.trigger()
        assert list(await stage.store.list_runs(RunFilter(), limit=0, offset=0, before=None)) == []

    async def test_changes_come_in_the_order_in_which_they_happened(self, stage: Stage) -> None:
        for id in "abc":
            await stage.trigger(id)
        start = await stage.store.list_changes(after=0, limit=10)
        assert [run.id for run in start] == ["a", "b", "c"]
        cursor = start[-1].change
        await stage.store.cancel("b", token="t")
        await stage.take()
        changes = await stage.store.list_changes(after=cursor, limit=10)
        assert [(run.id, run.status) for run in changes] == [("b", "cancelled"), ("a", "running")]
        assert [run.id for run in await stage.store.list_changes(after=cursor, limit=1)] == ["b"]
        assert list(await stage.store.list_changes(after=changes[-1].change, limit=10)) == []

    async def test_every_transition_is_a_change(self, stage: Stage) -> None:
        await stage.trigger("it")
        seen = [(await stage.run("it")).change]

        async def changed() -> None:
            seen.append((await stage.run("it")).change)
            assert seen[-1] > seen[-2]

        lease = (await stage.take()).lease
        await changed()
        await stage.store.release([lease])
        await changed()
        lease = (await stage.take()).lease
        await changed()
        await stage.finish(lease, BROKEN)
        await changed()
        await stage.store.retry("it", token="t")
        await changed()
        await stage.store.cancel("it", token="u")
        await changed()

    async def test_logs_are_read_in_portions_from_a_cursor(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        lines = [stage.line(f"line {number}", sequence=number) for number in (1, 2, 5, 9)]
        await stage.store.note(lease, Notes(logs=lines))

        async def read(after: int, limit: int | None) -> list[int]:
            return [line.sequence for line in await stage.store.list_logs("it", after=after, limit=limit)]

        assert await read(0, None) == [1, 2, 5, 9]
        assert await read(1, 2) == [2, 5]
        assert await read(9, None) == []
        assert list(await stage.store.list_logs("missing", after=0, limit=None)) == []
        assert list(await stage.store.list_steps("missing", after=0)) == []

    async def test_the_end_of_a_log_is_read_from_the_end(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        lines = [stage.line(f"line {number}", sequence=number) for number in (1, 2, 5, 9)]
        await stage.store.note(lease, Notes(logs=lines))

        async def read(before: int | None, limit: int) -> list[int]:
            return [line.sequence for line in await stage.store.last_logs("it", before=before, limit=limit)]

        assert await read(None, 2) == [5, 9]
        assert await read(5, 2) == [1, 2]
        assert await read(2, 10) == [1]
        assert await read(1, 10) == await read(None, 0) == []
        assert list(await stage.store.last_logs("missing", before=None, limit=9)) == []

    async def test_results_of_steps_are_read_only_if_they_are_wanted(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        await stage.store.save_step(lease, stage.step("one", result='"large"'), Notes())

        [with_result] = await stage.store.list_steps("it", after=0)
        [without] = await stage.store.list_steps("it", after=0, results=False)
        assert (with_result.result, without.result) == ("large", None)
        assert replace(with_result, result_json=None) == without

    async def test_reading_goes_on_while_others_write(self, stage: Stage) -> None:
        async def write() -> None:
            for _ in range(30):
                await stage.trigger()

        async def read() -> None:
            last = 0
            for _ in range(30):
                count = len(await stage.ids())
                assert count >= last
                last = count

        await asyncio.gather(write(), write(), read(), read())
        assert len(await stage.ids()) == 60

    async def test_payloads_stay_out_of_what_is_logged(self, stage: Stage) -> None:
        await stage.trigger("it", input_json='"secret"')
        assert "secret" not in repr(await stage.run("it"))

    @pytest.mark.parametrize("labels", [{}, {"parity": "1"}])
    async def test_runs_are_found_by_when_they_were_created(
        self, stage: Stage, labels: dict[str, str]
    ) -> None:
        first = await created_by_the_hour(stage)
        everything = await stage.store.list_runs(RunFilter(), limit=None)
        left = [number for number in range(8, -1, -1) if number != 2 and (not labels or number % 2)]
        middle = everything[4]
        for since, before in product(SINCE, BEFORE):
            filter = RunFilter(
                labels=labels,
                created_since=None if since is None else first + since * HOUR,
                created_before=None if before is None else first + before * HOUR,
            )
            wanted = [
                str(number)
                for number in left
                if (since is None or number >= since) and (before is None or number < before)
            ]

            assert await stage.ids(filter) == wanted, filter
            assert await stage.store.count_runs(filter, cap=100) == len(wanted)
            counts = await stage.store.count_by_status(filter, cap=100)
            assert {status: count.number for status, count in counts.items() if count.number} == Counter(
                run.status for run in everything if run.id in wanted
            )
            assert all(count.is_whole for count in counts.values())
            assert [run.id for run in everything if filter.fits(run)] == wanted
            changed = (await stage.store.survey(filter, after=0, limit=100)).runs
            assert sorted((run.id for run in changed), reverse=True) == wanted
            # A page in the middle, reached from either side.
            newer = await stage.store.list_runs(filter, limit=None, after=middle.position)
            older = await stage.store.list_runs(filter, limit=None, before=middle.position)
            assert [run.id for run in (*newer, *older)] == [id for id in wanted if id != middle.id]

    async def test_a_run_is_no_older_than_the_instant_it_shows(self, stage: Stage) -> None:
        for _ in range(5):
            # A fraction of a microsecond, which is the least that a datetime tells apart.
            stage.clock.advance(0.25e-6)
            run = await stage.trigger()
            assert await stage.ids(RunFilter(created_since=run.created_at)) == [run.id]
            assert run.id not in await stage.ids(RunFilter(created_before=run.created_at))
            await stage.store.cancel(run.id, token="t")
            await stage.store.delete(run.id, token="t")
