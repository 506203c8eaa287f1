"""The table of behaviours names every line once, and tests that exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from durably_testing import StoreConformance

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "behaviours.md"
CONTRACT = "testing/test_conformance.py"
"""Its tests are those of the class that is published for authors of stores."""

LINES = {
    "SET": 7, "MIG": 5, "REG": 8, "TRG": 11, "BAT": 6, "GET": 6, "WRK": 7, "LEA": 12, "STP": 12, "KER": 10,
    "STA": 3, "CAN": 3, "DEL": 1, "RTG": 2, "PUR": 2, "SRV": 2, "WAI": 5, "EVT": 4, "LOG": 2, "PLG": 1,
    "SUB": 3, "HTTP": 8, "AUTH": 5, "SSE": 3, "SQL": 1, "TYP": 1, "UI": 8, "BUG": 23,
}  # fmt: skip
ALL = [f"{group}-{number}" for group, count in LINES.items() for number in range(1, count + 1)]


def rows() -> Iterator[tuple[str, str, list[str], str]]:
    """Line, behaviour, tests, and how ours differs."""
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [A-Z]{2,4}-", text):
            line, behaviour, tests, ours = (cell.strip() for cell in text.strip("|").split(" | "))
            yield line, behaviour, re.findall(r"`([^`]+)`", tests), ours.strip("| ")


@cache
def names_in(file: str) -> frozenset[str]:
    if file == CONTRACT:
        return frozenset(name for name in dir(StoreConformance) if name.startswith("test_"))
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_line_is_there_once_and_in_order() -> None:
    assert [line for line, *_ in rows()] == ALL


def test_every_line_has_a_test_or_says_why_not() -> None:
    assert [line for line, _, tests, ours in rows() if not tests and not ours] == []


@pytest.mark.parametrize(("line", "name"), [(line, name) for line, _, names, _ in rows() for name in names])
def test_a_named_test_exists(line: str, name: str) -> None:
    file, separator, test = name.partition("::")
    assert separator, line
    assert test in names_in(file), line


def test_the_lines_that_a_test_claims_are_in_the_table() -> None:
    claimed = {
        match
        for file in (TESTS / "core" / "behaviours").glob("test_*.py")
        for match in re.findall(r"\b[A-Z]{3}-\d+\b", file.read_text(encoding="utf-8"))
    }
    assert claimed <= set(ALL)
    assert len(claimed) > 50
