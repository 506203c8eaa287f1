import pytest
from starlette.authentication import UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from durably import ConfigurationError, Durably
from durably_web.auth import AuthConfig
from durably_web.gate import Answered, Gate
from tests.core.unchecked import unchecked
from tests.web.requests import request
from tests.web.test_caller import User, status_of


@pytest.fixture
def durably() -> Durably:
    return Durably(":memory:", worker=False)


@pytest.mark.parametrize("nobody", [None, False, "", {}, UnauthenticatedUser()])
async def test_nobody_whom_the_application_knows_is_refused(durably: Durably, nobody: object) -> None:
    async def authenticate(request: Request) -> object:
        return nobody

    heard: list[str] = []
    gate = Gate(durably, AuthConfig(authenticate=authenticate), on_request=lambda: heard.append("x"))
    assert await status_of(gate.admit(request())) == (401, "Unauthorized")
    assert not heard


async def test_authentication_may_raise_or_answer_by_itself(durably: Durably) -> None:
    async def refuse(request: Request) -> User:
        raise HTTPException(418, "no")

    async def redirect(request: Request) -> User | Response:
        return RedirectResponse("/login")

    assert await status_of(Gate(durably, AuthConfig(authenticate=refuse)).admit(request())) == (418, "no")
    with pytest.raises(Answered) as answered:
        await Gate(durably, AuthConfig(authenticate=redirect)).admit(request())
    assert answered.value.response.headers["location"] == "/login"


async def test_each_admitted_request_is_announced_after_its_authentication(durably: Durably) -> None:
    heard: list[str] = []

    async def authenticate(request: Request) -> str:
        heard.append("authenticate")
        return "somebody"

    async def announce() -> None:
        heard.append("on_request")

    admitted = await Gate(durably, AuthConfig(authenticate=authenticate), on_request=announce).admit(
        request()
    )
    assert admitted.ctx == "somebody"
    assert heard == ["authenticate", "on_request"]


async def test_a_request_is_not_who_sends_it(durably: Durably) -> None:
    async def authenticate(request: Request) -> Request:
        return request

    with pytest.raises(ConfigurationError, match="authenticate must answer who sends the request"):
        await Gate(durably, AuthConfig(authenticate=authenticate)).admit(request())


@pytest.mark.parametrize("auth", [None, object()])
def test_there_is_no_way_without_authentication(auth: object) -> None:
    with pytest.raises(ConfigurationError, match="allow_local"):
        unchecked(Gate)(Durably(":memory:"), auth)
