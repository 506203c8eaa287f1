"""Where an application stands, as frameworks and proxies tell it."""

import pytest
from starlette.types import Scope

from durably import ConfigurationError
from durably_web.mounting import check_prefix, is_below, is_elsewhere, relocate


def scope(path: str, root: str | None = None) -> Scope:
    told: Scope = {"type": "http", "path": path, "raw_path": path.encode()}
    return told if root is None else {**told, "root_path": root}


@pytest.mark.parametrize(
    ("path", "root", "prefix", "place", "local"),
    [
        # At the root of the server.
        ("/runs", None, None, "", "/runs"),
        ("/", "", None, "", "/"),
        ("", "", None, "", "/"),
        # Starlette, and Starlette in Starlette: the path begins with the mount.
        ("/durably/runs", "/durably", None, "/durably", "/runs"),
        ("/tools/durably/runs/1", "/tools/durably", None, "/tools/durably", "/runs/1"),
        ("/durably", "/durably", None, "/durably", "/"),
        # A server that was told of a proxy's prefix and puts it into the path.
        ("/proxy/durably/runs", "/proxy/durably", None, "/proxy/durably", "/runs"),
        # FastAPI(root_path="/proxy") behind a proxy that strips it.
        ("/durably/runs", "/proxy/durably", None, "/proxy/durably", "/runs"),
        ("/durably", "/proxy/durably/", None, "/proxy/durably", "/"),
        # Litestar strips the mount and adds a slash; nobody tells of it but the prefix.
        ("/runs/", "", "/durably", "/durably", "/runs"),
        ("/", "", "/durably", "/durably", "/"),
        # A proxy that strips what only the browser knows of.
        ("/durably/runs", "/durably", "/proxy/durably", "/proxy/durably", "/runs"),
        # Nothing told, all of it in the path: Django.
        ("/durably/runs", "", "/durably", "/durably", "/runs"),
        # A mount that only looks like the beginning.
        ("/durably-old/runs", "/durably", None, "/durably", "/durably-old/runs"),
        ("//runs//", "", None, "", "/runs"),
    ],
)
def test_a_mount_is_known_however_it_is_told(
    path: str, root: str | None, prefix: str | None, place: str, local: str
) -> None:
    told = scope(path, root)
    before = dict(told)

    found = relocate(told, prefix)

    assert (found["root_path"], found["path"]) == (place, place + local)
    assert found["raw_path"] == (place + local).encode()
    assert told == before


def test_a_path_of_any_letters_stays_a_path() -> None:
    assert relocate(scope("/runs/é %"))["raw_path"] == b"/runs/%C3%A9%20%25"


@pytest.mark.parametrize(("prefix", "place"), [(None, None), ("", ""), ("/", ""), ("/a/b", "/a/b")])
def test_a_prefix_is_a_path_without_a_slash_at_its_end(prefix: str | None, place: str | None) -> None:
    assert check_prefix(prefix) == place


@pytest.mark.parametrize("prefix", ["durably", "/durably/", "//durably", "https://example.com"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="'/durably'"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    ("root", "prefix", "elsewhere"),
    [
        ("/durably", "/dashboard", True),
        ("/durably", "/tools", True),
        ("/durably", "/durably", False),
        ("/durably/", "/tools/durably", False),
        ("/tools/durably", "/durably", False),
        ("/tools", "/tools/durably", False),
        ("", "/durably", False),
        ("/durably", "", False),
        ("/durably", None, False),
    ],
)
def test_a_prefix_that_contradicts_the_mount_is_known(
    root: str, prefix: str | None, *, elsewhere: bool
) -> None:
    assert is_elsewhere(scope("/", root), prefix) is elsewhere


@pytest.mark.parametrize(
    ("path", "root", "answer"),
    [
        ("/durably", None, True),
        ("/durably/runs", "", True),
        ("/durably-old", "", False),
        ("/", "", False),
        # `--root-path /tools`: uvicorn puts it in front of the path, others do not.
        ("/tools/durably/runs", "/tools", True),
        ("/durably/runs", "/tools", True),
        ("/tools/durably", "/tools/", True),
        ("/tools/hello", "/tools", False),
        ("/tools", "/tools", False),
    ],
)
def test_what_is_wrapped_is_told_from_the_rest(path: str, root: str | None, answer: bool) -> None:
    assert is_below(scope(path, root), "/durably") is answer
