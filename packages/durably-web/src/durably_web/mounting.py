"""Where an application stands, whoever mounted it.

Frameworks and proxies disagree about `root_path` and `path`: Starlette keeps the mount in both, Litestar
strips it and says nothing, `FastAPI(root_path=…)` names a proxy's prefix that the path does not have.
After `relocate` they agree: `root_path` is the mount as the browser sees it, and `path` begins with it.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Scope

from durably import ConfigurationError


def check_prefix(prefix: object, name: str = "prefix") -> str | None:
    """A mount as the browser sees it: empty, or `/durably`, `/tools/durably`.

    Raises:
        ConfigurationError: It is none.
    """
    if prefix is None:
        return None
    text = prefix if isinstance(prefix, str) else "none"
    if text in {"", "/"}:
        return ""
    if text[0] == "/" != text[-1] and "//" not in text:
        return text
    raise ConfigurationError(
        f"{name} must begin with a slash and not end with one, e.g. '/durably', not {prefix!r}"
    )


def is_elsewhere(scope: Scope, prefix: str | None) -> bool:
    """Whether the mount that the framework tells of cannot be the one that was said.

    A proxy may have taken something off the front, and a framework may tell of a part.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    if not prefix or not root:
        return False
    return not (root.endswith(prefix) or prefix.endswith(root) or prefix.startswith(f"{root}/"))


def relocate(scope: Scope, prefix: str | None = None) -> Scope:
    """The scope of a request with the place of the application made clear.

    Args:
        scope: As the server or the framework gave it; it is not changed.
        prefix: The mount as the browser sees it, where the framework or the proxy does not tell.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    local = _local(scope["path"], root, prefix)
    base = root if prefix is None else prefix
    path = base + local
    return {**scope, "root_path": base, "path": path, "raw_path": quote(path).encode("ascii")}


def is_below(scope: Scope, mount: str) -> bool:
    """Whether a request is for what stands at this path, behind what a proxy has stripped.

    Servers that were told so (`--root-path`) put that in front of the path again, or they do not.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return any(_is_at(place, mount) for place in (path, path.removeprefix(root)))


def _is_at(path: str, mount: str) -> bool:
    return path == mount or path.startswith(f"{mount}/")


def _local(path: str, root: str, prefix: str | None) -> str:
    """The path below the mount, beginning with a slash."""
    for mount in _mounts(root, prefix):
        if _is_at(path, mount):
            path = path.removeprefix(mount)
            break
    return "/" + path.strip("/")


def _mounts(root: str, prefix: str | None) -> Iterator[str]:
    """What the path may begin with, the longest first."""
    if prefix:
        yield prefix
    while root:
        yield root
        # A proxy's prefix stands in front of the mount and was stripped from the path.
        _, slash, rest = root[1:].partition("/")
        root = slash + rest


def find_mount(request: Request | None, app: ASGIApp, prefix: str | None) -> str:
    """Where the dashboard is, as the browser sees it.

    Raises:
        ConfigurationError: Nobody tells.
    """
    if prefix is not None:
        return prefix
    outer = None if request is None else request.scope.get("app")
    place = None if outer is None else _place_among(getattr(outer, "routes", []), app)
    if request is None or place is None:
        raise ConfigurationError(
            "a component on a page of yours must know where the dashboard is mounted: "
            "DurablyWeb(…, prefix='/durably')"
        )
    root: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    return root.rstrip("/") + place


def _place_among(routes: Sequence[BaseRoute], app: ASGIApp) -> str | None:
    for route in routes:
        if not isinstance(route, Mount):
            continue
        if route.app is app:
            return route.path
        inner = _place_among(route.routes, app)
        if inner is not None:
            return route.path + inner
    return None
