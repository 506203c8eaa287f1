"""Hypothesis strategies: inputs of jobs, plans of faults."""

from typing import Any, TypeVar, cast

from hypothesis import strategies as st

from durably import JobDefinition, JobHandle
from durably_testing.crashes import KINDS, PAUSE, SKEW
from durably_testing.faults import Fault, Kind, Moment, Plan, in_order
from durably_testing.simulation import AnyJob

T = TypeVar("T")


def inputs_for(job_or_model: AnyJob[T, Any] | type[T], /) -> st.SearchStrategy[T]:
    """Inputs that a job, or a model, accepts."""
    if isinstance(job_or_model, JobDefinition | JobHandle):
        return st.from_type(cast("type[T]", job_or_model.input_codec.type))
    return st.from_type(job_or_model)


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


def _fault(at: int, kind: Kind, moment: Moment) -> Fault:
    seconds = {"pause": PAUSE, "hang": PAUSE, "skew": SKEW}.get(kind, 0.0)
    return Fault(at, kind, moment, seconds)
