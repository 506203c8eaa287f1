"""Reading the documentation's pages, and executing what they print.

A page is read from top to bottom, as a reader would:

- a ```python block is executed, in one process for the whole page, which may `await` at the top
  level as `python -m asyncio` does;
- a ```python title="app.py" block is a file, written where the page has come to it;
- a ```sh block is executed by a shell in the same folder;
- a ```text block right after one of these is what it prints; an `…` stands for anything;
- other blocks (```console, ```sql, …) are not executed here.

As a script it executes the page that it is given: `python pages.py PAGE`.
"""

import ast
import asyncio
import inspect
import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str
    line: int
    """The line of the page on which its text begins."""
    prints: str | None = None
    """The `text` block right after it."""


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    matches = list(FENCE.finditer(source))
    found: list[Block] = []
    for number, match in enumerate(matches):
        following = matches[number + 1] if number + 1 < len(matches) else None
        is_output = (
            following is not None
            and following["language"] == "text"
            and not source[match.end() : following.start()].strip()
        )
        found.append(
            Block(
                language=match["language"],
                title=match["title"],
                text=_dedented(match["body"], len(match["indent"])),
                line=source.count("\n", 0, match.start("body")) + 1,
                prints=_dedented(following["body"], len(following["indent"]))
                if following is not None and is_output
                else None,
            )
        )
    return found


def fits(said: str, printed: str) -> bool:
    """Whether a page tells the truth about what is said; `…` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in printed.strip().split("…"))
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


def _dedented(text: str, indent: int) -> str:
    return "".join(line[indent:] if line.strip() else line for line in text.splitlines(keepends=True))


async def _execute(page: Path) -> None:
    scope = _fresh_main()
    for block in blocks(page):
        if block.title is not None:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language in {"python", "sh"}:
            said = await (_python(block, page, scope) if block.language == "python" else _shell(block))
            if block.prints is not None and not fits(said, block.prints):
                sys.exit(f"{page}:{block.line}: the page says\n{block.prints}\nbut it prints\n{said}")


def _fresh_main() -> dict[str, object]:
    """The names of a program's own module: types that the page defines are looked up there."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    return vars(main)


async def _python(block: Block, page: Path, scope: dict[str, object]) -> str:
    # Padded, so that a traceback points at the page's own line.
    padded = "\n" * (block.line - 1) + block.text
    code = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    heard = io.StringIO()
    with redirect_stdout(heard):
        result = eval(code, scope)
        if inspect.iscoroutine(result):
            await result
    return heard.getvalue()


async def _shell(block: Block) -> str:
    process = await asyncio.create_subprocess_exec(
        "sh", "-e", "-c", block.text, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        sys.exit(f"line {block.line}: the command ended with {process.returncode}\n{errors.decode()}")
    return output.decode()


if __name__ == "__main__":
    # The modules that a page writes lie in its folder, not in this script's.
    sys.path[0] = str(Path.cwd())
    asyncio.run(_execute(Path(sys.argv[1])))
