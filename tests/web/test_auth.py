import pytest
from starlette.exceptions import HTTPException

from durably_web import allow_local
from tests.web.requests import request


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "app.localhost", "127.0.0.1:8000", "[::1]:1"]
)
async def test_a_person_at_this_machine_is_let_in(client: str, host: str) -> None:
    assert await allow_local(request(client=client, headers={"host": host})) == "local"


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("10.0.0.7", {}),
        (None, {}),
        ("testclient", {}),
        # A name of somebody else's that was made to lead here.
        ("127.0.0.1", {"host": "evil.example:8000"}),
        ("127.0.0.1", {"host": "127.0.0.1.evil.example"}),
        ("127.0.0.1", {"host": "evillocalhost:8000"}),
        ("127.0.0.1", {"host": "[::1"}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.7"}),
        ("127.0.0.1", {"forwarded": "for=10.0.0.7"}),
        # A proxy that says nothing else of itself.
        ("127.0.0.1", {"x-forwarded-proto": "https"}),
        ("127.0.0.1", {"via": "1.1 proxy"}),
    ],
)
async def test_nobody_else_is(client: str | None, headers: dict[str, str]) -> None:
    with pytest.raises(HTTPException) as refusal:
        await allow_local(request(client=client, headers=headers))
    assert refusal.value.status_code == 403
