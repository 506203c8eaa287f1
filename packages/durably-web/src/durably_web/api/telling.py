"""From updates, which show how things stand, to events, which say what happened."""

from datetime import datetime

from durably import LogLine, Progress, Run, RunSnapshot, RunUpdate, RunVanished, StepSnapshot
from durably_web.api.wire import (
    WORDS,
    Wire,
    WireStatus,
    ended,
    leased,
    log_event,
    progressed,
    run_event,
    step_event,
)

BEGUN: frozenset[WireStatus] = frozenset({"leased", "completed", "failed"})


class Course:
    """One run, as far as it has been told."""

    def __init__(self, status: WireStatus | None = None, progress: Progress | None = None) -> None:
        self._status = status
        self._progress = progress

    def advance(self, run: Run) -> list[Wire]:
        """What must have happened since."""
        status, was = WORDS[run.status], self._status
        events: list[Wire] = []
        if was == "pending":
            events += self.begin(run) if status in BEGUN else []
        elif status == "leased" != was:
            events.append(leased(run))
        is_live = status == "leased" or (run.is_terminal and was is not None)
        if is_live and run.progress is not None and run.progress != self._progress:
            events.append(progressed(run))
        if run.is_terminal and was != status:
            events.append(ended(run))
        self._status, self._progress = status, run.progress
        return events

    def begin(self, run: Run) -> list[Wire]:
        """It has begun, if that was not told."""
        if self._status != "pending":
            return []
        self._status = "leased"
        return [leased(run)]


class RunTeller:
    """Tells of one run: of its steps, its lines, and of its end at last."""

    def __init__(self) -> None:
        self._course = Course()
        self._run: Run | None = None
        self._end: list[Wire] = []

    def present(self, run: Run) -> list[Wire]:
        """How things stand, for somebody who was away; of an end they are told when it comes."""
        self._run = run
        if run.is_terminal:
            self._course = Course("leased")
            return []
        return self._course.advance(run)

    def tell(self, update: RunUpdate) -> list[Wire]:
        """What happened."""
        if isinstance(update, RunSnapshot):
            return self._tell_run(update.run)
        run = self._run
        if run is None:  # a subscription begins with its run
            return []
        match update:
            case StepSnapshot(step=step):
                return [*self._course.begin(run), step_event(run, step)]
            case LogLine(entry=line):
                return [*self._course.begin(run), log_event(run, line)]
            case RunVanished():
                self._end = []
                return [run_event("run:delete", run)]

    def end(self) -> list[Wire]:
        """How it ended: after everything else."""
        return self._end

    def _tell_run(self, run: Run) -> list[Wire]:
        self._run = run
        events = self._course.advance(run)
        # Of a run that had ended before, the steps and lines are still to come.
        self._end = events if run.is_terminal else []
        return [] if run.is_terminal else events


class RunsTeller:
    """Tells of many runs, from a moment on.

    Args:
        since: Of a run that was not told of before, only what is not older than this is told.
    """

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._courses: dict[str, Course] = {}

    def tell(self, run: Run) -> list[Wire]:
        """What happened to this run."""
        is_new = run.created_at >= self._since and run.id not in self._courses
        course = self._courses.setdefault(run.id, self._course_before(run))
        events = [run_event("run:trigger", run)] if is_new else []
        events += course.advance(run)
        if run.is_terminal:
            del self._courses[run.id]
        return events

    def _course_before(self, run: Run) -> Course:
        """How the run stood at that moment, as far as its row says."""
        has_begun_before = run.started_at is not None and run.started_at < self._since
        if run.is_terminal and has_begun_before:
            return Course("leased", run.progress)
        return Course("leased" if has_begun_before and run.status != "pending" else "pending")
