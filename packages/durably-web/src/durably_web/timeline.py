"""A run's steps on a time axis: pure geometry, in percent of the axis.

Time in which nothing executes (a sleep of a week, a day until somebody approves) is folded, so that
what executes stays visible beside it; and so are steps that are alike, so that the others do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias

from durably import Run, Step, StepAttempt
from durably_web import wording
from durably_web.alike import Alike, Item, fold
from durably_web.axis import Axis, Fold, Span

Tone: TypeAlias = Literal["running", "waiting", "completed", "failed", "cancelled", "attempt"]

NARROWEST: Final = 0.4
"""Percent of the axis that even an instant takes."""
NEAR: Final = 1.0
"""Percent between two bars of one row that are drawn as one."""
PORTION: Final = 100
"""Rows of an open fold that are shown at a time."""
EVERYTHING: Final = "*"
"""What is open where nothing is folded, and all steps are walked through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time in a row."""

    x: float
    width: float
    tone: Tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A step."""

    step: Step
    status: str
    """As a word: a running wait `waits`, a step that a dead worker left behind is `interrupted`."""
    tone: Tone
    offset: str
    duration: str
    since: datetime | None
    """Since when it goes on, if it does."""
    bars: tuple[Bar, ...]
    is_inner: bool = False
    """Whether it stands below the row that stands for it and others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedRow:
    """Steps that are alike, in one row."""

    kind: str
    first: Step
    last: Step
    count: int
    troubled: int
    """How many of them completed after failed attempts."""
    offset: str
    duration: str
    """Of all of them together."""
    bars: tuple[Bar, ...]
    is_open: bool


@dataclass(frozen=True, slots=True)
class Omission:
    """Steps that are not shown."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Where in an open fold, or in all steps, the rows before or after this one stand."""

    first: int
    """From 1."""
    last: int
    count: int
    earlier: int | None
    """The place, from 0, at which the rows before these begin."""
    later: int | None


AnyRow: TypeAlias = Row | FoldedRow | Omission | Portion


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Steps in order, and the axis above them."""

    rows: tuple[AnyRow, ...]
    length: float
    """Of the axis, in seconds."""
    total: str
    half: str | None
    """What stands at the middle of the axis; nothing if parts of it are folded."""
    folds: tuple[Fold, ...]
    idle: str
    """What of the axis is folded, in words."""
    growing_from: datetime | None
    """Where the axis begins, if its end is now: something goes on, and nothing is folded."""
    count: int
    completed: int
    unfold: str = ""
    """The kind of steps that is shown one by one."""


def timeline(
    run: Run, steps: Sequence[Step], *, now: datetime, max_rows: int, unfold: str = "", at: int = 0
) -> Timeline:
    """The steps of a run, at most about `max_rows` of them.

    Steps that are alike are folded, but for those of the kind `unfold`, of which the rows from `at` are
    shown. Failed and unfinished ones are always among the rows, then the newest.
    """
    is_active = not run.is_terminal
    starts = [_start(step) for step in steps]
    # A link of a chain begins with its own first step: the run itself may have begun a year ago.
    origin = min(starts) if starts and run.link > 1 else min([run.started_at or now, *starts])
    end = max([run.completed_at or now if is_active else origin, *_ends(run, steps, now)])
    drawing = _Drawing(run, Axis(origin, end, _busy(run, steps, now)), now)
    rows: Iterator[AnyRow] = (
        drawing.portion(steps, at=at, size=max_rows)
        if unfold == EVERYTHING
        else drawing.rows(fold(steps), max_rows=max_rows, unfold=unfold, at=at)
    )
    return Timeline(
        rows=tuple(rows),
        length=drawing.axis.length,
        total=wording.duration(drawing.axis.length),
        half=None if drawing.axis.folds else wording.duration(drawing.axis.length / 2),
        folds=drawing.axis.folds,
        idle=drawing.axis.idle,
        growing_from=origin if end >= now and not drawing.axis.folds else None,
        count=len(steps),
        completed=sum(step.status == "completed" for step in steps),
        unfold=unfold,
    )


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Rows of one run on one axis."""

    run: Run
    axis: Axis
    now: datetime

    def rows(self, items: Sequence[Item], *, max_rows: int, unfold: str, at: int) -> Iterator[AnyRow]:
        """Each item that is shown, and how many are not in between."""
        shown = _shown(items, max_rows)
        omitted = 0
        for item in items:
            if _position(item) not in shown:
                omitted += len(item.steps) if isinstance(item, Alike) else 1
                continue
            if omitted:
                yield Omission(omitted)
                omitted = 0
            if isinstance(item, Alike):
                is_open = item.kind == unfold
                yield self.folded(item, is_open=is_open)
                if is_open:
                    for row in self.portion(item.steps, at=at, size=PORTION):
                        yield replace(row, is_inner=True) if isinstance(row, Row) else row
            else:
                yield self.row(item)
        if omitted:
            yield Omission(omitted)

    def portion(self, steps: Sequence[Step], *, at: int, size: int) -> Iterator[Row | Portion]:
        """So many of these steps from a place on, and where the others are."""
        first = min(max(at, 0), max(len(steps) - 1, 0))
        part = steps[first : first + size]
        for step in part:
            yield self.row(step)
        if len(part) < len(steps):
            later = first + len(part)
            yield Portion(
                first=first + 1,
                last=later,
                count=len(steps),
                earlier=max(first - size, 0) if first else None,
                later=later if later < len(steps) else None,
            )

    def row(self, step: Step) -> Row:
        """One step."""
        status, tone = _state(self.run, step)
        end = _end(self.run, step, self.now)
        bars = [
            self.bar(one.started_at, one.ended_at, "attempt")
            for one in step.attempts
            if not _is_last(step, one)
        ]
        bars.append(self.bar(step.started_at, end, tone))
        goes_on = status in {"running", "waiting", "retrying"}
        return Row(
            step=step,
            status=status,
            tone=tone,
            offset=wording.duration((_start(step) - self.axis.origin).total_seconds()),
            duration=wording.duration((end - _start(step)).total_seconds()),
            since=_start(step) if goes_on else None,
            bars=tuple(bars),
        )

    def folded(self, alike: Alike, *, is_open: bool) -> FoldedRow:
        """Many steps."""
        spans = [
            (_start(step).timestamp(), _end(self.run, step, self.now).timestamp()) for step in alike.steps
        ]
        return FoldedRow(
            kind=alike.kind,
            first=alike.steps[0],
            last=alike.steps[-1],
            count=len(alike.steps),
            troubled=sum(bool(step.attempts) for step in alike.steps),
            offset=wording.duration((_start(alike.steps[0]) - self.axis.origin).total_seconds()),
            duration=wording.duration(sum(stop - start for start, stop in spans)),
            bars=tuple(self.bars(spans)),
            is_open=is_open,
        )

    def bar(self, start: datetime, end: datetime, tone: Tone) -> Bar:
        """A stretch, wide enough to be seen."""
        return _bar(self.axis.place(start.timestamp()), self.axis.place(end.timestamp()), tone)

    def bars(self, spans: Sequence[Span]) -> Iterator[Bar]:
        """Many stretches, those near each other as one."""
        places = sorted((self.axis.place(start), self.axis.place(stop)) for start, stop in spans)
        x, end = places[0]
        for start, stop in places:
            if start > end + NEAR:
                yield _bar(x, end, "completed")
                x = start
            end = max(end, stop)
        yield _bar(x, end, "completed")


def _bar(x: float, end: float, tone: Tone) -> Bar:
    width = max(end - x, NARROWEST)
    return Bar(x=min(x, 100.0 - NARROWEST), width=min(width, 100.0 - x) or NARROWEST, tone=tone)


def _position(item: Item) -> int:
    return item.steps[0].position if isinstance(item, Alike) else item.position


def _shown(items: Sequence[Item], max_rows: int) -> set[int]:
    """The positions of the items to show."""
    if len(items) <= max_rows:
        return {_position(item) for item in items}
    urgent = [_position(item) for item in items if _is_urgent(item)][-max_rows:]
    rest = max_rows - len(urgent)
    others = [_position(item) for item in items if not _is_urgent(item)]
    return {*urgent, *others[len(others) - rest :]}


def _is_urgent(item: Item) -> bool:
    return isinstance(item, Step) and item.status in {"running", "failed"}


def _state(run: Run, step: Step) -> tuple[str, Tone]:
    if step.status != "running":
        return step.status, step.status
    if run.is_terminal or run.status == "pending":
        return "interrupted", "cancelled"
    if step.kind != "run":
        return "waiting", "waiting"
    return ("retrying", "waiting") if step.wake_at is not None else ("running", "running")


def _is_last(step: Step, attempt: StepAttempt) -> bool:
    """Whether the step's own bar shows this attempt."""
    return step.status == "failed" and attempt.started_at == step.started_at


def _start(step: Step) -> datetime:
    return min([step.started_at, *(attempt.started_at for attempt in step.attempts)])


def _end(run: Run, step: Step, now: datetime) -> datetime:
    if step.completed_at is not None:
        return step.completed_at
    if step.status == "running" and not run.is_terminal and run.status != "pending":
        return max(now, step.started_at)
    return max(run.completed_at or run.updated_at, step.started_at)


def _ends(run: Run, steps: Sequence[Step], now: datetime) -> Iterator[datetime]:
    if run.completed_at is not None:
        yield run.completed_at
    for step in steps:
        yield _end(run, step, now)


def _busy(run: Run, steps: Sequence[Step], now: datetime) -> Iterator[Span]:
    """The stretches in which something of the run executed."""
    for step in steps:
        for attempt in step.attempts:
            yield attempt.started_at.timestamp(), attempt.ended_at.timestamp()
        if step.kind == "run" and step.wake_at is None:
            yield step.started_at.timestamp(), _end(run, step, now).timestamp()
