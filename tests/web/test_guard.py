import pytest
from starlette.exceptions import HTTPException

from durably_web.guard import Guard, read_body
from tests.web.requests import request

JSON = {"content_type": "application/json; charset=utf-8"}


def verdict(guard: Guard, method: str = "POST", **headers: str) -> int:
    try:
        guard.check(request(method, {name.replace("_", "-"): value for name, value in headers.items()}))
    except HTTPException as refusal:
        return refusal.status_code
    return 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        # What the browser says itself outweighs what a page can set.
        ({"sec_fetch_site": "cross-site", "origin": "http://localhost:8000", "hx_request": "true"}, 403),
        ({"sec_fetch_site": "cross-site", **JSON}, 403),
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://app.example", "host": "app.example"}, 200),
        ({"origin": "https://app.example:443", "host": "app.example"}, 200),
        ({"origin": "http://localhost:8001"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "null", **JSON}, 403),
        ({"origin": "null", "hx_request": "true"}, 403),
        ({"origin": "http://localhost:port"}, 403),
        ({"origin": "http://evil.example", **JSON}, 403),
        (JSON, 200),
        ({"hx_request": "true"}, 200),
        ({}, 403),
        ({"content_type": "application/x-www-form-urlencoded"}, 403),
        ({"content_type": "text/plain"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "ANYTHING"])
def test_a_change_must_come_from_a_page_of_this_application(
    method: str, headers: dict[str, str], status: int
) -> None:
    assert verdict(Guard(), method, **headers) == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_is_free_of_that(method: str) -> None:
    assert verdict(Guard(), method, sec_fetch_site="cross-site") == 200


def test_pages_of_a_trusted_origin_may_change_things() -> None:
    guard = Guard(trusted_origins=["http://localhost:5173"])
    assert verdict(guard, origin="http://localhost:5173", sec_fetch_site="same-site") == 200
    assert verdict(guard, origin="http://localhost:5174", sec_fetch_site="same-site") == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("app.example", 200),
        ("APP.example:8000", 200),
        ("inner:8000", 200),
        ("inner:8001", 400),
        ("inner", 400),
        ("[::1]:9", 200),
        ("evil.example", 400),
        ("app.example.evil.example", 400),
        ("", 400),
        ("[::1", 400),
    ],
)
def test_only_known_hosts_are_served(host: str, status: int) -> None:
    guard = Guard(allowed_hosts=["App.example", "inner:8000", "::1"])
    assert verdict(guard, "GET", host=host) == status


async def test_a_body_is_read_up_to_its_bound() -> None:
    assert await read_body(request("POST", body=[b"12", b"34"]), most=4) == b"1234"


async def test_reading_a_body_stops_at_its_bound() -> None:
    pieces = iter([b"12", b"345", b"never read"])
    with pytest.raises(HTTPException) as refusal:
        await read_body(request("POST", body=pieces), most=4)
    assert refusal.value.status_code == 413
    assert next(pieces) == b"never read"


def test_a_program_that_forgot_its_content_type_is_told() -> None:
    with pytest.raises(HTTPException, match="says `content-type: application/json`"):
        Guard().check(request("POST", {"content-type": "application/x-www-form-urlencoded"}))
    with pytest.raises(HTTPException, match="trusted_origins"):
        Guard().check(request("POST", {"origin": "http://evil.example"}))
