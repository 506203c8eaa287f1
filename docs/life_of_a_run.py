"""Draws the life of a run from the engine's own table of transitions: `python docs/life_of_a_run.py`.

A picture and a table, both in docs/explanation/. A test holds them against the engine.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from durably.lifecycle import TRANSITIONS, Verb

FOLDER = Path(__file__).parent / "explanation"
PICTURE = FOLDER / "life-of-a-run.svg"
PAGE = FOLDER / "resuming.md"
BEGIN = "<!-- transitions: made by docs/life_of_a_run.py from the engine's own table -->\n"
END = "<!-- end of transitions -->\n"

STATES = ("pending", "running", "waiting", "completed", "failed", "cancelled", "gone")
"""The lanes, from left to right; `gone` is no state, but the end of the row."""

WORDS: dict[Verb, str] = {
    "claim": "a worker takes it",
    "complete": "the job returned",
    "fail": "the job raised",
    "reattempt": "the job raised, and has attempts left",
    "continue": "the job called `step.continue_as_new`",
    "suspend": "it waits for an instant, a signal or a child, and needs no worker",
    "wake": "what it waited for has come",
    "release": "its worker is being stopped and hands it back",
    "reclaim": "its worker died or fell silent",
    "park": "it killed too many workers in a row",
    "cancel": "somebody called `cancel`",
    "retry": "somebody called `retry`",
    "delete": "somebody deleted it, or it was older than `retain`",
}
"""When each verb strikes. A new verb needs a line here."""

LEFT, TOP, LANE, ROW = 100, 64, 106, 34
INK, LINE, FILL = "#6b7280", "#9ca3af", {"running": "#2563eb", "completed": "#15803d", "failed": "#b91c1c"}


def picture() -> str:
    """The lanes are states; each row is a verb, its dots where it starts and its arrow where it leads."""
    width, height = LEFT + LANE * len(STATES) + 6, TOP + ROW * len(TRANSITIONS) + 8
    parts = [*_lanes(height), *_rows()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="14">\n'
        "<title>The life of a run</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def table() -> str:
    """The same in words."""
    lines = ["| verb | from | to | when |", "| --- | --- | --- | --- |"]
    for verb, transition in TRANSITIONS.items():
        sources = ", ".join(state for state in STATES if state in transition.sources)
        lines.append(f"| {verb} | {sources} | {transition.target or 'gone'} | {WORDS[verb]} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the present table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _middle(state: str) -> int:
    return LEFT + LANE * STATES.index(state) + LANE // 2


def _lanes(height: int) -> Iterator[str]:
    for state in STATES:
        x = _middle(state)
        yield (
            f'<line x1="{x}" y1="46" x2="{x}" y2="{height - 4}" stroke="{LINE}" stroke-width="1.5" '
            'stroke-dasharray="2 5"/>'
        )
        if state == "gone":
            yield f'<text x="{x}" y="33" text-anchor="middle" fill="{INK}" font-style="italic">gone</text>'
            continue
        yield f'<rect x="{x - 46}" y="12" width="92" height="32" rx="16" fill="{FILL.get(state, "#4b5563")}"/>'
        yield f'<text x="{x}" y="33" text-anchor="middle" fill="#ffffff" font-weight="600">{state}</text>'


def _rows() -> Iterator[str]:
    for number, (verb, transition) in enumerate(TRANSITIONS.items()):
        y = TOP + ROW * number + ROW // 2
        sources, target = (
            [_middle(source) for source in transition.sources],
            _middle(transition.target or "gone"),
        )
        yield f'<text x="8" y="{y + 5}" fill="{INK}" font-weight="600">{escape(verb)}</text>'
        for furthest in {min(sources), max(sources)}:
            if furthest != target:
                head = 10 if furthest < target else -10
                yield f'<path d="M{furthest} {y}H{target - head}" stroke="{INK}" stroke-width="2" fill="none"/>'
                yield f'<path d="M{target} {y}l{-head} -6v12z" fill="{INK}"/>'
        for x in sorted(sources):
            yield f'<circle cx="{x}" cy="{y}" r="5.5" fill="{INK}"/>'


def main() -> None:
    """Write both."""
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
