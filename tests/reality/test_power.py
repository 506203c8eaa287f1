"""The power is cut: what was acknowledged is there, and the database is whole.

The engine works on real files, on a disk that takes note of what SQLite writes and syncs. From the notes the tests
build what the disk may hold after a cut at any moment, and open each of these images with the engine.
"""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from durably import (
    Durability,
    Durably,
    JobDefinition,
    JobHandle,
    Run,
    RunFailedError,
    RunStatus,
    Step,
    StepContext,
    StepFailed,
    StepStatus,
    define_job,
)
from durably.stores.sqlite import upkeep
from tests.reality.disk import Disk, Entry, Synced, Written, recorded
from tests.reality.power import Image, images
from tests.volume import limit, volume

NAME = "app.db"
LEASE = 0.5


# What somebody was told, and how to see whether it is still true


@dataclass(frozen=True, slots=True)
class World:
    runs: Mapping[str, Run]
    steps: Mapping[tuple[str, str], Step]


@dataclass(frozen=True, slots=True)
class Triggered:
    run_id: str

    def holds_in(self, world: World) -> bool:
        return self.run_id in world.runs


@dataclass(frozen=True, slots=True)
class Stepped:
    run_id: str
    name: str
    status: StepStatus
    result: object = None

    def holds_in(self, world: World) -> bool:
        step = world.steps.get((self.run_id, self.name))
        return step is not None and (step.status, step.result) == (self.status, self.result)


@dataclass(frozen=True, slots=True)
class Ended:
    run_id: str
    status: RunStatus
    output: object = None

    def holds_in(self, world: World) -> bool:
        run = world.runs.get(self.run_id)
        return run is not None and (run.status, run.output) == (self.status, self.output)


@dataclass(frozen=True, slots=True)
class Signalled:
    """The signal that the run waits for was accepted."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Deleting:
    """From here on the run may be gone, and nothing else is certain about it."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    run_id: str

    def holds_in(self, world: World) -> bool:
        return self.run_id not in world.runs


def lost(facts: Sequence[object], world: World) -> list[object]:
    """What was said and is not true any more."""
    unsure = {fact.run_id for fact in facts if isinstance(fact, Deleting)}
    return [
        fact
        for fact in facts
        if (isinstance(fact, Triggered | Stepped | Ended) and fact.run_id not in unsure)
        or isinstance(fact, Deleted)
        if not fact.holds_in(world)
    ]


# The work


def the_job(disk: Disk) -> JobDefinition[int, str]:
    """A job whose checkpoints are of every size and kind, each said as soon as the job has it."""

    async def story(step: StepContext, input: int) -> str:
        async def work(name: str, size: int) -> None:
            value = await step.run(name, lambda: f"{input}/{name}" * size)
            disk.say(Stepped(step.run_id, name, "completed", value))

        await work("first", 1)
        step.log.info("between", input=input)
        await asyncio.gather(work("left", 40), work("right", 700))
        try:
            await step.run("divide", lambda: 1 // (input % 3))
        except StepFailed:
            disk.say(Stepped(step.run_id, "divide", "failed"))
        if input % 4 == 0:
            heard = await step.wait_for_signal("go", int)
            disk.say(Stepped(step.run_id, "go", "completed", heard))
        if input % 5 == 4:
            raise ValueError("as planned")
        await work("last", 3)
        return f"done {input}"

    return define_job(name="story", input=int, output=str, run=story)


def instance(
    disk: Disk, folder: Path, durability: Durability = "disk"
) -> tuple[Durably, JobHandle[int, str]]:
    durably = Durably(
        folder / NAME,
        durability=durability,
        polling_interval=60,
        stale_threshold=LEASE,
        heartbeat_interval=LEASE / 4,
    )
    return durably, durably.register(the_job(disk))


async def customer(durably: Durably, handle: JobHandle[int, str], number: int, disk: Disk) -> None:
    """Do to a run what people do to runs."""
    run = await handle.trigger(number, idempotency_key=f"{number}", labels={"n": f"{number}"})
    disk.say(Triggered(run.id))
    if number % 4 == 0:
        await durably.signal("go", number, run_id=run.id)
        disk.say(Signalled(run.id))
    if number % 7 == 3:
        await durably.cancel(run.id)
        disk.say(Ended(run.id, "cancelled"))
        return
    try:
        done = await durably.wait_for_run(run.id, timeout=20)
        disk.say(Ended(run.id, "completed", done.output))
    except RunFailedError:
        disk.say(Ended(run.id, "failed"))
    if number % 6 == 5:
        disk.say(Deleting(run.id))
        await durably.delete_run(run.id)
        disk.say(Deleted(run.id))


async def live(disk: Disk, durability: Durability = "disk") -> None:
    """Three days of work, the program ended properly after each."""
    for day in range(3):
        durably, handle = instance(disk, disk.folder, durability)
        async with durably:
            numbers = range(day * 12, day * 12 + 12)
            await asyncio.gather(*(customer(durably, handle, number, disk) for number in numbers))


@pytest.fixture
def often_written_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log goes back into the database, and begins again, many times in a short life."""
    monkeypatch.setattr(upkeep, "CHECKPOINT_FRAMES", 50)
    monkeypatch.setattr(upkeep, "CHECKPOINT_GAP", 0.01)


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where there is such a thing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def problems(database: Path) -> list[object]:
    """What SQLite itself finds wrong in the file."""
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        return [row[0] for row in found if row[0] != "ok"] + connection.execute(
            "PRAGMA foreign_key_check"
        ).fetchall()


async def after(image: Image, folder: Path) -> list[object]:
    """What was lost in this image, which is laid down whole and opened by the engine."""
    image.lay_down(folder)
    durably, _ = instance(Disk(folder), folder)
    try:
        await durably.migrate()
        runs = {run.id: run for run in await durably.get_runs()}
        steps = {(id, step.name): step for id in runs for step in await durably.get_steps(id)}
    finally:
        await durably.close()
    assert problems(folder / NAME) == []
    return lost(image.facts, World(runs, steps))


async def heal(image: Image, folder: Path) -> None:
    """Let a worker go on with what is left, to the end of every run."""
    durably, handle = instance(Disk(folder), folder)
    await durably.migrate()
    ended = {run.id: run for run in await handle.get_runs() if run.is_terminal}
    signalled = {fact.run_id for fact in image.facts if isinstance(fact, Signalled)}
    async with durably, asyncio.timeout(20):
        while unfinished := [run for run in await handle.get_runs() if not run.is_terminal]:
            for run in unfinished:
                if run.status == "waiting" and run.id not in signalled:
                    await durably.signal("go", run.input, run_id=run.id)
                    signalled.add(run.id)
            await asyncio.sleep(0.01)
        for run in await handle.get_runs():
            if run.id in ended:
                before = ended[run.id]
                assert (run.status, run.output, run.completed_at) == (
                    before.status,
                    before.output,
                    before.completed_at,
                )
            elif run.input % 5 == 4:
                assert run.status == "failed"
            else:
                assert (run.status, run.output) == ("completed", f"done {run.input}")


def cut(entries: Sequence[Entry], count: int, folder: Path) -> Iterator[tuple[Image, Path]]:
    """Images of cuts at random moments, each with an empty folder to be laid down in."""
    for number, image in enumerate(images(entries, count, seed=count)):
        place = folder / f"{number}"
        place.mkdir()
        try:
            yield image, place
        except BaseException as error:
            error.add_note(f"the power was cut after {image.at} of {len(entries)} notes")
            raise
        shutil.rmtree(place)


@limit(900)
@pytest.mark.usefixtures("often_written_back")
@pytest.mark.parametrize("has_shared_memory", [True, False], ids=["wal", "rollback-journal"])
async def test_nothing_acknowledged_is_lost_in_a_power_cut(
    tmp_path: Path, quick_folder: Path, has_shared_memory: bool
) -> None:
    with recorded(tmp_path, has_shared_memory=has_shared_memory) as disk:
        await live(disk)
    files = {entry.name for entry in disk.entries if isinstance(entry, Written)}
    assert files == ({f"{NAME}-wal"} if has_shared_memory else set()) | {NAME, f"{NAME}-journal"}
    cuts = volume(quick=250, ci=4000) if has_shared_memory else volume(quick=50, ci=1000)
    for number, (image, folder) in enumerate(cut(disk.entries, cuts, quick_folder)):
        assert await after(image, folder) == []
        if number % 25 == 0:
            await heal(image, folder)


@limit(300)
@pytest.mark.usefixtures("often_written_back")
async def test_with_durability_process_a_power_cut_takes_acknowledged_work_but_never_the_database(
    tmp_path: Path, quick_folder: Path
) -> None:
    with recorded(tmp_path) as disk:
        await live(disk, durability="process")
    cuts = volume(quick=50, ci=1000)
    losses = [await after(image, folder) for image, folder in cut(disk.entries, cuts, quick_folder)]
    struck = sum(1 for loss in losses if loss)
    assert cuts / 10 < struck < cuts


@pytest.mark.usefixtures("often_written_back")
async def test_the_disk_would_show_what_an_engine_loses_that_does_not_sync(
    tmp_path: Path, quick_folder: Path
) -> None:
    with recorded(tmp_path) as disk:
        await live(disk)
    unsynced = [entry for entry in disk.entries if not isinstance(entry, Synced)]
    broken = 0
    for image, folder in cut(unsynced, 20, quick_folder):
        try:
            broken += bool(await after(image, folder))
        except Exception:  # noqa: BLE001 - what is read from torn pages can be anything, as text that is no JSON
            broken += 1
    assert broken > 10
