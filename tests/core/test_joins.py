"""Children that were spawned first and are waited for later."""

import asyncio
from collections.abc import Callable
from typing import assert_type

import pytest
from pydantic import BaseModel

from durably import (
    ConcurrencyKey,
    ConflictError,
    DuplicateStepError,
    Durably,
    JobHandle,
    NestedStepError,
    Run,
    StepContext,
    StepFailed,
    ValidationError,
    define_job,
)
from tests.core.test_waits import reach
from tests.core.unchecked import unchecked


class Part(BaseModel):
    number: int = 0


class Children:
    """A job whose runs double their number, or fail as long as it is broken."""

    def __init__(self, durably: Durably) -> None:
        self.calls: list[int] = []
        self.broken: set[int] = set()
        self.job: JobHandle[Part, int] = durably.register(
            define_job(name="part", input=Part, output=int, run=self._run)
        )
        self.other: JobHandle[Part, int] = durably.register(
            define_job(name="other", input=Part, output=int, run=self._run)
        )

    async def _run(self, step: StepContext, input: Part) -> int:
        return await step.run("double", self._double, input.number)

    def _double(self, number: int) -> int:
        self.calls.append(number)
        if number in self.broken:
            raise OSError(f"no {number}")
        return 2 * number


async def children_of(durably: Durably, run_id: str) -> list[Run]:
    return [run for run in await durably.get_runs() if run.parent_id == run_id]


@pytest.fixture
def children(durably: Durably) -> Children:
    return Children(durably)


async def test_many_children_are_joined_one_after_the_other(durably: Durably, children: Children) -> None:
    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(input.number)]
        first = await step.join("join-0", children.job, ids[0])
        assert_type(first, int)
        return [first, *[await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids) if n]]

    run = await parent.trigger(Part(number=5))
    assert await durably.process_one()
    # No slot and no lease is held, and it did not take a second to be parked.
    waiting = await durably.get_run(run.id)
    assert waiting is not None
    assert (waiting.status, waiting.lease_owner) == ("waiting", None)
    assert len(await children_of(durably, run.id)) == 5
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert done.output == [0, 2, 4, 6, 8]
    assert sorted(children.calls) == [0, 1, 2, 3, 4]
    steps = await durably.get_steps(run.id)
    assert [step.kind for step in steps] == ["spawn"] * 5 + ["child"] * 5
    assert [step.child_id for step in steps[:5]] == [step.child_id for step in steps[5:]]


async def test_a_parent_and_its_children_share_one_slot(url: str) -> None:
    async with Durably(url, max_concurrent_runs=1, polling_interval=60) as durably:
        children = Children(durably)

        @durably.job
        async def parent(step: StepContext, input: Part) -> int:
            ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(20)]
            return sum([await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)])

        assert (await parent.trigger_and_wait(Part(), timeout=10)).output == 380


async def test_a_child_that_has_ended_is_joined_without_a_suspension(
    durably: Durably, children: Children
) -> None:
    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(5)]
        await step.wait_for_signal("go", int)
        return [await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)]

    run = await parent.trigger(Part())
    await durably.process_until_idle()
    await durably.signal("go", 1, run_id=run.id)
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    # The first execution, and the one after the signal.
    assert (done.output, done.lease_generation) == ([0, 2, 4, 6, 8], 2)


async def test_only_a_child_of_this_run_and_of_this_job_is_joined(
    durably: Durably, children: Children
) -> None:
    stranger = await children.job.trigger(Part(number=7))
    said: list[ValidationError] = []

    @durably.job
    async def parent(step: StepContext, input: Part) -> str:
        own = await step.spawn("own", children.job, Part())
        attempts = (
            (children.job, stranger.id),
            (children.job, step.run_id),
            (children.other, own),
            (children.job, ""),
            (children.job, None),
            (children.job, "\ud800"),
        )
        for number, (job, child_id) in enumerate(attempts):
            try:
                await unchecked(step.join)(f"join-{number}", job, child_id)
            except ValidationError as error:
                said.append(error)
        return own

    run = await parent.trigger(Part())
    while await durably.process_one():
        pass
    done = await durably.wait_for_run(run.id)
    assert [error.fields for error in said] == [("child_id",)] * 2 + [("job",)] + [("child_id",)] * 3
    assert f"run {stranger.id}, which is no child of run {run.id}" in str(said[0])
    assert "as a 'other': it executes 'part'" in str(said[2])
    assert [step.name for step in await durably.get_steps(run.id)] == ["own"]
    assert done.output == (await durably.get_steps(run.id))[0].child_id


async def test_a_grandchild_is_joined_by_its_own_parent_alone(durably: Durably, children: Children) -> None:
    @durably.job
    async def middle(step: StepContext, input: Part) -> str:
        return await step.spawn("part", children.job, input)

    @durably.job
    async def parent(step: StepContext, input: Part) -> int:
        grandchild = await step.invoke("middle", middle, input)
        with pytest.raises(ValidationError, match="is no child of run"):
            await step.join("join", children.job, grandchild)
        return 1

    run = await parent.trigger(Part())
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == 1


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_child_that_was_deleted_or_never_was_is_a_failure(
    durably: Durably, children: Children, is_known: bool
) -> None:
    said: list[StepFailed] = []

    @durably.job
    async def parent(step: StepContext, input: Part) -> str:
        child_id = await step.spawn("part", children.job, Part())
        await step.wait_for_signal("go", int)
        try:
            await step.join("join", children.job, child_id if is_known else "nobody")
        except StepFailed as error:
            said.append(error)
        await step.wait_for_signal("again", int)
        return "goes on"

    run = await parent.trigger(Part())
    await durably.process_until_idle()
    [child] = await children_of(durably, run.id)
    await durably.delete_run(child.id)
    for name in ("go", "again"):
        await durably.signal(name, 1, run_id=run.id)
        await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == "goes on"
    assert {error.error_type for error in said} == {"ChildMissing"}


async def test_a_failed_child_is_a_failed_step_and_the_same_on_every_replay(
    durably: Durably, children: Children
) -> None:
    children.broken = {1}
    said: list[str] = []

    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(3)]
        told: list[int] = []
        for number, id in enumerate(ids):
            try:
                told.append(await step.join(f"join-{number}", children.job, id))
            except StepFailed as error:
                said.append(f"{error.step_name} {error.error_type} {error.message}")
                told.append(-1)
        await step.wait_for_signal("go", int)
        return told

    run = await parent.trigger(Part())
    await durably.process_until_idle()
    await durably.signal("go", 1, run_id=run.id)
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == [0, -1, 4]
    assert set(said) == {"join-1 OSError no 1"}
    assert len(said) >= 2


async def test_a_cancelled_child_is_a_failed_step(durably: Durably, children: Children) -> None:
    @durably.job
    async def parent(step: StepContext, input: Part) -> str:
        child_id = await step.spawn("part", children.job, Part(), delay=3600)
        try:
            await step.join("join", children.job, child_id)
        except StepFailed as error:
            return error.error_type
        return "joined"

    await durably.start()
    run = await parent.trigger(Part())
    await reach(durably, run.id, "waiting")
    [child] = await children_of(durably, run.id)
    await durably.cancel(child.id)
    assert (await durably.wait_for_run(run.id, timeout=5)).output == "ChildCancelled"


async def test_retrying_the_parent_retries_the_failed_child_in_its_place(
    durably: Durably, children: Children
) -> None:
    children.broken = {1}

    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(3)]
        return [await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)]

    run = await parent.trigger(Part())
    await durably.process_until_idle()
    failed = await durably.get_run(run.id)
    assert failed is not None
    assert failed.error is not None
    assert (failed.status, failed.error.type, failed.error.steps) == ("failed", "OSError", ("join-1",))
    before = {child.id for child in await children_of(durably, run.id)}

    children.broken.clear()
    await durably.retry(run.id)
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == [0, 2, 4]
    assert {child.id for child in await children_of(durably, run.id)} == before
    assert sorted(children.calls) == [0, 1, 1, 2]


async def test_a_child_that_waits_for_its_parents_key_cannot_be_joined(
    durably: Durably, children: Children
) -> None:
    said: list[str] = []
    key = ConcurrencyKey("k", shared=True)

    @durably.job
    async def parent(step: StepContext, input: Part) -> str:
        child_id = await step.spawn("part", children.other, Part(number=4), concurrency_key=key)
        try:
            await step.join("join", children.other, child_id)
        except ConflictError as error:
            said.append(str(error))
        return child_id

    run = await parent.trigger(Part(), concurrency_key=key)
    await durably.process_until_idle()
    child_id = (await durably.wait_for_run(run.id)).output
    assert "asks for the concurrency key 'k'" in said[0]
    assert (await durably.wait_for_run(str(child_id))).output == 8


async def test_a_child_of_an_earlier_link_is_joined_by_a_later_one(
    durably: Durably, children: Children
) -> None:
    @durably.job
    async def parent(step: StepContext, input: list[str]) -> int:
        if not input:
            await step.continue_as_new([await step.spawn("part", children.job, Part(number=21))])
        return await step.join("join", children.job, input[0])

    run = await parent.trigger([])
    await durably.process_until_idle()
    done = await durably.wait_for_run(run.id)
    assert (done.output, done.link) == (42, 2)
    assert await parent.run_inline([]) == 42


async def test_children_may_be_detached_and_joined_side_by_side(durably: Durably, children: Children) -> None:
    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n), detached=True) for n in range(3)]
        return await asyncio.gather(
            *(step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)),
            step.join("again", children.job, ids[2]),
        )

    await durably.start()
    assert (await parent.trigger_and_wait(Part(), timeout=10)).output == [0, 2, 4, 4]


async def test_a_join_is_a_step_by_its_name(durably: Durably, children: Children) -> None:
    said: list[type[Exception]] = []

    @durably.job
    async def parent(step: StepContext, input: Part) -> int:
        child_id = await step.spawn("part", children.job, input)

        async def body() -> None:
            try:
                await step.join("nested", children.job, child_id)
            except NestedStepError as error:
                said.append(type(error))

        await step.run("outer", body)
        try:
            await step.join("part", children.job, child_id)
        except DuplicateStepError as error:
            said.append(type(error))
        return await step.scope("a").join("join", children.job, child_id)

    run = await parent.trigger(Part(number=3))
    await durably.process_until_idle()
    assert (await durably.wait_for_run(run.id)).output == 6
    assert said[:2] == [NestedStepError, DuplicateStepError]
    assert (await durably.get_steps(run.id))[-1].name == "a/join"


async def test_parent_and_children_may_be_executed_by_different_processes(
    another: Callable[..., Durably],
) -> None:
    parents, workers = another(polling_interval=0.05), another(polling_interval=0.05)
    children = Children(workers)

    async def body(step: StepContext, input: Part) -> list[int]:
        ids = [await step.spawn(f"part-{n}", children.job, Part(number=n)) for n in range(5)]
        return [await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)]

    parent = parents.register(define_job(name="parent", input=Part, output=list[int], run=body))
    await parents.init()
    await workers.init()
    assert (await parent.trigger_and_wait(Part(), timeout=10)).output == [0, 2, 4, 6, 8]


async def test_inline_a_child_is_executed_where_it_is_spawned(durably: Durably, children: Children) -> None:
    @durably.job
    async def parent(step: StepContext, input: Part) -> list[int]:
        ids = [await step.scope(f"{n}").spawn("part", children.job, Part(number=n)) for n in range(3)]
        assert children.calls == [0, 1, 2]
        for job, child_id in ((children.job, "nobody"), (children.other, ids[0])):
            with pytest.raises(ValidationError, match="is no child of this run"):
                await step.scope(job.name).join("wrong", job, child_id)
        return [await step.join(f"join-{n}", children.job, id) for n, id in enumerate(ids)]

    assert await parent.run_inline(Part()) == [0, 2, 4]
