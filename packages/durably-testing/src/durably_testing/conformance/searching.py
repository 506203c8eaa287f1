"""Searching runs for a text: what is found, how far it looks, and how it goes on."""

from datetime import UTC, datetime, timedelta

import pytest

from durably import RunError, RunFilter, RunsFound, SearchBy
from durably.spi import Failed
from durably_testing.conformance.stage import Stage

ERRORS = [
    ("ValueError", "row 37: amount is negative"),
    ("httpx.ReadTimeout", "timed out after 100 % of the time"),
    ("ValueError", 'the name "Zoë" has a \\ in it'),
]


async def failures(stage: Stage, *, count: int = 9) -> None:
    """Runs `aa00-end`, `aa01-end`…: every third one failed in the same way; of two tenants in turns."""
    for number in range(count):
        await stage.trigger(f"aa{number:02}-end", labels={"org": "ab"[number % 2]})
        type_, message = ERRORS[number % len(ERRORS)]
        error = RunError(type=type_, message=message, traceback="File secret.py", steps=("s",))
        await stage.finish((await stage.take()).lease, Failed(error=error))
        stage.clock.advance(60)


async def found(
    stage: Stage,
    text: str,
    *,
    by: SearchBy = "error",
    filter: RunFilter | None = None,
    limit: int = 100,
    among: int = 100,
    cursor: str | None = None,
) -> RunsFound:
    return await stage.store.search_runs(
        filter or RunFilter(), text, by=by, limit=limit, among=among, cursor=cursor
    )


def numbers(answer: RunsFound) -> list[int]:
    return [int(run.id[2:4]) for run in answer.runs]


class SearchingContract:
    """Searching runs for a text: what is found, how far it looks, and how it goes on."""

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("amount", [6, 3, 0]),
            ("AMOUNT IS", [6, 3, 0]),
            ("valueerror: row", [6, 3, 0]),
            ("ValueError", [8, 6, 5, 3, 2, 0]),
            ("100 %", [7, 4, 1]),
            ("% of", [7, 4, 1]),
            ("_", []),
            ("a%t", []),
            ("Zoë", [8, 5, 2]),
            ('"Zoë" has a \\', [8, 5, 2]),
            ("secret.py", []),
        ],
    )
    async def test_failed_runs_are_found_by_a_part_of_their_error(
        self, stage: Stage, text: str, wanted: list[int]
    ) -> None:
        await failures(stage)
        await stage.trigger("aa90-end")
        answer = await found(stage, text)
        assert numbers(answer) == wanted
        assert (answer.looked_at, answer.cursor) == (9, None)

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [("05-end", [5]), ("AA0", list(range(8, -1, -1))), ("_", []), ("%", []), ("nobody", [])],
    )
    async def test_runs_are_found_by_a_part_of_their_id(
        self, stage: Stage, text: str, wanted: list[int]
    ) -> None:
        await failures(stage)
        answer = await found(stage, text, by="id")
        assert numbers(answer) == wanted
        assert (answer.looked_at, answer.cursor) == (9, None)

    @pytest.mark.parametrize("by", ["id", "error"])
    async def test_a_search_stays_within_its_filter(self, stage: Stage, by: SearchBy) -> None:
        await failures(stage)
        text = "end" if by == "id" else "e"
        first = (await stage.run("aa00-end")).created_at

        assert numbers(await found(stage, text, by=by, filter=RunFilter(labels={"org": "a"}))) == [
            8,
            6,
            4,
            2,
            0,
        ]
        assert numbers(await found(stage, text, by=by, filter=RunFilter(job_name=("other",)))) == []
        assert numbers(await found(stage, text, by=by, filter=RunFilter(status=("completed",)))) == []
        assert numbers(await found(stage, text, by=by, filter=RunFilter(is_nothing=True))) == []
        span = RunFilter(
            created_since=first + timedelta(minutes=2), created_before=first + timedelta(minutes=5)
        )
        assert numbers(await found(stage, text, by=by, filter=span)) == [4, 3, 2]
        long_ago = RunFilter(created_before=datetime(2000, 1, 1, tzinfo=UTC))
        assert numbers(await found(stage, text, by=by, filter=long_ago)) == []

    @pytest.mark.parametrize("by", ["id", "error"])
    @pytest.mark.parametrize(("limit", "among"), [(100, 2), (2, 100), (2, 3), (1, 1)])
    async def test_a_bounded_search_goes_on_where_it_ended(
        self, stage: Stage, by: SearchBy, limit: int, among: int
    ) -> None:
        await failures(stage)
        text = "end" if by == "id" else "amount"
        answer = await found(stage, text, by=by, limit=limit, among=among)
        assert answer.looked_at == min(among, 9)
        seen = numbers(answer)
        while answer.cursor is not None:
            answer = await found(stage, text, by=by, limit=limit, among=among, cursor=answer.cursor)
            assert len(answer.runs) <= limit
            seen += numbers(answer)
        assert seen == ([6, 3, 0] if by == "error" else list(range(8, -1, -1)))

    async def test_a_search_in_an_empty_store_finds_nothing(self, stage: Stage) -> None:
        for by in ("id", "error"):
            assert await found(stage, "x", by=by) == RunsFound(runs=(), looked_at=0, cursor=None)
