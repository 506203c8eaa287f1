"""EVT: the events and their kinds."""

from typing import get_args

import durably
from durably import Event, events, is_domain_event
from durably.events import EventType

DOMAIN = {
    "run:trigger", "run:coalesced", "run:complete", "run:fail", "run:cancel", "run:retry", "run:delete",
}  # fmt: skip


def kinds() -> dict[str, type[Event]]:
    """Every event class by its name."""
    found: dict[str, type[Event]] = {}
    todo: list[type[Event]] = [Event]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if isinstance(getattr(kind, "type", None), str):
            found[kind.type] = kind
    return found


def test_every_event_is_exported_and_of_one_kind() -> None:
    """EVT-4."""
    assert set(kinds()) == set(get_args(EventType))
    assert {kind.__name__ for kind in kinds().values()} <= set(durably.__all__)
    domain = {kind.type for kind in get_args(events.DomainEvent)}
    assert domain == DOMAIN
    plain = events.RunTriggered(run_id="r", job_name="j")
    assert is_domain_event(plain)
    assert not is_domain_event(events.RunStarted(run_id="r", job_name="j", generation=1, resumed=False))
    assert not is_domain_event(events.WorkerError(context="claim", error=ValueError()))
