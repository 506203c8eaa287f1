"""Buttons that trigger what the application says, and nothing else."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from html import unescape
from random import Random
from typing import Any

import httpx2
import pytest
from itsdangerous import URLSafeSerializer
from jinja2 import DictLoader, Environment
from playwright.async_api import expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from durably import ConfigurationError, Durably, ValidationError
from durably_web import AuthConfig, DurablyWeb, TriggerRequest, allow_local
from tests.web.browser import browsing
from tests.web.pages.conftest import SECRET_KEY, asking, by_header
from tests.web.pages.django_app import rendered
from tests.web.pages.jobs import Import
from tests.web.pages.test_browser import looking
from tests.web.pages.test_embedding import fetches, host
from tests.web.pages.test_lines import HTMX
from tests.web.pages.test_safety import TENANTS
from tests.web.serving import serving

ORDER = {"filename": "order-17.csv"}


def buttons(web: DurablyWeb[Any], **props: Any) -> Callable[[Request], Awaitable[str]]:
    async def page(request: Request) -> str:
        return await web.ui.trigger_button(request, "import-csv", ORDER, "Import it", **props)

    return page


@pytest.fixture
async def shop(web: DurablyWeb[str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A page of a host with a button on it, and the dashboard."""
    async with asking(host(web, buttons(web))) as client:
        yield client


def fields(page: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: unescape(value) for name, value in found}


async def test_a_button_triggers_its_run_without_scripts(shop: httpx2.AsyncClient, durably: Durably) -> None:
    page = (await shop.get("/order?id=17")).text
    assert 'action="/durably/-/press"' in page
    assert ">Import it</button>" in page
    answer = await shop.post("/durably/-/press", data=fields(page))
    assert (answer.status_code, answer.headers["location"]) == (303, "/order?id=17&notice=triggered")
    [run] = await durably.get_runs()
    assert (run.job_name, run.input) == ("import-csv", Import(filename="order-17.csv"))
    # A form without a page to go back to leads to the run.
    alone = await shop.post("/durably/-/press", data={"token": fields(page)["token"]})
    [newest] = await durably.get_runs(limit=1)
    assert alone.headers["location"] == f"/durably/runs/{newest.id}?notice=triggered"


async def test_a_script_gets_the_button_again_and_the_run(shop: httpx2.AsyncClient, durably: Durably) -> None:
    page = (await shop.get("/order")).text
    assert 'hx-post="/durably/-/press"' in page
    answer = await shop.post("/durably/-/press", data=fields(page), headers={"hx-request": "true"})
    [run] = await durably.get_runs()
    assert (answer.status_code, answer.headers["hx-trigger"]) == (200, "dw-resync")
    assert f'href="/durably/runs/{run.id}"' in answer.text
    assert fields(answer.text)["token"] == fields(page)["token"]
    assert ">Import it</button>" in answer.text


async def test_a_placeholder_fetches_the_same_button(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, prefix="/durably", secret_key=SECRET_KEY)
    placeholder = web.ui.lazy.trigger_button("import-csv", Import(filename="a.csv", rows=2), "Go", id="go")
    [url] = fetches(placeholder)
    environment = Environment(
        loader=DictLoader({"x": "{{ durably.trigger_button('import-csv', {'filename': 'a.csv'}) }}"}),
        autoescape=True,
    )
    web.install(environment)
    [by_jinja] = fetches(environment.get_template("x").render())
    [by_django] = fetches(rendered("{{ button }}", button=placeholder))
    assert by_django == url
    async with asking(host(web, buttons(web))) as client:
        for one in (url, by_jinja):
            text = (await client.get(one)).text
            await client.post("/durably/-/press", data=fields(text))
    assert [run.input for run in await durably.get_runs()] == [
        Import(filename="a.csv"),
        Import(filename="a.csv", rows=2),
    ]


@pytest.mark.parametrize("htmx", HTMX)
async def test_a_press_in_a_browser_triggers_and_shows_the_run(durably: Durably, htmx: str) -> None:
    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably", secret_key=SECRET_KEY)
    path = HTMX[htmx]

    async def page(request: Request) -> str:
        head = web.ui.assets(request, htmx="bundle" if path is None else "host")
        theirs = "" if path is None else '<script src="/htmx.js"></script>'
        lazy = web.ui.lazy.trigger_button("import-csv", ORDER, "Import it")
        return f"<!doctype html><title>theirs</title>{theirs}{head}<body hx-target='#x'>{lazy}"

    async def script(request: Request) -> Response:
        return Response(b"" if path is None else path.read_bytes(), media_type="text/javascript")

    app = Starlette(routes=[Route("/htmx.js", script), Mount("/", host(web, page))])
    async with browsing() as browser, serving(app) as url, looking(browser) as window:
        await window.page.goto(f"{url}/order")
        button = window.page.get_by_role("button", name="Import it")
        await button.click()
        await expect(window.page.get_by_role("status")).to_contain_text("was triggered")
        await expect(button).to_be_visible()
    [run] = await durably.get_runs()
    assert run.input == Import(filename="order-17.csv")


async def test_a_button_pressed_twice_makes_one_run_if_it_has_a_key(
    web: DurablyWeb[str], durably: Durably
) -> None:
    async with asking(host(web, buttons(web, idempotency_key="order-17"))) as client:
        form = fields((await client.get("/order")).text)
        first, second = [await client.post("/durably/-/press", data=form) for _ in range(2)]
    assert first.headers["location"].endswith("notice=triggered")
    assert second.headers["location"].endswith("notice=idempotent")
    assert [run.idempotency_key for run in await durably.get_runs()] == ["order-17"]


# Nobody changes what it triggers


WRITER = URLSafeSerializer("whoever", salt="another purpose")
"""Writes a token's text, which anybody can."""


def parts(token: str) -> tuple[Any, str]:
    """What a token says, and its signature."""
    text, _, signature = token.rpartition(".")
    return WRITER.load_payload(text.encode()), signature


def written(what: object, signature: str) -> str:
    return f"{WRITER.dump_payload(what).decode()}.{signature}"


def other_input(token: str) -> str:
    (job, _, key), signature = parts(token)
    return written([job, {"filename": "/etc/passwd"}, key], signature)


def other_job(token: str) -> str:
    (_, input, key), signature = parts(token)
    return written(["anything", input, key], signature)


def signed_for_something_else(token: str) -> str:
    """With the key of the application, which signs other things, too."""
    how = {"key_derivation": "hmac", "digest_method": sha256}
    return str(URLSafeSerializer(SECRET_KEY, signer_kwargs=how).dumps(parts(token)[0]))


def wrong_signature(token: str) -> str:
    what, signature = parts(token)
    return written(what, ("A" if signature[0] != "A" else "B") + signature[1:])


TAMPERED: dict[str, Callable[[str], str]] = {
    "another input": other_input,
    "another job": other_job,
    "another purpose": signed_for_something_else,
    "no signature": lambda token: token.rpartition(".")[0],
    "an empty signature": lambda token: token.rpartition(".")[0] + ".",
    "a wrong signature": wrong_signature,
    "a longer signature": lambda token: token + "0",
    "no text": lambda token: "",
    "no base64": lambda token: "é.é",
    "half of it": lambda token: token[len(token) // 2 :],
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_token_that_was_tampered_with_is_refused(
    shop: httpx2.AsyncClient, durably: Durably, how: str
) -> None:
    form = fields((await shop.get("/order")).text)
    form["token"] = TAMPERED[how](form["token"])
    answer = await shop.post("/durably/-/press", data=form)
    part = await shop.post("/durably/-/press", data=form, headers={"hx-request": "true"})
    shown = await shop.get("/durably/-/trigger_button", params={"token": form["token"]})
    assert (answer.status_code, part.status_code) == (403, 403)
    assert shown.status_code in {400, 403}
    assert "<html" not in part.text
    assert await durably.get_runs() == []


async def test_what_else_a_form_says_changes_nothing(shop: httpx2.AsyncClient, durably: Durably) -> None:
    form = fields((await shop.get("/order")).text)
    more = {
        "f.filename": "x",
        "_json": "{}",
        "input": "{}",
        "job": "anything",
        "_labels": "a=b",
        "_mode": "json",
    }
    await shop.post("/durably/-/press?job=anything&input=1", data=form | more)
    [run] = await durably.get_runs()
    assert (run.job_name, run.input, run.labels) == ("import-csv", Import(filename="order-17.csv"), {})
    # The element cannot be asked for with an input either.
    for query in ("job=import-csv&input={}", "job=import-csv", f"token={form['token']}&input={{}}"):
        assert (await shop.get(f"/durably/-/trigger_button?{query}")).status_code == 400


async def test_every_process_with_the_key_opens_it_and_no_other(durably: Durably) -> None:
    one, same, other, none = [
        DurablyWeb(durably, authenticate=by_header, prefix="", secret_key=key)
        for key in (SECRET_KEY, SECRET_KEY, SECRET_KEY[::-1], None)
    ]
    token = fields(str(await _rendered(one)))["token"]
    for web, status in ((same, 303), (other, 403), (none, 403)):
        async with asking(web) as client:
            assert (await client.post("/-/press", data={"token": token})).status_code == status
    assert len(await durably.get_runs()) == 1


async def _rendered(web: DurablyWeb[str]) -> str:
    async with asking(host(web, buttons(web))) as client:
        return (await client.get("/order")).text


async def test_without_a_key_there_is_no_button(durably: Durably) -> None:
    web = DurablyWeb(durably, authenticate=by_header, prefix="/durably")
    with pytest.raises(ConfigurationError, match="trigger_button needs DurablyWeb"):
        web.ui.lazy.trigger_button("import-csv", ORDER)
    with pytest.raises(ConfigurationError, match="trigger_button needs DurablyWeb"):
        await _rendered(web)
    with pytest.raises(ConfigurationError, match="at least 32 characters"):
        DurablyWeb(durably, authenticate=by_header, secret_key="too short")


async def test_what_cannot_be_triggered_has_no_button(web: DurablyWeb[str], durably: Durably) -> None:
    known = DurablyWeb(durably, authenticate=by_header, prefix="", secret_key=SECRET_KEY)
    with pytest.raises(ConfigurationError, match="there is no job 'nobody'; there are: anything"):
        known.ui.lazy.trigger_button("nobody")
    with pytest.raises(ValidationError, match="rows"):
        known.ui.lazy.trigger_button("import-csv", ORDER | {"rows": 0})
    with pytest.raises(ConfigurationError, match="takes 6,564 characters, and may take 5,400"):
        # Of no shorter form.
        known.ui.lazy.trigger_button("anything", Random(1).randbytes(4_200).hex())
    assert SECRET_KEY not in repr(vars(known)) + repr(known)


# Who may press it


async def test_whoever_may_not_trigger_may_not_press(durably: Durably) -> None:
    asked: list[TriggerRequest] = []

    def nobody(user: str, wanted: TriggerRequest) -> bool:
        asked.append(wanted)
        return False

    auth = AuthConfig(authenticate=by_header, on_trigger=nobody)
    web = DurablyWeb(durably, auth=auth, prefix="/durably", secret_key=SECRET_KEY)
    async with asking(host(web, buttons(web))) as client:
        form = fields((await client.get("/order")).text)
        assert (await client.post("/durably/-/press", data=form)).status_code == 403
        other_site = {"sec-fetch-site": "cross-site"}
        assert (await client.post("/durably/-/press", data=form, headers=other_site)).status_code == 403
        del client.headers["user"]
        assert (await client.post("/durably/-/press", data=form)).status_code == 401
    assert [one.input for one in asked] == [ORDER]
    assert await durably.get_runs() == []


async def test_a_run_has_the_labels_of_whoever_pressed(durably: Durably) -> None:
    web = DurablyWeb(durably, auth=TENANTS, prefix="/durably", secret_key=SECRET_KEY)
    async with asking(host(web, buttons(web)), user="acme") as client:
        await client.post("/durably/-/press", data=fields((await client.get("/order")).text))
    assert [run.labels for run in await durably.get_runs()] == [{"org": "acme"}]


async def test_a_hosts_own_token_is_on_it(durably: Durably) -> None:
    web = DurablyWeb(
        durably,
        authenticate=by_header,
        prefix="/durably",
        secret_key=SECRET_KEY,
        csrf_token=lambda request: ("csrfmiddlewaretoken", "t0ken"),
    )
    assert fields(await _rendered(web))["csrfmiddlewaretoken"] == "t0ken"
