"""A worker that dies at any word while a long step says how far it has come: what is stored is not done again."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from typing_extensions import override

from durably import Durably, Retry, Run, StepContext, define_job
from tests.core.mortality import Plan, World, die_at_every_word, life

ROWS = 4
AGAIN = Retry(2, delay=3600, max_delay=3600, jitter=False)


class Import(World):
    """A step of some rows, which fails in the middle and is tried again after an hour."""

    def __init__(self, path: Path) -> None:
        self.rows: list[int] = []
        self.kept: set[int] = set()
        super().__init__(path)

    @override
    def register(self, durably: Durably) -> None:
        async def load(step: StepContext) -> int:
            begin = step.cursor(int) or 0
            failures = await self.failures(step.run_id)
            for row in range(begin, ROWS):
                if row == ROWS // 2 and failures == 0:
                    raise OSError("no")
                assert row not in self.kept
                self.rows.append(row)
                step.save_cursor(row + 1)
                # What is seen in the file may be relied upon.
                while self.stored() != row + 1:
                    await asyncio.sleep(0.002)
                self.kept.add(row)
            return len(self.rows)

        async def story(step: StepContext, input: Plan) -> None:
            await step.run("load", load, step, retry=AGAIN)

        durably.register(define_job(name="story", input=Plan, output=None, run=story))

    def stored(self) -> int:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as file:
            found = file.execute("SELECT cursor FROM durably_steps WHERE cursor IS NOT NULL").fetchone()
        return 0 if found is None else int(found[0])

    async def failures(self, run_id: str) -> int:
        return sum(len(step.attempts) for step in await self.client.get_steps(run_id))

    @override
    async def push(self, run: Run) -> None:
        await self.wait_for_the_clock(run)

    @override
    async def check(self, run: Run) -> None:
        assert run.status == "completed"
        [step] = await self.client.get_steps(run.id)
        assert (step.status, step.cursor, len(step.attempts)) == ("completed", None, 1)
        assert set(self.rows) == set(range(ROWS))
        assert self.rows == sorted(self.rows)
        repeated = Counter(self.rows) - Counter(range(ROWS))
        assert repeated.total() <= 1, "what was not stored yet, one death may repeat"


@pytest.mark.timeout(120)
async def test_a_death_at_any_word_repeats_no_row_whose_cursor_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rows wait for their cursors: let those come soon.
    monkeypatch.setattr("durably.keeper.NOTES_DELAY", 0.002)
    calm = Import(tmp_path / "calm.db")
    said = await life(calm)
    assert calm.rows == list(range(ROWS))
    assert {"note", "save_attempt", "save_step", "suspend"} <= set(said)
    await die_at_every_word(said, tmp_path, Import)
