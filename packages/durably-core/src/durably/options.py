"""Settings and how they are checked. Everything comes out in plain seconds and strings."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TypeAlias, TypedDict, cast, get_args

from durably.errors import ConfigurationError, DurablyError, ValidationError
from durably.models import Coalesce, ConcurrencyKey, Seconds

LONGEST_KEY = 512
LONGEST_NAME = 200
RESERVED: frozenset[str] = frozenset("/[]")
"""In the names of steps these stand for scopes and for the items of a map."""
LONGEST_LABEL = 255
HIGHEST_PRIORITY = 1_000_000
LABEL_KEY: re.Pattern[str] = re.compile(r"[A-Za-z0-9._/-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest values that are stored, in bytes of JSON text."""

    payload_bytes: int = 1_048_576
    log_bytes: int = 65_536


class TriggerOptions(TypedDict, total=False):
    """Options of `trigger`."""

    idempotency_key: str
    """With the job's name it names the run: a second trigger answers the first one's run."""
    concurrency_key: str | ConcurrencyKey
    """Runs that share it execute one at a time, in order."""
    coalesce: Coalesce | None
    """What happens if a run of this job with the same concurrency key waits for its first start.

    `skip`: that run answers, with its own input and labels, unless it falls due later than the new
    one would. `replace`: it is cancelled, and the new one takes its place in the queue. `reject`:
    `ConflictError`. None (default): the new one queues behind it. Runs that have begun are never
    touched. An idempotency key that is known already wins over all of this.
    """
    labels: Mapping[str, str]
    """To find it by; keys of letters, digits and `._/-`. They never change."""
    priority: int
    """Each point lets it pass runs triggered up to a minute earlier. Default 0."""
    delay: Seconds
    """Do not start it before this time has passed."""
    run_at: datetime
    """Do not start it before this instant (timezone-aware)."""


class ChildOptions(TypedDict, total=False):
    """Options of `invoke` and `spawn`; as in `TriggerOptions`."""

    concurrency_key: str | ConcurrencyKey
    labels: Mapping[str, str]
    priority: int
    delay: Seconds
    run_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works; times in seconds."""

    polling_interval: float = 1.0
    heartbeat_interval: float = 5.0
    lease_seconds: float = 30.0
    stall_limit: float = 300.0
    slots: int = 10
    max_crashes: int = 5
    retain: float | None = None
    persist_logs: bool = True
    keep_results: bool = True
    limits: Limits = Limits()


Problem: TypeAlias = type[DurablyError]


def unknown_option(options: Mapping[str, object], known: Collection[str], what: str = "option") -> str | None:
    """What is to be said of an option that there is not: which one may have been meant, and which there are."""
    unknown = min(options.keys() - known, default=None)
    if unknown is None:
        return None
    near = get_close_matches(unknown, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {unknown!r}{hint}; there are: {', '.join(sorted(known))}"


def seconds(value: object, what: str, *, problem: Problem = ConfigurationError) -> float:
    """A positive duration in seconds.

    Raises:
        DurablyError: As `problem`: it is not a finite number above 0, nor such a timedelta.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise problem(f"{what} must be a positive number of seconds or a timedelta, not {value!r}")
    return float(number)


def whole(value: object, what: str, *, least: int, most: int) -> int:
    """A whole number within bounds.

    Raises:
        ConfigurationError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{what} must be a whole number from {least} to {most}, not {value!r}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """The options of one trigger, checked."""

    idempotency_key: str | None = None
    concurrency_key: str | None = None
    is_key_shared: bool = False
    coalesce: Coalesce | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: int = 0
    delay: float | None = None
    run_at: float | None = None


def trigger_options(options: TriggerOptions) -> Trigger:
    """Check the options of a trigger.

    Raises:
        ValidationError: One of them cannot be used; `fields` names it.
    """
    if not options:
        return Trigger()
    known = TriggerOptions.__annotations__
    wrong = unknown_option(options, known, "trigger option")
    if wrong is not None:
        raise ValidationError(wrong, fields=sorted(options.keys() - known))
    concurrency_key = options.get("concurrency_key")
    is_shared = isinstance(concurrency_key, ConcurrencyKey) and concurrency_key.shared
    if isinstance(concurrency_key, ConcurrencyKey):
        concurrency_key = concurrency_key.name
    if options.get("delay") is not None and options.get("run_at") is not None:
        raise ValidationError("give either delay or run_at, not both", fields=("delay", "run_at"))
    return Trigger(
        idempotency_key=_key(options.get("idempotency_key"), "idempotency_key"),
        concurrency_key=_key(concurrency_key, "concurrency_key"),
        is_key_shared=is_shared,
        coalesce=_coalesce(options.get("coalesce")),
        labels=labels(options.get("labels")),
        priority=_priority(options.get("priority", 0)),
        delay=_delay(options.get("delay")),
        run_at=_instant(options.get("run_at"), "run_at"),
    )


def labels(value: Mapping[str, str] | None) -> dict[str, str]:
    """Check labels, or a filter over them.

    Raises:
        ValidationError: A key or a value cannot be used.
    """
    checked = dict(value or {})
    for key, text in checked.items():
        _check_label(key, text)
    return checked


def _check_label(key: object, value: object) -> None:
    if not isinstance(key, str) or not LABEL_KEY.fullmatch(key):
        raise ValidationError(
            f"labels: {key!r} is no label key: use 1–255 letters, digits and . _ / -",
            fields=("labels",),
        )
    if not isinstance(value, str) or len(value) > LONGEST_LABEL or not is_text(value):
        raise ValidationError(
            f"labels: the value of {key!r} must be a string of at most {LONGEST_LABEL} characters",
            fields=(f"labels.{key}",),
        )


def check_run_id(run_id: object) -> None:
    """See that it can be the id of a run.

    Raises:
        ValidationError: It is none.
    """
    if not isinstance(run_id, str) or not run_id or not is_text(run_id):
        raise ValidationError(f"{run_id!r} is no run id; spawn answers one", fields=("child_id",))


def check_signal(name: str, *, run_id: str | None, key: str | None) -> None:
    """Check to whom a signal is addressed.

    Raises:
        ValidationError: Not to exactly one of a run and a key, or the name or key cannot be used.
    """
    if (run_id is None) == (key is None):
        raise ValidationError("give either run_id or key: whom the signal is for", fields=("run_id", "key"))
    _key(name, "name")
    _key(key, "key")


def check_key(value: str | None, what: str) -> str | None:
    """Check a key.

    Raises:
        ValidationError: It is empty, too long, or no text that every database takes.
    """
    return _key(value, what)


def instant(value: datetime, what: str) -> float:
    """An aware datetime in seconds since the epoch.

    Raises:
        ValidationError: It has no timezone.
    """
    moment = _instant(value, what)
    if moment is None:
        raise ValidationError(f"{what} must be a datetime with a timezone", fields=(what,))
    return moment


def _key(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_KEY or not is_text(value):
        raise ValidationError(f"{what} must be a string of 1 to {LONGEST_KEY} characters", fields=(what,))
    return value


def _coalesce(value: object) -> Coalesce | None:
    if value is not None and value not in get_args(Coalesce):
        raise ValidationError(
            f"coalesce must be 'skip', 'replace', 'reject' or None (queue), not {value!r}",
            fields=("coalesce",),
        )
    return cast("Coalesce | None", value)


def check_step_name(name: object) -> None:
    """Check the name of a step or a scope.

    Raises:
        ValidationError: It cannot be used; says what is allowed.
    """
    fits = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and RESERVED.isdisjoint(name)
    if not fits or not is_text(str(name)):
        raise ValidationError(
            f"{name!r} is no step name: use 1 to {LONGEST_NAME} characters without / [ ] and NUL"
        )


def is_text(value: str) -> bool:
    """Whether every database takes it: no lone surrogates, no NUL."""
    if "\x00" in value:
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > HIGHEST_PRIORITY:
        raise ValidationError(
            f"priority must be a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}",
            fields=("priority",),
        )
    return value


def _delay(value: object) -> float | None:
    if value is None or value == 0 or value == timedelta(0):
        return None
    try:
        return seconds(value, "delay", problem=ValidationError)
    except ValidationError as error:
        raise ValidationError(str(error), fields=("delay",)) from None


def _instant(value: object, what: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValidationError(
            f"{what} must be a datetime with a timezone, e.g. datetime.now(timezone.utc)",
            fields=(what,),
        )
    return value.timestamp()
