"""What the simulator found in the engine, each as the history that showed it."""

import asyncio
from collections import Counter

from durably import Durably, StepContext, job
from durably_testing import Fault, simulate
from durably_testing.crashes import PAUSE
from tests.testing.scenarios import Plan, hopeless, in_a_row, long_body


def test_a_failure_that_is_met_again_ends_the_run_in_the_same_words() -> None:
    calm = simulate(hopeless, Plan())
    at = next(word.number for word in calm.words if word.about.startswith("the end of the run"))
    resumed = simulate(hopeless, Plan(), faults=[Fault(at, "kill", "before")])

    assert calm.error is not None
    assert resumed.error is not None
    assert (resumed.error.type, resumed.error.message) == (calm.error.type, calm.error.message)
    assert resumed.error.traceback == calm.error.traceback is not None


def test_a_heartbeat_whose_answer_hangs_does_not_keep_the_next_ones_from_being_sent() -> None:
    calm = simulate(long_body, Plan())
    beats = [word.number for word in calm.words if word.verb == "renew" and word.has_moved]
    bodies = Counter(
        simulate(long_body, Plan(), faults=[Fault(beat, "hang", "after", PAUSE)]).effects["slow"]
        for beat in beats
    )

    assert len(beats) > 10
    assert set(bodies) == {1}, "no lease was lost"


def test_a_worker_that_claims_its_own_lost_run_again_ends_the_old_body_first() -> None:
    at_work: list[int] = []

    @job
    async def alone(step: StepContext, input: Plan) -> int:
        async def body() -> int:
            at_work.append(1)
            most.append(len(at_work))
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(1)
                at_work.pop()
            return 1

        return await step.run("body", body)

    most: list[int] = []
    calm = simulate(alone, Plan(), workers=1)
    beats = [word.number for word in calm.words if word.verb == "renew" and word.has_moved]
    most.clear()
    # Heartbeats fail until the lease has run out; the worker itself is the first to see it.
    run = simulate(
        alone,
        Plan(),
        workers=1,
        faults=[Fault(number, "error", "before") for number in range(beats[2], beats[2] + 12)],
    )

    run.verify()
    assert run.status == "completed"
    assert run.effects["body"] == 2
    assert set(most) == {1}, "two bodies of one run were executed side by side"


def test_a_worker_that_slept_for_days_is_on_the_list_of_workers_again() -> None:
    listed: list[int] = []

    async def look(durably: Durably, run_id: str) -> None:
        await asyncio.sleep(5 * 86_400)
        await asyncio.sleep(120)
        listed.append(len(await durably.get_workers()))

    simulate(in_a_row, Plan(), meanwhile=look, workers=3).verify()
    assert listed == [3]


def test_a_suspension_whose_answer_comes_after_the_runs_end_is_not_told_any_more() -> None:
    @job
    async def talks(step: StepContext, input: Plan) -> None:
        # Committed with the suspension, and told when that is answered.
        step.log.info("tired")
        await step.sleep("nap", 2)

    calm = simulate(talks, Plan(), workers=1)
    at = next(word.number for word in calm.words if word.about.startswith("the suspension"))
    answered_late = [Fault(at, "hang", "after", PAUSE)]
    overtaken = simulate(talks, Plan(), workers=1, faults=answered_late)
    end = next(word.number for word in overtaken.words if word.about.startswith("the end of the run"))

    # The worker sleeps between the commit of the run's end and its event: then both answers come at once.
    run = simulate(talks, Plan(), workers=1, faults=[*answered_late, Fault(end, "pause", "after", PAUSE)])

    run.verify()
    assert len(run.struck) == 2
    assert run.status == "completed"
