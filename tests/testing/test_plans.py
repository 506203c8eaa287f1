"""Several faults at once, at random, on every reference job; hypothesis shrinks what is not survived."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durably_testing import Plan, crash_plans, simulate
from tests.testing.scenarios import SCENARIOS, Scenario
from tests.volume import limit, volume


@limit(900)
@settings(
    max_examples=volume(quick=100, ci=5000, nightly=200_000),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    scenario=st.sampled_from(SCENARIOS),
    plan=crash_plans(max_faults=3, kinds=("kill", "pause", "error", "skew", "busy", "hang")),
    workers=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_three_faults_are_survived(scenario: Scenario, plan: Plan, workers: int, seed: int) -> None:
    scene = scenario.scene | {"workers": workers, "seed": seed}
    run = simulate(scenario.job, scenario.input, faults=plan, **scene)
    run.verify()
    scenario.check(run)
