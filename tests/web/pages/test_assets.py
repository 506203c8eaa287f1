"""The style sheet and the scripts."""

import json
import re
from base64 import b64encode
from hashlib import sha384
from pathlib import Path

import httpx2
import pytest

import durably_web
from durably_web.assets import ASSETS, BUNDLE, LIVE, STYLES

STATIC = Path(durably_web.__file__).parent / "static"


def test_htmx_is_the_file_that_was_published() -> None:
    told = json.loads((STATIC / "vendor" / "vendor.json").read_text())
    for name, facts in told.items():
        digest = b64encode(sha384((STATIC / "vendor" / name).read_bytes()).digest()).decode()
        assert digest == facts["sha384"]
        assert f'version="{facts["version"]}"' in (STATIC / "vendor" / name).read_text().replace(
            "this.version='", 'version="'
        ).replace("'", '"')
    assert (STATIC / "vendor" / "htmx-LICENSE.txt").read_text().startswith("Zero-Clause BSD")


def test_the_bundle_is_htmx_and_our_script_behind_each_other() -> None:
    htmx = (STATIC / "vendor" / "htmx-4.0.1.min.js").read_bytes()
    assert BUNDLE.content.startswith(htmx)
    assert BUNDLE.content.endswith(LIVE.content)
    assert len(BUNDLE.content) == len(htmx) + 3 + len(LIVE.content)


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_is_named_after_what_it_holds(name: str) -> None:
    assert re.fullmatch(rf"/static/[0-9a-f]{{12}}/{re.escape(name)}", ASSETS[name].path)


def test_every_rule_can_be_overridden_by_a_host() -> None:
    text = re.sub(r"/\*.*?\*/", "", STYLES.content.decode(), flags=re.DOTALL).strip()
    # All of it is in the layer: nothing stands before, and nothing follows its last brace.
    assert text.startswith("@layer durably {")
    depth = 0
    for place, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth or letter == "}" or place < len("@layer durably {")
    assert depth == 0
    # Nothing is fetched from elsewhere.
    assert "http" not in text
    assert "@import" not in text


def test_our_script_makes_no_html_and_runs_no_text() -> None:
    script = LIVE.content.decode()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        'setAttribute("on',
    ):
        assert way not in script


async def test_assets_are_kept_for_ever_and_need_no_authentication(client: httpx2.AsyncClient) -> None:
    del client.headers["user"]
    for asset in ASSETS.values():
        answer = await client.get(f"/durably{asset.path}")
        assert (answer.status_code, answer.content) == (200, asset.content)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].split(";")[0] == asset.media_type
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_another_release_gets_the_file_and_nobody_keeps_it(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/durably/static/0123456789ab/{STYLES.name}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize(
    "path",
    ["vendor.json", "../app.py", "..%2Fapp.py", "%2e%2e/app.py", "vendor/vendor.json", "durably-live.js.map"],
)
async def test_only_the_assets_are_served(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(f"/durably/static/{STYLES.digest}/{path}")).status_code == 404
