"""The mutation gate: every planted bug of the engine is found by the reference jobs and their crashes."""

import asyncio
from pathlib import Path

import pytest

from durably import Durably, RealEnvironment, StepContext, job
from durably.spi import SqliteStore
from durably.stores.sqlite.presence import Presence
from durably_testing import Fault, SimulatedRun, simulate
from durably_testing.crashes import single_faults
from tests.testing.mutants import MUTANTS, Mutant
from tests.testing.scenarios import SCENARIOS, Plan, Scenario
from tests.volume import volume

SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}


def judge(scenario: Scenario, *faults: Fault) -> tuple["SimulatedRun[object, object] | None", str | None]:
    """One history, and what is wrong with it."""
    try:
        run = simulate(scenario.job, scenario.input, faults=faults, **scenario.scene)
    except Exception as error:  # noqa: BLE001 - a bug may show itself in any way
        return None, f"{type(error).__name__}: {error}"
    if run.violations:
        return run, run.violations[0]
    try:
        scenario.check(run)
    except (AssertionError, LookupError) as error:
        return run, str(error).splitlines()[0] if str(error) else "what must hold does not"
    return run, None


def hunt(mutant: Mutant) -> tuple[str, str, str] | None:
    """The first case that finds a bug: its scenario, its crash, what is wrong."""
    for scenario in (SCENARIO[name] for name in mutant.found_by):
        calm, reason = judge(scenario)
        if reason is not None:
            return scenario.name, "no fault at all", reason
        assert calm is not None
        for fault in single_faults(calm, kinds=("kill", "pause", "error"), turns=True):
            run, reason = judge(scenario, fault)
            if reason is not None:
                return scenario.name, "; ".join(run.struck) if run else str(fault), reason
    return None


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", list(MUTANTS)[: volume(quick=4, ci=len(MUTANTS))])
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.apply(monkeypatch)
    found = hunt(mutant)

    assert found is not None, f"nobody noticed that {mutant.sentence}: the suite has a hole"
    print(f"{name}: {found[0]}, {found[1]}: {found[2]}"[:300])


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 25


async def test_a_worker_that_is_thought_dead_while_it_lives_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Presence needs real processes' locks, which no simulation has.
    assert await bodies_beside_a_second_worker(tmp_path / "well.db") == 1
    monkeypatch.setattr(Presence, "holds", no)
    monkeypatch.setattr(Presence, "is_dead", yes)
    monkeypatch.setattr(Presence, "bury", no)
    assert await bodies_beside_a_second_worker(tmp_path / "misjudged.db") > 1


def yes(*_: object) -> bool:
    return True


def no(*_: object) -> bool:
    return False


async def bodies_beside_a_second_worker(path: Path) -> int:
    """How often a body of a second is executed while another worker looks on."""
    bodies: list[int] = []
    begun = asyncio.Event()

    @job
    async def slow(step: StepContext, input: Plan) -> int:
        async def body() -> int:
            bodies.append(1)
            begun.set()
            await asyncio.sleep(1)
            return 1

        return await step.run("body", body)

    # One object for each, so that they do not know of each other.
    stores = [SqliteStore(path, environment=RealEnvironment(), durability="process") for _ in range(2)]
    first, second = (Durably(store, jobs=[slow]) for store in stores)
    async with first:
        run = await first.register(slow).trigger(Plan())
        await asyncio.wait_for(begun.wait(), 20)
        async with second:
            await second.wait_for_run(run.id, timeout=20)
    return len(bodies)
