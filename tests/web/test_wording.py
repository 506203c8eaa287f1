"""Numbers and times as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from durably import Count
from durably_web import wording

NOW = datetime(2026, 11, 22, 14, 29, 34, 368_900, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (-5, "0 ms"),
        (0, "0 ms"),
        (0.0126, "13 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 0 s"),
        (125, "2 m 5 s"),
        (3599.6, "1 h 0 m"),
        (11_040, "3 h 4 m"),
        (183_600, "2 d 3 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "now"),
        (-0.9, "now"),
        (12, "12 s ago"),
        (300, "5 m ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
        (-90, "in 1 m"),
    ],
)
def test_an_age_has_one_unit(seconds: float, words: str) -> None:
    assert wording.age(NOW - timedelta(seconds=seconds), NOW) == words


def test_an_instant_is_told_in_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert wording.stamp(elsewhere) == "2026-11-22 14:29:34 UTC"
    assert wording.clock(elsewhere) == "14:29:34.368"
    assert wording.machine(elsewhere) == "2026-11-22T14:29:34.368+00:00"


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0"), (12345, "12,345"), (0.5, "0.5"), (1234.5678, "1,234.57"), (2.0, "2")]
)
def test_a_number_has_no_more_digits_than_there_are(number: float, words: str) -> None:
    assert wording.number(number) == words


@pytest.mark.parametrize(
    ("number", "is_whole", "words"),
    [(3, True, "3"), (1200, True, "1,200"), (10_000, False, "10k+"), (10, False, "10+")],
)
def test_a_count_says_where_it_stopped(number: int, is_whole: bool, words: str) -> None:
    assert wording.count(Count(number=number, is_whole=is_whole)) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"), [(1, 3, "33 %"), (5, 3, "100 %"), (-1, 3, "0 %"), (1, 0, "–")]
)
def test_a_part_is_told_in_percent(part: float, whole: float, words: str) -> None:
    assert wording.percent(part, whole) == words


@pytest.mark.parametrize(("size", "words"), [(812, "812 B"), (12_345, "12.3 kB"), (1_200_000, "1.2 MB")])
def test_a_size_has_its_unit(size: int, words: str) -> None:
    assert wording.size(size) == words


def test_a_sentence_begins_with_a_capital() -> None:
    assert wording.sentence("waiting for Signal") == "Waiting for Signal"
    assert wording.sentence("") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("short\n", "short\n"),
        ("a\nb\nc\nd", "a\nb\nc\nd"),
        ("a\nb\nc\nd\ne", "a\nb\nc\nd…"),
        ("x" * 400, "x" * 400),
        ("x" * 401, "x" * 400 + "…"),
    ],
)
def test_of_a_long_text_a_beginning_is_told(text: str, words: str) -> None:
    assert wording.beginning(text) == words


def test_a_stretch_of_time_is_told_in_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert wording.between(there, there + timedelta(minutes=30)) == "14:29–14:59 UTC"
