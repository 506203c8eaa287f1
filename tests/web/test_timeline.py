"""Steps on a time axis."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from durably import Run, RunError, RunStatus, Step, StepAttempt, StepKind, StepStatus
from durably_web.alike import FEW, LEAST, kind
from durably_web.axis import FOLD, MOST_DRAWN, MOST_FOLDED, SHARE
from durably_web.timeline import (
    EVERYTHING,
    NARROWEST,
    PORTION,
    FoldedRow,
    Omission,
    Portion,
    Row,
    Timeline,
    timeline,
)

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
    name: str | None = None,
    wake: float | None = None,
    attempts: tuple[tuple[float, float], ...] = (),
) -> Step:
    return Step(
        name=name or f"step-{position}",
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


def draw(
    one: Run, *steps: Step, now: float = 100, max_rows: int = 200, unfold: str = "", start: int = 0
) -> Timeline:
    return timeline(one, steps, now=at(now), max_rows=max_rows, unfold=unfold, at=start)


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


def word(number: int) -> str:
    """A name of letters only, like no other one."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_of_very_many_steps_the_failed_the_unfinished_and_the_newest_are_shown() -> None:
    steps = [step(number, number + 1, position=number, name=word(number)) for number in range(1, 5001)]
    steps[99] = step(100, 101, status="failed", position=100)
    steps[199] = step(200, None, position=200)
    drawn = draw(run("running", None), *steps, now=5001, max_rows=50)

    shown = [row.step.position for row in drawn.rows if isinstance(row, Row)]
    assert shown == [100, 200, *range(4953, 5001)]
    assert [row.count for row in drawn.rows if isinstance(row, Omission)] == [99, 99, 4752]


def test_a_run_without_steps_or_a_start_is_no_trouble() -> None:
    assert draw(run()).rows == ()
    assert draw(run("pending", None)).total


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sync-item-4800", "sync-item-#"),
        ("page 1 of 20", "page # of #"),
        ("thumb[holiday.jpg]", "thumb[#]"),
        ("thumb[3]", "thumb[#]"),
        ("pay 019ab6b2-90f4-7c2e-8f6a-0a1b2c3d4e5f", "pay #"),
        ("commit-4f9c21ab", "commit-#"),
        ("deadbeef", "deadbeef"),
        ("validate", "validate"),
    ],
)
def test_the_kind_of_a_step_is_its_name_without_what_tells_it_apart(name: str, stem: str) -> None:
    assert kind(name) == stem


def shop(count: int = 200) -> list[Step]:
    """A list, `count` items of a second each, of which the fourth failed and the last goes on, and thumbs."""
    items = [
        step(number, number + 1, position=number + 1, name=f"item-{number}") for number in range(1, count)
    ]
    items[3] = step(4, 5, status="failed", position=5, name="item-4")
    items[6] = step(7.5, 8, position=8, name="item-7", attempts=((7, 7.2),))
    thumbs = [
        step(count, count + 1, position=count + number + 2, name=f"thumb[{number}.jpg]")
        for number in range(20)
    ]
    last = step(count, None, position=count + 1, name=f"item-{count}")
    return [step(0, 1, name="list"), *items, last, *thumbs]


def test_steps_that_are_alike_are_folded_into_one_row_but_those_that_failed_or_go_on() -> None:
    first, items, failed, last, thumbs = draw(run("running", None), *shop(), now=210).rows
    assert isinstance(items, FoldedRow)
    assert isinstance(thumbs, FoldedRow)
    assert [row.step.name for row in (first, failed, last) if isinstance(row, Row)] == [
        "list",
        "item-4",
        "item-200",
    ]
    assert (items.kind, items.first.name, items.last.name) == ("item-#", "item-1", "item-199")
    assert (items.count, items.troubled, items.offset, items.duration) == (198, 1, "1.0 s", "3 m 18 s")
    assert (thumbs.kind, thumbs.count, thumbs.duration) == ("thumb[#]", 20, "20.0 s")
    # One bar for what follows without a gap; the failed item's second is a gap too small to be seen.
    [bar] = items.bars
    assert (round(bar.x, 1), round(bar.width)) == (0.5, 95)


def test_few_steps_and_few_that_are_alike_are_not_folded() -> None:
    few = [step(number, number + 1, position=number) for number in range(FEW)]
    assert all(isinstance(row, Row) for row in draw(run(end=FEW), *few).rows)
    kinds = [
        step(number, number + 1, position=number, name=f"{'abcd'[number % 4]}-{number}")
        for number in range(36)
    ]
    assert len(kinds) / 4 < LEAST
    assert all(isinstance(row, Row) for row in draw(run(end=36), *kinds).rows)


def test_apart_in_time_a_folded_row_has_a_bar_for_each_stretch() -> None:
    early = [step(number / 10, number / 10, position=number) for number in range(20)]
    late = [step(50 + number / 10, 50 + number / 10, position=20 + number) for number in range(20)]
    [row] = draw(run(end=52), *early, *late, step(0, 52, position=99, name="beside")).rows[:1]
    assert isinstance(row, FoldedRow)
    assert [round(bar.x) for bar in row.bars] == [0, 96]


def test_a_folded_row_is_opened_portion_by_portion() -> None:
    drawn = draw(run("running", None), *shop(301), now=310, unfold="item-#", start=PORTION)
    names = [row.step.name for row in drawn.rows if isinstance(row, Row) and row.is_inner]
    assert names == [f"item-{number}" for number in range(102, 202)]
    [folded] = [row for row in drawn.rows if isinstance(row, FoldedRow) and row.is_open]
    assert folded.count == 299
    [portion] = [row for row in drawn.rows if isinstance(row, Portion)]
    assert (portion.first, portion.last, portion.count) == (101, 200, 299)
    assert (portion.earlier, portion.later) == (0, 200)
    assert drawn.rows.index(folded) + 1 + PORTION == drawn.rows.index(portion)
    # A place beyond the end is the end; nothing opens what is not there.
    beyond = draw(run("running", None), *shop(), now=310, unfold="item-#", start=10_000)
    assert [row.step.name for row in beyond.rows if isinstance(row, Row) and row.is_inner] == ["item-199"]
    closed = draw(run("running", None), *shop(), now=310, unfold="nothing")
    assert not [row for row in closed.rows if isinstance(row, Row) and row.is_inner]


def test_all_steps_can_be_walked_through() -> None:
    seen: list[str] = []
    place: int | None = 0
    while place is not None:
        drawn = draw(run("running", None), *shop(), now=210, max_rows=60, unfold=EVERYTHING, start=place)
        *rows, portion = drawn.rows
        assert isinstance(portion, Portion)
        seen += [row.step.name for row in rows if isinstance(row, Row)]
        place = portion.later
    assert seen == [one.name for one in shop()]


def test_idle_time_is_folded_also_where_it_comes_in_many_pieces() -> None:
    day = 86_400.0
    steps = [step(number * day, number * day + 10, position=number) for number in range(30)]
    drawn = draw(run(end=29 * day + 10), *steps, unfold=EVERYTHING)
    widths = [row.bars[0].width for row in drawn.rows if isinstance(row, Row)]
    # Thirty times ten seconds have half of the axis, and a month the other.
    assert sum(widths) == pytest.approx(100 - MOST_FOLDED, rel=0.01)
    assert drawn.idle == "29 idle stretches, 28 d 23 h in all, folded"
    assert len(drawn.folds) == MOST_DRAWN
    assert sum(row.bars[-1].x + row.bars[-1].width for row in drawn.rows[-1:] if isinstance(row, Row)) == (
        pytest.approx(100)
    )


def test_after_a_long_idle_time_a_shorter_one_is_folded_too() -> None:
    week, hour = 7 * 86_400.0, 3_600.0
    drawn = draw(
        run(end=week + hour + 30),
        step(0, 10, position=1),
        step(week + 10, week + 20, position=2),
        step(week + hour + 20, week + hour + 30, position=3),
    )
    assert drawn.idle == "idle 7 d 0 h, idle 1 h 0 m folded"
    assert sum(row.bars[0].width for row in drawn.rows if isinstance(row, Row)) > 40
