"""Loops without an end: a run that goes on as new, link by link."""

import asyncio
import contextlib
import threading
from collections import Counter
from uuid import uuid5

import pytest
from pydantic import BaseModel

from durably import (
    Durably,
    LogLine,
    NestedStepError,
    PayloadTooLargeError,
    Retry,
    RunContinued,
    RunSnapshot,
    StepContext,
    StepError,
    StepOutsideRunError,
    ValidationError,
    define_job,
)
from durably.context import CHILDREN
from durably.derivations import random_of, uuid_of
from tests.core.test_leases import Clocks
from tests.core.test_waits import reach


class Page(BaseModel):
    number: int = 1
    last: int = 3
    note: str = ""

    def next(self) -> "Page":
        return Page(number=self.number + 1, last=self.last)


async def inputs(durably: Durably, run_id: str) -> list[object]:
    return [link.input for link in await durably.get_links(run_id)]


async def test_a_run_goes_on_as_new_under_its_own_id(durably: Durably) -> None:
    visited: list[int] = []
    told: list[RunContinued] = []
    durably.on("run:continue", told.append)

    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        await step.run("visit", visited.append, input.number)
        if input.number < input.last:
            await step.continue_as_new(input.next())
        return "done"

    await durably.start()
    run = await crawl.trigger(Page(), labels={"site": "a"}, idempotency_key="a", priority=3)
    done = await durably.wait_for_run(run.id, timeout=5)

    assert (done.output, visited) == ("done", [1, 2, 3])
    assert (done.link, done.input, done.completed_step_count) == (3, Page(number=3), 1)
    assert (done.labels, done.idempotency_key, done.priority) == ({"site": "a"}, "a", 3)
    assert [step.name for step in await durably.get_steps(run.id)] == ["visit"]
    assert [(event.run_id, event.link) for event in told] == [(run.id, 2), (run.id, 3)]
    assert (await crawl.trigger(Page(), idempotency_key="a")).id == run.id
    assert len(await durably.get_runs()) == 1


async def test_the_chain_is_visible(url: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def crawl(step: StepContext, input: Page) -> None:
            if input.number < input.last:
                await step.continue_as_new(input.next())

        run = await crawl.trigger(Page())
        assert await durably.get_links(run.id) == []
        for _ in range(3):
            await durably.process_one()
            clocks.wall += 100
        first, second = await durably.get_links(run.id)
        done = await durably.get_run(run.id)
        assert done is not None
        assert await durably.get_links("nobody") == []

    assert (first.number, second.number, done.link) == (1, 2, 3)
    assert [first.input, second.input] == [
        {"number": 1, "last": 3, "note": ""},
        {"number": 2, "last": 3, "note": ""},
    ]
    assert first.started_at == done.started_at
    assert second.started_at == first.ended_at
    assert 100 <= (second.ended_at - second.started_at).total_seconds() < 110
    assert "last" not in repr(first)


async def test_a_long_chain_leaves_a_bounded_trail(durably: Durably) -> None:
    resumed: list[bool] = []
    durably.on("run:start", lambda event: resumed.append(event.resumed))

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        for number in range(3):
            await step.run(f"visit-{number}", int)
        if input.number < input.last:
            await step.continue_as_new(input.next())

    await durably.start()
    run = await crawl.trigger(Page(last=250))
    done = await durably.wait_for_run(run.id, timeout=30)

    assert (done.link, done.lease_generation) == (250, 250)
    assert resumed == [False] * 250
    assert len(await durably.get_steps(run.id)) == 3
    assert [link.number for link in await durably.get_links(run.id)] == list(range(150, 250))


async def test_what_is_made_of_a_name_is_made_anew_in_each_link(durably: Durably) -> None:
    seen: list[tuple[object, ...]] = []

    async def nothing(step: StepContext, input: Page) -> None:
        return None

    child = durably.register(define_job(name="child", input=Page, output=None, run=nothing))

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        scoped = step.scope("a")
        in_step = await step.run("key", lambda: step.idempotency_key)
        spawned = await step.spawn("side", child, input)
        seen.append(
            (step.uuid("u"), step.random("r"), step.idempotency_key, scoped.idempotency_key, in_step, spawned)
        )
        if input.number < 2:
            await step.continue_as_new(input.next())

    run = await crawl.trigger(Page())
    await durably.process_until_idle()

    # The first link's values are those of a run without a chain, in every release.
    first, second = seen
    assert first == (
        uuid_of(run.id, "u"), random_of(run.id, "r"), run.id, f"{run.id}:a/", f"{run.id}:key",
        str(uuid5(CHILDREN, f"{run.id}/side")),
    )  # fmt: skip
    assert not set(first) & set(second)
    assert len(set(second)) == len(second)
    children = [one for one in await durably.get_runs() if one.parent_id == run.id]
    assert {one.id for one in children} == {first[-1], second[-1]}


async def test_an_input_that_does_not_fit_is_refused_and_the_link_goes_on(durably: Durably) -> None:
    said: list[ValidationError] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        for wrong in ({"number": "x"}, None, Page(note="x" * 2_000_000)):
            try:
                await step.continue_as_new(wrong)
            except ValidationError as error:
                said.append(error)
        return await step.run("after", str, "goes on")

    run = await crawl.trigger(Page())
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert done.output == "goes on"
    assert [type(error) for error in said] == [ValidationError, ValidationError, PayloadTooLargeError]
    assert said[0].fields == ("number",)
    assert "the input of job 'crawl'" in str(said[0])
    assert (done.link, done.input, await inputs(durably, run.id)) == (1, Page(), [])


async def test_it_is_refused_inside_a_step(durably: Durably) -> None:
    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        async def body() -> str:
            with pytest.raises(NestedStepError, match=r"continue_as_new.*'visit'"):
                await step.continue_as_new(input.next())
            return "body"

        return await step.run("visit", body)

    run = await crawl.trigger(Page())
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.link) == ("body", 1)


@pytest.mark.parametrize("beside", ["a step", "a long wait", "a short sleep", "a wait for an attempt"])
async def test_it_is_refused_while_other_steps_of_the_run_are_under_way(
    durably: Durably, beside: str
) -> None:
    gate = asyncio.Event()
    begun = asyncio.Event()
    refusals: list[str] = []

    async def body() -> None:
        begun.set()
        if not gate.is_set():
            if beside == "a wait for an attempt":
                raise OSError("no")
            await gate.wait()

    async def other(step: StepContext) -> None:
        if beside in {"a step", "a wait for an attempt"}:
            await step.run("other", body, retry=Retry(50, delay=0.05, factor=1))
            return
        begun.set()
        if beside == "a long wait":
            await step.wait_for_signal("other", int)
        else:
            await step.sleep("other", 0.5)

    async def hasty(step: StepContext, input: Page) -> None:
        await begun.wait()
        await asyncio.sleep(0)
        with pytest.raises(StepError, match="leave the gather or the TaskGroup first") as caught:
            await step.continue_as_new(input.next())
        refusals.append(str(caught.value))
        gate.set()

    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        await asyncio.gather(other(step), hasty(step, input))
        return "done"

    run = await crawl.trigger(Page())
    await durably.start()
    while not refusals:
        await asyncio.sleep(0.001)
    if beside == "a long wait":
        await durably.signal("other", 1, run_id=run.id)
    done = await durably.wait_for_run(run.id, timeout=5)
    assert (done.output, done.link, await inputs(durably, run.id)) == ("done", 1, [])


@pytest.mark.parametrize("deed", ["returns", "raises", "calls a step", "continues with another input"])
async def test_a_job_that_swallows_its_end_goes_on_as_new_all_the_same(durably: Durably, deed: str) -> None:
    links: list[int] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        links.append(input.number)
        if input.number == 2:
            return "done"
        with contextlib.suppress(asyncio.CancelledError):
            await step.continue_as_new(input.next())
        if deed == "raises":
            raise RuntimeError("not heard")
        if deed == "calls a step":
            await step.run("never", links.append, 99)
        if deed == "continues with another input":
            await step.continue_as_new(Page(number=99))
        return "not heard either"

    run = await crawl.trigger(Page())
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.link, links) == ("done", 2, [1, 2])


async def test_it_may_be_called_from_a_branch_that_is_alone(durably: Durably) -> None:
    seen: list[tuple[bool, bool]] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> int:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(step.run("one", int))
                if input.number < 2:
                    await asyncio.sleep(0.05)
                    group.create_task(step.continue_as_new(input.next()))
        finally:
            seen.append((step.suspending, step.is_cancelled))
        return input.number

    run = await crawl.trigger(Page())
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.link) == (2, 2)
    # A link that ends is an end, and not a suspension: `finally` may clean up.
    assert seen == [(False, True), (False, False)]


async def test_attempts_at_the_job_begin_anew_in_each_link(durably: Durably) -> None:
    failed: list[int] = []

    @durably.job(retry=Retry(2, delay=0))
    async def crawl(step: StepContext, input: Page) -> str:
        if failed.count(input.number) == 0:
            failed.append(input.number)
            raise OSError(f"no {input.number}")
        if input.number < 2:
            await step.continue_as_new(input.next())
        return "done"

    run = await crawl.trigger(Page())
    await durably.process_one()
    await durably.process_one()
    between = await durably.get_run(run.id)
    assert between is not None
    assert (between.status, between.link, between.attempt, between.error) == ("pending", 2, 1, None)
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.attempt, failed) == ("done", 2, [1, 2])


@pytest.mark.parametrize(("night", "status"), [(80, "completed"), (110, "failed")])
async def test_the_jobs_timeout_counts_for_each_link(url: str, night: int, status: str) -> None:
    clocks = Clocks()
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job(timeout=100)
        async def crawl(step: StepContext, input: Page) -> None:
            await step.sleep("night", 80 if input.number < 3 else night)
            if input.number < 3:
                await step.continue_as_new(input.next())

        run = await crawl.trigger(Page())
        for _ in range(3):
            await durably.process_until_idle()
            clocks.wall += 80
        clocks.wall += night - 80
        await durably.process_until_idle()
        done = await durably.get_run(run.id)
        assert done is not None
        assert (done.status, done.link) == (status, 3)


async def test_a_chain_keeps_its_key_and_its_place(durably: Durably) -> None:
    order: list[str] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        order.append(f"{input.last}:{input.number}")
        if input.number < input.last:
            await step.continue_as_new(input.next())

    first = await crawl.trigger(Page(last=3), concurrency_key="site")
    await durably.process_one()
    await crawl.trigger(Page(last=1), concurrency_key="site", priority=1000)
    between = await durably.get_run(first.id)
    assert between is not None
    assert (between.status, between.link) == ("pending", 2)
    await durably.process_until_idle()
    assert order == ["3:1", "3:2", "3:3", "1:1"]


async def test_a_thread_of_one_link_does_not_share_the_key_with_the_next(durably: Durably) -> None:
    release = threading.Event()
    order: list[str] = []

    def slow() -> None:
        release.wait(5)
        order.append("thread")

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        order.append(f"link {input.number}")
        if input.number < 2:
            with contextlib.suppress(Exception):
                await step.run("slow", slow, timeout=0.05)
            asyncio.get_running_loop().call_later(0.1, release.set)
            await step.continue_as_new(input.next())

    run = await crawl.trigger(Page(), concurrency_key="site")
    await durably.start()
    await durably.wait_for_run(run.id, timeout=5)
    assert order == ["link 1", "thread", "link 2"]


async def test_signals_that_nobody_took_are_there_for_the_next_link(durably: Durably) -> None:
    @durably.job
    async def counter(step: StepContext, input: list[int]) -> list[int]:
        told = [*input, await step.wait_for_signal("add", int)]
        if len(told) < 3:
            await step.continue_as_new(told)
        return told

    run = await counter.trigger([])
    for number in (1, 2):
        await durably.signal("add", number, run_id=run.id)
    await durably.start()
    await reach(durably, run.id, "waiting")
    waiting = await durably.get_run(run.id)
    assert waiting is not None
    assert (waiting.link, waiting.input) == (3, [1, 2])
    await durably.signal("add", 3, run_id=run.id)
    assert (await durably.wait_for_run(run.id, timeout=5)).output == [1, 2, 3]


async def test_cancelling_a_chain_cancels_the_children_of_every_link(durably: Durably) -> None:
    async def wait(step: StepContext, input: Page) -> None:
        await step.sleep("long", 3600)

    child = durably.register(define_job(name="child", input=Page, output=None, run=wait))

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        await step.spawn("side", child, input)
        if input.number < 2:
            await step.continue_as_new(input.next())
        await step.sleep("long", 3600)

    run = await crawl.trigger(Page())
    await durably.process_until_idle()
    await durably.cancel(run.id)
    assert Counter((one.job_name, one.status) for one in await durably.get_runs()) == {
        ("crawl", "cancelled"): 1, ("child", "cancelled"): 2,
    }  # fmt: skip


async def test_a_cancel_while_a_link_unwinds_is_final(durably: Durably) -> None:
    unwinding, gate = asyncio.Event(), asyncio.Event()
    links: list[int] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> int:
        links.append(input.number)
        try:
            # It never returns, as type checkers know: no `return` is missing here.
            await step.continue_as_new(input.next())
        finally:
            unwinding.set()
            await gate.wait()

    await durably.start()
    run = await crawl.trigger(Page())
    await unwinding.wait()
    await durably.cancel(run.id)
    gate.set()
    while (await reach(durably, run.id, "cancelled")).lease_owner is not None:
        await asyncio.sleep(0.001)
    cancelled = await durably.get_run(run.id)
    assert cancelled is not None
    assert (cancelled.link, links, await inputs(durably, run.id)) == (1, [1], [])


async def test_a_parent_gets_the_output_of_the_last_link(durably: Durably) -> None:
    async def body(step: StepContext, input: Page) -> int:
        if input.number < input.last:
            await step.continue_as_new(input.next())
        return input.number

    crawl = durably.register(define_job(name="crawl", input=Page, output=int, run=body))

    @durably.job
    async def parent(step: StepContext, input: Page) -> int:
        return await step.invoke("crawl", crawl, input)

    await durably.start()
    assert (await parent.trigger_and_wait(Page(last=5), timeout=5)).output == 5


async def test_a_retry_resumes_the_link_and_a_retrigger_starts_from_its_input(durably: Durably) -> None:
    visited: list[int] = []
    is_broken = True

    def visit(number: int) -> None:
        if number == 2 and is_broken:
            raise OSError("no")

    @durably.job
    async def crawl(step: StepContext, input: Page) -> int:
        await step.run("before", visited.append, input.number)
        await step.run("visit", visit, input.number)
        if input.number < input.last:
            await step.continue_as_new(input.next())
        return input.number

    run = await crawl.trigger(Page())
    await durably.process_until_idle()
    failed = await durably.get_run(run.id)
    assert failed is not None
    assert (failed.status, failed.link) == ("failed", 2)
    is_broken = False

    fresh = await durably.retrigger(run.id)
    assert (fresh.input, fresh.link) == (Page(number=2), 1)
    await durably.cancel(fresh.id)

    await durably.retry(run.id)
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.link, visited) == (3, 3, [1, 2, 3])


async def test_the_log_goes_on_through_the_links_without_a_gap(durably: Durably) -> None:
    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        step.log.info(f"begin {input.number}")
        await step.run("visit", lambda: step.log.info(f"visit {input.number}"))
        if input.number < input.last:
            await step.continue_as_new(input.next())

    run = await crawl.trigger(Page())
    await durably.start()
    told: list[str] = []
    links: list[int] = []
    async for update in durably.subscribe(run.id):
        if isinstance(update, LogLine):
            told.append(update.entry.message)
        elif isinstance(update, RunSnapshot):
            links.append(update.run.link)
    stored = await durably.get_logs(run.id)
    assert [line.message for line in stored] == told
    assert told == [f"{word} {number}" for number in (1, 2, 3) for word in ("begin", "visit")]
    assert links == sorted(links)
    assert links[-1] == 3
    sequences = [line.sequence for line in stored]
    assert sequences == sorted(set(sequences))
    [step] = await durably.get_steps(run.id)
    assert step.sequence > sequences[-2]


async def test_the_context_of_an_ended_link_is_of_no_use(durably: Durably) -> None:
    kept: list[StepContext] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> None:
        kept.append(step)
        if input.number < 2:
            await step.continue_as_new(input.next())
        with pytest.raises((StepOutsideRunError, asyncio.CancelledError)):
            await kept[0].run("stale", int)

    run = await crawl.trigger(Page())
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.status, await durably.get_steps(run.id)) == ("completed", [])
    with pytest.raises((StepOutsideRunError, asyncio.CancelledError)):
        await kept[1].continue_as_new(Page())


# Inline


async def test_inline_the_job_is_called_again_with_its_next_input(durably: Durably) -> None:
    keys: list[str] = []

    @durably.job
    async def crawl(step: StepContext, input: Page) -> str:
        await step.run("visit", lambda: keys.append(step.idempotency_key))
        if input.number == input.last:
            return "done"
        with contextlib.suppress(asyncio.CancelledError):
            await step.continue_as_new(input.next())
        if input.number == 1:
            raise RuntimeError("not heard")
        if input.number == 2:
            await step.run("never", keys.append, "never")
        return "not heard either"

    assert await crawl.run_inline(Page(last=4)) == "done"
    assert keys == ["inline:visit", "inline@2:visit", "inline@3:visit", "inline@4:visit"]


async def test_inline_the_same_calls_are_refused(durably: Durably) -> None:
    @durably.job
    async def unfit(step: StepContext, input: Page) -> str:
        with pytest.raises(ValidationError):
            await step.continue_as_new({"number": "x"})
        return "goes on"

    @durably.job
    async def nested(step: StepContext, input: Page) -> None:
        await step.run("nested", step.continue_as_new, input)

    assert await unfit.run_inline(Page()) == "goes on"
    with pytest.raises(NestedStepError):
        await nested.run_inline(Page())
