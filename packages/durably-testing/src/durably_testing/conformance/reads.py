"""Looking at runs, steps and logs."""

import asyncio
from dataclasses import replace

from durably import RunFilter
from durably.spi import Notes
from durably_testing.conformance.stage import BROKEN, Stage


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
