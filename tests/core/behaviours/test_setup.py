"""SET: options, defaults, plugins, and two instances on one store."""

import os
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from durably import ConfigurationError, Durably, StepContext, job
from durably.configuration import worker_options
from tests.core.unchecked import unchecked

VERBS = [
    "migrate",
    "start",
    "stop",
    "init",
    "close",
    "register",
    "job",
    "get_job",
    "use",
    "on",
    "on_error",
    "get_run",
    "get_runs",
    "get_changes",
    "count_runs",
    "get_steps",
    "get_logs",
    "get_workers",
    "wait_for_run",
    "cancel",
    "retry",
    "retrigger",
    "cancel_runs",
    "retry_runs",
    "delete_run",
    "purge_runs",
    "process_one",
    "process_until_idle",
]


class Nothing(BaseModel):
    pass


@job
async def idle(step: StepContext, input: Nothing) -> None: ...


def test_the_front_door_has_its_verbs() -> None:
    """SET-2."""
    durably = Durably(":memory:")
    assert [verb for verb in VERBS if not callable(getattr(durably, verb, None))] == []


def test_the_defaults_are_the_documented_ones() -> None:
    """SET-3."""
    options = worker_options({})
    assert options.polling_interval == 1.0
    assert options.heartbeat_interval == 5.0
    assert options.lease_seconds == 30.0
    assert options.slots == 10
    assert options.retain is None
    assert (options.persist_logs, options.keep_results) == (True, True)


@pytest.mark.parametrize("slots", [1, 10, 1000])
def test_every_whole_number_of_slots_within_bounds_is_taken(slots: int) -> None:
    """SET-4."""
    assert worker_options({"max_concurrent_runs": slots}).slots == slots


@pytest.mark.parametrize("slots", [float("nan"), float("inf"), None, "3"])
def test_what_is_no_number_of_slots_is_refused(slots: object) -> None:
    """SET-4."""
    with pytest.raises(ConfigurationError, match="max_concurrent_runs must be a whole number"):
        unchecked(Durably)(":memory:", max_concurrent_runs=slots)


async def test_custom_values_are_taken_and_shown(url: str) -> None:
    """SET-5."""
    async with Durably(url, max_concurrent_runs=3, retain=timedelta(days=30), jobs=[idle]) as durably:
        (worker,) = await durably.get_workers()
        assert (worker.slots, worker.pid, worker.jobs) == (3, os.getpid(), ("idle",))
    assert worker_options({"retain": timedelta(days=30)}).retain == 30 * 86_400


@pytest.mark.parametrize("name", ["worker", "persist_logs", "keep_results"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be True or False, not 'no'"):
        unchecked(Durably)(":memory:", **{name: "no"})


# SET-7


async def started(*instances: Durably) -> list[str]:
    """Start these, and answer the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for instance in instances:
            await instance.init()
    return [str(one.message) for one in caught if one.category is RuntimeWarning]


async def test_two_workers_on_one_store_in_one_process_are_warned_about_once(tmp_path: Path) -> None:
    """SET-7."""
    file = tmp_path / "app.db"
    first, second, third = Durably(file), Durably(f"sqlite:///{file}"), Durably(str(file))
    try:
        assert await started(first) == []
        [message] = await started(second, third)
        assert "2 started Durably instances share one store" in message
        assert "worker=False" in message
        assert await started(first) == []
    finally:
        for instance in (first, second, third):
            await instance.close()


async def test_there_is_no_warning_once_the_first_was_stopped(tmp_path: Path) -> None:
    """SET-7."""
    first, second = Durably(tmp_path / "app.db"), Durably(tmp_path / "app.db")
    try:
        assert await started(first) == []
        await first.stop()
        assert await started(second) == []
        # And again for each pair.
        assert len(await started(first)) == 1
        await first.stop()
        await second.stop()
        assert len(await started(first, second)) == 1
    finally:
        await first.close()
        await second.close()


async def test_instances_that_share_nothing_or_do_not_work_are_not_warned_about(tmp_path: Path) -> None:
    """SET-7."""
    instances = [
        Durably(":memory:"),
        Durably(":memory:"),
        Durably(tmp_path / "a.db"),
        Durably(tmp_path / "b.db"),
        Durably(tmp_path / "a.db", worker=False),
    ]
    try:
        assert await started(*instances) == []
    finally:
        for instance in instances:
            await instance.close()


async def test_two_workers_on_one_store_object_are_warned_about(tmp_path: Path) -> None:
    """SET-7."""
    first = Durably(tmp_path / "app.db")
    store = first._store  # pyright: ignore[reportPrivateUsage]
    second, third = Durably(store), Durably(store)
    try:
        assert len(await started(second, third)) == 1
    finally:
        await second.stop()
        await third.close()


# PLG-1


class Recorder:
    """A plugin that counts triggers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def install(self, durably: Durably) -> None:
        durably.on("run:trigger", lambda event: self.heard.append(event.run_id))


async def test_plugins_add_themselves_at_once(durably: Durably) -> None:
    """PLG-1."""
    recorder = Recorder()
    known: list[object] = []
    durably.use(recorder)
    durably.use(lambda durably: known.append(durably.register(idle)))
    handle = durably.get_job("idle")
    assert handle is not None
    assert known == [handle]
    run = await handle.trigger(Nothing())
    assert recorder.heard == [run.id]


def test_what_is_no_plugin_is_refused() -> None:
    """PLG-1."""
    with pytest.raises(ConfigurationError, match=r"has install\(durably\); 7 is neither"):
        unchecked(Durably(":memory:").use)(7)
