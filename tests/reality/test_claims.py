"""Many processes claim from one file: each run is one worker's, and once."""

import asyncio
from collections import Counter
from pathlib import Path

from durably_testing.killing.evidence import Evidence, contradictions
from durably_testing.killing.mortals import Brief
from durably_testing.killing.warden import WardenProcess
from tests.reality.apps import patient, tiny
from tests.volume import NIGHT, limit, volume

PROCESSES = 8


@limit(600)
async def test_eight_processes_share_out_thousands_of_runs(tmp_path: Path) -> None:
    count = volume(quick=400, ci=10_000, nightly=30_000)
    url = f"sqlite:///{tmp_path}/app.db"
    durably = patient(url)
    await durably.migrate()
    handle = durably.register(tiny)
    warden = await WardenProcess.begin(Brief.of(patient, url, tmp_path / "evidence", warm=True))
    workers = [await warden.start_and_wait() for _ in range(PROCESSES)]
    try:
        for first in range(0, count, 100):
            await handle.batch_trigger(range(first, first + 100))
        async with asyncio.timeout(volume(quick=500, ci=500, nightly=NIGHT)):
            while await durably.count_runs(status=["pending", "running"], cap=1):
                await asyncio.sleep(0.02)
        runs = await handle.get_runs(limit=count)
        for worker in workers:
            warden.tell("end", worker)
        assert [await worker.gone for worker in workers] == [0] * PROCESSES
    finally:
        await warden.close()
        await durably.close()
    evidence = Evidence(tmp_path / "evidence")
    lines = evidence.lines()
    evidence.close()
    claims = Counter((line.run_id, line.generation) for line in lines if line.what == "run begins")
    assert claims == {(run.id, 1): 1 for run in runs}
    assert len(runs) == count
    assert {(run.status, run.lease_generation) for run in runs} == {("completed", 1)}
    assert [run.output for run in reversed(runs)] == list(range(count))
    assert list(contradictions(lines)) == []
    shares = Counter(line.worker for line in lines if line.what == "run begins")
    assert len(shares) > 1
