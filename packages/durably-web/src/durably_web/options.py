"""The options of `DurablyWeb`, looked at where they are given."""

from collections.abc import Callable, Collection
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, cast

from starlette.requests import Request

from durably import ConfigurationError
from durably_web.auditing import AuditEntry
from durably_web.auth import AuthConfig
from durably_web.hooks import check_hook
from durably_web.mistakes import expect, nearest


class DurablyWebOptions(TypedDict, total=False):
    """Options of `DurablyWeb`."""

    prefix: str | None
    """Where it is mounted, as the browser sees it, e.g. `/durably`. Starlette and FastAPI tell it by
    themselves; Litestar and proxies that strip a part of the path do not."""
    templates: str | PathLike[str] | None
    """A folder with templates of yours: `durably/components/run_progress.html` is taken instead of ours."""
    login_url: str | None
    """Where somebody who is not signed in is sent; the page they wanted comes along as `next`."""
    csp: str | None
    """The Content-Security-Policy of the pages; None leaves it to you."""
    allowed_hosts: Collection[str] | None
    """Names under which the application is reached; others are refused. Default: any."""
    trusted_origins: Collection[str]
    """Other origins whose pages may send changes."""
    csrf_token: Callable[[Request], tuple[str, str]] | None
    """The name of a form field and its value, for applications whose middleware asks for one."""
    audit: Callable[[AuditEntry[Any]], object] | None
    """Called for each change that somebody made, or was kept from; see `AuditEntry`. Plain or async; what goes
    wrong in it is logged, and changes no answer."""
    secret_key: str | None
    """Signs what `trigger_button` triggers, so that nobody can change it: 32 characters or more that nobody can
    guess, the same in every process that serves the application. There are no such buttons without."""
    api: bool
    """Whether the HTTP interface of `create_durably_handler` is served below `/api`, for the same
    visitors. Default: no."""


def check_options(options: DurablyWebOptions) -> None:
    """See that each can be used.

    Raises:
        ConfigurationError: One cannot, or there is none of this name.
    """
    _refuse_unknown(options)
    check_hook("csrf_token", options.get("csrf_token"), "request")
    for name, text in (("login_url", options.get("login_url")), ("csp", options.get("csp"))):
        expect(name, text, str | None, "a text, or None")
    expect("api", options.get("api", False), bool, "True or False")
    login = options.get("login_url")
    if login is not None and not login.startswith(("/", "http://", "https://")):
        raise ConfigurationError(
            f"login_url must be a path or a URL, e.g. '/login', since it is gone to from any page; not {login!r}"
        )
    _check_templates(options.get("templates"))


def _check_templates(folder: object) -> None:
    wanted = "a folder; for an environment of yours say web.install(templates)"
    expect("templates", folder, str | PathLike | None, wanted)
    if folder is not None and not Path(cast("str", folder)).is_dir():
        raise ConfigurationError(
            f"templates: there is no folder {str(Path(cast('str', folder)).absolute())!r}"
        )


def _refuse_unknown(options: DurablyWebOptions) -> None:
    known = ("authenticate", "auth", *DurablyWebOptions.__annotations__)
    unknown = min(options.keys() - known, default=None)
    if unknown is None:
        return
    if unknown in AuthConfig.__dataclass_fields__:
        raise ConfigurationError(f"{unknown!r} is no option of its own; say auth=AuthConfig({unknown}=…)")
    raise ConfigurationError(
        f"unknown option {unknown!r}{nearest(unknown, known)}; there are: {', '.join(known)}"
    )
