"""Faults, plans and tokens: what may go wrong, written down."""

import pytest

from durably_testing import (
    EffectLedger,
    Fault,
    Kind,
    NothingTestedError,
    ReplayTokenError,
    SimulationError,
    crash_at_every_step,
    die,
    reached,
    simulate,
    sometimes,
    tokens,
)
from durably_testing.faults import in_order
from durably_testing.processes import Process, current_process
from durably_testing.reachability import forget_reached
from durably_testing.tokens import Setting, make_token, read_token
from tests.testing.sample_jobs import Order, order


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"at": 0, "kind": "meteor"}, "no fault 'meteor'"),
        ({"at": 0, "moment": "never"}, "no fault"),
        ({"at": -1}, "numbered from 0"),
        ({"at": 0, "kind": "error", "moment": "turn"}, "strikes before or after"),
        ({"at": 0, "kind": "pause"}, "needs seconds"),
        ({"at": 0, "kind": "hang", "seconds": -1}, "needs seconds"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fault(**fault)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_each_point_is_struck_once_at_most() -> None:
    assert in_order([Fault(3), Fault(1), Fault(3, "error")]) == (Fault(1), Fault(3, "error"))


def test_a_token_says_the_whole_history_again() -> None:
    setting = Setting(plan=(Fault(1), Fault(9, "pause", "turn", 40)), workers=3, seed=5)
    token = make_token(setting, job_name="order", input_json='{"amount":1}', struck=["one", "two"])
    replay = read_token(token)

    assert (replay.setting, replay.job_name, replay.input_json) == (setting, "order", '{"amount":1}')
    assert "test_a_token_says_the_whole_history_again" in replay.test
    assert len(token) < 400
    replay.verify(["one", "two"])
    with pytest.raises(ReplayTokenError, match=r"outdated.*now: three"):
        replay.verify(["three"])


def test_a_token_that_cannot_be_replayed_says_why() -> None:
    token = make_token(Setting(), job_name="order", input_json="{}", struck=[])

    with pytest.raises(ReplayTokenError, match="no replay token"):
        read_token("hello")
    with pytest.raises(ReplayTokenError, match="no replay token"):
        read_token(token[:-6])


def test_a_token_of_another_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "VERSION", 1)
    token = make_token(Setting(), job_name="order", input_json="{}", struck=[])
    monkeypatch.undo()

    with pytest.raises(ReplayTokenError, match="of version 1, this durably-testing replays version 2"):
        read_token(token)


@pytest.mark.parametrize("kind", ["busy", "full", "hang", "skew"])
def test_every_kind_of_trouble_is_survived(kind: Kind) -> None:
    report = crash_at_every_step(order, Order(amount=1), kinds=[kind])

    report.verify()
    assert report.cases > 5
    assert "0 of them not survived" in str(report)


def test_a_crash_test_without_crashes_has_tested_nothing() -> None:
    with pytest.raises(NothingTestedError, match="nothing was tested"):
        crash_at_every_step(order, Order(amount=1), kinds=[]).verify()


def test_a_check_that_does_not_hold_without_a_fault_is_told_at_once() -> None:
    def check(run: object) -> None:
        raise AssertionError("never right")

    with pytest.raises(AssertionError, match="never right"):
        crash_at_every_step(order, Order(amount=1), check=check)


def test_a_story_names_the_faults_the_input_and_the_token() -> None:
    run = simulate(order, Order(amount=4), faults=[Fault(6, "kill")])

    story = run.story()
    assert "  1. worker" in story
    assert "Order(amount=4)" in story
    assert f"--durably-replay={run.token}" in story
    assert "no fault struck" in simulate(order, Order(amount=4)).story()


def test_the_dead_have_no_effects() -> None:
    ledger = EffectLedger()
    process = Process("gone", 1)
    process.kill()
    token = current_process.set(process)
    try:
        ledger("pay")
    finally:
        current_process.reset(token)

    assert ledger.count("pay") == 0
    assert repr(process) == "<Process gone>"


async def test_only_the_simulated_can_die() -> None:
    with pytest.raises(SimulationError, match="simulated processes only"):
        await die()


def test_a_place_that_was_named_and_never_reached_is_known() -> None:
    before = dict(reached())
    sometimes("a dragon came", False)
    sometimes("a mouse came")
    sometimes("a mouse came", [1])

    assert reached() == {**before, "a dragon came": 0, "a mouse came": 2}
    forget_reached()
    assert reached() == {}
