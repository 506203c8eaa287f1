"""`on_failure`: a durable run that follows each failure, whichever way that came about."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from durably import (
    BatchItem,
    ConfigurationError,
    Durably,
    Event,
    FailedRun,
    JobAlreadyRegisteredError,
    Retry,
    Run,
    RunFailed,
    RunFailedError,
    RunTriggered,
    StepContext,
    StepFailed,
    define_job,
    job,
)
from tests.core.test_leases import Clocks
from tests.core.unchecked import unchecked


class Order(BaseModel):
    number: int = 0


@job
async def tell(step: StepContext, failed: FailedRun) -> str:
    return await step.run("tell", lambda: f"{failed.job_name}: {failed.error.message}", result=str)


@job(on_failure=tell)
async def pay(step: StepContext, order: Order) -> None:
    raise ValueError(f"no money for {order.number}")


async def followers(durably: Durably, of: Run) -> list[Run]:
    """The runs that follow a run, the oldest first."""
    return [run for run in reversed(await durably.get_runs()) if run.parent_id == of.id]


async def end_of(durably: Durably, run: Run) -> str:
    """How it ends."""
    try:
        await durably.wait_for_run(run.id, timeout=10)
    except RunFailedError as error:
        return error.error_message
    return "completed"


# What follows, and when


async def test_a_failed_run_is_followed_at_once_by_a_run_that_knows_it(durably: Durably) -> None:
    handle = durably.register(pay)
    await durably.start()
    run = await handle.trigger(Order(number=7), labels={"shop": "x"})
    assert (run.on_failure, await end_of(durably, run)) == (("tell",), "no money for 7")
    [follower] = await followers(durably, run)
    # No poll comes within an hour: the worker was rung.
    done = await durably.wait_for_run(follower.id, timeout=10)
    assert (done.output, done.parent_id, done.is_detached) == ("pay: no money for 7", run.id, True)
    failed = done.input
    assert isinstance(failed, FailedRun)
    ended = await durably.get_run(run.id)
    assert ended is not None
    assert (failed.run_id, failed.job_name, failed.failed_at) == (run.id, "pay", ended.completed_at)
    assert (failed.labels, failed.error) == ({"shop": "x"}, ended.error)
    assert Order.model_validate(failed.input) == Order(number=7)


async def test_the_follower_is_told_after_the_failure_and_before_it_starts(durably: Durably) -> None:
    told: list[Event] = []
    for name in ("run:trigger", "run:fail", "run:start"):
        unchecked(durably.on)(name, told.append)
    handle = durably.register(pay)
    run = await handle.trigger(Order())
    await durably.process_until_idle()
    [follower] = await followers(durably, run)
    kinds = [(type(event), getattr(event, "run_id", None)) for event in told]
    assert [kind for kind, id in kinds if id == follower.id][:1] == [RunTriggered]
    assert kinds.index((RunFailed, run.id)) + 1 == kinds.index((RunTriggered, follower.id))
    assert [event.job_name for event in told if isinstance(event, RunTriggered)] == ["pay", "tell"]


async def test_a_retry_that_fails_again_is_followed_again(durably: Durably) -> None:
    handle = durably.register(pay)
    run = await handle.trigger(Order())
    assert await durably.process_until_idle() == 2
    await durably.retry(run.id)
    assert len(await followers(durably, run)) == 1
    assert await durably.process_until_idle() == 2
    assert [one.status for one in await followers(durably, run)] == ["completed", "completed"]


async def test_attempts_are_followed_by_nobody_and_the_last_one_is(durably: Durably) -> None:
    handle = durably.register(
        define_job(
            name="flaky",
            input=Order,
            run=pay.function,
            retry=Retry(3, delay=0.001, jitter=False),
            on_failure=tell,
        )
    )
    await durably.start()
    run = await handle.trigger(Order())
    assert await end_of(durably, run) == "no money for 0"
    assert [one.job_name for one in await durably.get_runs()] == ["tell", "flaky"]


async def test_a_cancelled_run_is_followed_by_nobody(durably: Durably) -> None:
    begun = asyncio.Event()

    @durably.job(on_failure=tell)
    async def endless(step: StepContext, order: Order) -> None:
        begun.set()
        await asyncio.Event().wait()

    await durably.start()
    run = await endless.trigger(Order())
    await begun.wait()
    await durably.cancel(run.id)
    await durably.stop()
    assert await followers(durably, run) == []


async def test_a_run_whose_time_is_up_while_it_waits_is_followed(another: Callable[..., Durably]) -> None:
    clocks = Clocks()
    durably = another(environment=clocks, polling_interval=0.01)

    @durably.job(timeout=60, on_failure=tell)
    async def patient(step: StepContext, order: Order) -> None:
        await step.wait_for_signal("never", int)

    await durably.init()
    suspended = asyncio.Event()
    durably.on("run:wait", lambda _: suspended.set())
    run = await patient.trigger(Order())
    await asyncio.wait_for(suspended.wait(), 10)
    clocks.wall += 61
    assert "timeout" in await end_of(durably, run)
    [follower] = await followers(durably, run)
    assert await end_of(durably, follower) == "completed"


async def test_a_run_that_kills_its_workers_is_followed(another: Callable[..., Durably]) -> None:
    clocks = Clocks()
    killer = another(max_crashes=1)
    begun = asyncio.Event()

    async def deadly(step: StepContext, order: Order) -> None:
        begun.set()
        await asyncio.Event().wait()

    definition = define_job(name="deadly", input=Order, run=deadly, on_failure=tell)
    handle = killer.register(definition)
    await killer.init()
    run = await handle.trigger(Order())
    await begun.wait()
    undertaker = another(environment=clocks, max_crashes=1, polling_interval=0.01, jobs=[definition])
    told: list[str] = []
    undertaker.on("run:trigger", lambda event: told.append(event.job_name))
    # Its own clock says that the other one has been silent for long.
    clocks.wall += 60
    await undertaker.init()
    assert "workers in a row died" in await end_of(undertaker, run)
    [follower] = await followers(undertaker, run)
    assert await end_of(undertaker, follower) == "completed"
    assert told == ["tell"]


async def test_an_outcome_whose_writing_is_in_doubt_is_followed_once(
    durably: Durably, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit was made, its answer was an error, and the outcome is written again."""
    from durably.errors import StoreBusyError

    store = durably._store  # pyright: ignore[reportPrivateUsage]
    finish = store.finish
    answers: list[str] = []

    async def doubtful(*args: Any) -> str:
        answers.append(await finish(*args))
        if len(answers) == 1:
            raise StoreBusyError("who knows")
        return answers[-1]

    monkeypatch.setattr(store, "finish", doubtful)
    run = await durably.register(pay).trigger(Order())
    await durably.process_one()
    assert answers == ["applied", "applied"]
    assert len(await followers(durably, run)) == 1


async def test_an_error_that_is_no_proper_text_is_told_all_the_same(durably: Durably) -> None:
    @durably.job(on_failure=tell)
    async def read(step: StepContext, order: Order) -> None:
        raise FileNotFoundError("no file 'caf\udce9'")

    run = await read.trigger(Order())
    assert await durably.process_until_idle() == 2
    [follower] = await followers(durably, run)
    assert follower.output == r"read: no file 'caf\udce9'"


# Which runs have one


async def test_a_follower_that_fails_may_be_followed_itself(durably: Durably) -> None:
    @durably.job(on_failure=tell)
    async def tell_quietly(step: StepContext, failed: FailedRun) -> None:
        raise OSError("nobody hears")

    @durably.job(on_failure=tell_quietly)
    async def work(step: StepContext, order: Order) -> None:
        raise ValueError("no")

    run = await work.trigger(Order())
    assert run.on_failure == ("tell-quietly", "tell")
    assert await durably.process_until_idle() == 3
    [first] = await followers(durably, run)
    [second] = await followers(durably, first)
    assert (first.status, first.on_failure) == ("failed", ("tell",))
    assert (second.output, second.on_failure) == ("tell-quietly: nobody hears", ())


async def test_every_way_to_trigger_carries_it(durably: Durably) -> None:
    handle = durably.register(pay)

    @durably.job
    async def parent(step: StepContext, order: Order) -> None:
        await step.spawn("spawned", handle, Order(number=2))
        try:
            await step.invoke("invoked", pay, Order(number=1))
        except StepFailed:
            step.log.info("as expected")

    await parent.trigger(Order())
    batch = await handle.batch_trigger([Order(number=3), BatchItem(Order(number=4))])
    keyed = await handle.trigger(Order(number=5), concurrency_key="k")
    same = await handle.trigger(Order(number=9), concurrency_key="k", coalesce="skip")
    new = await handle.trigger(Order(number=6), concurrency_key="k", coalesce="replace")
    assert (same.id, same.on_failure, new.on_failure) == (keyed.id, ("tell",), ("tell",))
    await durably.process_until_idle()
    again = await durably.retrigger(batch[0].id)
    assert again.on_failure == ("tell",)
    await durably.process_until_idle()
    told = sorted(str(run.output) for run in await durably.get_runs(job_name="tell"))
    assert told == [f"pay: no money for {number}" for number in (1, 2, 3, 3, 4, 6)]


async def test_a_run_keeps_the_one_it_was_triggered_with(another: Callable[..., Durably]) -> None:
    """Another deploy executes it, whose job has none."""
    old, new = another(), another()
    await old.migrate()
    run = await old.register(pay).trigger(Order())
    await old.close()
    new.register(define_job(name="pay", input=Order, run=pay.function))
    await new.migrate()
    assert await new.process_until_idle() == 1
    [follower] = await followers(new, run)
    assert follower.status == "pending"
    new.register(tell)
    assert await new.process_until_idle() == 1
    [follower] = await followers(new, run)
    assert follower.output == "pay: no money for 0"


# How it is said


def test_the_follower_is_registered_with_its_job(durably: Durably) -> None:
    handle = durably.register(pay)
    assert handle.follow_ups == ("tell",)
    known = durably.get_job("tell")
    assert known is not None
    assert known.definition is tell
    # A handle will do.
    own = durably.job(name="other", on_failure=known)(pay.function)
    assert own.definition.on_failure is tell


def test_a_name_that_is_taken_leaves_neither_registered() -> None:
    durably = Durably(":memory:", jobs=[define_job(name="tell", input=Order, run=pay.function)])
    with pytest.raises(JobAlreadyRegisteredError, match="'tell' is already registered"):
        durably.register(pay)
    assert durably.get_job("pay") is None


def test_what_takes_no_failed_run_is_refused() -> None:
    async def work(step: StepContext, order: Order) -> None: ...

    told = "on_failure of job 'work' must be a job whose input is a FailedRun"
    for wrong, reason in ((pay, "; the input of job 'pay' does not fit Order"), (work, ", not <function")):
        with pytest.raises(ConfigurationError, match=told + reason):
            unchecked(job)(on_failure=wrong)(work)
        with pytest.raises(ConfigurationError, match=told + reason):
            unchecked(define_job)(name="work", input=Order, run=work, on_failure=wrong)


async def test_it_can_be_tried_like_any_job(durably: Durably) -> None:
    handle = durably.register(tell)
    run = await durably.register(pay).trigger(Order())
    await durably.process_until_idle()
    [follower] = await followers(durably, run)
    failed = follower.input
    assert isinstance(failed, FailedRun)
    assert await handle.run_inline(failed) == "pay: no money for 0"
    assert await handle.trigger(failed) is not None
    again = await durably.retrigger(follower.id)
    assert again.input == failed
