"""Every exception of the engine.

DurablyError
├── ConfigurationError            an option or a definition is wrong
│   └── JobAlreadyRegisteredError
├── ValidationError               an input, key, label or filter is wrong; nothing was stored
│   └── PayloadTooLargeError
├── NotStorableError              a step's result or a job's output does not survive storage
├── StoredValueError              a stored value does not fit the present type
├── JobNotFoundError
├── RunNotFoundError
├── ConflictError                 the run's state does not allow this
├── RunFailedError                the run that was waited for failed
├── RunCancelledError             … or was cancelled
├── WaitTimeoutError              … or took longer than the caller waits (also a TimeoutError)
├── StepError                     a step was called wrongly
│   ├── DuplicateStepError
│   ├── NestedStepError
│   ├── StepOutsideRunError
│   ├── StepChangedError          a name stands for something else than what is stored
│   └── TriggerInRunError
├── StepFailed                    a step's body failed; live and on replay
│   ├── SignalTimeout             no signal came in time
│   └── MapFailed                 items of a map failed
├── StepTimeoutError              an attempt at a step took too long (also a TimeoutError)
├── RunTimeoutError               … or a run did, from its first start on
├── RetryAfter                    to be raised: try again, but not before
├── Fatal                         to be raised: do not try again
├── ResourceError                 a resource could not be opened or closed
├── NotRunningError               the instance is not open, or belongs to another loop or process
└── StoreError                    the database, not the job
    ├── StoreBusyError            worth trying again
    ├── StoreFullError            … once there is room
    ├── StoreUnavailableError     … once it can be reached
    ├── StoreReadOnlyError
    ├── NotADatabaseError
    ├── SchemaMissingError
    ├── SchemaTooNewError
    └── SqliteTooOldError
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durably.models import RunStatus, Seconds, StepKind

VERBS: "Mapping[StepKind, str]" = {
    "run": "step.run",
    "map": "step.map",
    "sleep": "step.sleep",
    "signal": "step.wait_for_signal",
    "child": "step.invoke or step.join",
    "spawn": "step.spawn",
}
"""What job code writes to get a step of each kind."""
NAMED = 3
"""Failed items that the message of a `MapFailed` names."""


class DurablyError(Exception):
    """The root of all errors of this library."""


class ConfigurationError(DurablyError):
    """An option or a job definition is wrong; the message says what is allowed."""


class JobAlreadyRegisteredError(ConfigurationError):
    """Another definition holds this name already."""

    def __init__(self, job_name: str) -> None:
        super().__init__(
            f"job {job_name!r} is already registered with a different definition; "
            "give one of them another name, e.g. @durably.job(name=…)"
        )
        self.job_name = job_name


class ValidationError(DurablyError, ValueError):
    """An input, key, label or filter is wrong; nothing was stored.

    Attributes:
        fields: The places in the value, dotted: `("items.0.price",)`.
        reasons: What is wrong at each of them, for a form; "" stands for the value as a whole. Empty
            where the message is about one place only.
    """

    def __init__(
        self, message: str, *, fields: Sequence[str] = (), reasons: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.fields: tuple[str, ...] = tuple(fields)
        self.reasons: Mapping[str, str] = reasons or {}


class PayloadTooLargeError(ValidationError):
    """A value is larger than the store takes; `size` and `limit` are bytes of JSON text."""

    def __init__(self, what: str, *, size: int, limit: int) -> None:
        super().__init__(
            f"{what} takes {size} bytes as JSON, the limit is {limit}; "
            "store large data elsewhere and pass a reference to it"
        )
        self.size = size
        self.limit = limit


class NotStorableError(DurablyError):
    """A value would come back from storage as something else.

    Attributes:
        path: Where in the value, e.g. `$.items[3].price`.
    """

    def __init__(self, what: str, path: str, reason: str) -> None:
        super().__init__(f"{what} cannot be stored: at {path}: {reason}")
        self.path = path


class StoredValueError(DurablyError):
    """A stored value does not fit what the present code expects; the message says whose value it is.

    Attributes:
        fields: The places that do not fit, dotted: `("items.0.price",)`; none if it is the whole value.
        stored: An outline of what is stored, without its values: `{rows: str}`.
        expected: The same of what the code expects: `{rows: int, label?: str}`.
    """

    def __init__(
        self, message: str, *, fields: Sequence[str] = (), stored: str = "", expected: str = ""
    ) -> None:
        shapes = f"; stored: {stored}; expected: {expected}" if stored else ""
        super().__init__(message + shapes)
        self.fields: tuple[str, ...] = tuple(fields)
        self.stored = stored
        self.expected = expected


class JobNotFoundError(DurablyError):
    """No job of this name is registered with this instance."""

    def __init__(self, job_name: str) -> None:
        super().__init__(
            f"no job named {job_name!r} is registered with this instance; register its definition"
        )
        self.job_name = job_name


class RunNotFoundError(DurablyError):
    """There is no such run (any more)."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run not found: {run_id}")
        self.run_id = run_id


class ConflictError(DurablyError):
    """The run's state does not allow this."""

    def __init__(self, message: str, *, run_id: str, status: "RunStatus") -> None:
        super().__init__(message)
        self.run_id = run_id
        self.status: RunStatus = status


class RunFailedError(DurablyError):
    """The run that was waited for failed.

    Attributes:
        error_type: The exception's class name in the job.
        error_message: Its message.
    """

    def __init__(self, run_id: str, error_type: str, error_message: str) -> None:
        super().__init__(f"run {run_id} failed: {error_type}: {error_message}")
        self.run_id = run_id
        self.error_type = error_type
        self.error_message = error_message


class RunCancelledError(DurablyError):
    """The run that was waited for was cancelled."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was cancelled")
        self.run_id = run_id


class WaitTimeoutError(DurablyError, TimeoutError):
    """The run did not end in the time its caller was willing to wait; it goes on all the same."""

    def __init__(self, run_id: str, seconds: float) -> None:
        super().__init__(f"run {run_id} has not ended after {seconds:g} s; it goes on")
        self.run_id = run_id
        self.seconds = seconds


class StepError(DurablyError):
    """A step was called in a way that cannot be made durable."""


class DuplicateStepError(StepError):
    """One execution used a step name twice."""

    def __init__(self, step_name: str, first: str, second: str) -> None:
        super().__init__(
            f"step {step_name!r} was called twice in this run, at {first} and at {second}; "
            "names must be unique in a run, e.g. f'insert-{i}'"
        )
        self.step_name = step_name


class NestedStepError(StepError):
    """A step was called inside another step's body."""

    def __init__(self, step_name: str, outer: str) -> None:
        super().__init__(
            f"step {step_name!r} was called inside step {outer!r}; a step is one checkpoint: "
            "call it from the job, or make the inner one a plain call"
        )
        self.step_name = step_name
        self.outer = outer


class StepOutsideRunError(StepError):
    """A step context was used where its run is not executing."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"the step context of run {run_id} was used outside its execution; "
            "steps belong to the job's own code; to start work from elsewhere, trigger a job"
        )
        self.run_id = run_id


class StepChangedError(StepError):
    """A name is stored in this run as something else than what the job's code calls by it now.

    Attributes:
        step_name: The name.
        stored: What it was, e.g. `signal`.
        called: What it is now, e.g. `run`.
    """

    def __init__(self, step_name: str, *, stored: "StepKind", called: "StepKind") -> None:
        super().__init__(
            f"step {step_name!r} was a {VERBS[stored]} when this run stored it, and is a {VERBS[called]} now; "
            "give what is new a name of its own"
        )
        self.step_name = step_name
        self.stored = stored
        self.called = called


class TriggerInRunError(StepError):
    """A job's code triggered another job outside a step, or waited for one in memory."""


class StepFailed(DurablyError):  # noqa: N818 - it is what happened, as in the field's own words
    """A step failed for good. A job that catches it meets the same error on every replay.

    `__cause__` is the original exception, on the execution in which it happened only.
    """

    def __init__(
        self, step_name: str, error_type: str, message: str, attempts: int, *, traceback: str | None = None
    ) -> None:
        super().__init__(f"step {step_name!r} failed: {error_type}: {message}")
        self.step_name = step_name
        self.error_type = error_type
        self.message = message
        self.attempts = attempts
        self.traceback = traceback
        """The original exception's, as it was recorded."""


class SignalTimeout(StepFailed):
    """No signal came in the time that the wait allowed. One that comes later changes nothing."""


class MapFailed(StepFailed):
    """Items of a `step.map` failed; once one had, no further item was begun.

    Attributes:
        failures: Those of the items, in the order of the list.
    """

    def __init__(self, step_name: str, failures: "Sequence[StepFailed]", items: int) -> None:
        parts = "; ".join(f"{one.step_name}: {one.error_type}: {one.message}" for one in failures[:NAMED])
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        message = f"{len(failures)} of {items} items failed: {parts}{more}"
        attempts = max(one.attempts for one in failures)
        super().__init__(step_name, f"{__name__}.{type(self).__name__}", message, attempts)
        self.failures: tuple[StepFailed, ...] = tuple(failures)


class StepTimeoutError(DurablyError, TimeoutError):
    """An attempt at a step took longer than its `timeout`."""

    def __init__(self, step_name: str, seconds: float) -> None:
        super().__init__(f"step {step_name!r} took longer than its timeout of {seconds:g} s")
        self.step_name = step_name
        self.seconds = seconds


class RunTimeoutError(DurablyError, TimeoutError):
    """A run took longer than its job's `timeout`, counted from the link's first start, waits included."""

    def __init__(self, job_name: str, seconds: float) -> None:
        super().__init__(
            f"the run took longer than the timeout of job {job_name!r}, {seconds:g} s from its first start"
        )
        self.job_name = job_name
        self.seconds = seconds


class RetryAfter(DurablyError):  # noqa: N818 - it is raised to say what to do
    """Raise it in a step, or in a job that has `retry`: try again, but not before so many seconds.

    It counts as a failure, takes the place of the delay that `Retry` would make, and asks neither
    its `on` nor its `max_delay`.

    Args:
        seconds: Seconds or a timedelta, 0 for at once.
        message: What went wrong.

    Raises:
        ValidationError: The time is negative or no time.
    """

    def __init__(self, seconds: "Seconds", message: str | None = None) -> None:
        number = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        # The type says so, the other service's header may not.
        if not 0 <= number < float("inf"):
            raise ValidationError(
                f"RetryAfter takes seconds or a timedelta, not negative, not {seconds!r}",
                fields=("seconds",),
            )
        super().__init__(message or f"asked to be tried again after {number:g} s")
        self.seconds: float = float(number)


class Fatal(DurablyError):  # noqa: N818 - as above
    """Raise it in a step, or in a job that has `retry`: trying again is pointless."""


class ResourceError(DurablyError):
    """A resource could not be opened, or not be closed; `__cause__` is what its factory raised."""

    def __init__(self, resource: str, verb: str, reason: str) -> None:
        super().__init__(f"resource {resource!r} could not be {verb}: {reason}")
        self.resource = resource


class NotRunningError(DurablyError):
    """The instance is closed, not yet open, or used from another event loop or process."""


class StoreError(DurablyError):
    """The database is in trouble; never the job's error."""


class StoreBusyError(StoreError):
    """Another process holds the database's write lock for longer than we wait."""


class StoreFullError(StoreError):
    """The disk, or the database's own limit, is full."""


class StoreUnavailableError(StoreError):
    """The database cannot be read or written at the moment (I/O, a lost connection)."""


class StoreReadOnlyError(StoreError):
    """The database or its folder cannot be written."""


class NotADatabaseError(StoreError):
    """The file is not a SQLite database, or is damaged."""


class SchemaMissingError(StoreError):
    """The tables are not there; call `migrate()` or `init()` first."""


class SchemaTooNewError(StoreError):
    """A newer version of this library has migrated the database."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema version {found}, this version of durably knows {known}; "
            "upgrade durably-core in this process"
        )
        self.found = found
        self.known = known


class SqliteTooOldError(StoreError):
    """The SQLite library of this Python is older than the floor."""

    def __init__(self, found: str, floor: str) -> None:
        super().__init__(
            f"SQLite {found} is too old: durably needs {floor} or newer (STRICT tables); "
            "use a Python linked with a newer SQLite"
        )
        self.found = found
        self.floor = floor
