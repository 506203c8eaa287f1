"""Waits that are in memory: side by side with other steps, and many of them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from durably import Durably, RealEnvironment, RunFailedError, StepContext, StoreReadOnlyError
from durably.stores.sqlite import SqliteStore
from durably.stores.values import Lease, Wait
from tests.core.test_waits import Task

if TYPE_CHECKING:
    from durably.stores.base import Store


@pytest.mark.parametrize("how", ["invoked", "spawned", "spawned side by side"])
async def test_a_child_is_begun_as_soon_as_it_is_stored(durably: Durably, how: str) -> None:
    """Its parent keeps executing, so nothing else would tell the worker; it polls once a minute."""
    begun = asyncio.Event()

    @durably.job
    async def child(step: StepContext, input: Task) -> int:
        begun.set()
        return input.number

    @durably.job
    async def parent(step: StepContext, input: Task) -> object:
        if how == "spawned":
            await step.spawn("child", child, input)
            return await step.run("see", begun.wait)
        verb = step.invoke if how == "invoked" else step.spawn
        return (await asyncio.gather(verb("child", child, input), step.run("see", begun.wait)))[1]

    await durably.start()
    run = await parent.trigger(Task())
    assert (await durably.wait_for_run(run.id, timeout=10)).output is True


async def test_waits_that_begin_side_by_side_are_one_transaction_and_their_ends_cost_no_look_at_the_others(
    tmp_path: Path,
) -> None:
    told: list[tuple[str, int]] = []

    class Telling:
        """A store that tells of what is written about waits."""

        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> object:
            verb = getattr(self._store, name)
            if name not in {"settle", "suspend"}:
                return verb

            async def call(lease: Lease, waits: Sequence[Wait], *rest: object, **options: object) -> object:
                told.append((name, len(waits)))
                return await verb(lease, waits, *rest, **options)

            return call

    store = Telling(SqliteStore(tmp_path / "app.db", environment=RealEnvironment()))
    begun = asyncio.Event()
    async with Durably(cast("Store", store), polling_interval=60) as durably:

        @durably.job
        async def many(step: StepContext, input: Task) -> list[int]:
            waits = [step.wait_for_signal(f"s{number}", int) for number in range(50)]
            return (await asyncio.gather(*waits, step.run("see", begun.wait)))[:-1]

        run = await many.trigger(Task())
        async with asyncio.timeout(5):
            while len(await durably.get_steps(run.id)) < 50:
                await asyncio.sleep(0.002)
        assert told == [("settle", 50)]
        await durably.signal("s7", 7, run_id=run.id)
        async with asyncio.timeout(5):
            while not [
                step for step in await durably.get_steps(run.id) if step.kind == "signal" and step.result
            ]:
                await asyncio.sleep(0.002)
        assert told == [("settle", 50), ("settle", 1)]
        begun.set()
        for number in {*range(50)} - {7}:
            await durably.signal(f"s{number}", number, run_id=run.id)
        assert (await durably.wait_for_run(run.id, timeout=20)).output == list(range(50))


async def test_trouble_that_nobody_foresaw_reaches_the_wait_and_not_only_the_log(tmp_path: Path) -> None:
    class Broken:
        """A store with a bug."""

        def __init__(self, store: SqliteStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> object:
            async def fail(*_: object) -> object:
                raise ZeroDivisionError("a bug")

            return fail if name == "ripe_waits" else getattr(self._store, name)

    store = Broken(SqliteStore(tmp_path / "app.db", environment=RealEnvironment()))
    async with Durably(cast("Store", store), polling_interval=60) as durably:

        @durably.job
        async def both(step: StepContext, input: Task) -> None:
            await asyncio.gather(step.wait_for_signal("a", int), step.wait_for_signal("b", int))

        run = await both.trigger(Task())
        with pytest.raises(RunFailedError, match="ZeroDivisionError: a bug"):
            await durably.wait_for_run(run.id, timeout=5)


async def test_a_database_in_trouble_is_not_the_job_s_failure(tmp_path: Path) -> None:
    class Troubled:
        """A store that cannot be read a few times."""

        def __init__(self, store: SqliteStore) -> None:
            self._store = store
            self.left = 3

        def __getattr__(self, name: str) -> object:
            async def fail(*_: object) -> object:
                self.left -= 1
                raise StoreReadOnlyError("as when a disk is lost")

            return fail if name == "ripe_waits" and self.left else getattr(self._store, name)

    store = Troubled(SqliteStore(tmp_path / "app.db", environment=RealEnvironment()))
    async with Durably(cast("Store", store), polling_interval=0.05) as durably:
        failed: list[object] = []
        durably.on("run:fail", failed.append)

        @durably.job
        async def both(step: StepContext, input: Task) -> list[int]:
            return list(await asyncio.gather(step.wait_for_signal("a", int), step.wait_for_signal("b", int)))

        run = await both.trigger(Task())
        async with asyncio.timeout(10):
            while store.left:
                await asyncio.sleep(0.005)
        for name in ("a", "b"):
            await durably.signal(name, 1, run_id=run.id)
        done = await durably.wait_for_run(run.id, timeout=20)
        assert (done.output, failed) == ([1, 1], [])
        assert done.lease_generation > 3
