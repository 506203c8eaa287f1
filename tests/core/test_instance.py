"""The front door: its options, its life, its registry."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from durably import (
    ConfigurationError,
    Durably,
    JobAlreadyRegisteredError,
    NotRunningError,
    SchemaMissingError,
    StepContext,
    ValidationError,
    create_durably,
    define_job,
    job,
)
from tests.core.unchecked import unchecked


class Empty(BaseModel):
    pass


async def nothing(step: StepContext, input: Empty) -> None:
    """Do nothing at all."""


async def talk(step: StepContext, input: Empty) -> None:
    for number in (1, 2, 3):
        step.log.info(str(number))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurrent_runs": 0}, "from 1 to 1000"),
        ({"max_concurrent_runs": -1}, "from 1 to 1000"),
        ({"max_concurrent_runs": 1001}, "from 1 to 1000"),
        ({"max_concurrent_runs": 1.5}, "whole number"),
        ({"max_concurrent_runs": True}, "whole number"),
        ({"polling_interval": 0}, "positive number of seconds"),
        ({"polling_interval": float("nan")}, "positive number of seconds"),
        ({"heartbeat_interval": timedelta(0)}, "positive number of seconds"),
        ({"heartbeat_interval": 20}, "at most half of stale_threshold"),
        ({"stale_threshold": "30s"}, "positive number of seconds"),
        ({"retain": "30d"}, "positive number of seconds"),
        ({"durability": "maybe"}, "'disk' or 'process'"),
        ({"max_crashes": 0}, "from 1 to"),
        ({"pollingInterval": 1}, r"unknown option 'pollingInterval' \(did you mean 'polling_interval'\?\)"),
        ({"nonsense": 1}, "unknown option 'nonsense'; there are: "),
    ],
)
def test_an_option_that_cannot_be_used_says_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        unchecked(create_durably)(":memory:", **options)


@pytest.mark.parametrize("way", ["durably.job", "job", "define_job"])
def test_an_option_of_a_job_that_there_is_not_is_refused(way: str) -> None:
    async def work(step: StepContext, input: int) -> None: ...

    ways: dict[str, Callable[[dict[str, object]], object]] = {
        "durably.job": lambda options: unchecked(Durably(":memory:").job)(**options)(work),
        "job": lambda options: unchecked(job)(**options)(work),
        "define_job": lambda options: unchecked(define_job)(name="work", input=int, run=work, **options),
    }
    with pytest.raises(
        ConfigurationError, match=r"of job 'work': 'retries' \(did you mean 'retry'\?\); there"
    ):
        ways[way]({"retries": 3})
    with pytest.raises(ConfigurationError, match="unknown option of job 'work': 'x'; there are: "):
        ways[way]({"x": 3, "timeout": 1})


@pytest.mark.parametrize("url", ["postgresql://localhost/x", "mysql://x", "sqlite://relative.db"])
def test_a_place_that_cannot_be_opened_says_what_can(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///relative/path"):
        Durably(url)


@pytest.mark.parametrize("form", ["sqlite:///{}", "{}", "path"])
async def test_a_file_is_named_by_url_or_path(tmp_path: Path, form: str) -> None:
    file = tmp_path / "runs.db"
    async with Durably(file if form == "path" else form.format(file)):
        pass
    assert file.stat().st_mode & 0o777 == 0o600


async def test_starting_without_tables_is_a_clear_error(file_url: str) -> None:
    durably = Durably(file_url)
    with pytest.raises(SchemaMissingError, match="migrate"):
        await durably.start()
    await durably.close()


async def test_verbs_of_a_closed_instance_are_a_clear_error(url: str) -> None:
    durably = Durably(url)
    handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
    with pytest.raises(NotRunningError):
        await handle.trigger(Empty())
    async with durably:
        await handle.trigger(Empty())
    with pytest.raises(NotRunningError):
        await durably.get_runs()
    await durably.close()


async def test_an_instance_lives_again_after_stop(durably: Durably) -> None:
    handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
    for _ in range(3):
        await durably.start()
        await handle.trigger_and_wait(Empty(), timeout=5)
        await durably.stop()
        await durably.stop()
    assert len(await durably.get_runs(status="completed")) == 3


def test_an_instance_lives_again_in_another_event_loop(url: str) -> None:
    """As in a test for each of which a web application is started anew, around one instance of the module."""
    durably = Durably(url, polling_interval=60)

    @durably.job
    async def doubled(step: StepContext, number: int) -> int:
        step.log.info("begun")
        await step.sleep("a moment", 0.01)
        return await step.run("double", lambda: 2 * number)

    async def live(number: int) -> object:
        # Two open it at once, and one has to wait for the other.
        await asyncio.gather(durably.init(), durably.init())
        try:
            first = await doubled.trigger_and_wait(number, timeout=20)
            # By now the worker waits for the bell.
            run = await doubled.trigger(first.output)
            lines = [update async for update in durably.subscribe(run.id)]
            assert len(lines) > 3
            return (await durably.wait_for_run(run.id, timeout=20)).output
        finally:
            await durably.close()

    assert [asyncio.run(live(number)) for number in range(3)] == [0, 4, 8]


async def test_migrating_again_and_at_once_changes_nothing(another: Callable[..., Durably]) -> None:
    instances = [another(worker=False) for _ in range(4)]
    await asyncio.gather(*(instance.migrate() for instance in instances))
    await asyncio.gather(*(instance.init() for instance in instances))
    assert await instances[0].get_runs() == []


async def test_an_instance_leaves_no_task_behind(url: str) -> None:
    before = asyncio.all_tasks()
    async with Durably(url) as durably:
        handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
        await handle.trigger_and_wait(Empty(), timeout=5)
    assert asyncio.all_tasks() == before


async def test_close_lets_waiters_go(url: str) -> None:
    durably = Durably(url, worker=False)
    await durably.init()
    handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
    waiting = asyncio.create_task(handle.trigger_and_wait(Empty()))
    watches = durably._waiters._watches  # pyright: ignore[reportPrivateUsage]
    while not any(watch.seen for several in watches.values() for watch in several):
        await asyncio.sleep(0.001)
    await durably.close()
    async with asyncio.timeout(5):
        with pytest.raises(NotRunningError, match="was closed"):
            await waiting


async def test_registered_jobs_are_listed_by_name(durably: Durably) -> None:
    first = durably.register(define_job(name="b", input=Empty, run=nothing))
    second = durably.register(define_job(name="a", input=Empty, run=nothing))

    assert dict(durably.jobs) == {"b": first, "a": second}
    assert list(durably.jobs) == ["b", "a"]
    assert first.definition.doc == "Do nothing at all."
    assert durably.environment.now() > 0


async def test_the_end_of_a_log_is_asked_for_with_a_limit(durably: Durably) -> None:
    handle = durably.register(define_job(name="it", input=Empty, run=talk))
    run = await handle.trigger(Empty())
    await durably.process_until_idle()

    assert [line.message for line in await durably.get_last_logs(run.id, limit=2)] == ["2", "3"]
    last = (await durably.get_last_logs(run.id, limit=1))[0]
    assert [line.message for line in await durably.get_last_logs(run.id, limit=9, before=last.sequence)] == [
        "1",
        "2",
    ]
    with pytest.raises(ValidationError, match="must not be negative"):
        await durably.get_last_logs(run.id, limit=-1)


async def test_a_worker_that_is_not_wanted_executes_nothing(url: str) -> None:
    async with Durably(url, worker=False) as durably:
        handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
        run = await handle.trigger(Empty())
        await asyncio.sleep(0.05)
        assert (still := await durably.get_run(run.id)) is not None
        assert still.status == "pending"
        assert await durably.get_workers() == []
        assert await durably.process_one()


async def test_old_runs_are_purged_by_themselves(url: str) -> None:
    async with Durably(url, retain=0.05) as durably:
        handle = durably.register(define_job(name="nothing", input=Empty, run=nothing))
        await handle.trigger_and_wait(Empty(), timeout=5)
        async with asyncio.timeout(5):
            while await durably.get_runs():
                await asyncio.sleep(0.01)


# The registry


def test_the_same_definition_gives_the_same_handle() -> None:
    durably = Durably(":memory:")
    definition = define_job(name="nothing", input=Empty, run=nothing)
    handle = durably.register(definition)
    assert durably.register(definition) is handle
    assert durably.get_job("nothing") is handle
    assert durably.get_job("something") is None
    assert handle.definition.doc == "Do nothing at all."
    with pytest.raises(JobAlreadyRegisteredError, match="'nothing' is already registered"):
        durably.register(define_job(name="nothing", input=Empty, run=nothing))


def test_jobs_may_be_given_at_once() -> None:
    definition = define_job(name="nothing", input=Empty, run=nothing)
    assert Durably(":memory:", jobs=[definition]).get_job("nothing") is not None


def test_a_decorated_function_becomes_a_job() -> None:
    @job
    async def send_mail(step: StepContext, input: Empty) -> int:
        return 1

    @job(name="mail.send")
    async def _other(step: StepContext, input: Empty) -> None: ...

    assert (send_mail.name, _other.name) == ("send-mail", "mail.send")
    durably = Durably(":memory:")

    @durably.job(name="third")
    async def third(step: StepContext, input: Empty) -> None: ...

    assert third.name == "third"
    assert repr(third) == "<JobHandle third>"


def test_functions_that_are_no_jobs_are_refused() -> None:
    def plain(step: StepContext, input: Empty) -> None: ...

    async def too_few(step: StepContext) -> None: ...

    async def untyped(step: StepContext, input: Empty) -> None: ...

    async def unsaid(step: StepContext, input: Empty) -> None: ...

    async def lost(step: StepContext, input: Empty) -> None: ...

    del untyped.__annotations__["input"], unsaid.__annotations__["return"]
    lost.__annotations__["input"] = "Nowhere"
    cases: tuple[tuple[object, str], ...] = (
        (plain, "must be an async function"),
        (too_few, r"must take \(step, input\)"),
        (untyped, "no annotation for 'input'"),
        (unsaid, "no annotation for 'return'"),
        (lost, "cannot be resolved"),
    )
    for function, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            unchecked(job)(function)
    for name in ("", "two words", "-x", "x" * 201, "*"):
        with pytest.raises(ConfigurationError, match="is no job name"):
            define_job(name=name, input=Empty, run=nothing)
