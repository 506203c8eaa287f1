"""What a step promises to the job that calls it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest
from pydantic import BaseModel, SecretStr

from durably import (
    DuplicateStepError,
    Durably,
    NestedStepError,
    RunFailedError,
    StepContext,
    StepFailed,
    StepOutsideRunError,
)


class Order(BaseModel):
    id: int = 1


class Receipt(BaseModel):
    number: int
    lines: tuple[str, ...] = ()


def one_to_three() -> list[int]:
    return [1, 2, 3]


async def receipt(number: int) -> Receipt:
    return Receipt(number=number, lines=("a", "b"))


async def test_results_are_stored_in_order_and_read_back(durably: Durably) -> None:
    @durably.job
    async def shop(step: StepContext, input: Order) -> Receipt:
        numbers = await step.run("numbers", one_to_three)
        assert numbers == [1, 2, 3]
        return await step.run("receipt", receipt, input.id)

    run = await shop.trigger(Order(id=7))
    assert await durably.process_one()

    done = await shop.get_run(run.id)
    assert done is not None
    assert done.status == "completed"
    assert done.output == Receipt(number=7, lines=("a", "b"))
    assert done.input == Order(id=7)
    assert done.completed_step_count == 2
    steps = await durably.get_steps(run.id)
    assert [(one.name, one.status, one.position, one.attempt) for one in steps] == [
        ("numbers", "completed", 1, 1),
        ("receipt", "completed", 2, 1),
    ]
    assert steps[0].result == [1, 2, 3]
    assert all(one.completed_at and one.started_at <= one.completed_at for one in steps)


async def test_a_finished_step_is_never_executed_again(durably: Durably) -> None:
    calls: list[str] = []

    @durably.job
    async def flaky(step: StepContext, input: Order) -> int:
        async def first() -> int:
            calls.append("first")
            return len(calls)

        async def second(before: int) -> int:
            calls.append("second")
            if len(calls) < 3:
                raise ConnectionError("try later")
            return before + 100

        return await step.run("second", second, await step.run("first", first))

    run = await flaky.trigger(Order())
    await durably.process_one()
    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.status == "failed"

    await durably.retry(run.id)
    await durably.process_one()

    assert calls == ["first", "second", "second"]
    assert (done := await flaky.get_run(run.id)) is not None
    assert done.output == 101


async def test_live_and_replayed_results_are_the_same(durably: Durably) -> None:
    seen: list[object] = []

    @durably.job
    async def compare(step: StepContext, input: Order) -> None:
        untyped: Callable[[], object] = lambda: {"pair": (1, 2)}
        seen.append(await step.run("untyped", untyped))
        seen.append(await step.run("typed", receipt, 1))
        if len(seen) == 2:
            raise RuntimeError("once more")

    run = await compare.trigger(Order())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    assert seen[:2] == seen[2:] == [{"pair": [1, 2]}, Receipt(number=1, lines=("a", "b"))]
    assert [type(one) for one in seen[:2]] == [type(one) for one in seen[2:]]


async def test_a_result_that_would_come_back_changed_fails_the_step_for_good(
    durably: Durably,
) -> None:
    class Login(BaseModel):
        secret: SecretStr

    calls: list[int] = []

    async def log_in() -> Login:
        calls.append(1)
        return Login(secret=SecretStr("hush"))

    @durably.job
    async def careless(step: StepContext, input: Order) -> None:
        await step.run("login", log_in)

    run = await careless.trigger(Order())
    await durably.process_one()

    with pytest.raises(RunFailedError, match=r"at \$\.secret: SecretStr") as caught:
        await durably.wait_for_run(run.id)
    assert "hush" not in str(caught.value)
    assert calls == [1]
    assert [step.status for step in await durably.get_steps(run.id)] == ["failed"]


async def test_an_uncaught_failure_is_kept_with_its_type_message_and_traceback(
    durably: Durably,
) -> None:
    def explode() -> None:
        raise ZeroDivisionError("no way")

    @durably.job
    async def doomed(step: StepContext, input: Order) -> None:
        await step.run("explode", explode)

    run = await doomed.trigger(Order())
    await durably.process_one()

    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ZeroDivisionError", "no way")
    assert failed.error.steps == ("explode",)
    assert failed.error.traceback is not None
    assert "in explode" in failed.error.traceback
    assert "durably/execution.py" not in failed.error.traceback
    (step,) = await durably.get_steps(run.id)
    assert step.status == "failed"
    assert step.error is not None
    assert step.error.type == "ZeroDivisionError"
    assert step.error.traceback is not None


async def test_a_caught_failure_is_the_same_on_every_replay(durably: Durably) -> None:
    calls: list[str] = []
    caught: list[tuple[str, str, int]] = []

    @durably.job
    async def careful(step: StepContext, input: Order) -> str:
        async def charge() -> None:
            calls.append("charge")
            raise ValueError("declined")

        try:
            await step.run("charge", charge)
        except StepFailed as error:
            caught.append((error.error_type, error.message, error.attempts))
        if len(caught) == 1:
            raise RuntimeError("the process stumbles")
        return "declined politely"

    run = await careful.trigger(Order())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    assert calls == ["charge"]
    assert caught == [("ValueError", "declined", 1)] * 2
    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == "declined politely"


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("grouped", [True, False])
async def test_retry_clears_every_step_that_failed_in_parallel(
    durably: Durably, grouped: bool, replayed: bool
) -> None:
    calls: list[str] = []
    broken, stumbles = True, replayed

    @durably.job
    async def both(step: StepContext, input: Order) -> None:
        async def fail(name: str) -> None:
            calls.append(name)
            if broken:
                raise ValueError(name)

        pair = [step.run(name, fail, name) for name in ("left", "right")]
        if stumbles:
            await asyncio.gather(*pair, return_exceptions=True)
            raise RuntimeError("before the failures were looked at")
        if grouped:
            async with asyncio.TaskGroup() as group:
                for one in pair:
                    group.create_task(one)
        else:
            await asyncio.gather(*pair)

    run = await both.trigger(Order())
    await durably.process_one()
    if replayed:
        stumbles = False
        await durably.retry(run.id)
        await durably.process_one()
        assert calls == ["left", "right"]
    broken = False
    await durably.retry(run.id)
    await durably.process_one()

    assert (done := await durably.get_run(run.id)) is not None
    assert done.status == "completed"
    assert sorted(calls) == ["left", "left", "right", "right"]


async def test_retry_leaves_a_failure_alone_that_the_job_had_handled(durably: Durably) -> None:
    calls: list[str] = []

    @durably.job
    async def handles(step: StepContext, input: Order) -> None:
        async def fail(name: str) -> None:
            calls.append(name)
            if calls.count("second") < 2:
                raise ValueError(name)

        with contextlib.suppress(StepFailed):
            await step.run("first", fail, "first")
        await step.run("second", fail, "second")

    run = await handles.trigger(Order())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    assert (done := await durably.get_run(run.id)) is not None
    assert done.status == "completed"
    assert calls == ["first", "second", "second"]


async def test_a_name_used_twice_is_an_error_that_names_both_places(durably: Durably) -> None:
    @durably.job
    async def twice(step: StepContext, input: Order) -> None:
        await step.run("same", one_to_three)
        await step.run("same", one_to_three)

    run = await twice.trigger(Order())
    await durably.process_one()

    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert failed.error.type == "durably.errors.DuplicateStepError"
    assert failed.error.message.count("test_steps.py:") == 2


async def test_a_step_within_a_step_is_refused(durably: Durably) -> None:
    problems: list[Exception] = []

    @durably.job
    async def nested(step: StepContext, input: Order) -> None:
        async def outer() -> None:
            try:
                await step.run("inner", one_to_three)
            except NestedStepError as error:
                problems.append(error)

        await step.run("outer", outer)

    await nested.trigger(Order())
    await durably.process_one()

    assert "'inner' was called inside step 'outer'" in str(problems[0])


async def test_an_ended_execution_refuses_every_call(durably: Durably) -> None:
    kept: list[StepContext] = []

    @durably.job
    async def leak(step: StepContext, input: Order) -> None:
        kept.append(step)

    run = await leak.trigger(Order())
    await durably.process_one()

    with pytest.raises(StepOutsideRunError, match=run.id):
        await kept[0].run("late", one_to_three)
    with pytest.raises(StepOutsideRunError):
        kept[0].log.info("late")
    with pytest.raises(StepOutsideRunError):
        kept[0].progress(1)


@pytest.mark.parametrize("name", ["", "a/b", "a[0]", "x" * 201, "nul\x00", "\ud800"])
async def test_names_that_cannot_be_used_are_refused(durably: Durably, name: str) -> None:
    @durably.job
    async def misnamed(step: StepContext, input: Order) -> None:
        await step.run(name, one_to_three)

    run = await misnamed.trigger(Order())
    await durably.process_one()

    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert "is no step name" in failed.error.message
    assert await durably.get_steps(run.id) == []


colour: ContextVar[str] = ContextVar("colour", default="none")


async def test_plain_functions_run_in_threads_with_the_callers_context(durably: Durably) -> None:
    where: list[tuple[bool, str]] = []

    @durably.job
    async def threaded(step: StepContext, input: Order) -> int:
        colour.set("green")

        def body(left: int, right: int) -> int:
            where.append((threading.current_thread() is threading.main_thread(), colour.get()))
            step.log.info("from a thread")
            return left + right

        return await step.run("add", body, 1, 2)

    run = await threaded.trigger(Order())
    await durably.process_one()

    assert where == [(False, "green")]
    assert [(line.message, line.step_name) for line in await durably.get_logs(run.id)] == [
        ("from a thread", "add")
    ]
    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == 3


async def test_a_thread_that_raises_stop_iteration_fails_its_step(durably: Durably) -> None:
    @durably.job
    async def exhausted(step: StepContext, input: Order) -> None:
        def body() -> int:
            empty: list[int] = []
            return next(iter(empty))

        await step.run("next", body)

    run = await exhausted.trigger(Order())
    await durably.process_one()

    assert (failed := await durably.get_run(run.id)) is not None
    assert failed.error is not None
    assert "StopIteration" in failed.error.message


async def test_a_lambda_may_answer_an_awaitable(durably: Durably) -> None:
    @durably.job
    async def short(step: StepContext, input: Order) -> int:
        return (await step.run("receipt", lambda: receipt(5), result=Receipt)).number

    run = await short.trigger(Order())
    await durably.process_one()

    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == 5


async def test_parallel_steps_keep_their_logs_apart(durably: Durably) -> None:
    @durably.job
    async def parallel(step: StepContext, input: Order) -> list[int]:
        gate = asyncio.Event()

        async def work(number: int) -> int:
            step.log.info(f"begin {number}")
            if number == 2:
                gate.set()
            await gate.wait()
            step.log.info(f"end {number}")
            return number

        step.log.info("before")
        results = await asyncio.gather(*(step.run(f"work-{n}", work, n) for n in range(3)))
        step.log.info("after")
        return results

    run = await parallel.trigger(Order())
    await durably.process_one()

    lines = await durably.get_logs(run.id)
    assert {(line.message, line.step_name) for line in lines} == {
        ("before", None),
        ("after", None),
        *((f"{word} {n}", f"work-{n}") for word in ("begin", "end") for n in range(3)),
    }
    assert [line.sequence for line in lines] == sorted({line.sequence for line in lines})
    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == [0, 1, 2]


async def test_keys_and_attempts_for_the_other_side(durably: Durably) -> None:
    keys: list[tuple[str, int]] = []

    @durably.job
    async def keyed(step: StepContext, input: Order) -> None:
        async def charge() -> None:
            keys.append((step.idempotency_key, step.attempt))
            if len(keys) < 3:
                raise ValueError("again")

        keys.append((step.idempotency_key, step.attempt))
        await step.run("charge", charge)

    run = await keyed.trigger(Order())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    assert keys == [
        (run.id, 1),
        (f"{run.id}:charge", 1),
        (run.id, 2),
        (f"{run.id}:charge", 1),
    ]


async def test_logs_and_progress_between_steps_are_not_repeated_on_replay(
    durably: Durably,
) -> None:
    executions = 0

    @durably.job
    async def chatty(step: StepContext, input: Order) -> None:
        nonlocal executions
        executions += 1
        step.log.info("hello", number=1)
        step.progress(1, 2, "half")
        await step.run("first", one_to_three)
        step.log.warning("between")
        await step.run("second", one_to_three)
        step.log.error("new", execution=executions)
        step.progress(2, 2)
        if executions == 1:
            raise RuntimeError("stumble")

    run = await chatty.trigger(Order())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    lines = await durably.get_logs(run.id)
    assert [(line.level, line.message, dict(line.fields)) for line in lines] == [
        ("info", "hello", {"number": 1}),
        ("warning", "between", {}),
        ("error", "new", {"execution": 1}),
        ("error", "new", {"execution": 2}),
    ]
    assert (done := await durably.get_run(run.id)) is not None
    assert done.progress is not None
    assert (done.progress.current, done.progress.total, done.progress.message) == (2, 2, None)


async def test_a_caught_duplicate_leaves_the_first_result_alone(durably: Durably) -> None:
    @durably.job
    async def stubborn(step: StepContext, input: Order) -> list[int]:
        first = await step.run("same", one_to_three)
        with pytest.raises(DuplicateStepError):
            await step.run("same", lambda: [9])
        return first

    run = await stubborn.trigger(Order())
    await durably.process_one()

    assert (done := await durably.get_run(run.id)) is not None
    assert done.output == [1, 2, 3]


async def test_run_inline_needs_no_store(durably: Durably) -> None:
    @durably.job
    async def plain(step: StepContext, input: Order) -> Receipt:
        step.log.info("inline")
        step.progress(1, 1)
        await step.run("numbers", one_to_three)
        return await step.run("receipt", receipt, input.id)

    assert await plain.run_inline(Order(id=3)) == Receipt(number=3, lines=("a", "b"))
    assert await durably.get_runs() == []


async def test_a_step_that_fails_inline_can_be_caught_and_is_raised_as_it_was(durably: Durably) -> None:
    keys: list[str] = []

    @durably.job
    async def careful(step: StepContext, input: Order) -> str:
        async def charge() -> None:
            keys.append(step.idempotency_key)
            raise ValueError("declined")

        try:
            await step.run("charge", charge)
        except StepFailed as error:
            if input.id == 1:
                return error.error_type
            raise
        return "charged"

    assert await careful.run_inline(Order(id=1)) == "ValueError"
    with pytest.raises(ValueError, match="declined"):
        await careful.run_inline(Order(id=2))
    assert keys == ["inline:charge"] * 2
