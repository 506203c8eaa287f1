"""What the pages of a full database take on the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from durably_web.pages import ROWS
from durably_web.wording import STATUSES
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.web import filling, floor
from tests.benchmarks.web.asking import Answer, Visitor
from tests.benchmarks.web.floor import Cells, Floor

LIST = 0.05
OVERVIEW = 0.1
LONG = 0.3
LONG_SIZE = 2_000_000
COMMON, RARE, REGION = "tenant=t0", f"tenant=t{filling.TENANTS // 2}", "region=eu"
FIRST_JOB, LAST_JOB = filling.JOBS[0], filling.JOBS[-1]
BARE = "bare Jinja2"


@dataclass(frozen=True, slots=True)
class Kind:
    """Pages that are asked for alike; the slowest of them is told."""

    name: str
    urls: Sequence[str]


def lists(runs: int) -> list[Kind]:
    """The runs page with every filter."""
    middle = runs // 2
    return [
        Kind("all runs", ["/runs"]),
        Kind("by status", [f"/runs?status={status}" for status in STATUSES]),
        Kind("by job", [f"/runs?job={FIRST_JOB}", f"/runs?job={LAST_JOB}"]),
        Kind(
            "by job and status",
            [f"/runs?job={FIRST_JOB}&status=failed", f"/runs?job={LAST_JOB}&status=waiting"],
        ),
        Kind("by a common label", [f"/runs?q={REGION}", f"/runs?q={COMMON}"]),
        Kind("by a rare label", [f"/runs?q={RARE}", f"/runs?q=order=o{middle // 20 * 20}"]),
        Kind("by no label of any run", ["/runs?q=tenant=nobody"]),
        Kind("by two labels", [f"/runs?q={REGION}+{COMMON}", f"/runs?q=region=ap+{RARE}"]),
        Kind(
            "by label and status",
            [
                f"/runs?q={REGION}&status=running",
                f"/runs?q={REGION}&status=cancelled",
                f"/runs?q={COMMON}&status=running",
                f"/runs?q={RARE}&status=failed",
            ],
        ),
        Kind(
            "by label, job and status",
            [f"/runs?q={COMMON}&job={LAST_JOB}", f"/runs?q={RARE}&job={LAST_JOB}&status=cancelled"],
        ),
        Kind("by a part of jobs' names", ["/runs?q=mail", "/runs?q=e"]),
        Kind(
            "by the time of creation",
            ["/runs?created=24h", "/runs?created=7d&status=failed", f"/runs?created=7d&q={COMMON}"],
        ),
        Kind(
            "with a part of an id", [f"/runs?q={filling.run_id(runs - 1000)[-12:-2]}", "/runs?q=0123abcdef"]
        ),
        Kind(
            "with a text in the error", ["/runs?q=negative", "/runs?q=%22row+77%22", "/runs?q=%22no+such%22"]
        ),
        Kind("page 2", [f"/runs?before={runs - ROWS + 1}"]),
        Kind("a page from the middle", [f"/runs?before={middle}", f"/runs?after={middle}"]),
        Kind(
            "… of a filter",
            [
                f"/runs?status=failed&before={middle}",
                f"/runs?q={COMMON}&before={middle}",
                f"/runs?job={LAST_JOB}&before={middle}",
            ],
        ),
        Kind("the last page", [f"/runs?before={ROWS + 1}"]),
    ]


async def of_lists(visitor: Visitor, runs: int, samples: int, tell: Callable[[str], None]) -> list[Figure]:
    """The runs page with every filter; cold: all counts made anew, warm: those of the last five seconds."""
    page = await visitor.durably.get_runs(limit=ROWS)
    rows = [floor.of_run(run) for run in page]
    bare = Floor()
    figures: list[Figure] = []
    for kind in lists(runs):
        tell(f"runs, {kind.name}")
        cold = await _slowest(visitor, kind.urls, samples, cold=True)
        warm = await _slowest(visitor, kind.urls, samples, cold=False)
        figures.append(
            Figure(
                name=f"runs, {kind.name}",
                value=cold.seconds,
                unit="s",
                ratios={BARE: cold.seconds / bare.seconds(rows, samples)},
                target=at_most("50 ms", cold.seconds, LIST),
                note=f"warm {warm.seconds * 1e3:.1f} ms, CPU {cold.cpu * 1e3:.1f} ms",
            )
        )
    return figures


async def of_others(visitor: Visitor, runs: int, samples: int, tell: Callable[[str], None]) -> list[Figure]:
    """Overview, jobs, a job, workers, a run."""
    urls = {
        "overview": ("/", OVERVIEW),
        "jobs": ("/jobs", OVERVIEW),
        "a job of many runs": (f"/jobs/{FIRST_JOB}", OVERVIEW),
        "a job of few runs": (f"/jobs/{LAST_JOB}", OVERVIEW),
        "workers": ("/workers", LIST),
        "a run": (f"/runs/{filling.run_id(runs // 2)}", LIST),
    }
    figures: list[Figure] = []
    for name, (url, bound) in urls.items():
        tell(name)
        cold = await visitor.median(url, samples, cold=True)
        warm = await visitor.median(url, samples)
        figures += [
            Figure(
                name=f"{name}, cold",
                value=cold.seconds,
                unit="s",
                target=at_most(f"{bound * 1e3:.0f} ms", cold.seconds, bound),
                note=f"CPU {cold.cpu * 1e3:.1f} ms",
            ),
            Figure(name="… warm", value=warm.seconds, unit="s"),
        ]
    return figures


async def of_long_runs(
    visitor: Visitor, runs: int, samples: int, tell: Callable[[str], None]
) -> list[Figure]:
    """A run with 5,000 steps, and one with 100,000 lines in its log."""
    alike, of_log, unlike = (filling.run_id(filling.long_run(runs) + number) for number in range(3))
    steps = (await visitor.durably.get_steps(unlike, results=False))[-200:]
    lines = await visitor.durably.get_last_logs(of_log, limit=500)
    pages: list[tuple[str, str, list[Cells]]] = [
        (f"a run with {filling.LONG_STEPS:,} steps", unlike, [floor.of_step(step) for step in steps]),
        ("… that are alike, folded into one row", alike, []),
        (f"a run with {filling.LONG_LOG:,} lines", of_log, [floor.of_line(line) for line in lines]),
    ]
    figures: list[Figure] = []
    for name, run_id, rows in pages:
        tell(name)
        page = await visitor.median(f"/runs/{run_id}", samples)
        figures += [
            Figure(
                name=name,
                value=page.seconds,
                unit="s",
                ratios={BARE: page.seconds / Floor().seconds(rows, samples)} if rows else {},
                target=at_most("300 ms", page.seconds, LONG),
                note=f"CPU {page.cpu * 1e3:.1f} ms",
            ),
            Figure(
                name="… the page's size",
                value=float(page.size),
                unit="bytes",
                target=at_most("2 MB", page.size, LONG_SIZE),
            ),
        ]
    return figures


async def _slowest(visitor: Visitor, urls: Sequence[str], samples: int, *, cold: bool) -> Answer:
    answers = [await visitor.median(url, samples, cold=cold) for url in urls]
    return max(answers, key=lambda answer: answer.seconds)
