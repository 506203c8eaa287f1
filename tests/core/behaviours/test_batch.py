"""BAT: many runs in one call, all or none."""

import pytest
from pydantic import BaseModel

from durably import BatchItem, ConflictError, Durably, JobHandle, StepContext, ValidationError, define_job
from tests.core.unchecked import unchecked


class Page(BaseModel):
    number: int = 0


class Wrapped(BaseModel):
    input: int
    options: int = 0


async def sync(step: StepContext, input: Page) -> int:
    return input.number


@pytest.fixture
def pages(durably: Durably) -> JobHandle[Page, int]:
    return durably.register(define_job(name="sync", input=Page, output=int, run=sync))


async def test_items_have_options_of_their_own_beside_the_common_ones(pages: JobHandle[Page, int]) -> None:
    """BAT-1, BAT-5: the key may be the item's, and `coalesce` everybody's."""
    runs = await pages.batch_trigger(
        [
            BatchItem(Page(number=1), {"concurrency_key": "a"}),
            BatchItem(Page(number=2), {"concurrency_key": "b"}),
            BatchItem(Page(number=3), {"concurrency_key": "a"}),
            BatchItem(Page(number=4), {"concurrency_key": "a", "coalesce": None}),
        ],
        coalesce="skip",
    )
    assert [(run.input.number, run.disposition) for run in runs] == [
        (1, "created"), (2, "created"), (1, "coalesced"), (4, "created"),
    ]  # fmt: skip
    assert runs[0].id == runs[2].id


async def test_a_conflict_anywhere_stores_nothing_at_all(
    durably: Durably, pages: JobHandle[Page, int]
) -> None:
    """BAT-4, BAT-6."""
    with pytest.raises(ConflictError, match="another run of this batch waits"):
        await pages.batch_trigger([Page(), Page()], concurrency_key="k", coalesce="reject")
    assert await durably.get_runs() == []
    waiting = await pages.trigger(Page(), concurrency_key="k")
    rejecting = BatchItem(Page(), {"concurrency_key": "k", "coalesce": "reject"})
    with pytest.raises(ConflictError, match=waiting.id):
        await pages.batch_trigger([Page(), Page(), rejecting])
    assert [run.id for run in await durably.get_runs()] == [waiting.id]


async def test_an_items_options_are_checked_before_anything_is_stored(
    durably: Durably, pages: JobHandle[Page, int]
) -> None:
    """TRG-6, BAT-2."""
    for options in ({"coalesce": "skip"}, {"coalesce": "sometimes", "concurrency_key": "k"}):
        items: list[object] = [Page(), BatchItem(Page(), unchecked(dict)(options))]
        with pytest.raises(ValidationError, match="coalesce"):
            await unchecked(pages.batch_trigger)(items)
    assert await durably.get_runs() == []


async def test_an_input_that_looks_like_an_item_is_an_input(durably: Durably) -> None:
    """BUG-8."""

    async def body(step: StepContext, input: Wrapped) -> None: ...

    handle = durably.register(define_job(name="wrapped", input=Wrapped, run=body))
    runs = await handle.batch_trigger([Wrapped(input=1, options=2)])
    raw: list[object] = [{"input": 3, "options": 4}]
    runs += await unchecked(handle.batch_trigger)(raw)
    assert [run.input for run in runs] == [Wrapped(input=1, options=2), Wrapped(input=3, options=4)]
