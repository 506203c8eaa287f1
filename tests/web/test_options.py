from pathlib import Path

import pytest
from starlette.templating import Jinja2Templates

from durably import ConfigurationError, Durably
from durably_web import AuthConfig, DurablyWeb, allow_local, create_durably_handler
from tests.core.unchecked import unchecked


def make(**options: object) -> None:
    unchecked(DurablyWeb)(Durably(":memory:"), authenticate=allow_local, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prefx": "/x"}, "did you mean 'prefix'"),
        ({"scope_runs": None}, r"say auth=AuthConfig\(scope_runs=…\)"),
        ({"prefix": 3}, "prefix must begin with a slash"),
        ({"prefix": "durably"}, "prefix must begin with a slash"),
        ({"allowed_hosts": "app.example"}, r"allowed_hosts must be a list, e\.g\. \['app\.example'\]"),
        ({"allowed_hosts": [3]}, "allowed_hosts must be a list of texts"),
        ({"allowed_hosts": ["*"]}, "leave allowed_hosts out to serve any"),
        ({"allowed_hosts": ["*.app.example"]}, "each by name"),
        ({"allowed_hosts": [".app.example"]}, "each by name"),
        ({"allowed_hosts": ["https://app.example"]}, "'https://app.example' is no host name"),
        ({"trusted_origins": "http://localhost:5173"}, "trusted_origins must be a list"),
        ({"trusted_origins": ["localhost:5173"]}, "'localhost:5173' is no origin"),
        ({"trusted_origins": ["http://localhost:5173/"]}, "say scheme and host as a browser does"),
        ({"trusted_origins": ["*"]}, "is no origin"),
        ({"secret_key": "short"}, "secret_key must have at least 32 characters"),
        ({"login_url": "login"}, "login_url must be a path or a URL"),
        ({"login_url": 3}, "login_url must be a text, or None; not 3"),
        ({"csp": ["default-src 'none'"]}, "csp must be a text, or None"),
        ({"api": "no"}, "api must be True or False; not 'no'"),
        ({"csrf_token": "token"}, r"csrf_token must be a function, called as csrf_token\(request\)"),
        ({"audit": True}, r"audit must be a function, called as audit\(entry\); it is True"),
        ({"templates": Jinja2Templates("templates")}, r"say web\.install\(templates\)"),
    ],
)
def test_an_option_that_cannot_be_used_says_what_can(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(**options)


def test_a_folder_of_templates_that_is_not_there_is_told_by_its_whole_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no folder '{tmp_path}/nowhere'"):
        make(templates=tmp_path / "nowhere")
    make(templates=str(tmp_path))


def test_options_that_can_be_used_are_taken() -> None:
    make(
        allowed_hosts=["app.example", "localhost:8000", "::1", "[::1]:8000", "my_host"],
        trusted_origins=("http://localhost:5173", "https://app.example", "tauri://localhost"),
        login_url="https://login.example/",
        csp=None,
        prefix="/",
    )
    make(login_url="/login", prefix="/tools/durably", allowed_hosts={"app.example"}, api=True)


@pytest.mark.parametrize("given", ["sqlite:///app.db", Durably, None])
def test_what_is_no_instance_is_refused(given: object) -> None:
    auth = AuthConfig(authenticate=allow_local)
    for made in (DurablyWeb, create_durably_handler):
        with pytest.raises(
            ConfigurationError, match=r"the first argument must be an instance, e\.g\. Durably"
        ):
            unchecked(made)(given, auth=auth)


def test_a_path_to_wrap_is_called_a_path() -> None:
    web = DurablyWeb(Durably(":memory:"), authenticate=allow_local)
    with pytest.raises(ConfigurationError, match="path must begin with a slash"):
        web.wrap(web, "durably")
