"""Storing new runs."""

import asyncio

import pytest

from durably_testing.conformance.stage import Stage


class TriggeringContract:
    """Storing new runs."""

    async def test_a_new_run_is_pending_and_tells_what_it_was_given(self, stage: Stage) -> None:
        run = await stage.trigger(
            "it",
            input_json='{"a": 1}',
            labels={"team": "x", "env": "ü"},
            idempotency_key="i",
            concurrency_key="k",
            key_scope="job",
            priority=3,
        )
        assert run.disposition == "created"
        assert (run.id, run.job_name, run.status, run.priority) == ("it", "job", "pending", 3)
        assert run.labels == {"team": "x", "env": "ü"}
        assert (run.idempotency_key, run.concurrency_key, run.is_key_shared) == ("i", "k", False)
        assert run.input == {"a": 1}
        assert run.created_at.timestamp() == stage.clock.now()
        assert run.due_at is None
        stored = await stage.run("it")
        assert stored.disposition is None
        assert {name: getattr(stored, name) for name in stored.__slots__ if name != "disposition"} == {
            name: getattr(run, name) for name in run.__slots__ if name != "disposition"
        }

    async def test_runs_of_one_call_stand_in_its_order(self, stage: Stage) -> None:
        runs = (await stage.store.enqueue([stage.new(id) for id in "cab"])).runs
        assert [run.id for run in runs] == ["c", "a", "b"]
        positions = [run.position for run in runs]
        assert positions == sorted(positions)
        assert await stage.claim() == ["c", "a", "b"]

    async def test_nothing_is_an_answer_to_nothing(self, stage: Stage) -> None:
        assert (await stage.store.enqueue([])).runs == []

    async def test_a_repeated_id_is_its_own_earlier_success(self, stage: Stage) -> None:
        await stage.trigger("it", input_json='"first"')
        again = await stage.trigger("it", input_json='"second"')
        assert again.disposition == "created"
        assert again.input == "first"
        assert len(await stage.ids()) == 1

    async def test_an_idempotency_key_answers_with_the_run_that_has_it(self, stage: Stage) -> None:
        await stage.trigger("first", idempotency_key="i", input_json='"first"')
        second = await stage.trigger("second", idempotency_key="i", input_json='"second"')
        assert (second.id, second.disposition, second.input) == ("first", "idempotent", "first")
        assert await stage.ids() == ["first"]

    async def test_an_idempotency_key_belongs_to_its_job(self, stage: Stage) -> None:
        await stage.trigger("first", idempotency_key="i")
        other = await stage.trigger("other", job_name="other", idempotency_key="i")
        assert other.disposition == "created"

    async def test_one_key_twice_in_one_call_makes_one_run(self, stage: Stage) -> None:
        answer = await stage.store.enqueue(
            [stage.new("a", idempotency_key="i"), stage.new("b", idempotency_key="i"), stage.new("c")]
        )
        assert [(run.id, run.disposition) for run in answer.runs] == [
            ("a", "created"),
            ("a", "idempotent"),
            ("c", "created"),
        ]

    async def test_of_many_triggers_at_once_exactly_one_creates(self, stage: Stage) -> None:
        runs = await asyncio.gather(*(stage.trigger(idempotency_key="i") for _ in range(50)))
        assert len({run.id for run in runs}) == 1
        assert sorted(run.disposition or "" for run in runs) == ["created"] + ["idempotent"] * 49

    async def test_a_call_stores_all_its_runs_or_none(self, stage: Stage) -> None:
        # SQLite takes no lone surrogate.
        with pytest.raises(UnicodeEncodeError):
            await stage.store.enqueue([stage.new("good"), stage.new("bad", job_name="\udc80")])
        assert await stage.ids() == []
        await stage.trigger("good")

    async def test_a_delay_counts_from_the_stores_present(self, stage: Stage) -> None:
        run = await stage.trigger("it", delay=60)
        assert run.due_at is not None
        assert run.due_at.timestamp() == stage.clock.now() + 60
        stage.clock.advance(59)
        assert await stage.claim() == []
        stage.clock.advance(1)
        assert await stage.claim() == ["it"]

    async def test_an_instant_that_has_passed_is_due_at_once(self, stage: Stage) -> None:
        await stage.trigger("past", run_at=stage.clock.now() - 5)
        await stage.trigger("now", delay=0)
        assert await stage.claim() == ["past", "now"]

    async def test_a_clock_that_jumps_back_neither_delays_nor_reorders(self, stage: Stage) -> None:
        await stage.trigger("first")
        stage.clock.wall -= 5000
        await stage.trigger("second")
        await stage.trigger("third", priority=1)
        assert await stage.claim() == ["third", "first", "second"]

    async def test_a_run_stands_a_minute_earlier_for_each_step_of_priority(self, stage: Stage) -> None:
        await stage.trigger("early")
        stage.clock.advance(61)
        await stage.trigger("urgent", priority=1)
        await stage.trigger("very", priority=2)
        await stage.trigger("unhurried", priority=-1)
        await stage.trigger("late")
        # So nothing starves: who has waited for more than a minute is before the next urgent one.
        assert await stage.claim() == ["very", "early", "urgent", "late", "unhurried"]

    async def test_every_change_of_a_run_gets_the_next_number(self, stage: Stage) -> None:
        first = await stage.trigger("a")
        second = await stage.trigger("b")
        assert second.change > first.change
        claimed = await stage.run((await stage.claim(limit=1))[0])
        assert claimed.change > second.change
