"""The engine's own statements, and values for them: what the floors execute."""

import sqlite3
import time
from collections.abc import Mapping
from typing import TypeAlias

from durably import RealEnvironment
from durably.stores.sqlite.queries import load

Values: TypeAlias = Mapping[str, str | int | float | None]

INSERT_RUN = load("triggering")["insert_run"]
CLAIM_RUN = load("claims")["claim_run"]
STEPS_OF_RUN = load("claims")["steps_of_run"]
SAVE_STEP = load("checkpoints")["save_step"]
FINISH_RUN = load("checkpoints")["finish_run"]
BEGIN_WAIT = load("waits")["begin_wait"]
SUSPEND_RUN = load("waits")["suspend_run"]
INSERT_SIGNAL = load("waits")["insert_signal"]
END_WAIT = load("waits")["end_wait"]
WAKE_RUN = load("freeing")["let_go"]
LATEST = "SELECT * FROM durably_snapshots ORDER BY seq DESC LIMIT 50"

environment = RealEnvironment()


def new_run() -> Values:
    """For `insert_run`."""
    now = time.time()
    return {
        "id": environment.new_id(),
        "job_name": "counting",
        "change": 1,
        "priority": 0,
        "rank": now,
        "ready": 1,
        "timer_at": None,
        "due_at": None,
        "idempotency_key": None,
        "key_scope": None,
        "concurrency_key": None,
        "now": now,
        "labels": "{}",
        "input": "1",
        "parent_id": None,
        "is_detached": 0,
        "on_failure": None,
    }


def claim(seq: int) -> Values:
    """For `claim_run`."""
    now = time.time()
    return {"seq": seq, "worker_id": "floor", "expires_at": now + 30, "now": now, "change": 2}


def step(run_id: str, position: int) -> Values:
    """For `save_step`."""
    now = time.time()
    return {
        "run_id": run_id,
        "generation": 1,
        "name": f"step-{position}",
        "status": "completed",
        "position": position,
        "attempt": 1,
        "sequence": position,
        "started_at": now,
        "completed_at": now,
        "error": None,
        "result": str(position),
        "kind": "run",
    }


def outcome(run_id: str) -> Values:
    """For `finish_run`."""
    return {
        "run_id": run_id,
        "generation": 1,
        "status": "completed",
        "output": "1",
        "error": None,
        "now": time.time(),
        "change": 3,
    }


def waiting(seq: int) -> Values:
    """For `begin_wait`, `suspend_run`, `insert_signal`, `end_wait` and `let_go`, of one run."""
    now = time.time()
    return {
        "seq": seq,
        "id": environment.new_id(),
        "name": "go",
        "key": None,
        "now": now,
        "change": 4,
        "position": 1,
        "attempt": 1,
        "sequence": 1,
        "started_at": now,
        "kind": "signal",
        "wake_at": None,
        "signal_key": None,
        "child_id": None,
        "status": "completed",
        "result": "1",
        "error": None,
        "payload": "1",
    }


def running_run(connection: sqlite3.Connection) -> str:
    """A run that is being executed; answers its id."""
    run = new_run()
    inserted = connection.execute(INSERT_RUN, run)
    connection.execute(CLAIM_RUN, claim(inserted.lastrowid or 0))
    return str(run["id"])
