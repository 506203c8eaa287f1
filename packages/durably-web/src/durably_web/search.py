"""What somebody looks for among the runs, as a page's URL says it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from starlette.datastructures import QueryParams

from durably import RunFilter, RunStatus
from durably_web.wording import STATUSES

LABEL: Final = re.compile(r"[A-Za-z0-9._/-]{1,255}=[^\x00]{0,255}")
"""No run has another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The question. Unknown statuses and unusable labels are passed over: a URL may be old."""

    q: str = ""
    job_name: str | None = None
    status: tuple[RunStatus, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    before: int | None = None
    after: int | None = None

    @classmethod
    def from_query(cls, query: QueryParams) -> "Search":
        """The question in a URL: `?q=org=acme&job=import-csv&status=failed&before=120`."""
        wanted = query.getlist("status")
        return cls(
            q=query.get("q", "").strip()[:600],
            job_name=query.get("job") or None,
            status=tuple(status for status in STATUSES if status in wanted),
            before=_position(query.get("before", "")),
            after=_position(query.get("after", "")),
        )

    @property
    def id(self) -> str | None:
        """What may be the id of a run."""
        word = self.q
        return word if len(word) >= 8 and "=" not in word and " " not in word else None

    def filter(self, jobs: Collection[str]) -> RunFilter:
        """The runs that are meant; `jobs` are the names of those that are known.

        Words are labels (`org=acme`) or parts of jobs' names; all of them must fit.
        """
        names = () if self.job_name is None else (self.job_name,)
        filter = RunFilter(status=self.status, job_name=names, labels=self.labels)
        for word in self.q.split():
            key, is_label, value = word.partition("=")
            if is_label and LABEL.fullmatch(word):
                filter = filter.and_labels({key: value})
            elif is_label:
                filter = replace(filter, is_nothing=True)
            else:
                filter = filter.and_jobs(*(name for name in jobs if word.lower() in name.lower()))
        return filter


def _position(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
