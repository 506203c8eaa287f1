"""What a page can hear of: topics, which are watched for it, and bells, which ring when something happens to them.

A component names the topics that it is about and the bells at which it fetches itself again. Nothing but the
names of bells is ever told to a page.
"""

from hashlib import sha256
from re import fullmatch
from typing import Final, Literal, TypeAlias, get_args

Topic: TypeAlias = str
"""`runs`, which is all of them, or `run:ID`."""
Bell: TypeAlias = str
"""E.g. `dw-run-019a…-log`."""
RunPart: TypeAlias = Literal["status", "progress", "step", "log"]

RUNS: Final[Topic] = "runs"
OF_RUN: Final = "run:"

LISTS: Final[Bell] = "dw-runs"
"""Some run has changed: rings at each."""
STATS: Final[Bell] = "dw-stats"
"""Some run has changed: rings now and then, for what takes longer to find."""
JOBS: Final[Bell] = "dw-jobs"
"""Runs of any job may have changed: rings where nobody knows of which."""


def topic_of(run_id: str) -> Topic:
    """The topic of one run."""
    return OF_RUN + run_id


def run_of(topic: Topic) -> str | None:
    """The run whose topic this is; None: it is no topic of a run."""
    return topic.removeprefix(OF_RUN) if topic.startswith(OF_RUN) else None


def of_run(run_id: str, part: RunPart) -> Bell:
    """Rings when this part of the run has changed."""
    return f"dw-run-{_plain(run_id)}-{part}"


def of_job(name: str) -> Bell:
    """Rings when a run of this job has changed."""
    return f"dw-job-{_plain(name)}"


def of_topic(topic: Topic) -> tuple[Bell, ...]:
    """All that ring for a topic, where nobody knows what has changed."""
    run_id = run_of(topic)
    if run_id is None:
        return LISTS, STATS, JOBS
    return tuple(of_run(run_id, part) for part in get_args(RunPart))


def _plain(name: str) -> str:
    """A bell becomes part of an `hx-trigger`, where brackets would be code: what is not plain is hashed."""
    return name if fullmatch(r"[A-Za-z0-9-]{1,64}", name) else sha256(name.encode()).hexdigest()[:16]
