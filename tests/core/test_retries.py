"""Trying again: what is worth it, when, and what is left of it."""

import asyncio
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    Durably,
    Event,
    EventType,
    Fatal,
    Retry,
    RetryAfter,
    RunReattempted,
    Step,
    StepContext,
    StepFailed,
    StepRetried,
    ValidationError,
    define_job,
)
from durably.retries import MOST_ATTEMPTS, delay_after, wait_before_next
from tests.core.test_leases import Clocks
from tests.core.test_waits import reach
from tests.core.unchecked import unchecked

AT_ONCE = Retry(3, delay=0)
IN_AN_HOUR = Retry(3, delay=3600, max_delay=7200, jitter=False)


class Task(BaseModel):
    number: int = 0


class Flaky:
    """A body that fails a number of times."""

    def __init__(
        self, failures: int, make: Callable[[int], Exception] = lambda n: OSError(f"no {n}")
    ) -> None:
        self.calls: int = 0
        self._failures = failures
        self._make = make

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._make(self.calls)
        return self.calls


def attempts(step: Step) -> list[tuple[int, str, str]]:
    return [(one.number, one.error.type, one.error.message) for one in step.attempts]


# The rule


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attempts": 0}, f"from 1 to {MOST_ATTEMPTS}"),
        ({"attempts": MOST_ATTEMPTS + 1}, f"from 1 to {MOST_ATTEMPTS}"),
        ({"attempts": True}, "whole number"),
        ({"attempts": 2.5}, "whole number"),
        ({"attempts": 2, "delay": -1}, "delay must be a number of seconds"),
        ({"attempts": 2, "delay": float("nan")}, "delay must be"),
        ({"attempts": 2, "delay": "1"}, "delay must be"),
        ({"attempts": 2, "delay": 61}, "must not be above max_delay"),
        ({"attempts": 2, "max_delay": float("inf")}, "max_delay must be"),
        ({"attempts": 2, "factor": 0.5}, "factor must be a number from 1 on"),
        ({"attempts": 2, "factor": True}, "factor must be"),
        ({"attempts": 2, "on": ()}, "on must be an exception type"),
        ({"attempts": 2, "on": int}, "on must be an exception type"),
        ({"attempts": 2, "on": KeyboardInterrupt}, "on must be an exception type"),
        ({"attempts": 2, "on": "OSError"}, "on must be an exception type"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        unchecked(Retry)(**options)


def test_a_rule_is_a_frozen_value() -> None:
    assert Retry(3, delay=timedelta(seconds=2)) == Retry(3, delay=timedelta(seconds=2))
    with pytest.raises(FrozenInstanceError):
        unchecked(setattr)(AT_ONCE, "attempts", 4)


def test_delays_grow_by_their_factor_up_to_the_longest() -> None:
    rule = Retry(9, delay=timedelta(seconds=2), factor=3, max_delay=timedelta(minutes=1), jitter=False)
    assert [delay_after(rule, n, chance=0.9) for n in (1, 2, 3, 4, 5)] == [2, 6, 18, 54, 60]
    assert delay_after(rule, 5000, chance=0) == 60


def test_jitter_takes_up_to_half_of_a_delay_away() -> None:
    rule = Retry(9, delay=8, max_delay=8)
    assert [delay_after(rule, 1, chance=chance) for chance in (0, 0.5, 1)] == [4, 6, 8]


def wait(rule: Retry | None, error: Exception, failures: int = 1) -> float | None:
    return wait_before_next(rule, error, failures, chance=0)


def caused(error: Exception) -> StepFailed:
    failed = StepFailed("one", f"{type(error).__module__}.{type(error).__qualname__}", "no", 1)
    failed.__cause__ = error
    return failed


class OwnFatalError(Fatal):
    pass


def test_attempts_are_bounded() -> None:
    assert [wait(AT_ONCE, OSError(), n) for n in (1, 2, 3, 4)] == [0, 0, None, None]
    assert wait(None, OSError()) is None


def test_what_is_worth_another_attempt_is_told_by_type_or_by_a_function() -> None:
    by_type = Retry(2, delay=0, on=(ConnectionError, KeyError))
    assert wait(by_type, ConnectionResetError()) == 0
    assert wait(by_type, OSError()) is None
    by_word = Retry(2, delay=0, on=lambda error: "later" in str(error))
    assert wait(by_word, OSError("try later")) == 0
    assert wait(by_word, OSError("never")) is None


def test_a_fatal_error_is_never_tried_again_whatever_the_rule_says() -> None:
    eager = Retry(9, delay=0, on=lambda _: True)
    for error in (Fatal("no"), OwnFatalError("no"), ConfigurationError("no")):
        assert wait(eager, error) is None
        assert wait(eager, caused(error)) is None
        # As a replay tells it: the name of the type is all that is left.
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        assert wait(eager, StepFailed("one", name, "no", 1)) is None


def test_retry_after_sets_the_wait_and_asks_no_rule_but_the_number_of_attempts() -> None:
    strict = Retry(2, delay=1, max_delay=2, on=KeyError)
    assert wait(strict, RetryAfter(timedelta(minutes=5))) == 300
    assert wait(strict, caused(RetryAfter(7))) == 7
    assert wait(strict, RetryAfter(5), failures=2) is None


def test_a_replayed_failure_is_judged_by_the_name_of_its_type() -> None:
    rule = Retry(2, delay=0, on=ConnectionError)
    assert wait(rule, StepFailed("one", "ConnectionResetError", "no", 1)) == 0
    assert wait(rule, StepFailed("one", "ValueError", "no", 1)) is None
    assert wait(rule, StepFailed("one", "gone.module.Error", "no", 1)) == 0
    assert wait(Retry(2, delay=0, on=StepFailed), StepFailed("one", "ValueError", "no", 1)) == 0


def test_of_several_failures_each_must_be_worth_it() -> None:
    rule = Retry(2, delay=0, on=OSError)
    assert wait(rule, ExceptionGroup("", [OSError(), caused(ConnectionError())])) == 0
    assert wait(rule, ExceptionGroup("", [OSError(), ExceptionGroup("", [KeyError()])])) is None
    assert wait(rule, ExceptionGroup("", [RetryAfter(3), RetryAfter(9)])) == 9


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_retry_after_refuses_what_is_no_time(seconds: float | timedelta) -> None:
    with pytest.raises(ValidationError, match="not negative"):
        RetryAfter(seconds)


# Steps


async def test_a_step_that_fails_at_first_succeeds_in_the_end_and_shows_how(durably: Durably) -> None:
    flaky = Flaky(2)
    events: list[Event] = []
    names: tuple[EventType, ...] = ("step:start", "step:retry", "step:fail", "step:complete")
    for name in names:
        durably.on(name)(events.append)

    @durably.job
    async def eager(step: StepContext, input: Task) -> int:
        return await step.run("flaky", flaky, result=int, retry=AT_ONCE)

    run = await eager.trigger(Task())
    await durably.process_one()

    assert (await durably.wait_for_run(run.id)).output == 3
    (step,) = await durably.get_steps(run.id)
    assert (step.status, step.attempt, step.error, step.wake_at) == ("completed", 3, None, None)
    assert attempts(step) == [(1, "OSError", "no 1"), (2, "OSError", "no 2")]
    assert all(one.started_at <= one.ended_at <= step.started_at for one in step.attempts)
    assert "in __call__" in (step.attempts[0].error.traceback or "")
    told = [(event.type, getattr(event, "attempt", 0)) for event in events]
    assert told == [
        ("step:start", 1), ("step:retry", 1),
        ("step:start", 2), ("step:retry", 2),
        ("step:start", 3), ("step:complete", 3),
    ]  # fmt: skip
    retried = events[1]
    assert isinstance(retried, StepRetried)
    assert (retried.step_name, retried.error.message, retried.delay) == ("flaky", "no 1", 0)


async def test_a_failed_attempt_is_told_once_it_is_stored(durably: Durably) -> None:
    seen: list[tuple[str, str, int]] = []
    told = asyncio.Event()

    async def look(event: StepRetried) -> None:
        (step,) = await durably.get_steps(event.run_id)
        seen.append((step.name, step.status, len(step.attempts)))
        told.set()

    durably.on("step:retry", look)

    @durably.job
    async def eager(step: StepContext, input: Task) -> None:
        async def body() -> None:
            if step.attempt == 1:
                raise OSError("once")
            await told.wait()

        await step.run("flaky", body, retry=AT_ONCE)

    await eager.trigger(Task())
    await durably.process_one()
    assert seen == [("flaky", "running", 1)]


async def test_the_last_failure_is_the_checkpoint_and_counts_the_attempts(durably: Durably) -> None:
    flaky = Flaky(99)
    caught: list[tuple[str, int]] = []

    @durably.job
    async def doomed(step: StepContext, input: Task) -> None:
        try:
            await step.run("flaky", flaky, result=int, retry=AT_ONCE)
        except StepFailed as error:
            caught.append((error.message, error.attempts))
            raise

    run = await doomed.trigger(Task())
    await durably.process_one()

    assert flaky.calls == 3
    assert caught == [("no 3", 3)]
    (step,) = await durably.get_steps(run.id)
    assert (step.status, step.attempt) == ("failed", 3)
    assert attempts(step) == [(n, "OSError", f"no {n}") for n in (1, 2, 3)]


async def test_a_number_stands_for_so_many_attempts(durably: Durably) -> None:
    flaky = Flaky(99)

    @durably.job
    async def doomed(step: StepContext, input: Task) -> None:
        await step.run("flaky", flaky, result=int, retry=1)

    run = await doomed.trigger(Task())
    await durably.process_one()
    assert flaky.calls == 1
    assert (await durably.get_steps(run.id))[0].status == "failed"


@pytest.mark.parametrize("retry", [0, True, "3", 2.5])
async def test_a_retry_that_is_none_is_refused_before_anything_is_called(
    durably: Durably, retry: object
) -> None:
    flaky = Flaky(0)

    @durably.job
    async def wrong(step: StepContext, input: Task) -> None:
        unchecked(step.run)("flaky", flaky, retry=retry)

    run = await wrong.trigger(Task())
    await durably.process_one()
    failed = await durably.get_run(run.id)
    assert failed is not None
    assert failed.error is not None
    assert failed.error.type == "durably.errors.ConfigurationError"
    assert flaky.calls == 0


@pytest.mark.parametrize("unstorable", [False, True])
async def test_what_is_final_is_not_tried_again(durably: Durably, unstorable: bool) -> None:
    calls: list[int] = []

    @durably.job
    async def doomed(step: StepContext, input: Task) -> None:
        async def body() -> object:
            calls.append(1)
            if unstorable:
                # The effect is done; only its result cannot be kept.
                return {1, 2}
            raise Fatal("bad card")

        await step.run("pay", body, retry=Retry(5, delay=0, on=lambda _: True))

    run = await doomed.trigger(Task())
    await durably.process_one()
    (step,) = await durably.get_steps(run.id)
    assert calls == [1]
    assert (step.status, len(step.attempts)) == ("failed", 1)


async def test_a_rule_that_raises_fails_the_step_with_its_own_error(durably: Durably) -> None:
    def broken(error: Exception) -> bool:
        raise LookupError(f"asked about {error}")

    @durably.job
    async def doomed(step: StepContext, input: Task) -> None:
        await step.run("flaky", Flaky(1), result=int, retry=Retry(3, delay=0, on=broken))

    run = await doomed.trigger(Task())
    await durably.process_one()
    (step,) = await durably.get_steps(run.id)
    assert step.status == "failed"
    assert attempts(step) == [(1, "LookupError", "asked about no 1")]


async def test_a_failure_that_may_be_retried_only_by_a_rule_is_not_retried_without_one(
    durably: Durably,
) -> None:
    flaky = Flaky(1, lambda _: RetryAfter(0, "busy"))

    @durably.job
    async def doomed(step: StepContext, input: Task) -> None:
        await step.run("flaky", flaky, result=int)

    run = await doomed.trigger(Task())
    await durably.process_one()
    assert flaky.calls == 1
    (step,) = await durably.get_steps(run.id)
    assert attempts(step) == [(1, "durably.errors.RetryAfter", "busy")]


async def test_a_short_wait_stays_in_memory_and_a_cancel_interrupts_it(durably: Durably) -> None:
    failed = asyncio.Event()
    durably.on("step:retry", lambda _: failed.set())
    waits: list[Event] = []
    durably.on("run:wait", waits.append)
    flaky = Flaky(99)

    @durably.job
    async def eager(step: StepContext, input: Task) -> None:
        await step.run("flaky", flaky, result=int, retry=Retry(9, delay=0.9, jitter=False))

    run = await eager.trigger(Task())
    working = asyncio.ensure_future(durably.process_one())
    await failed.wait()
    await asyncio.sleep(0.02)
    assert not working.done()
    assert (await reach(durably, run.id, "running")).lease_owner is not None
    await durably.cancel(run.id)
    async with asyncio.timeout(0.5):
        await working
    assert (flaky.calls, waits) == (1, [])


async def test_a_long_wait_needs_no_worker(url: str) -> None:
    clocks = Clocks()
    flaky = Flaky(2)
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def patient(step: StepContext, input: Task) -> int:
            return await step.run("flaky", flaky, result=int, retry=IN_AN_HOUR)

        run = await patient.trigger(Task())
        for failures in (1, 2):
            assert await durably.process_one()
            waiting = await reach(durably, run.id, "waiting")
            assert waiting.lease_owner is None
            (step,) = await durably.get_steps(run.id)
            assert (step.status, step.attempt, flaky.calls) == ("running", failures, failures)
            assert [one.number for one in step.attempts] == list(range(1, failures + 1))
            assert step.wake_at is not None
            assert step.wake_at - step.attempts[-1].ended_at == timedelta(hours=failures)
            assert not await durably.process_one()
            clocks.wall += 3600 * failures
        assert await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == 3


async def test_retry_after_sets_the_delay_of_the_next_attempt(url: str) -> None:
    clocks = Clocks()
    flaky = Flaky(1, lambda _: RetryAfter(timedelta(days=2), "maintenance"))
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def patient(step: StepContext, input: Task) -> int:
            return await step.run("flaky", flaky, result=int, retry=AT_ONCE)

        run = await patient.trigger(Task())
        await durably.process_one()
        await reach(durably, run.id, "waiting")
        clocks.wall += 2 * 86_400 - 60
        assert not await durably.process_one()
        clocks.wall += 61
        assert await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == 2


async def test_a_long_wait_beside_a_sibling_that_executes_does_not_cut_it_off(url: str) -> None:
    clocks = Clocks()
    flaky, gate, slow_calls = Flaky(1), asyncio.Event(), [0]
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def both(step: StepContext, input: Task) -> list[int]:
            async def slow() -> int:
                slow_calls[0] += 1
                await gate.wait()
                return 10

            return list(
                await asyncio.gather(
                    step.run("flaky", flaky, result=int, retry=IN_AN_HOUR), step.run("slow", slow)
                )
            )

        run = await both.trigger(Task())
        failed = asyncio.Event()
        durably.on("step:retry", lambda _: failed.set())
        working = asyncio.ensure_future(durably.process_one())
        await failed.wait()
        await asyncio.sleep(0.02)
        assert not working.done()
        # The time comes while the sibling still executes: nothing has to be suspended.
        clocks.wall += 3600
        durably._work.ring()  # pyright: ignore[reportPrivateUsage]
        async with asyncio.timeout(2):
            while flaky.calls < 2:
                await asyncio.sleep(0.002)
        gate.set()
        await working
        assert (await durably.wait_for_run(run.id)).output == [2, 10]
        assert slow_calls == [1]


async def test_a_worker_that_stops_in_a_wait_leaves_the_attempts_that_were_made(
    another: Callable[..., Durably],
) -> None:
    flaky = Flaky(99)

    async def body(step: StepContext, input: Task) -> int:
        return await step.run("flaky", flaky, result=int, retry=Retry(4, delay=0.9, jitter=False, factor=1))

    job = define_job(name="patient", input=Task, output=int, run=body)
    clocks = Clocks()
    first, second = another(jobs=[job], environment=clocks), another(jobs=[job], environment=clocks)
    await first.init()
    handle = first.register(job)
    failed = asyncio.Event()
    first.on("step:retry", lambda _: failed.set())
    run = await handle.trigger(Task())
    await failed.wait()
    await first.stop(drain=0)

    assert flaky.calls == 1
    # The wait that was cut off is not begun again, and not passed over either.
    clocks.wall += 0.9
    again: asyncio.Queue[int] = asyncio.Queue()
    second.on("step:retry", lambda event: again.put_nowait(event.attempt))
    await second.init()
    for attempt in (2, 3):
        assert await again.get() == attempt
        clocks.wall += 0.9
    with pytest.raises(Exception, match="no 4"):
        await second.wait_for_run(run.id)
    assert flaky.calls == 4
    (step,) = await second.get_steps(run.id)
    assert [one.number for one in step.attempts] == [1, 2, 3, 4]


async def test_an_attempt_that_a_crash_cuts_off_is_begun_again_and_not_charged(
    another: Callable[..., Durably],
) -> None:
    calls: list[int] = []
    hang = asyncio.Event()

    async def body(step: StepContext, input: Task) -> None:
        async def attempt() -> None:
            calls.append(step.attempt)
            if len(calls) == 3:
                hang.set()
                await asyncio.Event().wait()
            raise OSError(f"no {len(calls)}")

        await step.run("flaky", attempt, retry=Retry(5, delay=0))

    job = define_job(name="crashing", input=Task, run=body)
    owner, heir = Clocks(), Clocks()
    first, second = another(jobs=[job], environment=owner), another(jobs=[job], environment=heir)
    await first.init()
    run = await first.register(job).trigger(Task())
    await hang.wait()
    # To the heir the owner has been silent for too long; to the owner the time has passed as well.
    heir.wall = 60
    owner.steady = 60
    await second.init()
    with pytest.raises(Exception, match="no 6"):
        await second.wait_for_run(run.id)
    # Two failed, the third was cut off; then the three that were left.
    assert len(calls) == 6
    (step,) = await second.get_steps(run.id)
    assert [one.error.message for one in step.attempts] == ["no 1", "no 2", "no 4", "no 5", "no 6"]


async def test_a_persons_retry_gives_fresh_attempts_and_keeps_the_history(durably: Durably) -> None:
    flaky = Flaky(4)

    @durably.job
    async def doomed(step: StepContext, input: Task) -> int:
        return await step.run("flaky", flaky, result=int, retry=AT_ONCE)

    run = await doomed.trigger(Task())
    await durably.process_one()
    await durably.retry(run.id)
    await durably.process_one()

    assert (await durably.wait_for_run(run.id)).output == 5
    (step,) = await durably.get_steps(run.id)
    assert [(one.number, one.error.message) for one in step.attempts] == [
        (1, "no 1"), (2, "no 2"), (3, "no 3"), (1, "no 4"),
    ]  # fmt: skip


async def test_a_cancelled_wait_is_not_waited_for_again_after_a_retry(url: str) -> None:
    clocks = Clocks()
    flaky = Flaky(3)
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def patient(step: StepContext, input: Task) -> int:
            return await step.run("flaky", flaky, result=int, retry=IN_AN_HOUR)

        run = await patient.trigger(Task())
        await durably.process_one()
        clocks.wall += 3600
        await durably.process_one()
        await reach(durably, run.id, "waiting")
        await durably.cancel(run.id)
        await durably.retry(run.id)
        assert await durably.process_one()
        # A fresh budget: the third failure is the first that counts.
        await reach(durably, run.id, "waiting")
        assert flaky.calls == 3
        clocks.wall += 3600
        assert await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == 4


# Jobs


async def test_a_job_begins_again_once_its_steps_attempts_are_spent(durably: Durably) -> None:
    flaky, other = Flaky(3), Flaky(0)
    events: list[Event] = []
    durably.on("run:reattempt", events.append)
    durably.on("run:fail", events.append)

    @durably.job(retry=Retry(2, delay=0))
    async def again(step: StepContext, input: Task) -> int:
        await step.run("other", other, result=int)
        return await step.run("flaky", flaky, result=int, retry=Retry(2, delay=0))

    run = await again.trigger(Task())
    await durably.process_one()

    pending = await durably.get_run(run.id)
    assert pending is not None
    assert (pending.status, pending.attempt, flaky.calls) == ("pending", 2, 2)
    assert pending.error is not None
    assert (pending.error.message, pending.error.steps) == ("no 2", ("flaky",))
    await durably.process_one()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.attempt, done.error) == (4, 2, None)
    assert other.calls == 1
    step = (await durably.get_steps(run.id))[1]
    assert [one.error.message for one in step.attempts] == ["no 1", "no 2", "no 3"]
    (event,) = events
    assert isinstance(event, RunReattempted)
    assert (event.attempt, event.error.message, event.delay) == (1, "no 2", 0)


async def test_a_job_fails_once_its_own_attempts_are_spent_and_a_retry_gives_fresh_ones(
    durably: Durably,
) -> None:
    flaky = Flaky(3)

    @durably.job(retry=Retry(2, delay=0))
    async def again(step: StepContext, input: Task) -> int:
        return await flaky()

    run = await again.trigger(Task())
    assert run.attempt == 1
    assert await durably.process_until_idle() == 2
    assert (await reach(durably, run.id, "failed")).attempt == 2
    assert flaky.calls == 2
    assert (await durably.retry(run.id)).attempt == 1
    assert await durably.process_until_idle() == 2
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.attempt) == (4, 2)


async def test_a_job_that_waits_for_its_next_attempt_costs_a_row_and_keeps_its_key(url: str) -> None:
    clocks = Clocks()
    flaky = Flaky(1)
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job(retry=IN_AN_HOUR)
        async def again(step: StepContext, input: Task) -> int:
            return await flaky()

        first = await again.trigger(Task(), concurrency_key="k")
        second = await again.trigger(Task(), concurrency_key="k")
        assert await durably.process_one()
        waiting = await reach(durably, first.id, "pending")
        assert waiting.due_at is not None
        assert waiting.due_at - waiting.updated_at == timedelta(hours=1)
        assert not await durably.process_one()
        assert await durably._store.sweep() == 0  # pyright: ignore[reportPrivateUsage]
        clocks.wall += 3600
        assert await durably.process_one()
        await reach(durably, second.id, "pending")
        assert (await durably.wait_for_run(first.id)).output == 2
        assert await durably.process_one()
        assert (await durably.wait_for_run(second.id)).output == 3


@pytest.mark.parametrize("inside", [True, False])
async def test_a_fatal_error_ends_a_job_that_would_be_tried_again(durably: Durably, inside: bool) -> None:
    @durably.job(retry=Retry(9, delay=0, on=lambda _: True))
    async def doomed(step: StepContext, input: Task) -> None:
        async def refuse() -> None:
            raise Fatal("bad card")

        if inside:
            await step.run("pay", refuse)
        await refuse()

    run = await doomed.trigger(Task())
    assert await durably.process_until_idle() == 1
    assert (await reach(durably, run.id, "failed")).attempt == 1


async def test_a_failure_that_the_job_handled_stays_when_it_begins_again(durably: Durably) -> None:
    handled, flaky = Flaky(1), Flaky(1)

    @durably.job(retry=AT_ONCE)
    async def again(step: StepContext, input: Task) -> bool:
        try:
            await step.run("handled", handled, result=int)
        except StepFailed:
            await step.run("flaky", flaky, result=int)
            return True
        return False

    run = await again.trigger(Task())
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output is True
    assert (handled.calls, flaky.calls) == (1, 2)


async def test_a_cancelled_run_forgets_no_step_that_has_succeeded_since_its_job_failed(
    durably: Durably,
) -> None:
    flaky, gate, reached = Flaky(1), asyncio.Event(), asyncio.Event()

    @durably.job(retry=AT_ONCE)
    async def again(step: StepContext, input: Task) -> int:
        value = await step.run("flaky", flaky, result=int)
        reached.set()
        await gate.wait()
        return value

    run = await again.trigger(Task())
    await durably.process_one()
    working = asyncio.ensure_future(durably.process_one())
    await reached.wait()
    await durably.cancel(run.id)
    await working
    # Its error still names the step whose failure sent the job back.
    gate.set()
    await durably.retry(run.id)
    await durably.process_one()
    assert (await durably.wait_for_run(run.id)).output == 2
    assert flaky.calls == 2


async def test_definitions_take_the_rule_too() -> None:
    async def body(step: StepContext, input: Task) -> None: ...

    job = define_job(name="defined", input=Task, run=body, retry=3, timeout=timedelta(minutes=1))
    assert (job.retry, job.timeout) == (Retry(3), 60)
    with pytest.raises(ConfigurationError, match="retry must be"):
        unchecked(define_job)(name="wrong", input=Task, run=body, retry="3")
    with pytest.raises(ConfigurationError, match="timeout must be"):
        define_job(name="wrong", input=Task, run=body, timeout=0)


async def test_a_long_wait_beside_waiting_siblings_suspends_the_run(url: str) -> None:
    clocks = Clocks()
    flaky = Flaky(1)
    async with Durably(url, environment=clocks, polling_interval=60, worker=False) as durably:

        @durably.job
        async def both(step: StepContext, input: Task) -> list[int]:
            async def nap() -> int:
                await step.sleep("night", 3600)
                return 10

            return list(await asyncio.gather(step.run("flaky", flaky, result=int, retry=IN_AN_HOUR), nap()))

        run = await both.trigger(Task())
        waits: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        durably.on("run:wait", lambda event: waits.put_nowait(tuple(sorted(event.steps))))
        failed = asyncio.Event()
        durably.on("step:retry", lambda _: failed.set())
        working = asyncio.ensure_future(durably.process_one())
        await failed.wait()
        async with asyncio.timeout(10):
            while [step.kind for step in await durably.get_steps(run.id)].count("sleep") == 0:
                await asyncio.sleep(0.005)
            # Nothing begins or ends for a second; the lease is far longer.
            for _ in range(20):
                clocks.steady += 1.1
                durably._work.ring()  # pyright: ignore[reportPrivateUsage]
                await asyncio.wait({working}, timeout=0.05)
            await working
        assert await waits.get() == ("flaky", "night")
        await reach(durably, run.id, "waiting")
        clocks.wall += 3601
        assert await durably.process_one()
        assert (await durably.wait_for_run(run.id)).output == [2, 10]


async def test_a_child_whose_failure_sent_its_parents_job_back_is_retried_in_its_place(
    durably: Durably,
) -> None:
    flaky = Flaky(1)

    @durably.job
    async def child(step: StepContext, input: Task) -> int:
        return await flaky()

    @durably.job(retry=Retry(2, delay=0))
    async def parent(step: StepContext, input: Task) -> int:
        return await step.invoke("child", child, Task())

    run = await parent.trigger(Task())
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.attempt) == (2, 2)
    assert len(await child.get_runs()) == 1
