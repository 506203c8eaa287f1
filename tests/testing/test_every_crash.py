"""Every single fault at every point of every reference job."""

import pytest

from durably_testing import Kind, crash_at_every_step
from tests.testing.scenarios import SCENARIOS, Scenario
from tests.volume import profile, sample

KINDS: dict[str, tuple[Kind, ...]] = {
    "quick": ("kill",),
    "ci": ("kill", "pause", "error", "skew", "busy", "full", "hang"),
    "nightly": ("kill", "pause", "error", "skew", "busy", "full", "hang"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", sample(SCENARIOS, quick=3), ids=lambda scenario: scenario.name)
def test_every_single_fault_is_survived(scenario: Scenario) -> None:
    report = crash_at_every_step(
        scenario.job,
        scenario.input,
        kinds=KINDS[profile()],
        turns=profile() != "quick",
        check=scenario.check,
        **scenario.scene,
    )
    report.verify()
