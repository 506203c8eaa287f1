"""The application: the dashboard, mounted, and a page of the application's own with parts of the dashboard on it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from docs.examples.dashboard.jobs import JOBS, PICTURES
from durably import Durably
from durably_web import DurablyWeb, allow_local


def create_app(folder: Path) -> Starlette:
    """The application over the database in this folder. It executes nothing: `worker.py` does."""
    durably = Durably(folder / "app.db", worker=False, jobs=JOBS)
    web = DurablyWeb(durably, authenticate=allow_local, prefix="/durably")
    templates = Jinja2Templates(Path(__file__).parent / "templates")
    web.install(templates)
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)

    def home(request: Request) -> Response:
        newest = sorted(pictures.glob("*.png"), key=lambda file: file.stat().st_mtime, reverse=True)
        return templates.TemplateResponse(
            request, "home.html", {"pictures": [file.name for file in newest[:24]]}
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with durably:
            yield

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", home),
            Mount("/pictures", StaticFiles(directory=pictures)),
            Mount("/durably", web),
        ],
    )
