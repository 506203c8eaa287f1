"""The style sheet and the scripts: what is served from `/static`, under URLs that never change.

Nothing is built by a tool: our own pages load one file, htmx and our script behind each other.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.responses import Response

HTMX: Final = "vendor/htmx-4.0.1.min.js"
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    name: str
    media_type: str
    content: bytes

    @property
    def path(self) -> str:
        """Its place below the mount, named after what it holds."""
        return f"/static/{self.digest}/{self.name}"

    @property
    def digest(self) -> str:
        """The beginning of its SHA-256."""
        return sha256(self.content).hexdigest()[:12]

    def response(self, digest: str) -> Response:
        """The answer to a request for the file under this digest.

        During a deployment a page of another release may ask for its own file: it gets this one,
        which nobody keeps.
        """
        is_this_one = digest == self.digest
        headers = {
            "cache-control": FOR_EVER if is_this_one else "no-store",
            "x-content-type-options": "nosniff",
        }
        return Response(self.content, media_type=self.media_type, headers=headers)


def _read(name: str) -> bytes:
    return files("durably_web").joinpath("static", name).read_bytes()


_live = _read("durably-live.js")

STYLES: Final = Asset("durably-web.css", "text/css", _read("durably-web.css"))
BUNDLE: Final = Asset("durably-web.js", "text/javascript", _read(HTMX) + b"\n;\n" + _live)
"""htmx and our script: for our own pages, and for those that have no htmx."""
LIVE: Final = Asset("durably-live.js", "text/javascript", _live)
"""Our script alone: for pages that have htmx 2 or 4."""
ICON: Final = Asset("durably-icon.svg", "image/svg+xml", _read("durably-icon.svg"))

ASSETS: Final = {asset.name: asset for asset in (STYLES, BUNDLE, LIVE, ICON)}
