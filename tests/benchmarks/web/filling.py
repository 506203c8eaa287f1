"""A database as a year of use leaves it: many jobs, tenants, failures, a backlog, and three very long runs."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from uuid import UUID

from durably import Durably, JobDefinition, StepContext, define_job
from durably.stores.sqlite.schema import migrations

PREFIX = "filled-"
DAYS = 30
DAY = 86_400.0
NOW = 1_795_000_000.0
"""The instant at which the database was filled, on the clock of whoever looks at it."""
FIRST_ID = int(NOW * 1000)
TENANTS = 500
REGIONS = (("eu", 0.6), ("us", 0.3), ("ap", 0.1))
BACKLOG = 0.012
"""The share of the newest runs that are pending or running."""
RUNNING = 200
RUNS_WITH_STEPS = 0.05
"""The share of the newest runs whose steps and lines are kept."""
MOST_STEPS = 8
LONG_STEPS = 5_000
LONG_LOG = 100_000
JOBS = (
    "import-csv", "send-invoice", "sync-crm", "resize-image", "send-mail", "export-report", "charge-card",
    "index-search", "clean-uploads", "approve-order", "translate", "train-model", "embed-documents",
    "check-links", "notify-slack", "rotate-keys", "bill-usage", "merge-accounts", "backup", "audit",
)  # fmt: skip
TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/app/jobs/part_{depth}.py", line {40 + depth}, in call_{depth}\n    return call(row)\n'
    for depth in range(12)
)

RUN_COLUMNS = (
    "seq", "id", "job_name", "status", "change", "priority", "rank", "ready", "timer_at", "due_at", "lease_owner",
    "lease_expires_at", "lease_generation", "created_at", "updated_at", "started_at", "completed_at",
    "steps_completed", "progress_current", "progress_total", "progress_message", "labels", "error", "input", "output",
)  # fmt: skip
INSERT_RUN = (
    f"INSERT INTO durably_runs ({', '.join(RUN_COLUMNS)}) VALUES ({', '.join('?' * len(RUN_COLUMNS))})"
)
INSERT_LABELS = """
INSERT INTO durably_run_labels (key, value, run_seq)
SELECT label.key, label.value, run.seq FROM durably_runs AS run CROSS JOIN json_each(run.labels) AS label
ORDER BY 1, 2, 3
"""
INSERT_STEPS = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :most)
INSERT INTO durably_steps (
  run_seq, name, status, position, attempt, sequence, started_at, completed_at, error, result
)
SELECT run.seq, 'step-' || n, CASE WHEN n <= run.steps_completed THEN 'completed' ELSE 'failed' END, n, 1, 2 * n,
  run.started_at + (n - 1) * 0.1, run.started_at + n * 0.1,
  CASE WHEN n > run.steps_completed THEN run.error END, CASE WHEN n <= run.steps_completed THEN '{"rows": 100}' END
FROM durably_runs AS run CROSS JOIN number
WHERE run.seq > :after AND run.completed_at IS NOT NULL AND n <= run.steps_completed + (run.status = 'failed')
"""
INSERT_LINES = """
INSERT INTO durably_logs (run_seq, sequence, level, step_name, created_at, message, fields)
SELECT run_seq, sequence + 1, 'info', name, started_at, 'loaded ' || name, '{"rows": 100}' FROM durably_steps
"""
INSERT_LONG_STEPS = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO durably_steps (run_seq, name, status, position, attempt, sequence, started_at, completed_at, result)
SELECT :seq, CASE WHEN :alike THEN 'sync-item-' || n
    ELSE 'load-' || char(97 + n / 676, 97 + n / 26 % 26, 97 + n % 26) END, 'completed', n, 1, n, :start + n * 0.01, :start + n * 0.01 + 0.008, '{"rows": 100}'
FROM number
"""
INSERT_LONG_LOG = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO durably_logs (run_seq, sequence, level, step_name, created_at, message, fields)
SELECT :seq, :after + n, CASE WHEN n % 50 = 0 THEN 'warning' ELSE 'info' END, 'sync-item-' || (n % 5000),
  :start + n * 0.001, 'row ' || n || ' of the file was read and written', '{"row": ' || n || '}'
FROM number
"""

Values = tuple[object, ...]


def definitions() -> list[JobDefinition[object, object]]:
    """The jobs of which the runs are."""

    async def run(step: StepContext, value: object) -> object:
        return value

    return [define_job(name=name, input=object, output=object, run=run) for name in JOBS]


def run_id(seq: int) -> str:
    """The id of the run at this position: in the order of time, like all of them."""
    entropy = Random(seq).getrandbits(80) & ~(0xF << 76) & ~(0x3 << 62)
    return str(UUID(int=FIRST_ID + seq << 80 | 0x7 << 76 | 0x2 << 62 | entropy))


def long_run(runs: int) -> int:
    """The position of the run with many steps alike; the next one has the long log, the third many other steps."""
    return round(runs * (1 - BACKLOG)) - 10


def running(runs: int) -> range:
    """The positions of the runs that are running: those before the backlog."""
    backlog = round(runs * BACKLOG)
    first = runs - backlog + 1
    return range(first, first + min(RUNNING, backlog // 10))


def name_of(runs: int) -> str:
    """What the file is called: another one if the tables, or what is put into them, change."""
    digest = sha256(Path(__file__).read_bytes())
    for _, script in migrations():
        digest.update(script.encode())
    return f"{PREFIX}{runs}-{digest.hexdigest()[:12]}.db"


async def fill(path: Path, runs: int) -> None:
    """Make the database: the engine its tables, we what is in them."""
    async with Durably(path, worker=False):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("BEGIN")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND name GLOB 'durably_*'"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.executemany(INSERT_RUN, _rows(runs))
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute(INSERT_LABELS)
        connection.execute(
            INSERT_STEPS, {"most": MOST_STEPS + 1, "after": round(runs * (1 - BACKLOG - RUNS_WITH_STEPS))}
        )
        connection.execute(INSERT_LINES)
        _prolong(connection, runs)
        connection.execute("UPDATE durably_clock SET change = ?, instant = ?", (runs, NOW))
        connection.executemany(
            "INSERT INTO durably_workers (id, host, pid, state, slots, jobs, started_at, heartbeat_at) "
            "VALUES (?, ?, ?, 'active', 50, ?, ?, ?)",
            [(f"worker-{n}", f"host-{n}", 100 + n, json.dumps(JOBS), NOW - DAY, NOW) for n in range(4)],
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _prolong(connection: sqlite3.Connection, runs: int) -> None:
    alike = long_run(runs)
    of_log, unlike = alike + 1, alike + 2
    for table in ("durably_steps", "durably_logs"):
        connection.execute(f"DELETE FROM {table} WHERE run_seq BETWEEN ? AND ?", (alike, unlike))
    start = NOW - 3600.0
    for seq in (alike, unlike):
        values = {"seq": seq, "count": LONG_STEPS, "start": start, "alike": seq == alike}
        connection.execute(INSERT_LONG_STEPS, values)
    connection.execute(INSERT_LONG_LOG, {"seq": of_log, "count": LONG_LOG, "start": start, "after": 0})
    connection.execute(
        "UPDATE durably_runs SET status = 'completed', error = NULL, output = '1', started_at = :start, "
        "completed_at = :end, updated_at = :end, steps_completed = CASE seq WHEN :log THEN 0 ELSE :count END "
        "WHERE seq BETWEEN :log - 1 AND :log + 1",
        {"start": start, "end": start + 120.0, "log": of_log, "count": LONG_STEPS},
    )


def _rows(runs: int) -> Iterator[Values]:
    random = Random(5)
    jobs = random.choices(JOBS, [1 / (rank + 1) for rank in range(len(JOBS))], k=runs)
    at_work = running(runs)
    for seq in range(1, runs + 1):
        created_at = NOW - DAYS * DAY * (runs - seq) / runs
        if seq in at_work:
            facts = _running(random, seq, created_at)
        elif seq >= at_work.stop:
            facts = _pending(random, created_at)
        else:
            facts = _ended(random, created_at)
        labels = {
            "tenant": f"t{int(TENANTS * random.random() ** 3)}",
            "region": random.choices([name for name, _ in REGIONS], [share for _, share in REGIONS])[0],
        }
        if seq % 20 == 0:
            labels["order"] = f"o{seq}"
        values: dict[str, object] = {
            "seq": seq,
            "id": run_id(seq),
            "job_name": jobs[seq - 1],
            "change": seq,
            "priority": 0,
            "rank": created_at,
            "ready": 0,
            "lease_generation": 1,
            "created_at": created_at,
            "updated_at": created_at,
            "labels": json.dumps(labels),
            "input": json.dumps(
                {"file": f"uploads/{seq}.csv", "rows": seq % 1000, "notify": f"{seq}@example.com"}
            ),
            **facts,
        }
        yield tuple(values.get(column) for column in RUN_COLUMNS)


def _pending(random: Random, created_at: float) -> dict[str, object]:
    if random.random() < 0.1:
        return {"status": "pending", "timer_at": NOW + DAY, "due_at": NOW + DAY, "lease_generation": 0}
    return {"status": "pending", "ready": 1, "lease_generation": 0}


def _running(random: Random, seq: int, created_at: float) -> dict[str, object]:
    return {
        "status": "running",
        "lease_owner": f"worker-{seq % 4}",
        "lease_expires_at": NOW + 30.0,
        "timer_at": NOW + 30.0,
        "started_at": created_at + 5.0,
        "progress_current": random.randrange(100),
        "progress_total": 100,
        "progress_message": "reading the file",
    }


def _ended(random: Random, created_at: float) -> dict[str, object]:
    started_at = created_at + random.expovariate(1 / 3.0)
    chance = random.random()
    if chance < 0.003:
        return {"status": "waiting", "started_at": started_at, "timer_at": NOW + DAY}
    completed_at = min(NOW, started_at + random.expovariate(1 / 20.0))
    facts: dict[str, object] = {
        "status": "completed",
        "started_at": started_at,
        "completed_at": completed_at,
        "updated_at": completed_at,
        "steps_completed": random.randint(1, MOST_STEPS),
    }
    if chance < 0.013:
        return {**facts, "status": "cancelled"}
    if chance < 0.043:
        error = {
            "type": "builtins.ValueError",
            "message": f"row {random.randrange(1000)}: amount is negative",
            "traceback": TRACEBACK + "ValueError: amount is negative\n",
            "steps": ["step-2"],
        }
        return {**facts, "status": "failed", "error": json.dumps(error)}
    return {**facts, "output": json.dumps({"rows": random.randrange(1000), "file": "report.pdf"})}
