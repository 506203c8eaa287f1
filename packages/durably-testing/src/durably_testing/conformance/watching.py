"""What is new to those who watch, and why a run is not executed, by a clock in the test's hand."""

import pytest

from durably import RunFilter, Step
from durably.spi import Notes, Seen, Tail
from durably_testing.conformance.stage import BROKEN, STATES, Stage, bring_to


async def follow(stage: Stage, *, change: int = 0, after: int = 0, limit: int = 100) -> Tail:
    tail = await stage.store.follow("it", change=change, after=after, limit=limit)
    assert tail is not None
    return tail


def numbers(tail: Tail) -> list[tuple[str, int]]:
    return [("step" if isinstance(entry, Step) else "line", entry.sequence) for entry in tail.entries]


class WatchingContract:
    """What is new to those who watch, and why a run is not executed, by a clock in the test's hand."""

    @pytest.mark.parametrize("state", STATES)
    async def test_the_end_of_a_run_and_its_absence_are_news_to_everybody(
        self, stage: Stage, state: str
    ) -> None:
        await bring_to(stage, state)
        seen = Seen("it")
        is_over = state in {"missing", "completed", "failed", "cancelled", "cancelled, body alive"}
        assert list(await stage.store.news([seen])) == ([seen] if is_over else [])

    async def test_a_change_a_step_and_a_line_are_news_to_those_who_have_not_seen_them(
        self, stage: Stage
    ) -> None:
        await stage.trigger("it")
        await stage.trigger("other")
        lease = (await stage.take_all())["it"]
        known = Seen("it", (await stage.run("it")).change, 0)
        assert list(await stage.store.news([known])) == []
        await stage.store.note(lease, Notes(logs=[stage.line(sequence=1)]))
        assert list(await stage.store.news([known])) == [known]
        known = Seen("it", known.change, 1)
        assert list(await stage.store.news([known])) == []
        await stage.save(lease, stage.step(sequence=2))
        assert list(await stage.store.news([known])) == [known]
        known = Seen("it", known.change, 2)
        assert list(await stage.store.news([known])) == []
        await stage.store.release([lease])
        assert list(await stage.store.news([known, Seen("it")])) == [known]

    async def test_any_change_of_any_run_is_news_to_those_who_watch_all(self, stage: Stage) -> None:
        change = (await stage.trigger("it")).change
        assert list(await stage.store.news([Seen(None, change)])) == []
        await stage.trigger("other")
        assert list(await stage.store.news([Seen(None, change)])) == [Seen(None, change)]

    async def test_the_tail_holds_steps_and_lines_in_the_order_of_their_numbers(self, stage: Stage) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        for number in (2, 5):
            await stage.store.note(lease, Notes(logs=[stage.line(sequence=number)]))
        for number in (3, 9):
            await stage.save(lease, stage.step(f"step-{number}", sequence=number))
        whole = [("line", 2), ("step", 3), ("line", 5), ("step", 9)]
        tail = await follow(stage)
        assert (numbers(tail), tail.is_whole) == (whole, True)
        for limit in (1, 2, 3, 4):
            tail = await follow(stage, limit=limit)
            assert (numbers(tail), tail.is_whole) == (whole[:limit], limit == 4)
        assert numbers(await follow(stage, after=3, limit=1)) == [("line", 5)]
        assert numbers(await follow(stage, after=9)) == []
        # Only how far it goes.
        end = await stage.store.follow("it", change=0, after=None, limit=100)
        assert end is not None
        assert (numbers(end), end.sequence, end.is_whole) == ([], 9, True)

    async def test_the_run_comes_with_the_tail_only_when_it_has_changed(self, stage: Stage) -> None:
        await stage.trigger("it")
        first = (await follow(stage)).run
        assert first is not None
        assert (await follow(stage, change=first.change)).run is None
        await stage.finish((await stage.take()).lease)
        last = await follow(stage, change=first.change)
        assert last.run is not None
        assert (last.run.status, last.is_terminal) == ("completed", True)
        assert (await follow(stage, change=last.run.change)).is_terminal
        assert await stage.store.follow("missing", change=0, after=0, limit=1) is None
        assert await stage.store.follow("missing", change=0, after=None, limit=1) is None

    async def test_a_number_is_never_given_twice_even_if_a_retry_drops_the_last_step(
        self, stage: Stage
    ) -> None:
        await stage.trigger("it")
        lease = (await stage.take()).lease
        await stage.store.note(lease, Notes(logs=[stage.line(sequence=3)]))
        await stage.save(lease, stage.step("bad", "failed", sequence=7, error=BROKEN.error))
        await stage.finish(lease, BROKEN)
        await stage.store.retry("it", token="t")
        assert (await stage.take()).last_sequence == 7

    async def test_a_survey_goes_on_where_the_last_one_ended(self, stage: Stage) -> None:
        for number in range(5):
            await stage.trigger(f"run-{number}", job_name="odd" if number % 2 else "even")
        filter = RunFilter(job_name=("odd",))
        first = await stage.store.survey(filter, after=None, limit=10)
        assert ([run.id for run in first.runs], first.is_present) == (["run-3", "run-1"], True)
        await stage.store.cancel("run-0", token="t")
        nothing = await stage.store.survey(filter, after=first.change, limit=10)
        assert (list(nothing.runs), nothing.is_present, nothing.change > first.change) == ([], False, True)
        for id in ("run-3", "run-2", "run-1"):
            await stage.store.cancel(id, token="t")
        told: list[str] = []
        cursor = nothing.change
        while (page := await stage.store.survey(filter, after=cursor, limit=1)).runs:
            told += [run.id for run in page.runs]
            cursor = page.change
        assert told == ["run-3", "run-1"]

    @pytest.mark.parametrize(
        ("filter", "expected"),
        [
            (RunFilter(), ["a", "b", "c"]),
            (RunFilter(job_name=("x",)), ["a", "b"]),
            (RunFilter(status=("cancelled",)), ["b"]),
            (RunFilter(labels={"k": "v"}), ["b", "c"]),
            (RunFilter(labels={"k": "v", "l": "w"}), ["c"]),
            (RunFilter(labels={"k": "v", "l": "w"}, job_name=("x",)), []),
            (RunFilter(job_name=("y", "z"), status=("pending", "failed")), ["c"]),
        ],
    )
    async def test_a_survey_tells_what_the_filter_asks_for(
        self, stage: Stage, filter: RunFilter, expected: list[str]
    ) -> None:
        await stage.trigger("a", job_name="x")
        await stage.trigger("b", job_name="x", labels={"k": "v"})
        await stage.trigger("c", job_name="y", labels={"k": "v", "l": "w"})
        await stage.store.cancel("b", token="t")
        changed = await stage.store.survey(filter, after=0, limit=10)
        assert sorted(run.id for run in changed.runs) == expected
        assert [run.change for run in changed.runs] == sorted(run.change for run in changed.runs)
        present = await stage.store.survey(filter, after=None, limit=10)
        assert sorted(run.id for run in present.runs) == expected

    async def test_a_cursor_that_this_store_has_not_reached_begins_anew(self, stage: Stage) -> None:
        # As after a backup was put back.
        await stage.trigger("it")
        survey = await stage.store.survey(RunFilter(), after=10_000, limit=10)
        assert ([run.id for run in survey.runs], survey.is_present) == (["it"], True)

    async def test_facts_of_a_missing_run_are_none(self, stage: Stage) -> None:
        assert await stage.store.facts("missing") is None
