"""The runs that are there when the dashboard is opened: some in each state."""

from collections.abc import Sequence
from pathlib import Path

from docs.examples.dashboard.jobs import (
    JOBS,
    Album,
    Expense,
    Payment,
    Till,
    Zoom,
    charge_card,
    keep_till,
    make_album,
    reimburse,
    render_zoom,
)
from docs.examples.import_airports.jobs import ImportAirports, import_airports
from durably import Durably, RunStatus

UNFINISHED: Sequence[RunStatus] = ("pending", "running", "waiting")


async def trigger_runs(folder: Path) -> int:
    """Trigger them; answers how many runs of last time go on besides."""
    async with Durably(folder / "app.db", worker=False, jobs=JOBS) as durably:
        left = await durably.count_runs(status=UNFINISHED)
        await trigger_quick_ones(durably)
        await trigger_long_ones(durably)
        till = durably.register(keep_till)
        if not await till.get_runs(status=UNFINISHED):
            await till.trigger(Till())
    return left


async def trigger_quick_ones(durably: Durably) -> None:
    """Runs that have soon ended, well or badly, and one for later."""
    charge = durably.register(charge_card)
    await charge.batch_trigger(
        [
            Payment(order="A-1001", cents=2_99),
            Payment(order="A-1002", cents=49_00, bank="refuses"),
            Payment(order="A-1003", cents=18_50, bank="answers the third time"),
            Payment(order="A-1004", cents=7_20, bank="is down"),
        ],
        labels={"shop": "north"},
    )
    await charge.trigger(Payment(order="A-1005", cents=9_90), delay=3600, labels={"shop": "south"})
    unwanted = await charge.trigger(Payment(order="A-1006", cents=9_90), labels={"shop": "south"}, delay=60)
    await durably.cancel(unwanted.id)
    claim = durably.register(reimburse)
    await claim.trigger(Expense(who="Ada", what="tea", cents=4_50))
    await claim.trigger(Expense(who="Grace", what="a ticket to Vienna", cents=250_00))


async def trigger_long_ones(durably: Durably) -> None:
    """Runs to look at while they execute."""
    imports = durably.register(import_airports)
    # The second one waits for the first: both write into the same table.
    for pause in (0.8, 0.4):
        await imports.trigger(ImportAirports(pause=pause), concurrency_key="airports")
    await imports.trigger(ImportAirports(source=Path("airports-of-mars.csv")))
    await durably.register(render_zoom).trigger(Zoom())
    await durably.register(make_album).trigger(Album())
