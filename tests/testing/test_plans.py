"""Several faults at once, at random, on every reference job; hypothesis shrinks what is not survived."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durably_testing import Plan, crash_plans, simulate
from tests.testing.scenarios import SCENARIOS, Scenario
from tests.volume import limit, volume

ROUNDS = range(volume(quick=1, ci=1, nightly=20))
"""Hypothesis remembers every example of a round, in a dozen kilobytes each."""


@limit(900)
@pytest.mark.parametrize("number", ROUNDS)
@settings(
    max_examples=volume(quick=100, ci=5000, nightly=10_000),
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
def test_any_three_faults_are_survived(
    number: int, scenario: Scenario, plan: Plan, workers: int, seed: int
) -> None:
    del number
    scene = scenario.scene | {"workers": workers, "seed": seed}
    run = simulate(scenario.job, scenario.input, faults=plan, **scene)
    run.verify()
    scenario.check(run)
