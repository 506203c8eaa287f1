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


def rendered(template: str, **context: object) -> str:
    """What a Django template of this text makes."""
    asgi_application()
    django: Any = import_module("django.template")
    text: str = django.Engine().from_string(template).render(django.Context(context))
    return text
