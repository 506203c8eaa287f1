"""What a page offers to be kept: a run's log, its input, its output, its error."""

import json
from collections.abc import AsyncIterator
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from durably import LogEntry
from durably_web import answers, wording
from durably_web.visits import Visit

PORTION: Final = 1000
"""Lines of a log that are read at a time."""


async def payload(visit: Visit, run_id: str) -> Response:
    """The input or the output, as it is stored."""
    run = await visit.run(run_id)
    which = visit.request.path_params["which"]
    text = {"input": run.input_json, "output": run.output_json}.get(which)
    if text is None:
        raise HTTPException(404)
    return answers.download(text, name=f"{run.id}-{which}.json", media_type="application/json")


async def error(visit: Visit, run_id: str) -> Response:
    """The whole traceback."""
    run = await visit.run(run_id)
    if run.error is None:
        raise HTTPException(404)
    text = wording.whole_error(run.error)
    return answers.download(text, name=f"{run.id}-error.txt", media_type="text/plain")


async def log(visit: Visit, run_id: str) -> Response:
    """The whole log, a line of JSON for each of its lines."""
    # Refused before anything is sent.
    await visit.caller.run(run_id, "logs")
    headers = {**answers.SAFE, "content-disposition": answers.attachment(f"{run_id}.ndjson")}
    return StreamingResponse(_lines(visit, run_id), headers=headers, media_type="application/x-ndjson")


async def _lines(visit: Visit, run_id: str) -> AsyncIterator[bytes]:
    after = 0
    while portion := await visit.caller.logs(run_id, after=after, limit=PORTION):
        yield b"".join(map(_line, portion))
        after = portion[-1].sequence


def _line(entry: LogEntry) -> bytes:
    fields = {
        "sequence": entry.sequence,
        "time": entry.created_at.isoformat(),
        "level": entry.level,
        "step": entry.step_name,
        "message": entry.message,
        "fields": dict(entry.fields),
    }
    return json.dumps(fields, default=str).encode() + b"\n"
