from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, Header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import ConfigurationError, Durably, RunFilter, StepContext, job
from durably_web import AuthConfig, DurablyWeb, allow_local, create_durably_handler
from durably_web.auth import TriggerRequest
from durably_web.caller import Caller
from durably_web.gate import Gate
from durably_web.hooks import refused_by
from tests.core.unchecked import unchecked
from tests.web.requests import request


@job
async def work(step: StepContext, text: str) -> str:
    return text


@pytest.fixture
async def durably(tmp_path: Path) -> AsyncIterator[Durably]:
    instance = Durably(f"sqlite:///{tmp_path}/app.db", jobs=[work])
    await instance.migrate()
    yield instance
    await instance.close()


async def anybody(request: Request) -> str:
    return "ada"


async def caller(durably: Durably, **hooks: object) -> Caller[str]:
    auth = unchecked(AuthConfig)(authenticate=anybody, **hooks)
    return await Gate[str](durably, auth).admit(request())


def answering(answer: object) -> Callable[..., object]:
    def hook(*given: object) -> object:
        return answer

    return hook


# Where they are given


@pytest.mark.parametrize("given", ["ada", AuthConfig(authenticate=allow_local), 3])
def test_what_is_no_function_is_refused_where_it_is_given(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"authenticate must be a function, called as .*; it is "):
        unchecked(DurablyWeb)(Durably(":memory:"), authenticate=given)


def taking_none() -> None: ...
def taking_four(ctx: object, run: object, operation: object, more: object) -> None: ...


HOOKS = (
    "authenticate", "scope_runs", "scope_runs_subscribe", "on_run_access", "on_trigger", "trigger_labels",
    "allowed", "redact", "sees_workers",
)  # fmt: skip


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("given", [taking_none, taking_four])
def test_a_hook_that_cannot_be_called_so_is_refused_where_it_is_given(name: str, given: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} is called as {name}\(.*, and .* cannot be"):
        unchecked(AuthConfig)(**{"authenticate": anybody, name: given})


def test_hooks_beside_the_configuration_are_looked_at_too() -> None:
    durably, auth = Durably(":memory:"), AuthConfig(authenticate=anybody)
    with pytest.raises(ConfigurationError, match=r"^audit is called as audit\(entry\)"):
        unchecked(DurablyWeb)(durably, auth=auth, audit=taking_none)
    with pytest.raises(ConfigurationError, match=r"^on_request is called as on_request\(\)"):
        unchecked(create_durably_handler)(durably, auth=auth, on_request=taking_four)


async def of_a_dependency(user: Annotated[str, Depends(anybody)]) -> str:
    return user


async def of_a_default(user: str = Depends(anybody)) -> str:
    return user


async def of_a_header(request: Request, x_user: Annotated[str | None, Header()] = None) -> str | None:
    return x_user


@pytest.mark.parametrize("given", [of_a_dependency, of_a_default, of_a_header])
def test_a_dependency_of_fastapi_is_no_hook(given: object) -> None:
    # Called with a request it would answer the request: everybody would be let in.
    with pytest.raises(ConfigurationError, match=r"'(user|x_user)' is a dependency of FastAPI's"):
        unchecked(AuthConfig)(authenticate=given)


def test_functions_of_any_kind_are_taken() -> None:
    class Login:
        async def __call__(self, request: Request, realm: str = "app") -> str:
            return realm

        async def user(self, request: Request) -> str:
            return "ada"

    for given in (Login(), Login().user, anybody, answering("ada"), max):
        unchecked(AuthConfig)(authenticate=given)


# What they answer


@pytest.mark.parametrize("answer", [None, True, {"org": "acme"}, RunFilter(labels=unchecked(dict)(org=3))])
async def test_a_scope_that_is_none_is_an_error_and_shows_nothing(durably: Durably, answer: object) -> None:
    who = await caller(durably, scope_runs=answering(answer))
    with pytest.raises(ConfigurationError, match=r"scope_runs must answer a filter.*asked\.and_labels"):
        await who.runs(RunFilter())


@pytest.mark.parametrize("answer", [None, ["org"], {"org": 3}])
async def test_labels_that_are_none_are_an_error_and_trigger_nothing(
    durably: Durably, answer: object
) -> None:
    who = await caller(durably, trigger_labels=answering(answer))
    with pytest.raises(ConfigurationError, match=r"trigger_labels must answer labels.*it answered "):
        await who.trigger(TriggerRequest(job_name="work", input="x"))
    assert await durably.get_runs() == []


@pytest.mark.parametrize("answer", [None, True, "cancel", {"rerun"}])
async def test_buttons_that_there_are_not_are_an_error(durably: Durably, answer: object) -> None:
    run = await (await caller(durably)).trigger(TriggerRequest(job_name="work", input="x"))
    who = await caller(durably, allowed=answering(answer))
    with pytest.raises(ConfigurationError, match=r"allowed must answer a set of read, .*cancel"):
        await who.allowed(run)


@pytest.mark.parametrize(
    ("answer", "refuses"), [(None, False), (True, False), (False, True), (0, True), ("", True)]
)
async def test_whatever_is_false_refuses_and_nothing_at_all_does_not(answer: object, refuses: bool) -> None:
    refusal = await refused_by(answering(answer))
    assert isinstance(refusal, HTTPException) is refuses
