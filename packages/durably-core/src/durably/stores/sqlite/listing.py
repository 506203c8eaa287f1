"""Putting together the statements that list and count runs.

They are the only ones that are not constant text: which index serves a list depends on what is
asked for. A list is cut into arms, each of which some index gives already in order (a label's runs,
one job in one status, one status, all runs), so that an arm stops after the rows that the page
needs, however many runs there are. Instants of creation are found beforehand, as places in the order
of creation (`Span`): so they bound every arm, whatever index it walks along. Where several indexes
could lead, leading.py says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeAlias

from durably.filters import STATUSES, RunFilter
from durably.stores.sqlite.session import Value

MOST_ARMS = 100
"""SQLite takes 500; a filter by more jobs than this walks through all runs instead."""

IDS = (
    "SELECT id, seq FROM durably_runs INDEXED BY sqlite_autoindex_durably_runs_1 "
    "WHERE id < :top ORDER BY id DESC LIMIT :among"
)
"""Of ids and places the index of ids has enough: of a hundred thousand runs no row is read."""

Statement: TypeAlias = tuple[str, Mapping[str, Value]]
Lead: TypeAlias = Literal["label", "runs"]
"""What a filter with labels is walked along: the runs with its first label, or those of its jobs and statuses."""


@dataclass(frozen=True, slots=True)
class Span:
    """Places in the order of creation: from `first` on, up to but without `end`."""

    first: int | None = None
    end: int | None = None

    def until(self, place: int | None) -> "Span":
        """What of it stands before this place."""
        ends = [end for end in (self.end, place) if end is not None]
        return Span(self.first, min(ends, default=None))


EVERYTHING = Span()


def compose_list(
    filter: RunFilter,
    *,
    limit: int | None,
    offset: int,
    before: int | None,
    after: int | None,
    span: Span = EVERYTHING,
    lead: Lead = "label",
) -> Statement:
    """The snapshots of a page; in no promised order."""
    values: dict[str, Value] = {
        "limit": -1 if limit is None else limit,
        "offset": offset,
        "reach": -1 if limit is None else limit + offset,
    }
    arms = _arms(filter, values, span.until(before), after=after, lead=lead)
    order = "DESC" if after is None else "ASC"
    chosen = " UNION ALL ".join(f"SELECT * FROM ({arm} ORDER BY 1 {order} LIMIT :reach)" for arm in arms)
    statement = (
        "SELECT snapshot.* FROM "
        f"(SELECT seq FROM ({chosen}) ORDER BY seq {order} LIMIT :limit OFFSET :offset) AS page "
        "CROSS JOIN durably_snapshots AS snapshot ON snapshot.seq = page.seq"
    )
    return statement, values


def compose_count(filter: RunFilter, *, cap: int, span: Span = EVERYTHING, lead: Lead = "label") -> Statement:
    """How many there are, counting no further than `cap`."""
    values: dict[str, Value] = {"cap": cap}
    arms = _arms(filter, values, span, lead=lead)
    return f"SELECT count(*) FROM (SELECT * FROM ({' UNION ALL '.join(arms)}) LIMIT :cap)", values


def compose_label(label: tuple[str, str], *, cap: int, span: Span = EVERYTHING) -> Statement:
    """How many runs have a label, counting no further than `cap`."""
    values: dict[str, Value] = {"cap": cap}
    return f"SELECT count(*) FROM ({_labelled(label, values, span)})", values


def compose_census(filter: RunFilter, *, cap: int, span: Span = EVERYTHING) -> Statement:
    """How many are in each status among the newest `cap` runs with the filter's first label."""
    values: dict[str, Value] = {"cap": cap}
    first, *others = filter.labels.items()
    page = _labelled(first, values, span)
    where = _conditions(replace(filter, labels=dict(others)), values, EVERYTHING)
    statement = (
        f"SELECT run.status, count(*) AS number FROM ({page}) AS page "
        f"CROSS JOIN durably_runs AS run ON run.seq = page.seq{_where(where)} GROUP BY run.status"
    )
    return statement, values


def compose_changes(filter: RunFilter, *, after: int, limit: int, span: Span = EVERYTHING) -> Statement:
    """The snapshots of the first that match and changed after a number; in no promised order."""
    values: dict[str, Value] = {"after": after, "limit": limit}
    where = ["run.change > :after", *_conditions(filter, values, span)]
    # The index is named: the planner would rather look at all runs in a status, and sort them.
    statement = (
        "SELECT snapshot.* FROM (SELECT run.seq FROM durably_runs AS run INDEXED BY durably_runs_change "
        f"WHERE {' AND '.join(where)} ORDER BY run.change LIMIT :limit) AS page "
        "CROSS JOIN durably_snapshots AS snapshot ON snapshot.seq = page.seq"
    )
    return statement, values


def compose_ids(filter: RunFilter, *, text: str, top: str, among: int, limit: int, span: Span) -> Statement:
    """The places of runs that match, and whose id holds a text, among those of `IDS`."""
    values: dict[str, Value] = {"text": _pattern(text), "top": top, "among": among, "limit": limit}
    where = ["found.id LIKE :text ESCAPE '\\'", *_conditions(filter, values, span)]
    statement = (
        f"SELECT found.id, found.seq FROM ({IDS}) AS found "
        f"CROSS JOIN durably_runs AS run ON run.seq = found.seq WHERE {' AND '.join(where)} "
        "ORDER BY found.id DESC LIMIT :limit"
    )
    return statement, values


def compose_errors(filter: RunFilter, *, text: str, among: int, limit: int, span: Span) -> Statement:
    """Of the newest runs that match, `:among` of them, the places of those whose error holds a text."""
    newest, values = compose_newest(filter, among=among, span=span)
    error = "json_extract(run.error, '$.type') || ': ' || json_extract(run.error, '$.message')"
    statement = (
        f"SELECT page.seq FROM ({newest}) AS page CROSS JOIN durably_runs AS run ON run.seq = page.seq "
        f"WHERE {error} LIKE :text ESCAPE '\\' ORDER BY page.seq DESC LIMIT :limit"
    )
    return statement, {**values, "text": _pattern(text), "limit": limit}


def compose_newest(filter: RunFilter, *, among: int, span: Span) -> Statement:
    """The places of the newest runs that match."""
    values: dict[str, Value] = {"among": among}
    arms = " UNION ALL ".join(
        f"SELECT * FROM ({arm} ORDER BY 1 DESC LIMIT :among)" for arm in _arms(filter, values, span)
    )
    return f"SELECT seq FROM ({arms}) ORDER BY seq DESC LIMIT :among", values


def compose_endings(
    filter: RunFilter, *, since: float, cap: int, span: Span = EVERYTHING, lead: Lead = "label"
) -> Statement:
    """Job, status, first start and end of runs that ended since an instant: the newest ones, unsorted."""
    values: dict[str, Value] = {"since": since, "cap": cap}
    facts = "SELECT run.job_name, run.status, run.started_at, run.completed_at FROM"
    if filter == RunFilter(status=filter.status):
        where = _is_one_of("run.status", _bind(values, "status", filter.status))
        ended = " AND ".join(["run.completed_at >= :since", *where])
        statement = (
            f"{facts} durably_runs AS run INDEXED BY durably_runs_ended WHERE run.completed_at IS NOT NULL "
            f"AND {ended} ORDER BY run.completed_at DESC LIMIT :cap"
        )
        return statement, values
    # Of these, nothing is in the order in which they ended: the newest ones stand for those that ended last.
    arms = " UNION ALL ".join(
        f"SELECT * FROM ({arm} ORDER BY 1 DESC LIMIT :cap)" for arm in _arms(filter, values, span, lead=lead)
    )
    statement = (
        f"{facts} (SELECT seq FROM ({arms}) ORDER BY seq DESC LIMIT :cap) AS page "
        "CROSS JOIN durably_runs AS run ON run.seq = page.seq WHERE run.completed_at >= :since"
    )
    return statement, values


def _arms(
    filter: RunFilter,
    values: dict[str, Value],
    span: Span,
    *,
    after: int | None = None,
    lead: Lead = "label",
) -> list[str]:
    """Disjoint queries for `seq` that together find what the filter asks for."""
    jobs = _bind(values, "job", filter.job_name)
    statuses = _bind(values, "status", filter.status)
    place = _within(span, values, "run.seq", after=after)
    rest = [*_is_one_of("run.job_name", jobs), *_is_one_of("run.status", statuses)]
    if filter.is_nothing:
        return [_arm(_unless_nothing(filter))]
    if filter.labels and lead == "label":
        within = _within(span, values, "label.run_seq", after=after)
        return [_label_arm(filter.labels, values, [*within, *rest])]
    place += _has_labels(filter.labels, values, "run.seq")
    if jobs and has_few_arms(filter):
        wanted = statuses or [f"'{status}'" for status in STATUSES]
        pairs = product(jobs, wanted)
        return [_arm([f"run.job_name = {job}", f"run.status = {status}", *place]) for job, status in pairs]
    if statuses and not jobs:
        return [_arm([f"run.status = {status}", *place]) for status in statuses]
    return [_arm([*place, *rest])]


def has_few_arms(filter: RunFilter) -> bool:
    """Whether its jobs and statuses are few enough to be asked for one by one."""
    return len(filter.job_name) * len(filter.status or STATUSES) <= MOST_ARMS


def _labelled(label: tuple[str, str], values: dict[str, Value], span: Span) -> str:
    """The places of the newest runs with a label, `:cap` of them."""
    values |= {"key": label[0], "value": label[1]}
    where = ["label.key = :key", "label.value = :value", *_within(span, values, "label.run_seq")]
    return (
        f"SELECT label.run_seq AS seq FROM durably_run_labels AS label{_where(where)} "
        "ORDER BY label.run_seq DESC LIMIT :cap"
    )


def _label_arm(labels: Mapping[str, str], values: dict[str, Value], rest: list[str]) -> str:
    """Walks through the runs with the first label; the others are looked up for each."""
    (first, content), *others = labels.items()
    values |= {"key": first, "value": content}
    where = ["label.key = :key", "label.value = :value", *rest]
    where += _has_labels(dict(others), values, "run.seq")
    return (
        "SELECT label.run_seq AS seq FROM durably_run_labels AS label "
        f"CROSS JOIN durably_runs AS run ON run.seq = label.run_seq WHERE {' AND '.join(where)}"
    )


def _has_labels(labels: Mapping[str, str], values: dict[str, Value], seq: str) -> list[str]:
    keys = _bind(values, "key", list(labels))
    contents = _bind(values, "value", list(labels.values()), distinct=False)
    return [
        f"EXISTS (SELECT 1 FROM durably_run_labels AS other WHERE other.key = {key} "
        f"AND other.value = {value} AND other.run_seq = {seq})"
        for key, value in zip(keys, contents, strict=True)
    ]


def _conditions(filter: RunFilter, values: dict[str, Value], span: Span) -> list[str]:
    """What the filter asks for of `run`, by whatever index that was found."""
    return [
        *_within(span, values, "run.seq"),
        *_unless_nothing(filter),
        *_is_one_of("run.job_name", _bind(values, "job", filter.job_name)),
        *_is_one_of("run.status", _bind(values, "status", filter.status)),
        *_has_labels(filter.labels, values, "run.seq"),
    ]


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _within(span: Span, values: dict[str, Value], seq: str, *, after: int | None = None) -> list[str]:
    bounds = [(">=", "first", span.first), ("<", "end", span.end), (">", "after", after)]
    values |= {name: place for _, name, place in bounds if place is not None}
    return [f"{seq} {sign} :{name}" for sign, name, place in bounds if place is not None]


def _unless_nothing(filter: RunFilter) -> list[str]:
    return ["FALSE"] if filter.is_nothing else []


def _arm(where: list[str]) -> str:
    return f"SELECT run.seq AS seq FROM durably_runs AS run{_where(where)}"


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _bind(
    values: dict[str, Value], prefix: str, wanted: Sequence[str], *, distinct: bool = True
) -> list[str]:
    """Add the values under numbered names; answers their placeholders."""
    names: list[str] = []
    for number, value in enumerate(dict.fromkeys(wanted) if distinct else wanted):
        values[f"{prefix}{number}"] = value
        names.append(f":{prefix}{number}")
    return names


def _is_one_of(column: str, placeholders: list[str]) -> list[str]:
    return [f"{column} IN ({', '.join(placeholders)})"] if placeholders else []
