"""The job: a CSV file into a table of SQLite, one batch a step. An ordinary module of an application."""

import csv
import math
import os
import sqlite3
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, NonNegativeFloat, PositiveInt

from durably import StepContext, job

TABLES = """
-- No unique key, on purpose: a batch that was written twice would show in the count.
CREATE TABLE IF NOT EXISTS airports (
  iata TEXT, name TEXT, city TEXT, state TEXT, country TEXT, latitude REAL, longitude REAL
);
CREATE TABLE IF NOT EXISTS batches (key TEXT PRIMARY KEY, number INTEGER, rows INTEGER, pid INTEGER);
"""


class ImportAirports(BaseModel):
    """What to import, and how."""

    source: Path = Path(__file__).with_name("airports.csv")
    database: Path = Path("airports.db")
    batch_size: PositiveInt = 200
    pause: NonNegativeFloat = 0.0
    """Seconds that each batch takes longer than it needs, so that one can watch."""


class Imported(BaseModel):
    """What was imported."""

    rows: int
    batches: int


@job
async def import_airports(step: StepContext, input: ImportAirports) -> Imported:
    """Import the file. Killed at any line, it goes on after its last finished step."""
    total = await step.run("prepare", prepare, input)
    batches = math.ceil(total / input.batch_size)
    rows = 0
    for number in range(1, batches + 1):
        rows += await step.run(f"batch-{number:02}", write_batch, step, input, number)
        step.progress(rows, total, f"batch {number} of {batches}")
    step.log.info("imported", rows=rows, batches=batches)
    return Imported(rows=rows, batches=batches)


def prepare(input: ImportAirports) -> int:
    """Make the tables; answers how many rows the file has."""
    with closing(sqlite3.connect(input.database)) as database:
        database.executescript(TABLES)
    with input.source.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def write_batch(step: StepContext, input: ImportAirports, number: int) -> int:
    """Write one batch, once; answers its rows.

    The engine stores a step's result after the body has returned. A process that dies between the two
    leaves work that was done and no checkpoint that says so: then the body is executed again. No engine
    can rule that out for what happens outside of it, so a body must bear it. This one writes its rows
    and the step's idempotency key, which is the same every time, in one transaction: whoever finds the
    key there already has nothing left to write.
    """
    first = 1 + (number - 1) * input.batch_size
    with input.source.open(newline="", encoding="utf-8") as file:
        rows = list(islice(csv.reader(file), first, first + input.batch_size))
    with closing(sqlite3.connect(input.database)) as database, database:
        key = (step.idempotency_key, number, len(rows), os.getpid())
        if database.execute("INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?)", key).rowcount:
            database.executemany("INSERT INTO airports VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            step.log.info("written", rows=len(rows), first=rows[0][0])
        else:
            step.log.warning("was written already, by an attempt that died", rows=len(rows))
    # The worst moment to die: the rows are written, the checkpoint is not.
    time.sleep(input.pause)
    return len(rows)
