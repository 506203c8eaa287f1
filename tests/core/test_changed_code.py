"""Code that changes under unfinished runs: which of its old results a new version of a job is given."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import cast, get_args

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from durably import (
    JobDefinition,
    JobFunction,
    NoWorkerKnowsJob,
    Retry,
    SleepingUntil,
    Step,
    StepChangedError,
    StepContext,
    StepKind,
    define_job,
)
from durably.errors import VERBS
from tests.core.versions import HOUR, ITEMS, Call, History, Plan, calls_of, echo, history_on, steps
from tests.volume import sample, volume

KINDS: tuple[StepKind, ...] = get_args(StepKind)


@pytest.fixture
async def history(url: str) -> AsyncIterator[History]:
    async with history_on(url) as history:
        yield history


EDITS: dict[str, Plan] = {
    "a step before": steps("xabc"),
    "a step between": steps("abxc"),
    "a step after": steps("abcx"),
    "the first removed": steps("bc"),
    "the middle removed": steps("ac"),
    "the last removed": steps("ab"),
    "all removed": [],
    "turned round": steps("cba"),
    "rotated": steps("bca"),
    "one renamed": steps("axc"),
    "all new": steps("xyz"),
    "made parallel": [steps("abc")],
    "partly parallel": [Call("b"), steps("xac")],
}


@pytest.mark.parametrize(("edit", "point"), sample(itertools.product(EDITS, range(1, 10)), quick=4))
async def test_steps_may_be_added_removed_moved_and_renamed_wherever_the_run_has_come_to(
    history: History, edit: str, point: int
) -> None:
    assert await history.begin(steps("abc"), stop_at=point)
    old = set("abc"[: point // 3])
    assert {name for name, step in (await history.stored()).items() if step.status == "completed"} == old
    run = await history.go_on(EDITS[edit])
    names = [call.name for call in calls_of(EDITS[edit])]
    assert run.output == {name: f"{name}@{1 if name in old else 2}" for name in names}
    assert history.done == dict.fromkeys(old | set(names), 1)


# Anything into anything


def promises(step: Step) -> bool:
    """Whether it is a checkpoint, or a wait that has begun; not a body that came to nothing."""
    return step.status != "running" or step.kind not in {"run", "map"}


async def expected(history: History, call: Call, stored: dict[str, Step], number: int) -> object:
    """What this version is given by a call of a kind that has not changed."""
    step = stored.get(call.name)
    if call.kind == "map":
        items = [Call(f"{call.name}[{item}]") for item in ITEMS]
        return [await expected(history, item, stored, number) for item in items]
    if step is not None and step.status == "completed":
        return step.result
    if step is not None and call.kind == "child":
        # Whose child it is was settled when the wait began.
        return await history.made_by(step)
    new: dict[StepKind, object] = {
        "run": f"{call.name}@{number}",
        "child": f"{call.name}@{number}",
        "signal": f"{call.name}@sent",
    }
    return new.get(call.kind)


async def check(history: History, plan: Plan, stored: dict[str, Step], number: int) -> str:
    """Every old result went to its own name and kind, and nothing was made twice; answers how the run ended."""
    run = await history.run()
    assert max(history.done.values(), default=1) == 1
    changed = [
        call.name
        for call in calls_of(plan)
        if call.name in stored and stored[call.name].kind != call.kind and promises(stored[call.name])
    ]
    if changed:
        assert run.error is not None
        assert run.error.type == "durably.errors.StepChangedError"
        assert any(run.error.message.startswith(f"step {name!r} was a ") for name in changed)
        return "refused"
    assert run.error is None
    given = {call.name: await expected(history, call, stored, number) for call in calls_of(plan)}
    output = cast("dict[str, object]", run.output)
    spawned = {call.name for call in calls_of(plan) if call.kind == "spawn"} - stored.keys()
    assert output == given | {name: output[name] for name in spawned}
    return "completed"


async def through(plans: Sequence[Plan], stops: Sequence[int]) -> tuple[int, str]:
    """Let a run live through versions; answers with which of them it ended, and how."""
    async with history_on(":memory:") as history:
        stored: dict[str, Step] = {}
        for number, (plan, stop_at) in enumerate(zip(plans, [*stops, 0], strict=True), 1):
            go_on = (
                history.begin(plan, stop_at=stop_at)
                if number == 1
                else history.execute(number, plan, stop_at=stop_at)
            )
            if not await go_on:
                return number, await check(history, plan, stored, number)
            stored = await history.stored()
    raise AssertionError("the last version is not stopped")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_name_stands_for_may_change_until_it_is_stored(kind: StepKind) -> None:
    """Stopped at every point, and gone on with as everything else."""
    old = [Call("a"), Call("x", kind), Call("b")]
    for new in KINDS:
        outcomes: set[str] = set()
        for point in itertools.count(1):
            number, outcome = await through([old, [Call("b"), Call("x", new), Call("a")]], [point])
            if number == 1:
                break
            outcomes.add(outcome)
        assert outcomes == ({"completed"} if new == kind else {"completed", "refused"})


NAMES = "abcde"
SIDE_BY_SIDE: tuple[StepKind, ...] = ("run", "map", "spawn")
"""Waits beside each other stay in memory for a second, which is long for so many runs."""


POINTS = st.integers(1, 20)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A few calls, some of them side by side."""
    names = draw(st.permutations(NAMES))
    plan: list[Call | list[Call]] = []
    for name in names[: draw(st.integers(0, len(NAMES)))]:
        kind = draw(st.sampled_from(KINDS))
        last = plan[-1] if plan else None
        if isinstance(last, list) and kind in SIDE_BY_SIDE and draw(st.booleans()):
            last.append(Call(name, kind))
        else:
            plan.append([Call(name, kind)] if kind in SIDE_BY_SIDE else Call(name, kind))
    return plan


@settings(max_examples=volume(quick=50, ci=200), deadline=None)
@given(versions=st.tuples(plans(), plans(), plans()), stops=st.tuples(POINTS, POINTS))
def test_whatever_is_edited_wherever_the_run_has_come_to(
    versions: tuple[Plan, Plan, Plan], stops: tuple[int, int]
) -> None:
    event(str(asyncio.run(through(versions, stops))))


@settings(max_examples=volume(quick=15, ci=50), deadline=None)
@given(old=plans(), new=plans(), stops=st.tuples(POINTS, POINTS, POINTS))
def test_old_and_new_workers_may_take_turns_with_a_run(
    old: Plan, new: Plan, stops: tuple[int, int, int]
) -> None:
    event(str(asyncio.run(through([old, new, old, new], stops))))


# One by one


class Order(BaseModel):
    """The input of jobs that are written out."""


def version(name: str, function: JobFunction[Order, object]) -> JobDefinition[Order, object]:
    """A version of a job."""
    return define_job(name=name, input=Order, output=object, run=function)


async def wait(step: StepContext, kind: StepKind, name: str) -> object:
    """Wait by this name, in one of the ways."""
    match kind:
        case "sleep":
            await step.sleep(name, HOUR)
            return None
        case "signal":
            return await step.wait_for_signal(name, str)
        case "child":
            return await step.invoke(name, echo, "child")
        case _:
            return await step.spawn(name, echo, "child")


HOURLY = Retry(5, delay=HOUR, max_delay=HOUR, jitter=False)
WAITS: tuple[StepKind, ...] = ("sleep", "signal", "child", "spawn")


@pytest.mark.parametrize("kind", WAITS)
@pytest.mark.parametrize(
    ("moment", "place"),
    [("executing", "in line"), ("between attempts", "in line"), ("executing", "side by side")],
)
async def test_a_body_that_came_to_nothing_gives_way_to_a_wait_of_its_name(
    url: str, kind: StepKind, moment: str, place: str
) -> None:
    stuck = asyncio.Event()

    async def body() -> None:
        if moment == "between attempts":
            raise OSError("not yet")
        await stuck.wait()

    async def old(step: StepContext, input: Order) -> object:
        return await step.run("x", body, retry=HOURLY)

    async def new(step: StepContext, input: Order) -> object:
        if place == "in line":
            return await wait(step, kind, "x")
        return (await asyncio.gather(wait(step, kind, "x"), step.run("beside", lambda: None)))[0]

    async with history_on(url) as history:
        async with history.deployed(version("order", old)) as durably:
            await durably.start()
            await history.trigger(durably, "order", Order())
            assert (await history.shown("x")).status == "running"
        run = await history.go_on_with(version("order", new))
        x = (await history.stored())["x"]
        assert (x.kind, x.status, run.output) == (kind, "completed", x.result)
        assert kind == "sleep" or x.result is not None


async def test_a_body_that_came_to_nothing_gives_way_to_a_map_of_its_name_at_once(history: History) -> None:
    def body() -> None:
        raise OSError("not yet")

    async def old(step: StepContext, input: Order) -> object:
        return await asyncio.gather(step.run("x", body, retry=HOURLY), wait(step, "signal", "go"))

    async def new(step: StepContext, input: Order) -> object:
        return await step.map("x", str, [1, 2], result=str)

    async with history.deployed(version("order", old)) as durably:
        await history.trigger(durably, "order", Order())
        await durably.process_one()
    async with history.deployed(version("order", new)) as durably:
        await durably.signal("go", "now", run_id=history.run_id)
        # No time passes, although the next attempt is due in an hour.
        await durably.process_one()
        assert (await durably.wait_for_run(history.run_id, timeout=5)).output == ["1", "2"]
    assert (await history.stored())["x"].kind == "map"


async def test_a_wait_that_has_begun_keeps_its_kind_and_a_renamed_one_goes_on(history: History) -> None:
    """In a retry that follows the corrected deploy, what was stored is still there."""

    async def old(step: StepContext, input: Order) -> object:
        await step.run("a", lambda: "old a")
        await step.wait_for_signal("x", str)
        return None

    async def wrong(step: StepContext, input: Order) -> object:
        return [await step.run("a", lambda: "new a"), await step.run("x", lambda: "new x")]

    async def right(step: StepContext, input: Order) -> object:
        return [await step.run("a", lambda: "new a"), await step.run("approve", lambda: "new x")]

    async with history.deployed(version("order", old)) as durably:
        await history.trigger(durably, "order", Order())
        await durably.process_until_idle()
        await durably.cancel(history.run_id)
    async with history.deployed(version("order", wrong)) as durably:
        await durably.retry(history.run_id)
        failed = await history.live(durably)
        assert failed.error is not None
        assert failed.error.message == (
            "step 'x' was a step.wait_for_signal when this run stored it, and is a step.run now; "
            "give what is new a name of its own"
        )
        assert failed.error.steps == ()
    async with history.deployed(version("order", right)) as durably:
        await durably.retry(history.run_id)
        assert (await history.live(durably)).output == ["old a", "new x"]


async def test_a_job_may_catch_the_error_and_use_another_name(history: History) -> None:
    async def new(step: StepContext, input: int) -> object:
        try:
            await step.sleep("a", 1)
        except StepChangedError as error:
            return [error.step_name, error.stored, error.called, await step.run("other", lambda: "other")]
        return None

    assert await history.begin(steps("ab"), stop_at=4)
    run = await history.go_on_with(define_job(name="story", input=int, output=object, run=new))
    assert run.output == ["a", "run", "sleep", "other"]


def test_every_kind_of_step_has_a_verb() -> None:
    assert VERBS.keys() == set(KINDS)


async def test_a_wait_that_is_gone_parks_its_run_to_its_end_or_until_it_is_cancelled_and_retried(
    url: str,
) -> None:
    old: Plan = [Call("a"), Call("x", "sleep"), Call("b")]
    async with history_on(url) as patient:
        assert await patient.begin(old, stop_at=5)
        async with patient.version(2, steps("ab")) as durably:
            assert not await durably.process_one()
            assert (await patient.live(durably)).output == {"a": "a@1", "b": "b@2"}
    async with history_on(":memory:") as hasty:
        assert await hasty.begin(old, stop_at=5)
        async with hasty.version(2, steps("ab")) as durably:
            await durably.cancel(hasty.run_id)
            await durably.retry(hasty.run_id)
            assert await durably.process_one()
            assert (await durably.wait_for_run(hasty.run_id)).output == {"a": "a@1", "b": "b@2"}


async def test_a_wait_that_has_begun_keeps_its_deadline_its_key_and_its_child(history: History) -> None:
    async def other(step: StepContext, input: str) -> str:
        return "other"

    other_job = define_job(name="other", input=str, output=str, run=other)

    async def old(step: StepContext, input: Order) -> object:
        return await asyncio.gather(
            step.sleep("nap", HOUR),
            step.wait_for_signal("paid", str, key="order-1"),
            step.invoke("ask", echo, "first child"),
        )

    async def new(step: StepContext, input: Order) -> object:
        return await asyncio.gather(
            step.sleep("nap", 1000 * HOUR),
            step.wait_for_signal("paid", str, key="customer-1"),
            step.invoke("ask", other_job, "second child"),
        )

    async with history.deployed(version("order", old)) as durably:
        await durably.start()
        await history.trigger(durably, "order", Order())
        await history.shown("nap")
        await history.shown("ask")
    async with history.deployed(version("order", new), other_job) as durably:
        await durably.signal("paid", "by order", key="order-1")
        # An hour is soon over in this test, a thousand of them are not.
        assert (await history.live(durably)).output == [None, "by order", "first child"]
        assert [one.job_name for one in await durably.get_runs()] == ["echo", "order"]


async def test_waits_side_by_side_may_be_put_in_line_and_back(history: History) -> None:
    async def beside(step: StepContext, input: Order) -> object:
        return await asyncio.gather(
            wait(step, "sleep", "nap"), wait(step, "signal", "go"), step.run("a", lambda: "a")
        )

    async def in_line(step: StepContext, input: Order) -> object:
        a = await step.run("a", lambda: "new a")
        go = await wait(step, "signal", "go")
        return [await wait(step, "sleep", "nap"), go, a]

    for old, new in ((beside, in_line), (in_line, beside)):
        async with history.deployed(version("order", old)) as durably:
            await history.trigger(durably, "order", Order())
            await durably.process_until_idle()
        run = await history.go_on_with(version("order", new))
        assert run.output == [None, "go@sent", "a" if old is beside else "new a"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_step_may_be_anything_in_the_version_that_is_retried(
    history: History, kind: StepKind
) -> None:
    def broken() -> None:
        raise ValueError("a bug")

    async def old(step: StepContext, input: int) -> object:
        await step.run("a", lambda: "a@1")
        return await step.run("x", broken)

    async with history.deployed(define_job(name="story", input=int, output=object, run=old)) as durably:
        await history.trigger(durably, "story", 0)
        assert (await history.live(durably)).status == "failed"
    async with history.version(2, [Call("b"), Call("x", kind), Call("a")]) as durably:
        await durably.retry(history.run_id)
        run = await history.live(durably)
        output = cast("dict[str, object]", run.output)
        assert output | {"x": None} == {"b": "b@2", "x": None, "a": "a@1"}


async def test_a_map_keeps_the_keys_of_its_first_call(history: History) -> None:
    async def old(step: StepContext, input: Order) -> object:
        return await step.map("x", _upper, ["p", "q"], key=str, limit=1)

    async def other_keys(step: StepContext, input: Order) -> object:
        return await step.map("x", _upper, ["p", "q"], key=lambda item: f"item-{item}", limit=1)

    async def other_items(step: StepContext, input: Order) -> object:
        return await step.map("x", str.lower, ["z", "q", "p"], key=str, result=str)

    stuck = asyncio.Event()

    async def _upper(item: str) -> str:
        if item == "q":
            await stuck.wait()
        return item.upper()

    async with history.deployed(version("order", old)) as durably:
        await durably.start()
        await history.trigger(durably, "order", Order())
        await history.shown("x[q]")
    run = await history.go_on_with(version("order", other_keys))
    assert run.error is not None
    assert run.error.type == "durably.errors.StoredValueError"
    assert "step 'x[q]' has not ended, and its item is not in the list any more" in run.error.message
    async with history.deployed(version("order", other_items)) as durably:
        await durably.retry(history.run_id)
        assert (await history.live(durably)).output == ["P", "q"]


async def test_failed_attempts_count_under_the_new_version_s_rules(history: History) -> None:
    calls: list[str] = []

    def body(name: str) -> None:
        calls.append(name)
        raise OSError(name)

    def order(name: str, attempts: int) -> JobDefinition[Order, object]:
        async def run(step: StepContext, input: Order) -> object:
            return await step.run(
                "x",
                body,
                name,
                retry=Retry(attempts, delay=HOUR, max_delay=HOUR, jitter=False),
                result=object,
            )

        return version("order", run)

    async with history.deployed(order("old", 9)) as durably:
        await history.trigger(durably, "order", Order())
        await durably.process_until_idle()
    run = await history.go_on_with(order("new", 2))
    assert run.status == "failed"
    assert calls == ["old", "new"]
    assert len((await history.stored())["x"].attempts) == 2


async def test_a_job_that_is_gone_keeps_its_runs_until_it_is_back(history: History) -> None:
    assert await history.begin([Call("a"), Call("x", "sleep"), Call("b")], stop_at=5)
    async with history.deployed() as durably:
        assert isinstance(await durably.explain(history.run_id), SleepingUntil)
    history.pass_time(HOUR)
    async with history.deployed() as durably:
        assert not await durably.process_one()
        found = await durably.explain(history.run_id)
        assert isinstance(found, NoWorkerKnowsJob)
        assert str(found).startswith("no live worker knows the job 'story'; worker ")
        assert str(found).endswith(" know echo")
        # Nobody reads its payloads as a type: they are what they are in JSON.
        run = await durably.get_run(history.run_id)
        assert run is not None
        assert (run.input, run.output, run.status) == (0, None, "pending")
    assert (await history.go_on([Call("a"), Call("x", "sleep"), Call("b")])).output == {
        "a": "a@1",
        "x": None,
        "b": "b@2",
    }
