"""A `KillLoop` kills really, finds what is broken, and leaves nobody behind."""

import asyncio
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import pytest

from durably import Durably
from durably_testing.errors import NothingTestedError, PromiseBroken
from durably_testing.killing.evidence import (
    Evidence,
    KillMoment,
    Line,
    What,
    contradictions,
    effects,
    note_effect,
)
from durably_testing.killing.kill_loop import KillLoop
from durably_testing.killing.mortals import Brief, Fate
from durably_testing.killing.warden import KillLoopError, WardenProcess
from durably_testing.oracle import invariant_triggers, violations
from durably_testing.removals import losses, remember_removals
from tests.testing import killed_apps, threaded_app
from tests.testing.killed_apps import letter
from tests.volume import volume

MOMENTS: tuple[KillMoment, ...] = ("run begins", "step begins", "effect", "step saved")


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_runs_survive_the_death_of_their_workers(tmp_path: Path) -> None:
    async with KillLoop(killed_apps.app, tmp_path, kills=4) as loop:
        handle = loop.durably.register(letter)
        runs = [await handle.trigger(number) for number in range(12)]
        while not loop.is_over:
            await asyncio.sleep(0.01)
            runs.append(await handle.trigger(99))
    assert len(loop.kills) == 4
    assert {run.status for run in loop.runs} == {"completed"}
    assert {run.id for run in loop.runs} == {run.id for run in runs}
    assert loop.crashes > 0
    assert len(runs) <= loop.effects["send"] <= len(runs) + loop.crashes
    assert not any(is_there(kill.pid) for kill in loop.kills)


@pytest.mark.parametrize("moment", MOMENTS[-volume(quick=2, ci=4, nightly=4) :])
async def test_a_worker_dies_at_the_moment_that_was_asked_for(tmp_path: Path, moment: KillMoment) -> None:
    async with KillLoop(killed_apps.app, tmp_path, kills=1, moments=[moment]) as loop:
        await loop.durably.register(letter).batch_trigger(range(10))
    [kill] = loop.kills
    assert (kill.signal, kill.moment) == ("SIGKILL", moment)
    assert kill.struck
    lines = (tmp_path / "evidence.jsonl").read_text().splitlines()
    *_, last = (line for line in lines if f'"worker": {kill.worker},' in line)
    assert f'"what": "{moment}"' in last


def test_a_seed_repeats_the_choice_of_moments(tmp_path: Path) -> None:
    def chosen(name: str, seed: int) -> object:
        (tmp_path / name).mkdir()
        loop = KillLoop(killed_apps.app, tmp_path / name, kills=20, pauses=5, seed=seed)
        return loop._dooms  # pyright: ignore[reportPrivateUsage]

    assert chosen("first", 1) == chosen("again", 1) != chosen("other", 2)


async def test_an_engine_that_executes_finished_steps_again_is_found(tmp_path: Path) -> None:
    with pytest.raises(
        PromiseBroken, match=r"step '\w+' of run .* was executed again by worker \d+"
    ) as found:
        async with KillLoop(killed_apps.forgetful, tmp_path, kills=3, moments=["step saved"]) as loop:
            await loop.durably.register(letter).batch_trigger(range(5))
    assert "SIGKILL to worker 2" in str(found.value)
    assert "at the moment 'step saved'" in str(found.value)


async def test_a_run_that_was_acknowledged_and_is_gone_is_named(tmp_path: Path) -> None:
    ids: list[str] = []

    async def lose_a_run() -> None:
        async with KillLoop(killed_apps.app, tmp_path, kills=1) as loop:
            run = await loop.durably.register(letter).trigger(1)
            ids.append(run.id)
            await loop.durably.wait_for_run(run.id)
            with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
                connection.execute("DELETE FROM durably_runs")

    with pytest.raises(PromiseBroken) as found:
        await lose_a_run()
    assert f"run {ids[0]} was acknowledged to whoever triggered it, and is not there" in str(found.value)
    assert "it was removed after it had ended as completed. If your app removes runs" in str(found.value)


async def test_a_run_that_does_not_end_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PromiseBroken, match=r"did not end within 0.5 s of health: .*godot"):
        async with KillLoop(killed_apps.odd, tmp_path, kills=1, within=0.5) as loop:
            await loop.durably.register(killed_apps.patient).trigger(1)


async def test_runs_that_are_deleted_or_cancelled_are_not_missed(tmp_path: Path) -> None:
    async with KillLoop(killed_apps.odd, tmp_path, kills=1, moments=["step begins"]) as loop:
        handle = loop.durably.register(killed_apps.patient)
        runs = await handle.batch_trigger(range(8))
        while not loop.kills:
            await asyncio.sleep(0.01)
        for run in runs:
            await loop.durably.cancel(run.id)
        await loop.durably.delete_run(runs[0].id)
    assert {run.status for run in loop.runs} == {"cancelled"}


async def test_runs_that_the_app_itself_removes_are_not_missed(tmp_path: Path) -> None:
    async with KillLoop(killed_apps.tidy, tmp_path, kills=1, moments=["step saved"], removes=True) as loop:
        handle = loop.durably.register(letter)
        runs = await handle.batch_trigger(range(6))
        for run in runs:
            await loop.durably.wait_for_run(run.id)
        purge = await loop.durably.jobs["tidy"].trigger(0.001)
        await loop.durably.wait_for_run(purge.id)
        assert await loop.durably.get_run(runs[0].id) is None
    assert {run.job_name for run in loop.runs} == {"tidy"}


async def test_a_run_that_is_gone_is_told_from_one_that_was_removed(tmp_path: Path) -> None:
    async with Durably(f"sqlite:///{tmp_path / 'app.db'}", jobs=[letter], worker=False) as durably:
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as connection:
            invariant_triggers(connection)
            remember_removals(connection)
            ids = [(await durably.register(letter).trigger(number)).id for number in range(5)]
            stays, deleted, purged, unended, lost = ids
            for ended in (deleted, purged, lost):
                await durably.cancel(ended)
            await durably.delete_run(deleted)
            connection.execute("UPDATE durably_runs SET completed_at = 1 WHERE id = ?", (purged,))
            assert await durably.purge_runs(older_than=3600) == 1
            connection.execute("DELETE FROM durably_runs WHERE id = ?", (unended,))
            # As if its trigger had never been committed: nothing has removed it.
            connection.execute("DROP TRIGGER durably_oracle_removals")
            connection.execute("DELETE FROM durably_runs WHERE id = ?", (lost,))

            def gone(*, removes: bool) -> list[str]:
                found = losses(connection, acknowledged=ids, there=[stays], removes=removes)
                return [text.split()[1] for text in found]

            assert gone(removes=False) == [deleted, purged, unended, lost]
            assert gone(removes=True) == [unended, lost]
            assert f"run {unended} was removed while it was pending" in violations(connection)


async def test_a_loop_that_kills_nobody_at_work_says_so(tmp_path: Path) -> None:
    with pytest.raises(NothingTestedError, match="no kill met a run"):
        async with KillLoop(killed_apps.app, tmp_path):
            pass


async def test_an_app_that_cannot_be_made_is_told_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(KillLoopError, match="worker 1 does not start: it ended with 1"):
        async with KillLoop(killed_apps.broken, tmp_path):
            pytest.fail("the block has begun")


async def test_a_module_that_cannot_be_imported_is_told_at_the_beginning(
    tmp_path: Path,
) -> None:
    (tmp_path / "gone.py").write_text(
        "from tests.testing.killed_apps import app as other\ndef app(database): return other(database)"
    )
    spec = importlib.util.spec_from_file_location("gone", tmp_path / "gone.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loop = KillLoop(module.app, tmp_path)
    (tmp_path / "gone.py").unlink()
    with pytest.raises(KillLoopError, match="cannot be imported"):
        async with loop:
            pytest.fail("the block has begun")


async def test_a_worker_that_ends_by_itself_ends_the_block(tmp_path: Path) -> None:
    async def wait_for_ever() -> None:
        async with KillLoop(killed_apps.odd, tmp_path, moments=["step saved"]) as loop:
            await loop.durably.register(killed_apps.suicidal).trigger(3)
            await asyncio.Event().wait()

    with pytest.raises(KillLoopError, match="worker 2 ended by itself, with 3"):
        await wait_for_ever()
    await asyncio.sleep(0)


async def test_a_worker_that_is_told_to_pause_while_it_does_pauses_once(tmp_path: Path) -> None:
    url, evidence = f"sqlite:///{tmp_path}/app.db", tmp_path / "evidence.jsonl"
    async with AsyncExitStack() as stack:
        durably = killed_apps.app(url)
        stack.push_async_callback(durably.close)
        await durably.migrate()
        handle = durably.register(letter)
        run = await handle.trigger(1)
        warden = await WardenProcess.begin(Brief.of(killed_apps.app, url, evidence, warm=True))
        stack.push_async_callback(warden.close)
        worker = await warden.start(Fate(deed="pause", moment="run begins", count=1))
        await worker.ends()
        warden.tell("pause", worker)
        warden.tell("wake", worker)
        assert (await durably.wait_for_run(run.id, timeout=30)).status == "completed"
        warden.tell("end", worker)
        assert await worker.gone == 0


async def test_what_the_block_raises_is_what_is_raised(tmp_path: Path) -> None:
    async def fail() -> None:
        async with KillLoop(killed_apps.app, tmp_path) as loop:
            await loop.durably.register(letter).batch_trigger(range(5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


STARTS = [
    (threaded_app.app, True, "afresh"),
    (killed_apps.app, False, "afresh"),
    (killed_apps.app, True, "forked"),
]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a process cannot be asked for its command here")
@pytest.mark.parametrize(("app", "warm", "how"), STARTS[: volume(quick=1, ci=3, nightly=3)])
async def test_workers_are_forked_unless_that_is_not_wanted_or_there_are_threads(
    tmp_path: Path, app: Callable[[str], Durably], warm: bool, how: str
) -> None:
    async with KillLoop(app, tmp_path, kills=1, warm=warm, moments=["step saved"]) as loop:
        await loop.durably.register(letter).batch_trigger(range(5))
        command = b""
        while not command:
            for worker in await loop.durably.get_workers():
                # Gone, or dead and not yet buried: then the next one is asked.
                with suppress(OSError):
                    command = Path(f"/proc/{worker.pid}/cmdline").read_bytes() or command
    # The warden's own command, or a worker's, which has arguments.
    assert ("afresh" if command.count(b"\0") > 3 else "forked") == how


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    def inner(database: str) -> Durably:
        return killed_apps.app(database)

    with pytest.raises(ValueError, match="at the top level of a module"):
        KillLoop(inner, tmp_path)
    with pytest.raises(ValueError, match="at the top level of a module"):
        KillLoop(lambda database: Durably(database), tmp_path)  # noqa: PLW0108
    with pytest.raises(ValueError, match="at least one of them above 0"):
        KillLoop(killed_apps.app, tmp_path, kills=0)
    with pytest.raises(ValueError, match="workers must be 1 to 3"):
        KillLoop(killed_apps.app, tmp_path, workers=4)
    with pytest.raises(ValueError, match="moments are any of any time, run begins"):
        KillLoop(killed_apps.app, tmp_path, moments=[])


PROGRAM = """
import asyncio, sys
from pathlib import Path
from durably_testing.killing.kill_loop import KillLoop
from tests.testing.killed_apps import app, letter

async def main():
    async with KillLoop(app, Path(sys.argv[1]), kills=1, moments=["any time"]) as loop:
        await loop.durably.register(letter).trigger(1)
        while not loop.runs:
            [*workers] = await loop.durably.get_workers()
            if workers:
                print(workers[0].pid, flush=True)
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_nobody_outlives_the_process_of_the_test(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    while is_there(worker):
        time.sleep(0.01)


def test_evidence_of_a_second_claim_of_one_generation() -> None:
    def line(what: What, worker: int, generation: int = 0) -> Line:
        return Line(what=what, worker=worker, run_id="r", name="s", generation=generation)

    lines = [line("run begins", 1, 1), line("run begins", 2, 2)]
    assert list(contradictions(lines)) == []
    [text] = contradictions([*lines, line("run begins", 3, 2)])
    assert text == "run r was claimed twice as generation 2: by worker 2 and by worker 3"


def test_evidence_of_a_body_after_its_checkpoint() -> None:
    begun, saved = (Line(what=what, worker=1, run_id="r", name="s") for what in ("step begins", "step saved"))
    assert list(contradictions([begun, begun, saved])) == []
    [text] = contradictions([begun, saved, begun])
    assert "step 's' of run r was executed again by worker 1" in text


def test_evidence_of_a_checkpoint_that_is_told_when_the_run_has_gone_on_as_new() -> None:
    def line(what: What, worker: int, generation: int) -> Line:
        return Line(what=what, worker=worker, run_id="r", name="s", generation=generation)

    two_links = [line("run begins", 1, 1), line("step saved", 1, 1), line("run begins", 2, 2)]
    begun = line("step begins", 2, 2)
    for late in (line("seen", 0, 1), line("step saved", 1, 1)):
        assert list(contradictions([*two_links, late, begun], continued={"r"})) == []
    for present in (line("seen", 0, 2), line("step saved", 2, 2)):
        [text] = contradictions([*two_links, present, begun], continued={"r"})
        assert "step 's' of run r was executed again by worker 2" in text


def test_evidence_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "evidence"
    evidence = Evidence(path)
    evidence.write(Line(what="step begins", worker=1, run_id="r", name="s"))
    with path.open("a") as file:
        file.write('{"what": "effect", "wor')
    assert [line.name for line in evidence.lines()] == ["s"]
    with path.open("a") as file:
        file.write('ker": 1, "name": "e"}\n')
    assert [line.name for line in evidence.lines()] == ["s", "e"]
    assert effects(evidence.lines()) == {"s": 1, "e": 1}
    assert [str(item) for item in evidence.doing(1)] == ["run r (in step 's')"]
    evidence.close()


def test_an_effect_outside_of_a_loop_is_nobodys_business() -> None:
    note_effect("sent", key="A-1")
