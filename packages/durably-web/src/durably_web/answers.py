"""What is sent to browsers: with headers that let nothing in that is not ours."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from durably_web.urls import is_path_here

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE: Final[Mapping[str, str]] = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


COMMONPLACES: Final = frozenset({"", *(status.phrase for status in HTTPStatus)})


def document(text: str, *, csp: str | None = CSP, status: int = 200) -> Response:
    """A whole page."""
    headers = {**SAFE, "x-frame-options": "DENY"} if csp == CSP else dict(SAFE)
    if csp is not None:
        headers["content-security-policy"] = csp
    return HTMLResponse(_encoded(text), status, headers)


def fragment(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A part of a page."""
    return HTMLResponse(_encoded(text), status, {**SAFE, **(headers or {})})


def download(content: str | bytes, *, name: str, media_type: str) -> Response:
    """A file to be kept, and not shown."""
    return Response(content, media_type=media_type, headers={**SAFE, "content-disposition": attachment(name)})


def attachment(name: str) -> str:
    """The header of a download; the name is one of ours, made of an id."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return f'attachment; filename="{plain}"'


def detail(error: HTTPException) -> str | None:
    """What a refusal has to say beside its status: which option refused, or what the application said.

    Of what is not there nothing is said: whether there is something must not be told.
    """
    said = "" if error.status_code == 404 or error.status_code >= 500 else error.detail
    return None if said in COMMONPLACES else said


def go(url: str) -> Response:
    """On to another page, by GET."""
    return RedirectResponse(url, 303, SAFE)


def back(wanted: str, otherwise: str) -> str:
    """The path that a form asked to be sent to, if it is on this site."""
    return wanted if is_path_here(wanted) else otherwise


def is_htmx(request: Request) -> bool:
    """Whether a script of htmx asks, and would put a page into a part of one."""
    return request.headers.get("hx-request") == "true"


def _encoded(text: str) -> bytes:
    # Half of a surrogate pair is no character; what a job wrote must not take its page away.
    return text.encode("utf-8", "replace")
