"""`survives_crashes`: what it finds, what it says, and when it has tested nothing."""

import inspect
import random
import traceback
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel

from durably import JobDefinition, StepContext, job
from durably_testing import (
    EffectLedger,
    Fault,
    NothingTestedError,
    PromiseBroken,
    ReplayTokenError,
    Scene,
    SimulatedRun,
    SimulationError,
    simulate,
    survives_crashes,
)
from durably_testing.determinism import difference_of, parting_of
from durably_testing.profile import Profile, use_profile
from durably_testing.tokens import read_token
from durably_testing.trials import Finding, Trial
from tests.testing.sample_jobs import Order, names_by_chance, order


class Receipt(BaseModel):
    id: str
    paid: list[int]


def charge(amount: int) -> int:
    return amount


@job
async def invents_its_output(step: StepContext, input: Order) -> Receipt:
    paid = await step.run("charge", charge, input.amount)
    return Receipt(id=str(uuid4()), paid=[paid])


@job
async def rolls_a_die(step: StepContext, input: Order) -> int:
    # In a step, so that a replay is the same; but no two runs are.
    rolled = await step.run("roll", random.random)
    if rolled < 0.5:
        await step.run("low", charge, 1)
    return 1


@job
async def charges_twice(step: StepContext, input: Order) -> int:
    await step.run("first", charge, input.amount)
    return await step.run("second", charge, input.amount)


@job
async def has_no_steps(step: StepContext, input: Order) -> int:
    return input.amount


Run = SimulatedRun[Any, Any]


def _takes_too_little(run: Run) -> None: ...


def failure_of(test: Callable[..., None], *arguments: Any, **given: Any) -> str:
    with pytest.raises(Exception) as found:  # noqa: PT011 - whatever it is, it is looked at
        test(*arguments, **given)
    return "".join(traceback.format_exception_only(found.value))


def anything(input: Order, run: Run) -> None:
    """A test that likes everything."""


def never(input: Order, run: Run) -> None:
    assert run.effects["charge"] <= 1


def test_a_job_that_survives_passes_and_is_called_with_every_crash() -> None:
    seen: list[str] = []

    @survives_crashes(order, examples=20)
    def check(input: Order, run: Run) -> None:
        assert run.output.paid == input.amount
        assert run.effects["charge"] <= 1 + run.crashes
        seen.extend(run.struck)

    before = use_profile(Profile(seed=1))
    try:
        check()
    finally:
        use_profile(before)
    assert any("killed before the checkpoint of step 'charge'" in words for words in seen)
    assert any("paused for 36 s" in words for words in seen)
    assert any("killed at turn" in words for words in seen), "and with what is drawn"


def test_a_failure_tells_the_crash_in_words_and_how_to_see_it_again() -> None:
    said = failure_of(survives_crashes(order, examples=0)(never))

    assert (
        "the crash:\n  1. worker-1 killed before the checkpoint of step 'charge': the step had done its work"
        in said
    )
    assert "the input: Order(amount=1)" in said
    assert "replay it: pytest --durably-replay=" in said
    assert said.index("replay it") < said.index("step:start charge"), "the history comes last"


def test_a_failure_without_any_fault_says_so() -> None:
    def check(input: Order, run: Run) -> None:
        assert run.output.paid == 0

    assert "no fault struck" in failure_of(survives_crashes(order, examples=0)(check))


def test_what_takes_two_faults_is_found_and_told_with_two() -> None:
    def check(input: Order, run: Run) -> None:
        assert run.effects["first"] + run.effects["second"] <= 3

    def said_with(seed: int) -> str:
        before = use_profile(Profile(seed=seed))
        try:
            survives_crashes(charges_twice, kinds=["kill"], examples=60, workers=1)(check)()
        except AssertionError as error:
            return "".join(traceback.format_exception_only(error))
        finally:
            use_profile(before)
        return ""

    # Two of the few dozen points at which it may be killed: not every draw has them.
    said = next(said for seed in range(20) if (said := said_with(seed)))
    assert "  2. worker" in said
    assert "  3. worker" not in said
    assert "Order(amount=1)" in said


def test_a_fault_that_is_not_needed_is_left_out_wherever_it_stands() -> None:
    def check(input: Order, run: Run) -> None:
        assert run.effects["first"] <= 1

    trial = Trial(charges_twice, check, Scene())
    plan: list[Fault] = []
    run = simulate(charges_twice, Order(amount=4))
    # One that does no harm, before and after the one that does.
    for about in ("introduction", "'first'", "'second'"):
        last = plan[-1].at if plan else -1
        at = next(word.number for word in run.words if word.number > last and about in word.about)
        plan.append(Fault(at, "kill"))
        run = simulate(charges_twice, Order(amount=4), faults=plan)
    with pytest.raises(AssertionError) as found:
        check(run.input, run)

    fewest = trial.with_fewest_faults(Finding(run, found.value, None))
    assert len(run.struck) == 3
    assert [words.split(" ", 1)[1] for words in fewest.run.struck] == [
        "killed before the checkpoint of step 'first'"
    ]


def test_a_step_whose_name_is_made_by_chance_is_found_with_the_crash() -> None:
    said = failure_of(survives_crashes(names_by_chance, examples=0)(anything))

    assert "has a checkpoint of an earlier execution" in said
    assert "1. worker-1 killed after the checkpoint of step 'charge-0." in said
    assert "step.uuid and step.random" in said


def test_an_output_that_is_another_one_on_replay_is_found_and_its_place_told() -> None:
    said = failure_of(survives_crashes(invents_its_output, examples=0)(anything))

    assert "did not return the same, at $.id: first" in said
    assert "killed before the end of the run as completed" in said


def test_an_output_may_be_another_one_if_the_test_says_so() -> None:
    survives_crashes(invents_its_output, examples=3, deterministic=False)(anything)()


def test_a_history_that_cannot_be_told_twice_says_where_it_parts() -> None:
    random.seed(3)
    said = ""
    # By chance both may be the same.
    while not said:
        try:
            survives_crashes(rolls_a_die, examples=0, kinds=["kill"])(anything)()
        except PromiseBroken as error:
            said = str(error)

    assert "the same history was another one when it was told again" in said
    assert "first: " in said
    assert "deterministic=False" in said


def test_a_test_in_which_no_fault_struck_has_tested_nothing() -> None:
    with pytest.raises(NothingTestedError, match="nothing was tested: no fault ever struck order"):
        survives_crashes(order, kinds=[], examples=3)(anything)()


def test_fixtures_come_after_the_input_and_the_run_also_in_a_class() -> None:
    class TestOrder:
        @survives_crashes(order, examples=0, kinds=["error"])
        def test_it(self, input: Order, run: Run, tmp_path: str, durably_effects: EffectLedger) -> None:
            assert (type(self), tmp_path) == (TestOrder, "here")
            assert durably_effects.count("charge") == run.effects["charge"] > 0

    test: Callable[..., None] = TestOrder.__dict__["test_it"]
    assert list(inspect.signature(test).parameters) == ["self", "tmp_path", "durably_effects"]
    test(TestOrder(), tmp_path="here", durably_effects=EffectLedger())


def test_a_function_that_cannot_be_such_a_test_is_refused() -> None:
    async def asynchronous(input: Order, run: Run) -> None: ...

    with pytest.raises(SimulationError, match="must be a plain function"):
        survives_crashes(order)(asynchronous)
    with pytest.raises(
        SimulationError, match=r"must take \(input, run\), then its fixtures; it takes \(run\)"
    ):
        survives_crashes(order)(_takes_too_little)


def test_inputs_may_come_from_a_strategy_of_ones_own() -> None:
    seen: set[int] = set()

    @survives_crashes(order, inputs=st.builds(Order, amount=st.sampled_from([7, 8])), examples=20)
    def check(input: Order, run: Run) -> None:
        seen.add(input.amount)

    check()
    assert seen == {7, 8}


def test_a_strategy_of_which_nothing_can_be_drawn_is_named() -> None:
    nothing = st.builds(Order).filter(lambda _: False)
    with pytest.raises(SimulationError, match="no input of order could be drawn from"):
        survives_crashes(order, inputs=nothing)(anything)()


# Replays


def replayed(token: str, test: Callable[..., None]) -> None:
    before = use_profile(Profile(replay=read_token(token)))
    try:
        test()
    finally:
        use_profile(before)


def struck_run(job_: JobDefinition[Order, Any], at: str) -> Run:
    calm = simulate(job_, Order(amount=4))
    word = next(word for word in calm.words if at in word.about)
    return simulate(job_, Order(amount=4), faults=[Fault(word.number, "kill")])


def test_a_token_replays_its_history_alone() -> None:
    told: list[Run] = []
    run = struck_run(order, "'ship'")

    @survives_crashes(order)
    def check(input: Order, run: Run) -> None:
        told.append(run)

    replayed(run.token, check)

    (again,) = told
    assert (again.trace, again.input.amount, again.token) == (run.trace, 4, run.token)


def test_a_token_of_another_job_is_outdated() -> None:
    run = struck_run(order, "'ship'")
    with pytest.raises(ReplayTokenError, match="of job 'order', the test is about 'charges-twice' now"):
        replayed(run.token, survives_crashes(charges_twice)(anything))


def test_a_token_whose_faults_strike_elsewhere_now_is_outdated() -> None:
    token = struck_run(order, "'ship'").token

    @job(name="order")
    async def order_of_tomorrow(step: StepContext, input: Order) -> int:
        await step.run("check", charge, 1)
        await step.run("charge", charge, input.amount)
        return await step.run("ship", charge, 1)

    with pytest.raises(ReplayTokenError, match=r"outdated: .* \(now: worker-1 killed before .* 'charge'\)"):
        replayed(token, survives_crashes(order_of_tomorrow)(anything))


def test_a_token_of_a_job_that_decides_by_chance_is_not_called_outdated() -> None:
    run = struck_run(names_by_chance, "'ship'")
    with pytest.raises(PromiseBroken):
        replayed(run.token, survives_crashes(names_by_chance)(anything))


def test_what_a_profile_asks_for_is_drawn() -> None:
    calls: list[int] = []

    def check(input: Order, run: Run) -> None:
        calls.append(run.crashes)

    before = use_profile(Profile(examples=0))
    try:
        survives_crashes(order, kinds=["busy"])(check)()
    finally:
        use_profile(before)
    enumerated = len(calls)
    survives_crashes(order, kinds=["busy"], examples=5)(check)()

    assert len(calls) >= 2 * enumerated + 5


# What differs, in words


def test_the_first_difference_of_two_values_is_told_by_its_place() -> None:
    assert difference_of('{"a":[1,{"b":2}]}', '{"a":[1,{"b":3}]}') == "at $.a[1].b: first 2, then 3"
    assert difference_of('{"a":1}', "{}") == "at $.a: first 1, then nothing"
    assert difference_of("[1]", "[1,2]") == "at $[1]: first nothing, then 2"
    assert difference_of("1", '"' + "x" * 200 + '"').endswith("xxx…")
    assert parting_of(["a", "b"], ["a", "b"]) is None
    assert parting_of(["a"], ["a", "b  c"]) == "\n  first: (nothing more)\n  then:  b c"
