"""What was measured, and how it is shown."""

import json
import platform
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

import durably

Unit = Literal["/s", "s", "bytes", "cpu"]
"""`cpu`: the share of one core."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be, in words, and whether it is."""

    words: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: Unit
    ratios: Mapping[str, float] = field(default_factory=dict[str, float])
    """To what it is compared: `L` and `C` are the floors, `empty` is the same on an empty database."""
    target: Target | None = None
    note: str = ""


def at_least(words: str, measured: float, bound: float) -> Target:
    """A target that more than the bound meets."""
    return Target(f"≥ {words}", measured >= bound)


def at_most(words: str, measured: float, bound: float) -> Target:
    """A target that less than the bound meets."""
    return Target(f"≤ {words}", measured <= bound)


def readable(value: float, unit: Unit) -> str:
    """A figure with the digits that mean anything."""
    if unit == "bytes":
        return f"{value / 1_000_000:.1f} MB" if value >= 1_000_000 else f"{value / 1000:.0f} kB"
    if unit == "cpu":
        return f"{value * 100:.2f} % of a core"
    if unit == "/s":
        return f"{value:,.0f} /s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.2f} ms" if value >= 0.001 else f"{value * 1e6:.0f} µs"


def show(console: Console, title: str, figures: Sequence[Figure]) -> None:
    """Print the table of one workload."""
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("workload", overflow="fold")
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right")
    table.add_column("target")
    table.add_column("met?", justify="center")
    for figure in figures:
        ratios = " · ".join(f"{ratio:.2f} × {to}" for to, ratio in figure.ratios.items())
        name = f"{figure.name} [dim]({figure.note})[/dim]" if figure.note else figure.name
        words, met = "", ""
        if figure.target is not None:
            words = figure.target.words
            met = "[green]yes[/green]" if figure.target.met else "[red]no[/red]"
        table.add_row(name, readable(figure.value, figure.unit), ratios, words, met)
    console.print(table)


def write(path: Path, figures: Mapping[str, Sequence[Figure]], conditions: Mapping[str, object]) -> None:
    """Write everything as JSON, in seconds, bytes and per second."""
    machine = {
        "durably": durably.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(),
        "byte_order": sys.byteorder,
    }
    workloads = {name: [asdict(figure) for figure in several] for name, several in figures.items()}
    text = json.dumps({"machine": machine, "conditions": conditions, "workloads": workloads}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
