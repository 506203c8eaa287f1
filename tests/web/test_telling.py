from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durably import (
    Durably,
    LogEntry,
    LogLine,
    Progress,
    Run,
    RunError,
    RunSnapshot,
    RunStatus,
    RunVanished,
    Step,
    StepSnapshot,
    StepStatus,
)
from durably_web.api.telling import RunsTeller, RunTeller
from durably_web.api.wire import Wire, client_run, dump
from tests.web.jobs import import_pages

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    async with Durably(f"sqlite:///{tmp_path}/app.db", worker=False) as durably:
        made = await durably.register(import_pages).trigger({"pages": 1})
        yield replace(made, created_at=NOW, updated_at=NOW)


def types(events: list[Wire]) -> list[str]:
    return [event["type"] for event in events]


def snapshot(run: Run) -> RunSnapshot:
    return RunSnapshot(run=run, cursor="1.0")


STEP = StepSnapshot(
    run_id="",
    step=Step(name="a", status="running", position=1, attempt=1, sequence=1, started_at=NOW),
    cursor="1.1",
)
LINE = LogLine(
    run_id="",
    entry=LogEntry(sequence=2, level="info", message="", fields={}, step_name=None, created_at=NOW),
    cursor="1.2",
)


def test_a_run_that_ends_between_two_looks_is_told_whole(run: Run) -> None:
    teller = RunTeller()
    assert teller.tell(snapshot(run)) == []
    assert types(teller.tell(STEP)) == ["run:leased", "step:start"]
    assert types(teller.tell(LINE)) == ["log:write"]
    done = replace(run, status="completed", started_at=NOW, completed_at=NOW, progress=Progress(current=1.5))
    assert teller.tell(snapshot(done)) == []
    end = teller.end()
    assert types(end) == ["run:progress", "run:complete"]
    assert end[0]["progress"] == {"current": 1.5}


@pytest.mark.parametrize(
    ("status", "kind"),
    [("cancelled", "step:cancel"), ("failed", "step:fail"), ("completed", "step:complete")],
)
def test_a_steps_end_is_told_as_it_was(run: Run, status: StepStatus, kind: str) -> None:
    teller = RunTeller()
    teller.tell(snapshot(run))
    ended = replace(STEP, step=replace(STEP.step, status=status))
    assert types(teller.tell(ended)) == ["run:leased", kind]


def test_what_took_a_second_and_a_half_took_1500_milliseconds(run: Run) -> None:
    later = NOW + timedelta(seconds=1.5)
    teller = RunTeller()
    teller.tell(snapshot(run))
    [_, step] = teller.tell(replace(STEP, step=replace(STEP.step, status="completed", completed_at=later)))
    teller.tell(snapshot(replace(run, status="completed", started_at=NOW, completed_at=later)))
    [end] = teller.end()
    assert (step["duration"], end["duration"]) == (1500, 1500)


def test_a_run_that_goes_back_and_forth_is_told_each_time_it_begins(run: Run) -> None:
    teller = RunTeller()
    running, waiting = replace(run, status="running"), replace(run, status="waiting")
    assert types(teller.tell(snapshot(running))) == ["run:leased"]
    # Waiting is leased on the wire: for its clients nothing has happened.
    assert teller.tell(snapshot(waiting)) == []
    assert teller.tell(snapshot(replace(run, status="pending"))) == []
    assert types(teller.tell(snapshot(running))) == ["run:leased"]


def test_of_a_run_that_is_retried_in_time_no_end_is_told(run: Run) -> None:
    teller = RunTeller()
    teller.tell(snapshot(run))
    teller.tell(snapshot(replace(run, status="failed", started_at=NOW)))
    assert types(teller.end()) == ["run:leased", "run:fail"]
    teller.tell(snapshot(replace(run, status="pending")))
    assert teller.end() == []


def test_whoever_comes_back_after_the_end_hears_of_the_last_progress_too(run: Run) -> None:
    done = replace(run, status="completed", started_at=NOW, completed_at=NOW, progress=Progress(current=3))
    back, new = RunTeller(), RunTeller()
    assert back.present(done) == []
    for teller in (back, new):
        assert teller.tell(snapshot(done)) == []
    assert types(back.end()) == ["run:progress", "run:complete"]
    assert types(new.end()) == ["run:complete"]


def test_a_run_that_vanishes_is_told_as_deleted(run: Run) -> None:
    teller = RunTeller()
    assert teller.tell(LINE) == []
    teller.tell(snapshot(run))
    assert types(teller.tell(RunVanished(run_id=run.id, cursor="1.0"))) == ["run:delete"]
    assert teller.end() == []


BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("created", "started", "status", "expected"),
    [
        (AFTER, None, "pending", ["run:trigger"]),
        (NOW, None, "pending", ["run:trigger"]),
        (AFTER, AFTER, "running", ["run:trigger", "run:leased", "run:progress"]),
        (AFTER, AFTER, "completed", ["run:trigger", "run:leased", "run:progress", "run:complete"]),
        (AFTER, None, "cancelled", ["run:trigger", "run:cancel"]),
        (BEFORE, None, "pending", []),
        (BEFORE, BEFORE, "pending", []),
        (BEFORE, AFTER, "running", ["run:leased", "run:progress"]),
        (BEFORE, BEFORE, "running", ["run:progress"]),
        (BEFORE, BEFORE, "waiting", ["run:progress"]),
        (BEFORE, AFTER, "failed", ["run:leased", "run:progress", "run:fail"]),
        (BEFORE, BEFORE, "failed", ["run:fail"]),
        (BEFORE, None, "cancelled", ["run:cancel"]),
    ],
)
def test_of_a_run_in_a_list_only_what_happened_since_is_told(
    run: Run, created: datetime, started: datetime | None, status: RunStatus, expected: list[str]
) -> None:
    progress = None if started is None else Progress(current=1, total=2)
    seen = replace(run, created_at=created, started_at=started, updated_at=AFTER, progress=progress)
    now = replace(seen, status=status)
    teller = RunsTeller(NOW)
    assert types(teller.tell(now)) == expected
    if not now.is_terminal:
        assert teller.tell(now) == []


# A run as it stands


def test_an_error_of_an_earlier_attempt_is_not_told(run: Run) -> None:
    torn = replace(run, error=RunError(type="ValueError", message="torn", traceback=None))
    assert client_run(torn)["error"] is None
    assert client_run(replace(torn, status="failed"))["error"] == "torn"


@pytest.mark.parametrize(
    ("progress", "wire"),
    [
        (Progress(current=3.0), b'{"current":3}'),
        (Progress(current=2.5, total=10), b'{"current":2.5,"total":10}'),
        (Progress(current=0, message=""), b'{"current":0,"message":""}'),
    ],
)
def test_of_a_progress_is_told_what_there_is(run: Run, progress: Progress, wire: bytes) -> None:
    assert dump(client_run(replace(run, progress=progress))["progress"]) == wire
