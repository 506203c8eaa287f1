"""What follows when a run fails: another run, stored in the transaction of the failure."""

import json
from dataclasses import asdict
from uuid import UUID, uuid5

from durably.models import Run
from durably.stores.values import NewRun

FOLLOW_UPS = UUID("433200e9-c6ba-4275-b8d8-bf08ed99c67d")
"""The namespace of their ids."""


def follow_up_id(run: Run) -> str:
    """The id of the run that follows this failure.

    Of the generation that failed: the same failure has always the same, the next one another.
    """
    return str(uuid5(FOLLOW_UPS, f"{run.id}/{run.lease_generation}"))


def follow_up(run: Run) -> NewRun | None:
    """The run to be stored beside a failure, if one is to follow; its input is a `FailedRun`."""
    if run.error is None or run.completed_at is None or not run.on_failure:
        return None
    job_name, *then = run.on_failure
    failed = {
        "run_id": run.id,
        "job_name": run.job_name,
        "input": json.loads(run.input_json),
        "labels": dict(run.labels),
        "error": asdict(run.error),
        "failed_at": run.completed_at.isoformat(),
    }
    return NewRun(
        id=follow_up_id(run),
        job_name=job_name,
        input_json=json.dumps(failed, separators=(",", ":")),
        parent_id=run.id,
        is_detached=True,
        on_failure=tuple(then),
    )
