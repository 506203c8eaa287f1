"""From what someone wants executed to the row that is stored."""

from dataclasses import dataclass
from typing import TypeVar

from durably.errors import NotStorableError, ValidationError
from durably.options import Limits, Trigger
from durably.steps import Invocable
from durably.stores.values import NewRun

SHARED_SCOPE = "*"

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that someone wants: the input as given, the options as checked."""

    input: object
    options: Trigger


def input_text(job: Invocable[In, Out], input: object, *, limits: Limits) -> str:
    """The stored form of a job's input.

    Raises:
        ValidationError: It does not fit the job, or cannot be stored.
    """
    what = f"the input of job {job.name!r}"
    value = job.input_codec.validate(input, what=what)
    try:
        return job.input_codec.encode(value, what=what, limit=limits.payload_bytes)[0]
    except NotStorableError as error:
        raise ValidationError(str(error), fields=(error.path,)) from None


def new_run(
    job: Invocable[In, Out],
    wish: Wish,
    *,
    id: str,
    limits: Limits,
    parent_id: str | None = None,
    is_detached: bool = False,
) -> NewRun:
    """The row for a wish.

    Raises:
        ValidationError: The input does not fit the job, or cannot be stored.
    """
    options = wish.options
    text = input_text(job, wish.input, limits=limits)
    if options.coalesce is not None and options.concurrency_key is None:
        raise ValidationError(
            "coalesce needs a concurrency_key: it says what happens if a run of that key waits already",
            fields=("coalesce",),
        )
    scope = None
    if options.concurrency_key is not None:
        scope = SHARED_SCOPE if options.is_key_shared else job.name
    return NewRun(
        id=id,
        job_name=job.name,
        input_json=text,
        labels=options.labels,
        idempotency_key=options.idempotency_key,
        concurrency_key=options.concurrency_key,
        key_scope=scope,
        coalesce=options.coalesce,
        priority=options.priority,
        delay=options.delay,
        run_at=options.run_at,
        parent_id=parent_id,
        is_detached=is_detached,
        on_failure=job.follow_ups,
    )
