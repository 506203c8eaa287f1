"""What somebody looks for among the runs, as a page's URL says it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from starlette.datastructures import QueryParams

from durably import RunFilter, RunStatus, SearchBy
from durably_web.reading import instant, is_preset, whole
from durably_web.wording import STATUSES, stamp

WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
"""Quotes keep spaces together, around a word or a part of it."""
LABEL: Final = re.compile(r"([A-Za-z0-9._/-]{1,255})([=:])([^\x00]{0,255})")
"""No run has another one."""
ID_PART: Final = re.compile(r"(?=.*[0-9])[0-9a-f-]{6,36}|[0-9a-f-]{8,36}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The runs that are meant: those that fit, and of these the ones that hold a text, if there is one."""

    filter: RunFilter
    text: str = ""
    by: SearchBy = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The question. Unknown statuses and unusable labels are passed over: a URL may be old."""

    q: str = ""
    job_name: str | None = None
    status: tuple[RunStatus, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    since: str = ""
    """`24h`, or an instant."""
    until: str = ""
    """An instant."""
    before: int | None = None
    after: int | None = None
    cursor: str | None = None
    """Of a search for a text: where it goes on."""

    @classmethod
    def from_query(cls, query: QueryParams) -> "Search":
        """The question in a URL: `?q=org=acme&job=import-csv&status=failed&created=24h&before=120`."""
        wanted = query.getlist("status")
        # The fields for exact times go along with the form also while they are hidden.
        created = query.get("created", "exact")
        is_exact = created == "exact"
        return cls(
            q=query.get("q", "").replace("\0", "").strip()[:600],
            job_name=query.get("job") or None,
            status=tuple(status for status in STATUSES if status in wanted),
            labels={label[1]: label[3] for label in map(LABEL.fullmatch, query.getlist("label")) if label},
            since=created if is_preset(created) else query.get("since", "")[:40] if is_exact else "",
            until=query.get("until", "")[:40] if is_exact else "",
            before=whole(query.get("before", "")),
            after=whole(query.get("after", "")),
            cursor=query.get("cursor", "")[:100] or None,
        )

    @property
    def query(self) -> list[tuple[str, str]]:
        """The question as a URL has it, but for the statuses and the page."""
        return [
            ("q", self.q),
            ("job", self.job_name or ""),
            *(("label", f"{key}={value}") for key, value in self.labels.items()),
            ("created", self.since if is_preset(self.since) else ""),
            ("since", "" if is_preset(self.since) else self.since),
            ("until", self.until),
        ]

    def settled(self, now: datetime) -> "Search":
        """The same question, its times as instants: so that later it asks for what there is now."""
        since, until = instant(self.since, now), instant(self.until, now)
        return replace(
            self,
            since=self.since if since is None else since.isoformat(),
            until=self.until if self.until and until is None else min(until or now, now).isoformat(),
        )

    def words(self, now: datetime) -> str:
        """The question, for a confirmation."""
        since, until = instant(self.since, now), instant(self.until, now)
        words = [
            *([f"“{self.q}”"] if self.q else []),
            *([f"job {self.job_name}"] if self.job_name else []),
            *([", ".join(self.status)] if self.status else []),
            *(f"{key}={value}" for key, value in self.labels.items()),
            *([f"created since {stamp(since)}"] if since is not None else []),
            *([f"created before {stamp(until)}"] if until is not None else []),
        ]
        return " · ".join(words)

    @property
    def has_words(self) -> bool:
        """Whether something is searched for that is no label."""
        return any(_label(word) is None for word in WORD.findall(self.q))

    @property
    def id(self) -> str | None:
        """What may be the id of a run."""
        word = self.q
        return word if len(word) >= 8 and "=" not in word and " " not in word else None

    def wanted(self, jobs: Collection[str], now: datetime) -> Wanted:
        """The runs that are meant; `jobs` are the names of those that are known.

        Words are labels (`org=acme`, `org:acme`), parts of jobs' names, a part of an id, or parts of an
        error; all of them must fit. In quotes they are parts of an error, whatever they look like.
        """
        filter = self._bounds(now)
        texts: list[str] = []
        for word in WORD.findall(self.q):
            label = _label(word)
            if label is None:
                texts.append(word)
            else:
                filter = filter.and_labels(dict([label]))
        text: list[str] = []
        for word in texts:
            named = [name for name in jobs if word.lower() in name.lower()]
            if named:
                filter = filter.and_jobs(*named)
            else:
                text.append(word)
        if len(text) == 1 and ID_PART.fullmatch(text[0].lstrip("…")):
            return Wanted(filter=filter, text=text[0].lstrip("…"), by="id")
        return Wanted(filter=filter, text=" ".join(text).replace('"', ""), by="error")

    def _bounds(self, now: datetime) -> RunFilter:
        names = () if self.job_name is None else (self.job_name,)
        since, until = instant(self.since, now), instant(self.until, now)
        is_unclear = (self.since and since is None) or (self.until and until is None)
        return RunFilter(
            status=self.status,
            job_name=names,
            labels=self.labels,
            created_since=since,
            created_before=until,
            # A bound that cannot be read must not let everything in.
            is_nothing=bool(is_unclear),
        )


def _label(word: str) -> tuple[str, str] | None:
    """The label that a word means; none in quotes, and none where an error has a colon at its end."""
    found = LABEL.fullmatch(word.replace('"', ""))
    if word.startswith('"') or found is None or (found[2] == ":" and not found[3]):
        return None
    return found[1], found[3]
