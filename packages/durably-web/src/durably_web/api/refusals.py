"""How the API says no: `{"error": "…"}` with a status, and nothing of its inside."""

import logging
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

from durably import (
    ConflictError,
    Environment,
    JobNotFoundError,
    NotRunningError,
    RunNotFoundError,
    StoreError,
    ValidationError,
)
from durably_web.answers import SAFE
from durably_web.api.wire import WORDS, dump
from durably_web.gate import Answered
from durably_web.unavailable import unavailable

logger: logging.Logger = logging.getLogger("durably.web")


def refusal(error: Exception, environment: Environment) -> Response:
    """The answer to a request that met this error; what is nobody's fault is logged."""
    if isinstance(error, Answered):
        return error.response
    if isinstance(error, StoreError | NotRunningError):
        error = unavailable(error, "a request")
    if isinstance(error, HTTPException):
        return _error(error.detail, error.status_code, error.headers)
    known = _said(error)
    if known is not None:
        return _error(*known)
    request_id = environment.new_id()
    logger.error("request %s could not be answered", request_id, exc_info=error)
    return _error(f"Internal server error (request {request_id})", 500, {"X-Request-Id": request_id})


def _said(error: Exception) -> tuple[str, int] | None:
    match error:
        case RunNotFoundError():
            return "Run not found", 404
        case JobNotFoundError(job_name=name):
            return f"Unknown job: {name}", 404
        case ConflictError():
            # In the reference's words: "Cannot cancel leased run: …".
            words = str(error).replace(f" {error.status} run", f" {WORDS[error.status]} run")
            return words[:1].upper() + words[1:], 409
        case ValidationError():
            return str(error), 400
        case _:
            return None


def _error(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    body = dump({"error": message})
    return Response(body, status, media_type="application/json", headers={**SAFE, **(headers or {})})
