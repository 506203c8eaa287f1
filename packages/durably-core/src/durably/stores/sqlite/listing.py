"""Putting together the statements that list and count runs.

They are the only ones that are not constant text: which index serves a list depends on what is
asked for. A list is cut into arms, each of which some index gives already in order (a label's runs,
one job in one status, one status, all runs), so that an arm stops after the rows that the page
needs, however many runs there are.
"""

from collections.abc import Mapping
from typing import TypeAlias, get_args

from durably.models import RunStatus
from durably.stores.base import RunFilter
from durably.stores.sqlite.session import Value

ALL_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
MOST_ARMS = 100
"""SQLite takes 500; a filter by more jobs than this walks through all runs instead."""

Statement: TypeAlias = tuple[str, Mapping[str, Value]]


def compose_list(filter: RunFilter, *, limit: int | None, offset: int, before: int | None) -> Statement:
    """The snapshots of a page; in no promised order."""
    values: dict[str, Value] = {
        "limit": -1 if limit is None else limit,
        "offset": offset,
        "reach": -1 if limit is None else limit + offset,
    }
    arms = _arms(filter, values, before)
    chosen = " UNION ALL ".join(f"SELECT * FROM ({arm} ORDER BY 1 DESC LIMIT :reach)" for arm in arms)
    statement = (
        "SELECT snapshot.* FROM "
        f"(SELECT seq FROM ({chosen}) ORDER BY seq DESC LIMIT :limit OFFSET :offset) AS page "
        "CROSS JOIN durably_snapshots AS snapshot ON snapshot.seq = page.seq"
    )
    return statement, values


def compose_count(filter: RunFilter, *, cap: int) -> Statement:
    """How many there are, counting no further than `cap`."""
    values: dict[str, Value] = {"cap": cap}
    arms = _arms(filter, values, None)
    return f"SELECT count(*) FROM (SELECT * FROM ({' UNION ALL '.join(arms)}) LIMIT :cap)", values


def _arms(filter: RunFilter, values: dict[str, Value], before: int | None) -> list[str]:
    """Disjoint queries for `seq` that together find what the filter asks for."""
    jobs = tuple(dict.fromkeys(filter.job_name))
    statuses = tuple(dict.fromkeys(filter.status))
    labels = list(filter.labels.items())
    values |= {f"job{number}": job for number, job in enumerate(jobs)}
    values |= {f"status{number}": status for number, status in enumerate(statuses)}
    for number, (key, value) in enumerate(labels):
        values |= {f"key{number}": key, f"value{number}": value}

    job_is_one = _one_of("run.job_name", "job", len(jobs))
    status_is_one = _one_of("run.status", "status", len(statuses))
    if before is not None:
        values["before"] = before
    older = [] if before is None else ["run.seq < :before"]
    if labels:
        others = [
            "EXISTS (SELECT 1 FROM durably_run_labels AS other WHERE other.key = "
            f":key{number} AND other.value = :value{number} AND other.run_seq = run.seq)"
            for number in range(1, len(labels))
        ]
        older = [] if before is None else ["label.run_seq < :before"]
        where = ["label.key = :key0", "label.value = :value0", *older, *job_is_one, *status_is_one, *others]
        return [
            "SELECT label.run_seq AS seq FROM durably_run_labels AS label "
            f"CROSS JOIN durably_runs AS run ON run.seq = label.run_seq WHERE {' AND '.join(where)}"
        ]
    if jobs and len(jobs) * len(statuses or ALL_STATUSES) <= MOST_ARMS:
        wanted = [f":status{number}" for number in range(len(statuses))] or [
            f"'{status}'" for status in ALL_STATUSES
        ]
        return [
            _arm([f"run.job_name = :job{number}", f"run.status = {status}", *older])
            for number in range(len(jobs))
            for status in wanted
        ]
    if statuses and not jobs:
        return [_arm([f"run.status = :status{number}", *older]) for number in range(len(statuses))]
    return [_arm([*older, *job_is_one, *status_is_one])]


def _arm(where: list[str]) -> str:
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT run.seq AS seq FROM durably_runs AS run{condition}"


def _one_of(column: str, prefix: str, count: int) -> list[str]:
    names = ", ".join(f":{prefix}{number}" for number in range(count))
    return [f"{column} IN ({names})"] if count else []
