"""What a job's own code may ask for and get again on every replay; and the scopes of names."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import pytest
from pydantic import BaseModel

from durably import (
    DuplicateStepError,
    Durably,
    NestedStepError,
    Retry,
    StepContext,
    StepOutsideRunError,
    ValidationError,
)
from durably.derivations import random_of, uuid_of
from tests.core.test_leases import Clocks
from tests.core.test_waits import reach


class Task(BaseModel):
    number: int = 0


async def test_the_present_is_the_same_on_every_replay(url: str) -> None:
    clocks = Clocks()
    seen: list[datetime] = []
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def dated(step: StepContext, input: Task) -> datetime:
            seen.append(await step.now("started"))
            await step.sleep("night", 3600)
            return await step.now("ended")

        before = datetime.now(UTC)
        run = await dated.trigger(Task())
        await durably.process_one()
        clocks.wall += 3600
        await durably.process_one()
        done = await dated.get_run(run.id)
        assert done is not None
        assert done.output is not None
        assert seen[0] == seen[1]
        assert seen[0].utcoffset() == UTC.utcoffset(None)
        assert before <= seen[0]
        assert (done.output - seen[0]).total_seconds() >= 3600
        assert [step.name for step in await durably.get_steps(run.id)] == ["started", "night", "ended"]


async def test_ids_and_numbers_are_made_of_run_and_name_and_write_nothing(durably: Durably) -> None:
    seen: list[tuple[UUID, UUID, float, float]] = []

    @durably.job
    async def derived(step: StepContext, input: Task) -> None:
        found = (step.uuid("order"), step.uuid("invoice"), step.random("dice"), step.random("coin"))
        seen.append(found)
        if len(seen) == 1:
            raise RuntimeError("once more")

    first = await derived.trigger(Task())
    await durably.process_one()
    await durably.retry(first.id)
    await durably.process_one()
    await derived.trigger(Task())
    await durably.process_one()

    assert seen[0] == seen[1]
    everything = [value for found in (seen[0], seen[2]) for value in found]
    assert len(set(everything)) == len(everything)
    assert all(0 <= number < 1 for number in (*seen[0][2:], *seen[2][2:]))
    assert await durably.get_steps(first.id) == []


def test_derived_values_never_change_from_release_to_release() -> None:
    # Runs that wait while the library is upgraded must go on with what they had.
    run_id = "0190aaaa-0000-7000-8000-000000000000"
    assert str(uuid_of(run_id, "a/order")) == "d0deda5f-8ba1-5349-9943-0a5b7e9e1a00"
    assert random_of(run_id, "a/dice") == 0.3299494403519416


async def test_random_numbers_are_spread_evenly(durably: Durably) -> None:
    counts = [0] * 10

    @durably.job
    async def dice(step: StepContext, input: Task) -> None:
        for number in range(2000):
            counts[int(step.random(f"n{number}") * 10)] += 1

    await dice.trigger(Task())
    await durably.process_one()
    assert sum(counts) == 2000
    assert min(counts) > 140


HELPERS: dict[str, Callable[[StepContext, str], object]] = {
    "run": lambda step, name: step.run(name, lambda: 1),
    "now": lambda step, name: step.now(name),
    "uuid": lambda step, name: step.uuid(name),
    "random": lambda step, name: step.random(name),
    "map": lambda step, name: step.map(name, str, [1]),
    "sleep": lambda step, name: step.sleep(name, 0.001),
}


async def use(helper: str, step: StepContext, name: str) -> None:
    answer = HELPERS[helper](step, name)
    if not isinstance(answer, UUID | float):
        await cast("Awaitable[object]", answer)


@pytest.mark.parametrize("helper", HELPERS)
async def test_all_of_them_share_one_namespace_and_its_rules(durably: Durably, helper: str) -> None:
    kept: list[StepContext] = []
    problems: list[str] = []

    @durably.job
    async def named(step: StepContext, input: Task) -> None:
        kept.append(step)

        async def inside() -> None:
            with pytest.raises(NestedStepError):
                await use(helper, step, "inner")

        await step.run("taken", inside)
        with pytest.raises(DuplicateStepError) as caught:
            await use(helper, step, "taken")
        problems.append(str(caught.value))
        for name in ("", "a/b", "a[0]", "x" * 201):
            with pytest.raises(ValidationError):
                await use(helper, step, name)
        await use(helper, step.scope("own"), "taken")

    run = await named.trigger(Task())
    await durably.process_one()
    await durably.wait_for_run(run.id)
    assert "'taken' was called twice" in problems[0]
    with pytest.raises(StepOutsideRunError):
        await use(helper, kept[0], "late")


async def test_a_scope_lets_a_function_be_used_twice(durably: Durably) -> None:
    async def ship(step: StepContext, order: int) -> tuple[str, str, UUID]:
        async def label() -> str:
            return step.idempotency_key

        key = await step.run("label", label)
        (mapped,) = await step.map("parts", str, [order])
        await step.sleep("pause", 0.001)
        assert mapped == str(order)
        return key, step.idempotency_key, step.uuid("parcel")

    seen: list[tuple[str, str, UUID]] = []

    @durably.job
    async def shop(step: StepContext, input: Task) -> None:
        orders = step.scope("orders")
        seen.extend([await ship(orders.scope(str(order)), order) for order in (7, 8)])

    run = await shop.trigger(Task())
    await durably.process_one()
    await durably.wait_for_run(run.id)
    assert [step.name for step in await durably.get_steps(run.id)] == [
        f"orders/{order}/{name}" for order in (7, 8) for name in ("label", "parts", "parts[0]", "pause")
    ]
    assert [one[:2] for one in seen] == [
        (f"{run.id}:orders/{order}/label", f"{run.id}:orders/{order}/") for order in (7, 8)
    ]
    assert seen[0][2] != seen[1][2]


@pytest.mark.parametrize("prefix", ["", "a/b", "a[0]", "x" * 201, "nul\x00"])
async def test_a_prefix_that_cannot_be_used_is_refused(durably: Durably, prefix: str) -> None:
    @durably.job
    async def scoped(step: StepContext, input: Task) -> None:
        with pytest.raises(ValidationError, match="is no step name"):
            step.scope(prefix)

    run = await scoped.trigger(Task())
    await durably.process_one()
    await reach(durably, run.id, "completed")


async def test_a_child_in_a_scope_is_another_child(durably: Durably) -> None:
    @durably.job
    async def child(step: StepContext, input: Task) -> int:
        return input.number

    @durably.job
    async def parent(step: StepContext, input: Task) -> list[str]:
        return [await step.scope(str(n)).spawn("child", child, Task(number=n)) for n in range(2)]

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    done = await parent.get_run(run.id)
    assert done is not None
    assert len(set(done.output or [])) == 2


async def test_inline_everything_has_a_value_and_nothing_is_tried_again(durably: Durably) -> None:
    calls: list[int] = []

    @durably.job(retry=3)
    async def plain(step: StepContext, input: Task) -> str:
        assert (await step.now("now")).tzinfo is not None
        assert step.scope("a").uuid("id") != step.uuid("id")
        assert 0 <= step.random("dice") < 1
        with pytest.raises(DuplicateStepError):
            step.random("dice")

        def body() -> str:
            calls.append(1)
            if input.number:
                raise OSError("as it is")
            return step.idempotency_key

        return await step.scope("a").run("body", body, retry=Retry(5), timeout=5)

    assert await plain.run_inline(Task()) == "inline:a/body"
    with pytest.raises(OSError, match="as it is"):
        await plain.run_inline(Task(number=1))
    assert len(calls) == 2
