"""The reference jobs: one for each thing that a run may do, with what must hold however it is crashed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from durably import ConflictError, Durably, Fatal, JobDefinition, Retry, StepContext, StepFailed, job
from durably_testing import EffectLedger, Scene, SimulatedRun, die

HOUR = 3600.0

outside = EffectLedger()
"""What the world outside remembers within one history."""


class Plan(BaseModel):
    number: int = 3


def double(number: int) -> int:
    return 2 * number


async def double_later(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


# ---------------------------------------------------------------- the jobs


@job
async def in_a_row(step: StepContext, input: Plan) -> list[int]:
    numbers = [await step.run(f"step-{number}", double, number) for number in range(input.number)]
    step.log.info("in a row", count=len(numbers))
    step.progress(input.number, input.number)
    return numbers


@job
async def side_by_side(step: StepContext, input: Plan) -> list[int]:
    first = await step.run("first", double, 1)
    rest = await asyncio.gather(*(step.run(f"branch-{n}", double_later, n) for n in range(input.number)))
    return [first, *rest, await step.run("last", double, 5)]


@job
async def mapped(step: StepContext, input: Plan) -> list[int]:
    found = await step.run("find", list_of, input.number)
    # Somebody adds to the list while the run is under way.
    outside("looked")
    more = [*found, *range(100, 100 + outside.count("looked"))]
    return await step.map("each", double_later, more, key=str, limit=2)


def list_of(number: int) -> list[int]:
    return list(range(number))


@job
async def sleeper(step: StepContext, input: Plan) -> float:
    before = await step.now("before")
    await step.run("work", double, 1)
    await step.sleep("short", 0.5)
    await step.sleep("long", 24 * HOUR)
    after = await step.now("after")
    return (after - before).total_seconds()


@job
async def long_body(step: StepContext, input: Plan) -> int:
    async def slow() -> int:
        await asyncio.sleep(100)
        return input.number

    return await step.run("slow", slow) + await step.run("quick", double, 1)


@job
async def slow_steps(step: StepContext, input: Plan) -> int:
    async def slow() -> int:
        await asyncio.sleep(40)
        return 1

    return sum([await step.run(f"slow-{number}", slow) for number in range(2)])


@job
async def approval(step: StepContext, input: Plan) -> str:
    await step.run("ask", double, 1)
    approved = await step.wait_for_signal("approved", bool, timeout=timedelta(days=1))
    await step.run("yes" if approved else "no", double, 2)
    return "yes" if approved else "no"


@job
async def impatient(step: StepContext, input: Plan) -> str:
    try:
        await step.wait_for_signal("late", bool, timeout=60)
    except StepFailed:
        await step.run("gave-up", double, 1)
        await step.sleep("pause", 2 * HOUR)
        return "gave up"
    await step.run("heard", double, 1)
    return "heard"


@job
async def child(step: StepContext, input: Plan) -> int:
    await step.sleep("wait", 60)
    return await step.run("child-work", double, input.number)


@job
async def parent(step: StepContext, input: Plan) -> list[int]:
    await step.run("begin", double, 1)
    first = await step.invoke("first", child, Plan(number=1))
    await step.spawn("aside", child, Plan(number=7))
    both = await asyncio.gather(
        step.invoke("left", child, Plan(number=2)), step.invoke("right", child, Plan(number=3))
    )
    return [first, *both, await step.run("end", double, 4)]


@job
async def two_waits(step: StepContext, input: Plan) -> list[object]:
    async def nap() -> str:
        await step.sleep("nap", 2 * HOUR)
        return "rested"

    heard, rested = await asyncio.gather(step.wait_for_signal("news", str), nap())
    return [heard, rested, await step.run("then", double, 1)]


@job
async def stubborn(step: StepContext, input: Plan) -> int:
    def fail_twice() -> int:
        outside("tried")
        if outside.count("tried") <= 2:
            raise ConnectionError("not yet")
        return input.number

    await step.run("before", double, 1)
    result = await step.run("flaky", fail_twice, retry=Retry(attempts=10, delay=5, factor=2))
    await step.run("after", double, 1)
    return result


@job
async def hopeless(step: StepContext, input: Plan) -> int:
    def fail() -> int:
        raise ConnectionError("never")

    return await step.run("hopeless", fail, retry=Retry(attempts=3, delay=2))


@job
async def other_way(step: StepContext, input: Plan) -> str:
    def fail_at_first() -> int:
        outside("asked")
        if outside.count("asked") == 1:
            raise LookupError("nobody there")
        return 1

    try:
        await step.run("main-way", fail_at_first)
    except StepFailed:
        await step.run("other-way", double, 1)
        await step.sleep("cool-down", HOUR)
        await step.run("after-other-way", double, 1)
        return "other way"
    await step.run("after-main-way", double, 1)
    return "main way"


@job(retry=Retry(attempts=3, delay=10))
async def begins_again(step: StepContext, input: Plan) -> int:
    await step.run("kept", double, 1)
    outside("began")
    if await step.run(f"roll-{outside.count('began')}", outside.count, "began") < 2:
        raise ConnectionError("once more")
    return await step.run("done", double, input.number)


@job
async def fatal(step: StepContext, input: Plan) -> int:
    def refuse() -> int:
        raise Fatal("no use")

    await step.run("fine", double, 1)
    return await step.run("refuse", refuse, retry=5)


class Shapes(BaseModel):
    pair: tuple[int, str]
    when: timedelta


@job
async def shapes(step: StepContext, input: Plan) -> str:
    def make() -> Shapes:
        return Shapes(pair=(1, "a"), when=timedelta(seconds=input.number))

    def untyped():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return (1, 2)

    typed = await step.run("typed", make)
    loose = await step.run("loose", untyped)
    await step.run("more", double, 1)
    return f"{typed!r} {loose!r}"


@job
async def helpers(step: StepContext, input: Plan) -> list[str]:
    told: list[str] = []
    for number in range(2):
        scoped = step.scope(f"round-{number}")
        moment = await scoped.now("now")
        name, chance = scoped.uuid("id"), scoped.random("chance")
        await scoped.run(f"work-{str(name)[:8]}", double, number)
        told.append(f"{moment.isoformat()} {name} {chance}")
    return told


@job
async def keyed(step: StepContext, input: Plan) -> int:
    await step.run("enter", double, input.number)
    await step.sleep("inside", HOUR)
    return await step.run("leave", double, input.number)


@job
async def talker(step: StepContext, input: Plan) -> int:
    for number in range(input.number):
        step.log.info(f"line {number}")
        await step.run(f"step-{number}", double, number)
    return input.number


@job
async def cancelled_at_work(step: StepContext, input: Plan) -> int:
    async def work() -> int:
        await asyncio.sleep(30)
        return 1

    first = await step.run("first", work)
    return first + await step.run("second", double, 1)


@job
async def poison(step: StepContext, input: Plan) -> int:
    await step.run("fine", double, 1)
    return await step.run("deadly", die)


@job
async def receiver(step: StepContext, input: Plan) -> str:
    heard = await step.wait_for_signal("call", str, key="office", timeout=4 * HOUR)
    await step.run("answer", double, 1)
    return heard


@job
async def cancelled(step: StepContext, input: Plan) -> int:
    await step.invoke("child", child, Plan(number=1))
    await step.run("never", double, 1)
    return 1


# ---------------------------------------------------------- what happens meanwhile


async def approve(durably: Durably, run_id: str) -> None:
    await asyncio.sleep(HOUR)
    await durably.signal("approved", True, run_id=run_id)


async def come_late(durably: Durably, run_id: str) -> None:
    await asyncio.sleep(HOUR)
    await durably.signal("late", True, run_id=run_id)


async def tell_news(durably: Durably, run_id: str) -> None:
    await asyncio.sleep(30)
    await durably.signal("news", "good", run_id=run_id)


async def queue_up(durably: Durably, run_id: str) -> None:
    handle = durably.register(keyed)
    for number in (5, 6):
        await handle.trigger(Plan(number=number), concurrency_key="one")
    await handle.trigger(Plan(number=7), idempotency_key="same")
    await handle.trigger(Plan(number=7), idempotency_key="same")


async def cancel_as_it_ends(durably: Durably, run_id: str) -> None:
    # The body ends after thirty seconds: the two meet, and either may come first.
    await asyncio.sleep(30)
    with suppress(ConflictError):
        await durably.cancel(run_id)


async def call_once(durably: Durably, run_id: str) -> None:
    await durably.register(receiver).trigger(Plan())
    await asyncio.sleep(HOUR)
    await durably.signal("call", "hello", key="office")


async def cancel_it(durably: Durably, run_id: str) -> None:
    await asyncio.sleep(30)
    await durably.cancel(run_id)


# ---------------------------------------------------------------- what must hold


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A job, its surroundings, and what must hold at the end of every history."""

    job: JobDefinition[Any, Any]
    check: Callable[[SimulatedRun[Any, Any]], object]
    input: Plan = field(default_factory=Plan)
    scene: Scene = field(default_factory=Scene)
    only_turns: bool = False

    @property
    def name(self) -> str:
        return self.job.name


def _bounded(run: SimulatedRun[Any, Any]) -> None:
    """Each body is executed once, and at most once more for each fault."""
    for name, count in run.effects.items():
        if name not in {"looked", "asked", "tried", "began", "flaky", "hopeless", "deadly", "child-work"}:
            assert count <= 1 + run.crashes, f"{name!r} was executed {count} times"


def _completes(expected: object, runs: int = 1) -> Callable[[SimulatedRun[Any, Any]], None]:
    def check(run: SimulatedRun[Any, Any]) -> None:
        assert run.output == expected, f"the output is {run.output!r}, not {expected!r}"
        assert len(run.runs) == runs, f"there are {len(run.runs)} runs, not {runs}"
        _bounded(run)

    return check


def _at_once(run: SimulatedRun[Any, Any]) -> None:
    """Approved after an hour, it goes on at once, and not only when its time is up."""
    assert run.output == "yes"
    assert run.run.completed_at is not None
    taken = (run.run.completed_at - run.run.created_at).total_seconds()
    assert taken < HOUR + 200 * (1 + run.crashes), f"went on after {taken:.0f} s"
    _bounded(run)


def _slept(run: SimulatedRun[Any, Any]) -> None:
    assert 24 * HOUR - 60 * run.crashes <= run.output <= 24 * HOUR + 200 * (1 + run.crashes), (
        f"slept {run.output:.0f} s"
    )
    _bounded(run)


def _gave_up(run: SimulatedRun[Any, Any]) -> None:
    assert (run.output == "gave up") is (run.effects["gave-up"] > 0)
    assert (run.output == "heard") is (run.effects["heard"] > 0)
    _bounded(run)


def _hopeless(run: SimulatedRun[Any, Any]) -> None:
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "ConnectionError"
    assert 3 <= run.effects["hopeless"] <= 3 + run.crashes, f"{run.effects['hopeless']} attempts of 3"


def _fatal(run: SimulatedRun[Any, Any]) -> None:
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "durably.errors.Fatal"
    _bounded(run)


def _one_way(run: SimulatedRun[Any, Any]) -> None:
    ways = {"main way": "after-main-way", "other way": "after-other-way"}
    assert run.effects[ways[run.output]] > 0
    assert sum(run.effects[name] > 0 for name in ways.values()) == 1, "both ways were taken"
    _bounded(run)


def _same_as_calm(run: SimulatedRun[Any, Any]) -> None:
    assert run.output == "Shapes(pair=(1, 'a'), when=datetime.timedelta(seconds=3)) [1, 2]", run.output
    _bounded(run)


def _helped(run: SimulatedRun[Any, Any]) -> None:
    assert len(run.output) == 2
    assert len(run.steps) == 4, [step.name for step in run.steps]
    _bounded(run)


def _one_at_a_time(run: SimulatedRun[Any, Any]) -> None:
    assert [other.status for other in run.runs] == ["completed"] * 4
    keyed_runs = [other for other in run.runs if other.concurrency_key is not None]
    spans = sorted((other.started_at, other.completed_at) for other in keyed_runs)
    for (_, ended), (began, _) in pairwise(spans):
        assert ended is not None
        assert began is not None
        assert (began - ended).total_seconds() >= -60, "two runs of one key at a time"
        if not run.crashes:
            assert (began - ended).total_seconds() < 5, "the next of the key was not let go on"


def _said_once(run: SimulatedRun[Any, Any]) -> None:
    lines = Counter(entry.message for entry in run.logs)
    for number in range(3):
        # A line that waits for its checkpoint is written after a tenth of a second, and stays if the checkpoint
        # never comes: whoever executes the step again says it again.
        assert 1 <= lines[f"line {number}"] <= run.effects[f"step-{number}"], lines
    numbers = [entry.sequence for entry in run.logs]
    assert numbers == sorted(set(numbers))
    # Each is committed with the checkpoint that follows it.
    assert len(lines) == 3, lines
    assert run.output == 3
    _bounded(run)


def _cancelled(run: SimulatedRun[Any, Any]) -> None:
    assert run.status == "cancelled"
    assert {other.status for other in run.runs} == {"cancelled"}
    assert run.effects["never"] == 0


def _cancelled_or_not(run: SimulatedRun[Any, Any]) -> None:
    assert run.status in {"cancelled", "completed"}
    assert (run.run.output is None) is (run.status == "cancelled")


def _poisoned(run: SimulatedRun[Any, Any]) -> None:
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "WorkerCrashed"
    assert "deadly" in run.error.message
    assert 5 - run.crashes <= run.effects["deadly"] <= 5 + 2 * run.crashes, (
        f"{run.effects['deadly']} deaths of 5"
    )
    assert run.effects["fine"] <= 1 + run.crashes


def _heard_by_one(run: SimulatedRun[Any, Any]) -> None:
    assert sorted(other.status for other in run.runs) == ["completed", "failed"]


def _began_again(run: SimulatedRun[Any, Any]) -> None:
    assert run.output == 6
    assert run.effects["kept"] <= 1 + run.crashes


def _mapped(run: SimulatedRun[Any, Any]) -> None:
    found = run.output[: run.input.number]
    assert found == [0, 2, 4], found
    assert len(run.output) >= 4
    items = [step.name for step in run.steps if step.name.startswith("each[")]
    assert len(items) == len(run.output), "the stored list of keys wins"
    assert any(step.name == "each" for step in run.steps), "the list of keys is a checkpoint"
    _bounded(run)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(job=in_a_row, check=_completes([0, 2, 4])),
    Scenario(job=side_by_side, check=_completes([2, 0, 2, 4, 10])),
    Scenario(job=mapped, check=_mapped, scene=Scene(effects=outside)),
    Scenario(job=sleeper, check=_slept),
    Scenario(job=long_body, check=_completes(5)),
    Scenario(job=slow_steps, check=_completes(2)),
    Scenario(job=approval, check=_at_once, scene=Scene(meanwhile=approve)),
    Scenario(job=impatient, check=_gave_up, scene=Scene(meanwhile=come_late)),
    Scenario(job=parent, check=_completes([2, 4, 6, 8], runs=5), scene=Scene(jobs=[child])),
    Scenario(job=two_waits, check=_completes(["good", "rested", 2]), scene=Scene(meanwhile=tell_news)),
    Scenario(job=stubborn, check=_completes(3), scene=Scene(effects=outside)),
    Scenario(job=hopeless, check=_hopeless),
    Scenario(job=other_way, check=_one_way, scene=Scene(effects=outside)),
    Scenario(job=begins_again, check=_began_again, scene=Scene(effects=outside, deterministic=False)),
    Scenario(job=fatal, check=_fatal),
    Scenario(job=shapes, check=_same_as_calm),
    Scenario(job=helpers, check=_helped),
    Scenario(job=keyed, check=_one_at_a_time, scene=Scene(meanwhile=queue_up)),
    Scenario(job=talker, check=_said_once),
    Scenario(job=receiver, check=_heard_by_one, scene=Scene(meanwhile=call_once)),
    Scenario(job=poison, check=_poisoned),
    Scenario(job=cancelled_at_work, check=_cancelled_or_not, scene=Scene(meanwhile=cancel_as_it_ends)),
    Scenario(job=cancelled, check=_cancelled, scene=Scene(jobs=[child], meanwhile=cancel_it)),
)
