"""Which index leads, where a filter could be walked along several.

The planner knows nothing of how many runs have a label or are in a status. So that is counted first,
no further than a walk may go, and the shortest way is taken: a rare label beside a common one, the
few running ones of a tenant with many runs.
"""

from dataclasses import replace

from durably.filters import RunFilter
from durably.stores.sqlite.listing import Lead, Span, compose_count, compose_label, has_few_arms
from durably.stores.sqlite.session import Session

REACH = 5_000
"""Runs through which a walk is short: of two ways that are longer neither is preferred."""


def leading(session: Session, filter: RunFilter, span: Span) -> tuple[RunFilter, Lead]:
    """The same filter, its rarest label first, and what it is to be walked along."""
    if filter.is_nothing or not filter.labels:
        return filter, "runs"
    sizes = {label: count_labelled(session, label, REACH, span) for label in filter.labels.items()}
    ordered = replace(filter, labels=dict(sorted(sizes, key=sizes.__getitem__)))
    if min(sizes.values()) < REACH or not (filter.status or filter.job_name) or not has_few_arms(filter):
        return ordered, "label"
    statement, values = compose_count(replace(filter, labels={}), cap=REACH, span=span)
    count: int = session.one(statement, values)[0]
    return ordered, "runs" if count < REACH else "label"


def count_labelled(session: Session, label: tuple[str, str], cap: int, span: Span) -> int:
    """How many runs have this label, up to `cap`."""
    statement, values = compose_label(label, cap=cap, span=span)
    count: int = session.one(statement, values)[0]
    return count
