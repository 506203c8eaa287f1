"""A Django project of one view; its untyped names stay in here."""

from importlib import import_module
from typing import Any, cast

from starlette.types import ASGIApp


async def hello(request: object) -> object:
    """The only view."""
    http: Any = import_module("django.http")
    return http.HttpResponse(b"hello from django")


def asgi_application() -> ASGIApp:
    """The project as an ASGI application."""
    conf: Any = import_module("django.conf")
    if not conf.settings.configured:
        conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="test", USE_TZ=True)
        import_module("django").setup()
    urls: Any = import_module("django.urls")
    globals()["urlpatterns"] = [urls.path("hello", hello)]
    return cast("ASGIApp", import_module("django.core.asgi").get_asgi_application())


def template(text: str) -> Any:
    """A Django template of this text."""
    asgi_application()
    engine: Any = import_module("django.template")
    return engine.Engine().from_string(text)
