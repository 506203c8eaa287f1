"""GET: looking at runs."""

import pytest
from pydantic import BaseModel

from durably import Durably, JobHandle, StepContext, define_job


class Page(BaseModel):
    number: int = 0


async def sync(step: StepContext, input: Page) -> dict[str, int]:
    for number in range(input.number):
        await step.run(f"step-{number}", lambda: None)
    if input.number == 3:
        raise ValueError("no")
    return {"number": input.number}


@pytest.fixture
def pages(durably: Durably) -> JobHandle[Page, dict[str, int]]:
    return durably.register(define_job(name="sync", input=Page, output=dict[str, int], run=sync))


async def test_finished_steps_are_counted_in_a_run_and_in_a_list(
    durably: Durably, pages: JobHandle[Page, dict[str, int]]
) -> None:
    """GET-6."""
    runs = await pages.batch_trigger([Page(number=0), Page(number=2), Page(number=3)])
    assert [run.completed_step_count for run in runs] == [0, 0, 0]
    await durably.process_until_idle()
    assert [run.completed_step_count for run in reversed(await durably.get_runs())] == [0, 2, 3]
    for run, count in zip(runs, (0, 2, 3), strict=True):
        assert (now := await durably.get_run(run.id)) is not None
        assert now.completed_step_count == count


async def test_runs_of_one_instant_keep_their_order_and_are_paged_without_gaps(
    durably: Durably, pages: JobHandle[Page, dict[str, int]]
) -> None:
    """GET-2, GET-5, BUG-10: the place in the order of creation breaks every tie."""
    runs = await pages.batch_trigger([Page() for _ in range(9)])
    assert len({run.created_at for run in runs}) == 1
    newest = [run.id for run in reversed(runs)]
    assert [run.id for run in await durably.get_runs()] == newest
    paged = [run.id for offset in range(0, 9, 2) for run in await durably.get_runs(limit=2, offset=offset)]
    assert paged == newest
    # An offset alone.
    assert [run.id for run in await durably.get_runs(offset=4, job_name="sync")] == newest[4:]


async def test_an_instance_that_does_not_know_the_job_reads_plain_values(
    durably: Durably, pages: JobHandle[Page, dict[str, int]]
) -> None:
    """GET-1."""
    run = await pages.trigger(Page(number=1))
    await durably.process_one()
    store = durably._store  # pyright: ignore[reportPrivateUsage]
    assert (plain := await store.get_run(run.id)) is not None
    assert (plain.input, plain.output) == ({"number": 1}, {"number": 1})
    assert await durably.get_run("missing") is None
