"""Where things are, below the mount: every URL that a page shows is made here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast
from urllib.parse import quote, urlencode

from durably_web.assets import Asset

Query: TypeAlias = Mapping[str, str | int | None] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Urls:
    """The URLs of one mount; `base` is empty at the root."""

    base: str

    def overview(self) -> str:
        """The first page."""
        return f"{self.base}/"

    def runs(self, search: Iterable[tuple[str, str]] = (), **query: str | int | None) -> str:
        """The list of runs; a search's query, and `status="failed"` and so on narrow it."""
        return with_query(f"{self.base}/runs", [*_texts(query), *search])

    def run(self, run_id: str, *, notice: str | None = None) -> str:
        """The page of a run."""
        return with_query(f"{self.base}/runs/{quote(run_id, safe='')}", {"notice": notice})

    def steps(self, run_id: str, kind: str, at: int) -> str:
        """The page of a run, with steps of one kind shown one by one from a place on."""
        page = with_query(self.run(run_id), {"unfold": kind, "at": at or None})
        return f"{page}#dw-steps"

    def of_run(self, run_id: str, what: str) -> str:
        """An action (`cancel`) or a download (`input.json`, `logs.ndjson`) of a run."""
        return f"{self.base}/runs/{quote(run_id, safe='')}/{what}"

    def bulk(self) -> str:
        """Where the selected runs are sent to."""
        return f"{self.base}/runs/bulk"

    def jobs(self) -> str:
        """The list of jobs."""
        return f"{self.base}/jobs"

    def job(self, name: str, **query: str | int | None) -> str:
        """The page of a job; `of=run_id` fills its form with that run's input."""
        return with_query(f"{self.base}/jobs/{quote(name, safe='')}", query)

    def trigger(self, job_name: str, props: Iterable[tuple[str, str]] = ()) -> str:
        """Where a job's form is sent to, with what it must know to be shown again."""
        query = [(key, value) for key, value in props if key != "job"]
        return with_query(f"{self.base}/jobs/{quote(job_name, safe='')}/trigger", query)

    def press(self) -> str:
        """Where a button with an input of its own is sent to."""
        return f"{self.base}/-/press"

    def workers(self) -> str:
        """The list of workers."""
        return f"{self.base}/workers"

    def fragment(self, component: str, query: Iterable[tuple[str, str]]) -> str:
        """The inside of a component."""
        return with_query(f"{self.base}/-/{component}", query)

    def live(self) -> str:
        """The stream that tells what to fetch."""
        return f"{self.base}/-/live"

    def theme(self) -> str:
        """Where the theme is chosen."""
        return f"{self.base}/-/theme"

    def asset(self, asset: Asset) -> str:
        """A file of ours."""
        return self.base + asset.path


def _texts(query: Mapping[str, str | int | None]) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in query.items() if value is not None]


def with_query(path: str, query: Query) -> str:
    """The path with a query, if there is anything in it."""
    pairs = cast("Iterable[tuple[str, object]]", query.items() if isinstance(query, Mapping) else query)
    text = urlencode([(key, str(value)) for key, value in pairs if value is not None and value != ""])
    return f"{path}?{text}" if text else path


def is_path_here(path: str) -> bool:
    """Whether a redirect to this path stays on this site."""
    return path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
