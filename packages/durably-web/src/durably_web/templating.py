"""The templates: an environment of our own, in which everything is escaped.

A host may put a file of the same name into its own folder, e.g. `durably/components/run_progress.html`,
and it is found first.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Final

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

from durably_web import wording
from durably_web.assets import BUNDLE, ICON, LIVE, STYLES

OURS: Final = PackageLoader("durably_web", "templates")


class Templates:
    """Renders our templates, and a host's in their place.

    Args:
        folder: Where a host keeps its own ones.
    """

    def __init__(self, folder: str | PathLike[str] | None = None) -> None:
        self._loaders: list[BaseLoader] = [] if folder is None else [FileSystemLoader(folder)]
        self._environment = Environment(
            # Not select_autoescape(): it does not escape .jinja, .j2 and the like.
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Jinja2 says narrower what may be in it than it takes.
        shared: dict[str, object] = self._environment.globals  # pyright: ignore[reportAssignmentType]
        shared["wording"] = wording
        shared["assets"] = {"styles": STYLES, "bundle": BUNDLE, "live": LIVE, "icon": ICON}
        self._use(self._loaders)

    def prefer(self, loader: BaseLoader) -> None:
        """Look for templates here before looking among ours."""
        if loader not in self._loaders:
            self._loaders.append(loader)
            self._use(self._loaders)

    def render(self, name: str, /, **context: object) -> Markup:
        """A template's text, which is HTML."""
        return Markup(self._environment.get_template(name).render(context))  # noqa: S704 - all of it is escaped

    def _use(self, loaders: Sequence[BaseLoader]) -> None:
        self._environment.loader = ChoiceLoader([*loaders, OURS])
        if self._environment.cache is not None:
            self._environment.cache.clear()


def _finalize(value: object) -> object:
    return wording.plain(value) if type(value) is str else value
