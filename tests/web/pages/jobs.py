"""Jobs of every kind that a page can show."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from durably import JobDefinition, Retry, StepContext, job


class Source(BaseModel):
    """Where the rows come from."""

    host: str = "ftp.example.com"
    port: int = Field(default=21, ge=1, le=65535)


class Import(BaseModel):
    """What to import."""

    filename: str = Field(title="File name", description="Path in the bucket", examples=["customers.csv"])
    rows: int = Field(default=3, title="Rows to import", ge=1)
    mode: Literal["append", "replace"] = "append"
    notify: bool = Field(default=False, title="Notify me when it is done")
    tags: list[str] = []
    source: Source = Source()
    started_after: datetime | None = None
    mapping: dict[str, str] = Field(default={}, title="Column mapping")


@job(name="import-csv")
async def import_csv(step: StepContext, input: Import) -> dict[str, object]:
    """Import a CSV file row by row."""

    def validate() -> int:
        step.log.info("looks good", rows=input.rows)
        return input.rows

    rows = await step.run("validate", validate)
    for row in range(rows):
        step.progress(row + 1, rows, f"row {row + 1}")

    def load() -> int:
        if input.filename == "bad.csv":
            step.log.error("row 37 is bad")
            raise ValueError("row 37: amount is negative")
        return rows

    return {"rows": await step.run("load", load), "big": 12345678901234567890}


@job(name="approve-order")
async def approve(step: StepContext, order: str) -> str:
    """Wait until somebody approves an order."""
    answer = await step.wait_for_signal("approval", bool)
    return f"{order}: {'yes' if answer else 'no'}"


@job(name="flaky")
async def flaky(step: StepContext, times: int) -> int:
    """Fail so many times, then work."""

    def call() -> int:
        if step.attempt <= times:
            raise ConnectionError("the service said 503")
        return step.attempt

    return await step.run("call", call, retry=Retry(attempts=times + 1, delay=0.001))


@job(name="anything")
async def anything(step: StepContext, value: object) -> object:
    """Answer what it was given."""
    return value


JOBS: Final[list[JobDefinition[Any, Any]]] = [import_csv, approve, flaky, anything]
