"""The same step over a list."""

import asyncio
from collections import Counter

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    DuplicateStepError,
    Durably,
    MapFailed,
    NestedStepError,
    Retry,
    RunFailedError,
    StepContext,
    ValidationError,
)
from tests.core.test_waits import reach
from tests.core.unchecked import unchecked


class Task(BaseModel):
    items: list[str] = ["a", "b", "c"]


class Works:
    """A body that counts its calls and fails for some items."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.now: int = 0
        self.most: int = 0

    async def __call__(self, item: str) -> str:
        self.calls[item] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if item in self.broken:
                raise ValueError(f"no {item}")
        finally:
            self.now -= 1
        return item.upper()


async def test_each_item_is_a_step_and_the_results_come_in_their_order(durably: Durably) -> None:
    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", Works(), input.items, key=lambda item: f"k/{item}", result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["A", "B", "C"]
    steps = await durably.get_steps(run.id)
    assert {step.name: step.result for step in steps} == {
        "thumbs": ["k/a", "k/b", "k/c"],
        "thumbs[k/a]": "A",
        "thumbs[k/b]": "B",
        "thumbs[k/c]": "C",
    }


async def test_without_keys_items_are_told_apart_by_their_places(durably: Durably) -> None:
    def double(number: int) -> int:
        return 2 * number

    @durably.job
    async def doubled(step: StepContext, input: Task) -> list[int]:
        empty = await step.map("empty", double, [])
        return empty + await step.map("doubled", double, (5, 5))

    run = await doubled.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == [10, 10]
    names = [step.name for step in await durably.get_steps(run.id)]
    assert sorted(names) == ["doubled", "doubled[0]", "doubled[1]", "empty"]


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (None, 6)])
async def test_no_more_items_execute_at_a_time_than_the_limit_says(
    durably: Durably, limit: int | None, most: int
) -> None:
    works = Works()

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, input.items, limit=limit, result=str)

    run = await thumbs.trigger(Task(items=list("abcdef")))
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == list("ABCDEF")
    assert works.most == most


async def test_finished_items_are_not_executed_again(durably: Durably) -> None:
    works = Works()
    works.broken = {"b"}

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, input.items, result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    works.broken = set()
    await durably.retry(run.id)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["A", "B", "C"]
    assert works.calls == {"a": 1, "b": 2, "c": 1}


async def test_the_list_of_the_first_call_wins(durably: Durably) -> None:
    works, items = Works(), ["a", "b", "c"]
    works.broken = {"b"}

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, items, key=str, result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    works.broken = set()
    # Another order, one more, and one that has ended is gone.
    items[:] = ["z", "c", "b"]
    await durably.retry(run.id)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["A", "B", "C"]
    assert works.calls == {"a": 1, "b": 2, "c": 1}


async def test_an_unfinished_item_that_is_gone_from_the_list_is_an_error_that_names_it(
    durably: Durably,
) -> None:
    works, items = Works(), ["a", "b", "c"]
    works.broken = {"b"}

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, items, key=str, result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    items[:] = ["a", "c"]
    await durably.retry(run.id)
    await durably.process_one()
    with pytest.raises(RunFailedError, match=r"'thumbs\[b\]' has not ended, and its item is not in the list"):
        await durably.wait_for_run(run.id)


async def test_two_items_with_one_key_are_an_error_before_anything_is_called(durably: Durably) -> None:
    works = Works()
    problems: list[Exception] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> None:
        try:
            await step.map("thumbs", works, ["x", "ab", "b", "cb"], key=lambda item: item[-1])
        except DuplicateStepError as error:
            problems.append(error)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    assert "step 'thumbs[b]' was called twice in this run, at item 1 and at item 2" in str(problems[0])
    assert not works.calls
    assert await durably.get_steps(run.id) == []


@pytest.mark.parametrize("key", ["", "a[0]", "x" * 201, "nul\x00", 1.5, None])
async def test_keys_that_cannot_be_used_are_refused(durably: Durably, key: object) -> None:
    works = Works()
    problems: list[Exception] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> None:
        try:
            unchecked(step.map)("thumbs", works, ["a"], key={"a": key}.get)
        except ValidationError as error:
            problems.append(error)

    await thumbs.trigger(Task())
    await durably.process_one()
    assert "is no key for an item of 'thumbs'" in str(problems[0])
    assert not works.calls


@pytest.mark.parametrize("limit", [0, True, 1.5])
async def test_limits_that_cannot_be_used_are_refused(durably: Durably, limit: int) -> None:
    problems: list[Exception] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> None:
        try:
            await step.map("thumbs", Works(), ["a"], limit=limit)
        except ConfigurationError as error:
            problems.append(error)

    await thumbs.trigger(Task())
    await durably.process_one()
    assert "limit must be a whole number from 1" in str(problems[0])


async def test_once_an_item_has_failed_no_further_one_begins_and_the_others_end(durably: Durably) -> None:
    works = Works()
    works.broken = {"a", "c"}
    caught: list[tuple[str, list[str]]] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> str:
        try:
            await step.map("thumbs", works, input.items, key=str, limit=3, result=str)
        except MapFailed as error:
            caught.append((str(error), [one.step_name for one in error.failures]))
        if len(caught) == 1:
            raise RuntimeError("once more")
        return "handled"

    run = await thumbs.trigger(Task(items=list("abcdef")))
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    # The replay fails of the same items, and begins none.
    assert (await durably.wait_for_run(run.id)).output == "handled"
    assert works.calls == {"a": 1, "b": 1, "c": 1}
    assert caught[0] == caught[1]
    message, names = caught[0]
    assert names == ["thumbs[a]", "thumbs[c]"]
    assert message == (
        "step 'thumbs' failed: durably.errors.MapFailed: 2 of 6 items failed: "
        "thumbs[a]: ValueError: no a; thumbs[c]: ValueError: no c"
    )


async def test_a_retry_executes_exactly_the_items_that_failed(durably: Durably) -> None:
    works = Works()
    works.broken = {"a", "c"}

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, input.items, key=str, result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    failed = await reach(durably, run.id, "failed")
    assert failed.error is not None
    assert failed.error.steps == ("thumbs[a]", "thumbs[c]")
    works.broken = set()
    await durably.retry(run.id)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["A", "B", "C"]
    assert works.calls == {"a": 2, "b": 1, "c": 2}


async def test_each_item_has_attempts_of_its_own(durably: Durably) -> None:
    works = Works()
    works.broken = {"b"}
    durably.on("step:retry", lambda _: works.broken.clear())

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, input.items, key=str, retry=Retry(2, delay=0), result=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == ["A", "B", "C"]
    attempts = {step.name: len(step.attempts) for step in await durably.get_steps(run.id)}
    assert attempts == {"thumbs": 0, "thumbs[a]": 0, "thumbs[b]": 1, "thumbs[c]": 0}


async def test_each_item_has_an_idempotency_key_of_its_own_and_no_steps_within(durably: Durably) -> None:
    keys: list[str] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> None:
        async def body(item: str) -> None:
            keys.append(step.idempotency_key)
            with pytest.raises(NestedStepError):
                await step.run("inner", lambda: 1)

        await step.map("thumbs", body, ["a"], key=str)

    run = await thumbs.trigger(Task())
    await durably.process_one()
    await durably.wait_for_run(run.id)
    assert keys == [f"{run.id}:thumbs[a]"]


async def test_a_cancelled_map_ends_with_its_run(durably: Durably) -> None:
    begun = asyncio.Event()
    went_on: list[str] = []

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> None:
        async def body(item: str) -> None:
            begun.set()
            await asyncio.Event().wait()

        await step.map("thumbs", body, input.items, limit=1)
        went_on.append("after")

    run = await thumbs.trigger(Task())
    working = asyncio.ensure_future(durably.process_one())
    await begun.wait()
    await durably.cancel(run.id)
    await working
    await reach(durably, run.id, "cancelled")
    assert went_on == []


async def test_inline_a_map_is_a_loop(durably: Durably) -> None:
    works = Works()

    @durably.job
    async def thumbs(step: StepContext, input: Task) -> list[str]:
        return await step.map("thumbs", works, input.items, key=str, limit=2, result=str)

    assert await thumbs.run_inline(Task()) == ["A", "B", "C"]
    assert works.most == 1
    works.broken = {"b"}
    with pytest.raises(ValueError, match="no b"):
        await thumbs.run_inline(Task())
