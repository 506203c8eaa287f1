"""What a new run of a key does about one that waits already; S21."""

import asyncio

import pytest

from durably import Coalesce
from durably.spi import ClaimRequest
from durably_testing.conformance.stage import BROKEN, LEASE, Stage

MODES: tuple[Coalesce, ...] = ("skip", "replace", "reject")


async def offer(stage: Stage, mode: Coalesce, id: str = "new", *, delay: float | None = None) -> str:
    """Trigger with the key `k`: `created`, `coalesced …`, `replaced …` or `refused`."""
    new = stage.new(id, concurrency_key="k", coalesce=mode, delay=delay, input_json='"new"')
    answer = await stage.store.enqueue([new])
    if answer.conflict is not None:
        assert answer.runs == answer.replaced == ()
        return f"refused by {answer.conflict.id}"
    [run] = answer.runs
    if answer.replaced:
        assert (run.id, run.disposition) == (id, "created")
        return "replaced " + " ".join(f"{one.id} ({one.status})" for one in answer.replaced)
    return "created" if run.disposition == "created" else f"{run.disposition} {run.id}"


class CoalescingContract:
    """What a new run of a key does about one that waits already; S21."""

    async def test_skip_answers_with_the_waiting_run_as_it_is(self, stage: Stage) -> None:
        await stage.trigger("it", concurrency_key="k", input_json='"old"', labels={"a": "old"})
        answer = await stage.store.enqueue(
            [stage.new("new", concurrency_key="k", coalesce="skip", input_json='"new"', labels={"a": "new"})]
        )
        [run] = answer.runs
        assert (run.id, run.disposition, run.input_json, run.labels) == (
            "it",
            "coalesced",
            '"old"',
            {"a": "old"},
        )
        assert (answer.replaced, answer.conflict) == ([], None)
        assert await stage.ids() == ["it"]

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_retried_run_that_had_begun_does_not_answer(self, stage: Stage, mode: Coalesce) -> None:
        await stage.trigger("it", concurrency_key="k")
        await stage.finish((await stage.take()).lease, BROKEN)
        await stage.store.retry("it", token="t")
        assert await offer(stage, mode) == "created"
        assert await stage.status("it") == "pending"

    async def test_one_that_was_retried_before_it_ever_began_answers(self, stage: Stage) -> None:
        await stage.trigger("it", concurrency_key="k")
        await stage.store.cancel("it", token="a")
        await stage.store.retry("it", token="b")
        assert await offer(stage, "skip") == "coalesced it"

    async def test_a_running_holder_is_left_alone_and_the_one_behind_it_is_met(self, stage: Stage) -> None:
        await stage.trigger_keyed("holder", "behind")
        lease = (await stage.take()).lease
        assert lease.run_id == "holder"
        assert await offer(stage, "skip", "a") == "coalesced behind"
        assert await offer(stage, "reject", "b") == "refused by behind"
        assert await offer(stage, "replace", "c") == "replaced behind (cancelled)"
        assert await stage.claim() == []
        assert await stage.finish(lease) == "applied"
        assert await stage.claim() == ["c"]

    @pytest.mark.parametrize("mode", MODES)
    async def test_other_keys_and_other_jobs_are_not_met(self, stage: Stage, mode: Coalesce) -> None:
        await stage.trigger("other key", concurrency_key="j")
        await stage.trigger("no key")
        await stage.trigger("other job", concurrency_key="k", job_name="other")
        await stage.trigger("shared", concurrency_key="k", key_scope="*")
        assert await offer(stage, mode) == "created"

    @pytest.mark.parametrize("mode", MODES)
    async def test_of_a_shared_key_only_runs_of_the_same_job_are_met(
        self, stage: Stage, mode: Coalesce
    ) -> None:
        await stage.trigger("theirs", concurrency_key="k", key_scope="*", job_name="other")
        answer = await stage.store.enqueue(
            [stage.new("ours", concurrency_key="k", key_scope="*", coalesce=mode)]
        )
        assert [(run.id, run.disposition) for run in answer.runs] == [("ours", "created")]

    async def test_what_replaces_a_run_takes_its_place_in_the_queue(self, stage: Stage) -> None:
        for id, job in (("first", "other"), ("old", "job"), ("last", "other")):
            await stage.trigger(id, job_name=job, concurrency_key="k", key_scope="*")
            stage.clock.advance(1)
        await stage.store.enqueue([stage.new("new", concurrency_key="k", key_scope="*", coalesce="replace")])
        order: list[str] = []
        for _ in range(3):
            request = ClaimRequest(
                worker_id="w1", jobs=["job", "other"], limit=1, lease_seconds=LEASE, max_crashes=5
            )
            [claim] = (await stage.store.claim(request)).claims
            order.append(claim.run.id)
            await stage.finish(claim.lease)
        assert order == ["first", "new", "last"]
        assert await stage.status("old") == "cancelled"

    async def test_of_several_that_wait_the_last_is_met(self, stage: Stage) -> None:
        await stage.trigger_keyed("a", "b", "c")
        await stage.trigger("delayed", concurrency_key="k", delay=1)
        assert await offer(stage, "skip", "1") == "coalesced c"
        assert await offer(stage, "replace", "2") == "replaced c (cancelled)"
        assert [await stage.status(id) for id in ("a", "b", "delayed")] == ["pending"] * 3

    async def test_skip_is_not_answered_by_a_run_that_falls_due_later(self, stage: Stage) -> None:
        await stage.trigger("later", concurrency_key="k", delay=100)
        await stage.trigger("much later", concurrency_key="k", delay=200)
        assert await offer(stage, "skip", "a", delay=150) == "coalesced later"
        assert await offer(stage, "skip", "b", delay=50) == "created"
        assert await offer(stage, "skip", "c") == "created"

    async def test_a_delayed_run_is_replaced_by_a_newer_one(self, stage: Stage) -> None:
        """A debounce: each trigger puts the start off once more."""
        assert await offer(stage, "replace", "a", delay=10) == "created"
        stage.clock.advance(5)
        assert await offer(stage, "replace", "b", delay=10) == "replaced a (cancelled)"
        stage.clock.advance(6)
        assert await stage.claim() == []
        stage.clock.advance(5)
        assert await stage.claim() == ["b"]

    async def test_a_refused_call_does_not_take_its_neighbours_with_it(self, stage: Stage) -> None:
        await stage.trigger("it", concurrency_key="k")
        calls = [stage.store.enqueue([stage.new(f"good-{n}")]) for n in range(3)]
        refused = stage.store.enqueue([stage.new("bad", concurrency_key="k", coalesce="reject")])
        answers = await asyncio.gather(calls[0], refused, *calls[1:])
        assert [answer.conflict is None for answer in answers] == [True, False, True, True]
        assert sorted(await stage.ids()) == ["good-0", "good-1", "good-2", "it"]

    async def test_within_one_call_runs_coalesce_with_the_ones_before_them(self, stage: Stage) -> None:
        answer = await stage.store.enqueue(
            [
                stage.new("a", concurrency_key="k", coalesce="skip"),
                stage.new("b", concurrency_key="j", coalesce="skip"),
                stage.new("c", concurrency_key="k", coalesce="skip"),
                stage.new("d"),
            ]
        )
        assert [(run.id, run.disposition) for run in answer.runs] == [
            ("a", "created"), ("b", "created"), ("a", "coalesced"), ("d", "created"),
        ]  # fmt: skip
        answer = await stage.store.enqueue(
            [
                stage.new("e", concurrency_key="i", coalesce="replace"),
                stage.new("f", concurrency_key="i", coalesce="replace"),
            ]
        )
        assert [(run.id, run.disposition, run.status) for run in answer.runs] == [
            ("e", "created", "cancelled"), ("f", "created", "pending"),
        ]  # fmt: skip
        assert [run.id for run in answer.replaced] == ["e"]
        assert sorted(await stage.claim()) == ["a", "b", "d", "f"]

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_known_idempotency_key_wins(self, stage: Stage, mode: Coalesce) -> None:
        await stage.trigger("known", idempotency_key="i")
        await stage.trigger("it", concurrency_key="k")
        answer = await stage.store.enqueue(
            [stage.new("new", concurrency_key="k", coalesce=mode, idempotency_key="i")]
        )
        assert [(run.id, run.disposition) for run in answer.runs] == [("known", "idempotent")]
        assert await stage.status("it") == "pending"

    @pytest.mark.parametrize("mode", MODES)
    async def test_a_repeated_call_finds_its_own_first_success(self, stage: Stage, mode: Coalesce) -> None:
        if mode == "replace":
            await stage.trigger("old", concurrency_key="k")
        new = stage.new("new", concurrency_key="k", coalesce=mode)
        for _ in range(3):
            answer = await stage.store.enqueue([new])
            assert [(run.id, run.disposition, run.status) for run in answer.runs] == [
                ("new", "created", "pending")
            ]
