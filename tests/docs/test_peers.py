"""The table of other libraries' bugs names every one with a link, and tests that exist."""

import re
from collections.abc import Iterator

import pytest

from tests.docs.test_behaviours import TESTS, names_in

PAGE = TESTS.parent / "docs" / "peers.md"
BUGS = 29


def rows() -> Iterator[tuple[int, str, list[str]]]:
    """Number, story, tests."""
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| \d+ \|", text):
            number, story, tests, _ = (cell.strip() for cell in text.strip("|").split(" | "))
            yield int(number), story, re.findall(r"`([^`]+)`", tests)


def test_every_bug_is_there_once_with_its_report_and_a_test() -> None:
    assert [number for number, *_ in rows()] == list(range(1, BUGS + 1))
    assert [number for number, story, tests in rows() if "https://" not in story or not tests] == []


@pytest.mark.parametrize(
    ("number", "name"), [(number, name) for number, _, names in rows() for name in names]
)
def test_a_named_test_exists(number: int, name: str) -> None:
    file, separator, test = name.partition("::")
    assert separator, number
    assert test in names_in(file), number


def test_each_test_of_a_bug_is_in_the_table_under_the_report_that_it_names() -> None:
    table = {name: story for _, story, names in rows() for name in names}
    source = (TESTS / "core" / "test_peers.py").read_text(encoding="utf-8")
    tests = re.findall(
        r"^(?:async )?def (test_\w+)\(.*?\) -> None:\n    \"\"\"(.*?)\"\"\"", source, re.MULTILINE | re.DOTALL
    )
    assert {name for name, _ in tests} == names_in("core/test_peers.py") & {
        name for name in names_in("core/test_peers.py") if name.startswith("test_")
    }
    for name, docstring in tests:
        story = table[f"core/test_peers.py::{name}"]
        for url in re.findall(r"https://[\w./-]+\d", docstring):
            assert url in story, name
