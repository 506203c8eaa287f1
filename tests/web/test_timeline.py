"""Steps on a time axis."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from durably import Run, RunError, RunStatus, Step, StepAttempt, StepKind, StepStatus
from durably_web.timeline import FOLD, NARROWEST, SHARE, Omission, Row, Timeline, timeline

ORIGIN = datetime(2026, 11, 22, tzinfo=UTC)
ERROR = RunError(type="ValueError", message="no")


def at(seconds: float) -> datetime:
    return ORIGIN + timedelta(seconds=seconds)


def run(status: RunStatus = "completed", end: float | None = 10) -> Run:
    return Run(
        id="r",
        job_name="job",
        status=status,
        labels={},
        created_at=ORIGIN,
        updated_at=at(end or 0),
        position=1,
        change=1,
        input_json="null",
        started_at=ORIGIN,
        completed_at=None if end is None or status not in {"completed", "failed", "cancelled"} else at(end),
    )


def step(
    start: float,
    end: float | None,
    *,
    status: StepStatus = "completed",
    kind: StepKind = "run",
    position: int = 1,
    wake: float | None = None,
    attempts: tuple[tuple[float, float], ...] = (),
) -> Step:
    return Step(
        name=f"step-{position}",
        status=status if end is not None else "running",
        position=position,
        attempt=len(attempts) + 1,
        sequence=position,
        started_at=at(start),
        completed_at=None if end is None else at(end),
        kind=kind,
        wake_at=None if wake is None else at(wake),
        attempts=tuple(
            StepAttempt(number=number, started_at=at(a), ended_at=at(b), error=ERROR)
            for number, (a, b) in enumerate(attempts, 1)
        ),
    )


def draw(one: Run, *steps: Step, now: float = 100, max_rows: int = 200) -> Timeline:
    return timeline(one, steps, now=at(now), max_rows=max_rows)


def only(drawn: Timeline) -> Row:
    [row] = drawn.rows
    assert isinstance(row, Row)
    return row


def test_a_bar_stands_where_its_step_stood_in_time() -> None:
    row = only(draw(run(), step(2, 7)))
    [bar] = row.bars
    assert (round(bar.x, 3), round(bar.width, 3), bar.tone) == (20, 50, "completed")
    assert (row.offset, row.duration, row.since) == ("2.0 s", "5.0 s", None)


def test_an_instant_is_wide_enough_to_be_seen_also_at_the_end() -> None:
    [bar] = only(draw(run(), step(10, 10))).bars
    assert bar.width == NARROWEST
    assert bar.x + bar.width == pytest.approx(100)


def test_what_goes_on_reaches_until_now() -> None:
    drawn = draw(run("running", None), step(0, 5, position=1), step(5, None, position=2), now=20)
    row = drawn.rows[1]
    assert isinstance(row, Row)
    assert (row.status, row.duration, row.since) == ("running", "15.0 s", at(5))
    assert (round(row.bars[0].x, 3), round(row.bars[0].width, 3)) == (25, 75)
    assert (drawn.count, drawn.completed, drawn.total) == (2, 1, "20.0 s")


@pytest.mark.parametrize(
    ("status", "kind", "wake", "word"),
    [
        ("waiting", "sleep", 50, "waiting"),
        ("waiting", "signal", None, "waiting"),
        ("waiting", "run", 50, "retrying"),
        ("pending", "run", None, "interrupted"),
        ("cancelled", "run", None, "interrupted"),
    ],
)
def test_a_step_that_does_not_execute_says_what_it_does(
    status: RunStatus, kind: StepKind, wake: float | None, word: str
) -> None:
    row = only(draw(run(status, 8), step(0, None, kind=kind, wake=wake)))
    assert row.status == word
    assert (row.since is None) == (word == "interrupted")


def test_failed_attempts_stand_before_the_last_one() -> None:
    row = only(draw(run(), step(6, 10, attempts=((0, 1), (2, 4)))))
    assert [(bar.tone, round(bar.x), round(bar.width)) for bar in row.bars] == [
        ("attempt", 0, 10),
        ("attempt", 20, 20),
        ("completed", 60, 40),
    ]
    assert row.duration == "10.0 s"
    # The last attempt of a failed step is its own bar.
    failed = only(draw(run("failed"), step(2, 4, status="failed", attempts=((0, 1), (2, 4)))))
    assert [bar.tone for bar in failed.bars] == ["attempt", "failed"]


def test_time_in_which_nothing_executes_is_folded() -> None:
    week = 7 * 86_400.0
    drawn = draw(
        run(end=week + 20),
        step(0, 10, position=1),
        step(10, week + 10, kind="sleep", position=2),
        step(week + 10, week + 20, position=3),
    )
    [fold] = drawn.folds
    assert (fold.label, round(fold.width)) == ("7 d 0 h", round(SHARE))
    assert drawn.half is None
    first, wait, last = (row.bars[0] for row in drawn.rows if isinstance(row, Row))
    assert first.width == pytest.approx(last.width, rel=0.01)
    assert first.width > 25
    assert (round(wait.x, 3), round(wait.width, 3)) == (round(fold.x, 3), round(fold.width, 3))
    assert last.x + last.width == pytest.approx(100)


def test_a_short_or_small_gap_is_not_folded() -> None:
    assert not draw(run(end=4), step(0, 1), step(3, 4, position=2)).folds
    assert not draw(run(end=100), step(0, 45), step(55, 100, position=2)).folds
    [fold] = draw(run(end=100), step(0, 30), step(55, 100, position=2)).folds
    assert FOLD <= fold.width < SHARE


def test_where_nothing_executes_at_all_nothing_is_folded() -> None:
    drawn = draw(run("waiting", None), step(0, None, kind="signal"), now=7 * 86_400)
    assert (drawn.folds, drawn.half) == ((), "3 d 12 h")
    children = draw(run(end=60), step(0, 0, kind="spawn"), step(0, 60, kind="child", position=2))
    assert not children.folds


def test_an_axis_grows_while_its_run_goes_on_and_nothing_is_folded() -> None:
    assert draw(run("running", None), step(0, None), now=20).growing_from == ORIGIN
    assert draw(run("running", None), step(0, 5), now=8).growing_from == ORIGIN
    assert draw(run("running", None), step(0, 5), now=100).growing_from is None
    assert draw(run("completed", 10), step(0, 10), now=20).growing_from is None


def test_a_link_of_a_chain_begins_with_its_own_first_step() -> None:
    year = 365 * 86_400.0
    later = replace(run("running", None), link=7)
    drawn = draw(later, step(year, year + 1), step(year + 1, None, position=2), now=year + 2)
    first = drawn.rows[0]
    assert isinstance(first, Row)
    assert (first.offset, drawn.total) == ("0 ms", "2.0 s")


def test_of_very_many_steps_the_failed_the_unfinished_and_the_newest_are_shown() -> None:
    steps = [step(number, number + 1, position=number) for number in range(1, 5001)]
    steps[99] = step(100, 101, status="failed", position=100)
    steps[199] = step(200, None, position=200)
    drawn = draw(run("running", None), *steps, now=5001, max_rows=50)

    shown = [row.step.position for row in drawn.rows if isinstance(row, Row)]
    assert shown == [100, 200, *range(4953, 5001)]
    assert [row.count for row in drawn.rows if isinstance(row, Omission)] == [99, 99, 4752]


def test_a_run_without_steps_or_a_start_is_no_trouble() -> None:
    assert draw(run()).rows == ()
    assert draw(run("pending", None)).total
