"""What jobs share while a worker works: opened with it, handed over by type, closed when it stops."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NewType

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    Durably,
    NotRunningError,
    ResourceError,
    SchemaMissingError,
    StepContext,
    WorkerError,
    define_job,
    job,
    resources,
)
from tests.core.unchecked import unchecked


class Task(BaseModel):
    number: int = 0


class Pool:
    def __init__(self, name: str = "real") -> None:
        self.name: str = name
        self.is_closed: bool = False


class Client:
    def __init__(self, pool: Pool) -> None:
        self.pool: Pool = pool


Replica = NewType("Replica", Pool)


@job
async def ask(step: StepContext, input: Task, pool: Pool) -> str:
    assert not pool.is_closed
    return await step.run("ask", lambda: f"{pool.name} {input.number}", result=str)


class Story:
    """Factories that tell what becomes of what they make."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.pools: list[Pool] = []

    async def pool(self) -> AsyncIterator[Pool]:
        self.told.append("open pool")
        pool = Pool()
        self.pools.append(pool)
        try:
            yield pool
        finally:
            pool.is_closed = True
            self.told.append("close pool")

    async def client(self, pool: Pool) -> AsyncIterator[Client]:
        self.told.append(f"open client of {pool.name}")
        yield Client(pool)
        self.told.append(f"close client, pool is {'closed' if pool.is_closed else 'open'}")

    async def broken(self) -> AsyncIterator[Replica]:
        self.told.append("try replica")
        raise OSError("no route")
        yield

    async def stubborn(self) -> AsyncIterator[Replica]:
        yield Replica(Pool())
        raise OSError("will not close")


@pytest.fixture
def story() -> Story:
    return Story()


# Opening, handing over, closing


async def test_a_job_gets_what_it_asks_for_by_type(durably: Durably, story: Story) -> None:
    durably.resource(story.pool)
    durably.resource(story.client)

    @durably.job
    async def both(step: StepContext, input: Task, client: Client, *, pool: Pool) -> bool:
        return client.pool is pool

    handle = durably.register(ask)
    await durably.start()
    assert (await handle.trigger_and_wait(Task(number=7), timeout=5)).output == "real 7"
    assert (await both.trigger_and_wait(Task(), timeout=5)).output is True


async def test_resources_are_opened_once_in_order_and_closed_the_other_way_round(
    durably: Durably, story: Story
) -> None:
    durably.resource(story.pool)
    durably.resource(story.client)
    handle = durably.register(ask)
    await asyncio.gather(durably.start(), durably.start())
    await durably.start()
    for number in range(3):
        await handle.trigger_and_wait(Task(number=number), timeout=5)
    opened = ["open pool", "open client of real"]
    assert story.told == opened
    await durably.stop()
    closed = ["close client, pool is open", "close pool"]
    assert story.told == opened + closed

    await durably.start()
    assert (await handle.trigger_and_wait(Task(), timeout=5)).output == "real 0"
    await durably.close()
    assert story.told == 2 * (opened + closed)


async def test_a_resource_is_closed_after_the_runs_have_ended_or_unwound(
    durably: Durably, story: Story
) -> None:
    durably.resource(story.pool)
    begun = asyncio.Event()

    @durably.job
    async def long(step: StepContext, input: Task, pool: Pool) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            story.told.append(f"unwound, pool is {'closed' if pool.is_closed else 'open'}")

    await durably.start()
    await long.trigger(Task())
    await begun.wait()
    await durably.stop(drain=0)
    assert story.told == ["open pool", "unwound, pool is open", "close pool"]


async def test_without_a_worker_in_the_background_the_first_run_opens_them(url: str, story: Story) -> None:
    async with Durably(url, worker=False, jobs=[ask], resources=[story.pool]) as durably:
        handle = durably.get_job("ask")
        assert handle is not None
        run = await handle.trigger(Task(number=3))
        assert story.told == []
        assert await durably.process_until_idle() == 1
        assert (await durably.wait_for_run(run.id)).output == "real 3"
        assert story.told == ["open pool"]
    assert story.told == ["open pool", "close pool"]


async def test_a_resource_is_opened_and_closed_by_one_task(durably: Durably) -> None:
    tasks: list[object] = []

    @durably.resource
    async def pool() -> AsyncIterator[Pool]:
        tasks.append(asyncio.current_task())
        # A scope of this kind may only be left by the task that entered it.
        async with asyncio.timeout(60):
            yield Pool()
        tasks.append(asyncio.current_task())

    await asyncio.ensure_future(durably.start())
    await asyncio.ensure_future(durably.stop())
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


async def test_a_factory_may_be_written_in_several_ways(durably: Durably) -> None:
    story = Story()

    @durably.resource
    async def number() -> int:
        return 1

    @durably.resource
    def text() -> str:
        return "two"

    @durably.resource
    @asynccontextmanager
    async def pool() -> AsyncGenerator[Pool]:
        yield Pool("three")
        story.told.append("closed")

    @durably.resource
    async def table() -> AsyncGenerator[dict[str, int], None]:
        yield {"four": 4}

    @durably.job
    async def everything(
        step: StepContext, input: Task, a: int, *, b: str, c: Pool, d: dict[str, int]
    ) -> tuple[int, str, str, dict[str, int]]:
        return a, b, c.name, d

    await durably.start()
    assert (await everything.trigger_and_wait(Task(), timeout=5)).output == (1, "two", "three", {"four": 4})
    await durably.stop()
    assert story.told == ["closed"]


async def test_two_of_one_class_are_told_apart_by_a_new_type(durably: Durably) -> None:
    durably.resource(Story().pool)

    @durably.resource
    async def replica() -> AsyncIterator[Replica]:
        yield Replica(Pool("replica"))

    @durably.job
    async def compare(step: StepContext, input: Task, pool: Pool, other: Replica) -> str:
        return f"{pool.name}, {other.name}"

    await durably.start()
    assert (await compare.trigger_and_wait(Task(), timeout=5)).output == "real, replica"


# What is missing or wrong is said before anything is opened


async def test_a_job_whose_resource_is_missing_keeps_the_worker_from_starting(
    durably: Durably, story: Story
) -> None:
    durably.resource(story.client)
    handle = durably.register(ask)
    await handle.trigger(Task())
    missing = "resource 'client' needs a Pool for its parameter 'pool', and no resource registered before it"
    with pytest.raises(ConfigurationError, match=missing):
        await durably.start()
    durably.resource(story.pool)
    with pytest.raises(ConfigurationError, match=missing):
        await durably.start()
    other = Durably(":memory:", jobs=[ask])
    await other.migrate()
    told = "job 'ask' needs a Pool for its parameter 'pool', and no resource gives one; write .*@durably.resource"
    for verb in (other.start, other.process_one, other.process_until_idle):
        with pytest.raises(ConfigurationError, match=told):
            await verb()
    assert story.told == []
    assert [*await durably.get_workers(), *await other.get_workers()] == []
    await other.close()


async def test_who_only_triggers_needs_no_resources(url: str) -> None:
    async with Durably(url, worker=False, jobs=[ask]) as durably:
        handle = durably.get_job("ask")
        assert handle is not None
        assert (await handle.trigger(Task())).status == "pending"


async def test_what_comes_after_the_start_is_checked_at_once(durably: Durably, story: Story) -> None:
    await durably.start()
    with pytest.raises(ConfigurationError, match="job 'ask' needs a Pool"):
        durably.register(ask)
    with pytest.raises(ConfigurationError, match="resource 'pool' comes too late"):
        durably.resource(story.pool)
    assert durably.get_job("ask") is None
    await durably.stop()

    durably.resource(story.pool)
    await durably.start()
    assert (await durably.register(ask).trigger_and_wait(Task(), timeout=5)).output == "real 0"


def test_two_resources_of_one_type_are_refused(story: Story) -> None:
    durably = Durably(":memory:", resources=[story.pool])

    async def second() -> AsyncIterator[Pool]:
        yield Pool()

    assert durably.resource(story.pool) == story.pool
    with pytest.raises(ConfigurationError, match=r"'pool' and 'second' both give a Pool; .*NewType"):
        durably.resource(second)


def test_functions_that_make_no_resource_are_refused() -> None:
    async def unsaid() -> None: ...

    async def nothing() -> None: ...

    async def bare() -> AsyncIterator[int]:
        yield 1

    def in_step() -> Iterator[Pool]:
        yield Pool()

    async def untyped(url: str) -> Pool:
        return Pool(url)

    async def lost() -> Pool:
        return Pool()

    del unsaid.__annotations__["return"], untyped.__annotations__["url"]
    bare.__annotations__["return"] = AsyncIterator
    lost.__annotations__["return"] = "Nowhere"
    cases: tuple[tuple[object, str], ...] = (
        (unsaid, "resource 'unsaid' does not say what it gives"),
        (nothing, "does not say what it gives"),
        (bare, "does not say what it gives"),
        (in_step, "makes no resource; write async def"),
        (functools.partial(Pool), "makes no resource"),
        (untyped, "parameter 'url' of resource 'untyped' stands for a resource"),
        (lost, "annotations of resource 'lost' cannot be resolved"),
    )
    for factory, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            unchecked(Durably(":memory:").resource)(factory)


def test_a_jobs_further_parameters_are_resources_or_refused() -> None:
    async def untyped(step: StepContext, input: Task, pool: Pool) -> None: ...

    async def optional(step: StepContext, input: Task, pool: Pool | None = None) -> None: ...

    async def many(step: StepContext, input: Task, *pools: Pool) -> None: ...

    async def unnamed(step: StepContext, input: Task, pool: Pool, /) -> None: ...

    del untyped.__annotations__["pool"]
    cases: tuple[tuple[object, str], ...] = (
        (untyped, "parameter 'pool' of job 'untyped' stands for a resource, .* write it as pool: SomeType"),
        (optional, "parameter 'pool' of job 'optional' .* always given; leave its default out"),
        (many, "parameter 'pools' of job 'many' stands for a resource"),
        (unnamed, "parameter 'pool' of job 'unnamed' stands for a resource"),
    )
    for function, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            unchecked(job)(function)
        with pytest.raises(ConfigurationError, match=message):
            unchecked(define_job)(name=getattr(function, "__name__", ""), input=Task, run=function)


# Trouble


async def test_a_resource_that_cannot_be_opened_keeps_the_worker_from_starting(
    durably: Durably, story: Story
) -> None:
    durably.resource(story.pool)
    durably.resource(story.broken)
    handle = durably.register(ask)
    run = await handle.trigger(Task())
    message = "resource 'broken' could not be opened: OSError: no route"
    for verb in (durably.start, durably.process_one):
        with pytest.raises(ResourceError, match=message) as caught:
            await verb()
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.resource == "broken"
    assert story.told == 2 * ["open pool", "try replica", "close pool"]
    assert await durably.get_workers() == []

    with durably.override(Replica, Replica(Pool())):
        await durably.start()
    assert (await durably.wait_for_run(run.id, timeout=5)).output == "real 0"


async def test_an_instance_that_cannot_be_entered_leaves_nothing_open(url: str, story: Story) -> None:
    before = asyncio.all_tasks()
    durably = Durably(url, resources=[story.pool, story.broken])
    with pytest.raises(ResourceError):
        async with durably:
            raise AssertionError
    assert asyncio.all_tasks() == before
    with pytest.raises(NotRunningError):
        await durably.get_runs()


async def test_a_start_that_fails_later_closes_what_it_has_opened(file_url: str, story: Story) -> None:
    durably = Durably(file_url, resources=[story.pool])
    with pytest.raises(SchemaMissingError):
        await durably.start()
    assert story.told == ["open pool", "close pool"]
    await durably.close()


async def test_a_start_that_is_cancelled_leaves_nothing_open(durably: Durably, story: Story) -> None:
    durably.resource(story.pool)
    tried = asyncio.Event()

    @durably.resource
    async def endless() -> AsyncIterator[Replica]:
        tried.set()
        try:
            await asyncio.Event().wait()
            yield Replica(Pool())
        finally:
            story.told.append("given up")

    first = asyncio.ensure_future(durably.start())
    second = asyncio.ensure_future(durably.start())
    await tried.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(NotRunningError, match="stopped while its resources were being opened"):
        await second
    assert story.told == ["open pool", "given up", "close pool"]


async def test_a_stop_does_not_wait_for_an_opening(durably: Durably) -> None:
    tried = asyncio.Event()

    @durably.resource
    async def endless() -> Pool:
        tried.set()
        await asyncio.Event().wait()
        return Pool()

    starting = asyncio.ensure_future(durably.start())
    await tried.wait()
    await asyncio.wait_for(durably.stop(), 5)
    with pytest.raises(NotRunningError):
        await starting
    assert await durably.get_workers() == []


async def test_a_resource_that_cannot_be_closed_is_told_and_keeps_no_other_open(
    durably: Durably, story: Story
) -> None:
    durably.resource(story.pool)
    durably.resource(story.stubborn)
    troubles: list[WorkerError] = []
    durably.on("worker:error", troubles.append)
    await durably.start()
    await durably.stop()
    assert story.told == ["open pool", "close pool"]
    (trouble,) = troubles
    assert trouble.context == "resources"
    assert str(trouble.error) == "resource 'stubborn' could not be closed: OSError: will not close"
    assert await durably.get_workers() == []


async def test_a_stop_waits_a_bounded_time_for_a_resource_that_does_not_close(
    durably: Durably, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CLOSING", 0.05)

    async def slow() -> AsyncIterator[Client]:
        yield Client(Pool())
        await asyncio.Event().wait()

    durably.resource(story.pool)
    durably.resource(slow)
    troubles: list[str] = []
    durably.on("worker:error", lambda event: troubles.append(str(event.error)))
    await durably.start()
    holder = the_holder()
    await asyncio.wait_for(durably.stop(), 5)
    await holder
    assert troubles == ["resource 'slow' could not be closed: TimeoutError: it took longer than 0.05 s"]
    assert story.told == ["open pool", "close pool"]


async def test_a_stop_leaves_a_resource_behind_that_swallows_its_cancellation(
    durably: Durably, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CLOSING", 0.05)
    released = asyncio.Event()

    async def deaf() -> AsyncIterator[Client]:
        yield Client(Pool())
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    durably.resource(story.pool)
    durably.resource(deaf)
    troubles: list[str] = []
    durably.on("worker:error", lambda event: troubles.append(str(event.error)))
    await durably.start()
    holder = the_holder()
    await asyncio.wait_for(durably.stop(), 5)
    assert story.told == ["open pool"]
    assert troubles == ["resource 'deaf' could not be closed: it does not end, and was left behind"]

    released.set()
    await holder
    assert story.told == ["open pool", "close pool"]


def the_holder() -> "asyncio.Task[object]":
    """The task that opens and closes the resources."""
    (holder,) = [task for task in asyncio.all_tasks() if task.get_name() == "durably:resources"]
    return holder


# Tests of jobs


async def test_an_override_stands_in_and_the_factory_is_not_called(durably: Durably, story: Story) -> None:
    durably.resource(story.pool)
    durably.resource(story.client)
    handle = durably.register(ask)
    fake = Pool("fake")
    with durably.override(Pool, fake):
        await durably.start()
    assert (await handle.trigger_and_wait(Task(), timeout=5)).output == "fake 0"
    await durably.stop()
    assert story.told == ["open client of fake", "close client, pool is open"]

    await durably.start()
    assert (await handle.trigger_and_wait(Task(), timeout=5)).output == "real 0"


async def test_an_override_needs_no_factory_and_may_be_nested(durably: Durably) -> None:
    handle = durably.register(ask)
    with durably.override(Pool, Pool("outer")):
        with durably.override(Pool, Pool("inner")):
            assert await handle.run_inline(Task()) == "inner 0"
        assert await handle.run_inline(Task()) == "outer 0"
        run = await handle.trigger(Task())
        assert await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == "outer 0"


async def test_an_override_that_comes_too_late_is_refused(durably: Durably, story: Story) -> None:
    durably.resource(story.pool)
    await durably.start()
    with (
        pytest.raises(ConfigurationError, match="Pool cannot be overridden now"),
        durably.override(Pool, Pool("fake")),
    ):
        raise AssertionError


async def test_a_job_in_place_gets_what_is_overridden_or_open(durably: Durably, story: Story) -> None:
    durably.resource(story.pool)
    handle = durably.register(ask)

    @durably.job
    async def parent(step: StepContext, input: Task) -> str:
        return await step.invoke("child", ask, input)

    with pytest.raises(ConfigurationError, match=r"without a worker only durably\.override\("):
        await handle.run_inline(Task())
    with durably.override(Pool, Pool("fake")):
        assert await parent.run_inline(Task(number=2)) == "fake 2"
    await durably.start()
    assert await handle.run_inline(Task(number=3)) == "real 3"


async def test_what_a_job_gets_is_not_what_its_steps_store(durably: Durably) -> None:
    """A resumed run meets the resources of the worker that resumes it."""
    durably.resource(Story().pool)
    met: list[Pool] = []
    once: list[Callable[[], object]] = []

    @durably.job
    async def twice(step: StepContext, input: Task, pool: Pool) -> str:
        met.append(pool)
        await step.sleep("pause", 1.2)
        return pool.name

    await durably.start()
    run = await twice.trigger(Task())
    durably.on("run:wait", lambda event: once.append(lambda: event))
    async with asyncio.timeout(5):
        while not once:
            await asyncio.sleep(0.01)
    await durably.stop()
    await durably.start()
    assert (await durably.wait_for_run(run.id, timeout=10)).output == "real"
    first, second = met
    assert first.is_closed
    assert first is not second
