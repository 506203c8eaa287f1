"""What a job's code talks to.

`StepContext` is the interface; a run that is executed by a worker gets one that checkpoints
(`execution.py`), `run_inline` gets a plain one (`inline.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import NoReturn, Protocol, TypeVar, TypeVarTuple, overload

from typing_extensions import Unpack

from durably.codec import Codec, codec_for, codec_of_result
from durably.derivations import StepValues
from durably.errors import StepError, ValidationError
from durably.mapping import StepMaps
from durably.models import LogLevel, Seconds
from durably.naming import call_site
from durably.options import ChildOptions, instant, seconds
from durably.policies import Policy, policy_of
from durably.retries import Retry

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")
Args = TypeVarTuple("Args")


class Invocable(Protocol[In, Out]):
    """A job that can be a child: a `JobDefinition` or a `JobHandle`."""

    @property
    def name(self) -> str:
        """The job's name."""
        ...

    @property
    def input_codec(self) -> Codec[In]:
        """How its input is stored."""
        ...

    @property
    def output_codec(self) -> Codec[Out]:
        """How its output is stored."""
        ...

    @property
    def follow_ups(self) -> tuple[str, ...]:
        """The jobs that follow a failure, one after the other."""
        ...


def outside_a_step(asked: str) -> StepError:
    """What is raised when something is asked between steps that belongs into the body of one."""
    return StepError(
        f"step.{asked} was called between steps; it belongs into the body of a step: "
        "a long one says by it how far it has come"
    )


class StepLog(ABC):
    """Log lines of a run, kept with it in the store.

    A line is stored with the run's next checkpoint, or within 100 ms; a crash may lose the lines of
    the last 100 ms, never those before the run's end. Lines written between steps are not written
    again on replay.
    """

    def info(self, message: str, /, **fields: object) -> None:
        """Write a line; `fields` are stored beside it as JSON, at most 64 KiB together."""
        self._write("info", message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Write a warning."""
        self._write("warning", message, fields)

    warn = warning

    def error(self, message: str, /, **fields: object) -> None:
        """Write an error; the run goes on."""
        self._write("error", message, fields)

    @abstractmethod
    def _write(self, level: LogLevel, message: str, fields: dict[str, object]) -> None: ...


class StepContext(StepMaps, StepValues):
    """A run's steps, progress and log, from inside its job.

    Belongs to one execution of one run: once that has ended, it refuses every call.
    """

    @property
    @abstractmethod
    def attempt(self) -> int:
        """In a step: which attempt at it this is. Between steps: which execution of the run. From 1."""

    @property
    @abstractmethod
    def idempotency_key(self) -> str:
        """A key for the other side's API: the same for this step of this run, over every crash.

        Between steps it is the run's own. Each link of a chain has keys of its own.
        """

    @property
    @abstractmethod
    def log(self) -> StepLog:
        """The run's log."""

    @property
    @abstractmethod
    def is_cancelled(self) -> bool:
        """Whether this execution must end: the run was cancelled, its lease lost, its worker stopped.

        For plain functions in threads, which nobody can interrupt.
        """

    @abstractmethod
    def raise_if_cancelled(self) -> None:
        """End here if this execution must end.

        Raises:
            asyncio.CancelledError: It must.
        """

    @overload
    async def run(
        self,
        name: str,
        fn: Callable[[*Args], object],
        /,
        *args: *Args,
        result: type[T],
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> T: ...
    @overload
    async def run(
        self,
        name: str,
        fn: Callable[[*Args], Awaitable[T]],
        /,
        *args: *Args,
        result: None = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> T: ...
    @overload
    async def run(
        self,
        name: str,
        fn: Callable[[*Args], T],
        /,
        *args: *Args,
        result: None = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> T: ...
    def run(
        self,
        name: str,
        fn: Callable[..., object],
        /,
        *args: object,
        result: object = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> Coroutine[object, object, object]:
        """Call `fn(*args)` once and keep its result; ever after, answer what was kept.

        The body may execute again if a crash strikes before its result is committed: pass
        `idempotency_key` to whatever must not happen twice. `fn` is `async def`, or plain and then
        executed in a thread, or a lambda answering an awaitable. The answer is what a replay would
        give: the result after a trip through storage, validated against `fn`'s return annotation or
        `result`.

        Args:
            name: Unique in the run; 1–200 characters, without `/`, `[` and `]`.
            fn: The body.
            *args: Its arguments.
            result: The type of the result, where `fn` does not say it.
            retry: Try again after a failure; a number means so many attempts. Each failed attempt is
                stored, with its error; waits of more than a second need no worker.
            timeout: How long one attempt may take; then it fails with `StepTimeoutError`, which is worth
                another one. An `async def` is cancelled. A plain function cannot be: the step goes on
                without it, but it keeps its thread until it returns, what it returns is dropped, and
                another attempt may execute beside it. It may ask `is_cancelled`. The time it waits for
                a free thread counts.

        Raises:
            StepFailed: The body raised, now or when it was executed, or its result cannot be stored.
            DuplicateStepError: The name was used before in this execution.
            NestedStepError: Called inside another step's body.
            StepOutsideRunError: Called outside the execution that this context belongs to.
            ConfigurationError: `retry`, `timeout` or `result` cannot be used.
        """
        # Not itself async: only here the caller's frame is the one that called.
        codec = codec_of_result(fn) if result is None else codec_for(result)
        policy = None if retry is None and timeout is None else policy_of(retry, timeout)
        body = partial(fn, *args) if args else fn
        return self._run(self._place(name), body, codec, call_site(), policy)

    @abstractmethod
    async def _run(
        self,
        place: str,
        body: Callable[[], object],
        codec: Codec[object],
        call_site: str,
        policy: Policy | None = None,
    ) -> object: ...

    @property
    @abstractmethod
    def suspending(self) -> bool:
        """Whether this execution ends because the run waits: for `finally` blocks, which run then too."""

    async def sleep(self, name: str, duration: Seconds, /) -> None:
        """Let this much time pass, however often the process dies meanwhile.

        Longer than a second it needs no worker: the run is suspended, its slot free. The time
        counts from the first call.

        Args:
            name: Unique in the run, like a step's.
            duration: Seconds, or a timedelta.
        """
        await self._sleep(name, duration=seconds(duration, "duration", problem=ValidationError))

    async def sleep_until(self, name: str, moment: datetime, /) -> None:
        """Wait for an instant; in the past it is over at once.

        Raises:
            ValidationError: The instant has no timezone.
        """
        await self._sleep(name, until=instant(moment, "moment"))

    @abstractmethod
    async def wait_for_signal(
        self, name: str, type_: type[T], /, *, key: str | None = None, timeout: Seconds | None = None
    ) -> T:
        """Wait for `Durably.signal(name, …)`, without a worker.

        A signal is stored before it is delivered: one sent before the wait is not lost. Each is
        delivered once.

        Args:
            name: The signal's name; unique in the run, like a step's.
            type_: The payload's type; it is validated.
            key: Also take a signal that is addressed to this key, rather than to the run's id.
            timeout: How long to wait, from the first call. None: for ever.

        Raises:
            SignalTimeout: None came in time. That is a checkpoint: a later one changes nothing.
            StoredValueError: The payload does not fit `type_`.
        """

    @abstractmethod
    async def invoke(
        self, name: str, job: Invocable[In, Out], input: In, /, **options: Unpack[ChildOptions]
    ) -> Out:
        """Execute another job as a child, and wait for its output, without a worker.

        The child is triggered once, whatever happens. Cancelling this run cancels it; retrying this
        run retries it in its place.

        Raises:
            StepFailed: The child failed or was cancelled; of its own error's type and message.
            ValidationError: The input or an option does not fit.
            ConflictError: The child asks for a concurrency key that this run or its parent keeps.
        """

    @abstractmethod
    async def spawn(
        self,
        name: str,
        job: Invocable[In, Out],
        input: In,
        /,
        *,
        detached: bool = False,
        **options: Unpack[ChildOptions],
    ) -> str:
        """Trigger another job as a child, once, and go on; answers the child's run id, for `join`.

        Args:
            name: Unique in the run, like a step's.
            job: What to execute.
            input: Its input.
            detached: Whether the child goes on when this run is cancelled.
            **options: As in `trigger`.

        Raises:
            ValidationError: The input or an option does not fit.
        """

    @abstractmethod
    async def join(self, name: str, job: Invocable[In, Out], child_id: str, /) -> Out:
        """Wait for the output of a child that `spawn` has made, without a worker.

        Of children that were spawned first and are joined one after the other, all are executed side
        by side. One that has ended already is answered at once.

        Args:
            name: Unique in the run, like a step's.
            job: What the child executes.
            child_id: What `spawn` answered, in this link or an earlier one of the run.

        Raises:
            StepFailed: The child failed, was cancelled or deleted; of its own error's type and message.
                Retrying this run retries a failed child in its place.
            ValidationError: It is no child of this run, or of another job.
            ConflictError: The child waits for a concurrency key that this run or its parent keeps.
        """

    @abstractmethod
    async def continue_as_new(self, input: object, /) -> NoReturn:
        """End here, and call the job again with another input: the same run, without any checkpoints.

        For loops without an end: replay stays short, however long the run lives. Each pass is a
        **link** of the run's chain (`Run.link`, `Durably.get_links`). The run keeps its id, key, place
        in the queue, labels, log, children, and the signals that nobody has taken; names of steps,
        attempts at the job and its timeout begin anew. Until the next link is committed this one
        stands, so a crash repeats the call.

        Never returns: what the job does with the `CancelledError` that ends it changes nothing.

        Args:
            input: The job's next input.

        Raises:
            ValidationError: The input does not fit the job; the link goes on.
            NestedStepError: Called inside a step's body.
            StepError: Other steps of the run are executing or waiting in parallel; the link goes on.
        """
        ...

    @abstractmethod
    async def _sleep(
        self, name: str, *, duration: float | None = None, until: float | None = None
    ) -> None: ...

    @abstractmethod
    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the run has come; shown as `run.progress`.

        Stored with the next checkpoint or within 100 ms; of several in that time the last is kept.
        """

    @abstractmethod
    def save_cursor(self, value: object, /) -> None:
        """In a step: say how far its body has come, for the next attempt to go on from there.

        Stored with the run's next checkpoint or within 100 ms; of several the last is kept, so it may be
        called after each row. The next attempt gets it by `cursor`, whatever ended this one: a crash, a
        stop, a failure, a suspension, also a retry of the failed run. Dropped once the step has
        completed. A crash may lose the last 100 ms, and then what they did is done again.

        Args:
            value: As a step's result: JSON values, or anything pydantic can store.

        Raises:
            NotStorableError: It would come back as something else; names the place. Nothing is saved.
            PayloadTooLargeError: It is too large. Nothing is saved.
            StepError: Called between steps.
            asyncio.CancelledError: This execution, or this attempt, must end.
        """

    @abstractmethod
    def cursor(self, type_: type[T], /) -> T | None:
        """In a step: what was saved last, by an earlier attempt or by this one; None: nothing was.

        Args:
            type_: The value's type; it is validated.

        Raises:
            StoredValueError: It does not fit `type_`.
            StepError: Called between steps.
        """
