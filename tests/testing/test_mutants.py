"""The mutation gate: every planted bug of the engine is found by the reference jobs and their crashes."""

import pytest

from durably_testing import Fault, SimulatedRun, simulate
from durably_testing.crashes import single_faults
from tests.testing.mutants import MUTANTS, Mutant
from tests.testing.scenarios import SCENARIOS, Scenario
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
