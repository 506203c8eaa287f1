"""A Chromium for the tests: one that is there, or one that npm brings. Without one the tests fail.

As a script it finds one and says where: `python -m tests.web.browser`.
"""

import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha512
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, async_playwright, expect

from tests.web.node import node, npm, run
from tests.web.patience import PATIENCE

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache"

CHOSEN = "DURABLY_TEST_BROWSER"
"""Names the executable to take; `npm`: the one of npm, even where there is another."""
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),)

PACKAGE = "@sparticuz/chromium@153.0.0"
INTEGRITY = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
UNPACK = """
const { createReadStream, createWriteStream } = require("node:fs");
const { createBrotliDecompress } = require("node:zlib");
const { pipeline } = require("node:stream/promises");
const [from, to] = process.argv.slice(1);
pipeline(createReadStream(from), createBrotliDecompress(), createWriteStream(to));
"""

# Without fonts it would draw no text at all.
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""

# A container's root may not have a sandbox, and its /dev/shm is small.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


@dataclass(frozen=True, slots=True)
class Chromium:
    """Where one is, and what it needs in its environment."""

    executable: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def find_chromium() -> Chromium:
    """The chosen one, one of this machine, or npm's.

    Raises:
        RuntimeError: There is none, and none can be had.
    """
    chosen = os.environ.get(CHOSEN)
    if chosen is not None and chosen != "npm":
        if not Path(chosen).exists():
            raise RuntimeError(f"{CHOSEN} names {chosen}, which does not exist")
        return Chromium(Path(chosen))
    there = [Path(found) for name in NAMES if (found := shutil.which(name)) is not None]
    there += [application for application in APPLICATIONS if application.exists()]
    if there and chosen is None:
        return Chromium(there[0])
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        return _of_npm(CACHE / PACKAGE.replace("/", "-"))
    raise RuntimeError(f"the tests need Chrome or Chromium: install one, or name its executable in {CHOSEN}")


@asynccontextmanager
async def browsing() -> AsyncGenerator[Browser]:
    """A headless browser."""
    chromium = find_chromium()
    # Playwright's own Node needs a library that a bare machine lacks.
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(node()))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.executable,
            args=ARGUMENTS,
            env={**os.environ, **chromium.environment},
        )
        expect.set_options(timeout=PATIENCE * 1000)
        try:
            yield browser
        finally:
            await browser.close()


def _of_npm(folder: Path) -> Chromium:
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as workplace:
            unpacked = _unpack(Path(workplace))
            # At once, whoever else does the same.
            if not folder.exists():
                unpacked.rename(folder)
    libraries = [str(folder / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return Chromium(
        folder / "chromium",
        {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "FONTCONFIG_PATH": str(folder)},
    )


def _unpack(workplace: Path) -> Path:
    archive = workplace / npm("pack", "--silent", PACKAGE, cwd=workplace).split()[-1]
    if b64encode(sha512(archive.read_bytes()).digest()).decode() != INTEGRITY:
        raise RuntimeError(f"npm's {PACKAGE} is not the one that these tests know")
    _extract(archive, workplace)
    unpacked = workplace / "unpacked"
    unpacked.mkdir()
    for name in ("chromium", "al2023.tar", "fonts.tar"):
        run("--eval", UNPACK, workplace / "package" / "bin" / f"{name}.br", unpacked / name, cwd=workplace)
    (unpacked / "chromium").chmod(0o755)
    for name in ("al2023.tar", "fonts.tar"):
        _extract(unpacked / name, unpacked)
        (unpacked / name).unlink()
    (unpacked / "fonts.conf").write_text(FONTS, encoding="utf-8")
    return unpacked


def _extract(archive: Path, into: Path) -> None:
    # The module's own command: the early releases of Python 3.11 know no extraction filter yet.
    subprocess.run([sys.executable, "-m", "tarfile", "--extract", archive, into], check=True)


if __name__ == "__main__":
    print(find_chromium().executable)
