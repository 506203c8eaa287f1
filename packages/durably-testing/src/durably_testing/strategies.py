"""Hypothesis strategies: inputs of jobs, plans of faults, schedules."""

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

from hypothesis import strategies as st
from pydantic import TypeAdapter

from durably import (
    ConcurrencyKey,
    JobDefinition,
    JobHandle,
    Limits,
    NotStorableError,
    PayloadTooLargeError,
    StoredValueError,
    TriggerOptions,
)
from durably.spi import Codec, codec_for
from durably_testing.crashes import KINDS, PAUSE, SKEW
from durably_testing.errors import SimulationError
from durably_testing.faults import Fault, Kind, Moment, Plan, in_order
from durably_testing.schemas import Json, json_for, json_values
from durably_testing.simulation import AnyJob, Scene

__all__ = ["crash_plans", "inputs_for", "json_values", "schedules"]

T = TypeVar("T")

MOST_REFUSED = 100
"""Inputs refused before the first that is accepted, after which there is no point in drawing more."""


def inputs_for(job_or_model: AnyJob[T, Any] | type[T], /) -> st.SearchStrategy[T]:
    """Inputs that a job, or a model, accepts and that survive being stored; the simplest first.

    It reads what pydantic knows of the type: constraints of fields and in `Annotated`, literals,
    enums, unions, nested and recursive models, dataclasses, typed dictionaries. Instants have a zone.
    What a validator of your own refuses is drawn again; if it refuses nearly everything, write a
    strategy instead, with `hypothesis.strategies.builds`.

    Args:
        job_or_model: A job, or a type.

    Raises:
        SimulationError: A part of the type says nothing of what it accepts.
    """
    if isinstance(job_or_model, JobDefinition | JobHandle):
        codec = job_or_model.input_codec
    else:
        codec = codec_for(job_or_model)
    schema = TypeAdapter(cast("Any", codec.type)).core_schema
    return json_for(schema).map(_Reading(codec)).filter(bool).map(itemgetter(0))


class _Reading(Generic[T]):
    """Makes values of JSON: one of each, or none where it is refused."""

    def __init__(self, codec: "Codec[T]") -> None:
        self._codec = codec
        self._accepted = 0
        self._refused = 0
        self._verdict: SimulationError | None = None

    def __call__(self, found: Json) -> tuple[T, ...]:
        try:
            value = self._codec.decode(json.dumps(found), what="an input")
            _, value = self._codec.encode(value, what="an input", limit=Limits().payload_bytes)
        except (StoredValueError, NotStorableError, PayloadTooLargeError) as error:
            self._refused += 1
            if self._refused >= MOST_REFUSED and not self._accepted:
                self._verdict = SimulationError(
                    f"of {self._refused} inputs that fit the fields none was accepted: {error}. Pass inputs=… with a "
                    "strategy of your own, e.g. hypothesis.strategies.builds(…)"
                )
            if self._verdict is not None:
                # For good: what is drawn must not depend on what was drawn before.
                raise self._verdict from None
            return ()
        self._accepted += 1
        return (value,)


def crash_plans(
    *, max_faults: int = 3, kinds: tuple[Kind, ...] = KINDS, points: int = 60, turns: int = 400
) -> st.SearchStrategy[Plan]:
    """Plans of up to `max_faults` faults.

    Args:
        max_faults: How many at most; shrinks to fewer.
        kinds: Of what kinds.
        points: Among how many words to the store.
        turns: Among how many turns of the loop.
    """
    at_words = st.builds(
        _fault, st.integers(0, points - 1), st.sampled_from(kinds), st.sampled_from(("before", "after"))
    )
    at_turns = st.builds(Fault, st.integers(0, turns - 1), st.just("kill"), st.just("turn"))
    fault = st.one_of(at_words, at_turns) if "kill" in kinds else at_words
    return st.lists(fault, max_size=max_faults).map(in_order)


def schedules(*, workers: int = 3) -> st.SearchStrategy[Scene]:
    """How many workers there are, and in which order things happen: `simulate(job, input, **schedule)`.

    Args:
        workers: How many at most.
    """
    return st.builds(_schedule, st.integers(1, workers), st.integers(0, 2**16))


def _schedule(workers: int, seed: int) -> Scene:
    return Scene(workers=workers, seed=seed)


def _fault(at: int, kind: Kind, moment: Moment) -> Fault:
    seconds = {"pause": PAUSE, "hang": PAUSE, "skew": SKEW}.get(kind, 0.0)
    return Fault(at, kind, moment, seconds)


def _merged(*options: Mapping[str, object]) -> TriggerOptions:
    return cast("TriggerOptions", {name: value for part in options for name, value in part.items()})


OPTIONS: st.SearchStrategy[TriggerOptions] = st.builds(
    _merged,
    st.fixed_dictionaries(
        {},
        optional={
            "idempotency_key": st.sampled_from(("i-1", "i-2")),
            "delay": st.sampled_from((0.5, 30.0, 3600.0)),
            "priority": st.integers(-1, 1),
        },
    ),
    st.builds(_merged)
    | st.fixed_dictionaries(
        {"concurrency_key": st.sampled_from(("k-1", "k-2", ConcurrencyKey("k-1", shared=True)))},
        optional={"coalesce": st.sampled_from(("skip", "replace", "reject"))},
    ),
)
"""What a run is triggered with in a `DurableMachine`, unless it says otherwise."""
