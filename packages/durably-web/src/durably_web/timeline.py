"""A run's steps on a time axis: pure geometry, in percent of the axis.

Time in which nothing executes (a sleep of a week, a day until somebody approves) is folded, so that
what executes stays visible beside it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from durably import Run, Step, StepAttempt
from durably_web import wording

Tone: TypeAlias = Literal["running", "waiting", "completed", "failed", "cancelled", "attempt"]
Span: TypeAlias = tuple[float, float]

NARROWEST: Final = 0.4
"""Percent of the axis that even an instant takes."""
FOLDED_FROM: Final = 0.2
"""An idle stretch of at least this part of the whole is folded …"""
LEAST_FOLDED: Final = 5.0
"""… if it is as long as this, in seconds."""
FOLD: Final = 7.0
"""Percent of the axis that a folded stretch takes at least …"""
SHARE: Final = 40.0
"""… and that one takes which is nearly everything."""
MOST_FOLDS: Final = 6


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


@dataclass(frozen=True, slots=True)
class Omission:
    """Steps that are not shown."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A stretch in which nothing executed, shown narrower than it was."""

    x: float
    width: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Steps in order, and the axis above them."""

    rows: tuple[Row | Omission, ...]
    length: float
    """Of the axis, in seconds."""
    total: str
    half: str | None
    """What stands at the middle of the axis; nothing if parts of it are folded."""
    folds: tuple[Fold, ...]
    growing_from: datetime | None
    """Where the axis begins, if its end is now: something goes on, and nothing is folded."""
    count: int
    completed: int


def timeline(run: Run, steps: Sequence[Step], *, now: datetime, max_rows: int) -> Timeline:
    """The steps of a run, at most about `max_rows` of them.

    Failed and unfinished ones are always among them, then the newest.
    """
    is_active = not run.is_terminal
    starts = [_start(step) for step in steps]
    # A link of a chain begins with its own first step: the run itself may have begun a year ago.
    origin = min(starts) if starts and run.link > 1 else min([run.started_at or now, *starts])
    end = max([run.completed_at or now if is_active else origin, *_ends(run, steps, now)])
    axis = _Axis(origin, end, _busy(run, steps, now))
    return Timeline(
        rows=tuple(_rows(run, steps, axis, now=now, max_rows=max_rows)),
        length=axis.length,
        total=wording.duration(axis.length),
        half=None if axis.folds else wording.duration(axis.length / 2),
        folds=axis.folds,
        growing_from=origin if end >= now and not axis.folds else None,
        count=len(steps),
        completed=sum(step.status == "completed" for step in steps),
    )


class _Axis:
    def __init__(self, origin: datetime, end: datetime, busy: Iterable[Span]) -> None:
        self.origin = origin
        self.length = max((end - origin).total_seconds(), 0.001)
        idle = _longest_idle(origin.timestamp(), end.timestamp(), sorted(busy))
        busy_for = self.length - sum(stop - start for start, stop in idle)
        if busy_for < 1e-6:  # there is nothing to make room for
            idle, busy_for = [], self.length
        widths = [max(FOLD, SHARE * (stop - start) / self.length) for start, stop in idle]
        self._scale = (100.0 - sum(widths)) / busy_for
        self._idle = list(zip(idle, widths, strict=True))
        self.folds = tuple(
            Fold(x=self.place(start), width=width, label=wording.duration(stop - start))
            for (start, stop), width in self._idle
        )

    def place(self, instant: float) -> float:
        """Where an instant stands."""
        passed = instant - self.origin.timestamp()
        place = 0.0
        for (start, stop), width in self._idle:
            if instant <= start:
                break
            inside = min(instant, stop) - start
            passed -= inside
            place += width * inside / (stop - start)
        return min(max(place + passed * self._scale, 0.0), 100.0)

    def bar(self, start: datetime, end: datetime, tone: Tone) -> Bar:
        x = self.place(start.timestamp())
        width = max(self.place(end.timestamp()) - x, NARROWEST)
        return Bar(x=min(x, 100.0 - NARROWEST), width=min(width, 100.0 - x) or NARROWEST, tone=tone)


def _longest_idle(origin: float, end: float, busy: Sequence[Span]) -> list[Span]:
    gaps: list[Span] = []
    reached = origin
    for start, stop in busy:
        if start > reached:
            gaps.append((reached, start))
        reached = max(reached, stop)
    gaps.append((reached, max(end, reached)))
    least = max(FOLDED_FROM * (end - origin), LEAST_FOLDED)
    folded = [gap for gap in gaps if gap[1] - gap[0] >= least]
    return sorted(sorted(folded, key=lambda gap: gap[0] - gap[1])[:MOST_FOLDS])


def _rows(
    run: Run, steps: Sequence[Step], axis: _Axis, *, now: datetime, max_rows: int
) -> Iterator[Row | Omission]:
    shown = _shown(steps, max_rows)
    omitted = 0
    for step in steps:
        if step.position not in shown:
            omitted += 1
            continue
        if omitted:
            yield Omission(omitted)
            omitted = 0
        yield _row(run, step, axis, now)
    if omitted:
        yield Omission(omitted)


def _shown(steps: Sequence[Step], max_rows: int) -> set[int]:
    """The positions of the steps to show."""
    if len(steps) <= max_rows:
        return {step.position for step in steps}
    urgent = [step.position for step in steps if step.status in {"running", "failed"}][-max_rows:]
    rest = max_rows - len(urgent)
    others = [step.position for step in steps if step.status not in {"running", "failed"}]
    return {*urgent, *others[len(others) - rest :]}


def _row(run: Run, step: Step, axis: _Axis, now: datetime) -> Row:
    status, tone = _state(run, step)
    end = _end(run, step, now)
    bars = [
        axis.bar(one.started_at, one.ended_at, "attempt") for one in step.attempts if not _is_last(step, one)
    ]
    bars.append(axis.bar(step.started_at, end, tone))
    goes_on = status in {"running", "waiting", "retrying"}
    return Row(
        step=step,
        status=status,
        tone=tone,
        offset=wording.duration((_start(step) - axis.origin).total_seconds()),
        duration=wording.duration((end - _start(step)).total_seconds()),
        since=_start(step) if goes_on else None,
        bars=tuple(bars),
    )


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
