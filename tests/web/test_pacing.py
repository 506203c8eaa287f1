from durably_web.api.pacing import Message, Throttle


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(number: int, run: str = "a") -> Message:
    return Message({"type": "run:progress", "runId": run, "number": number})


def event(type: str, run: str = "a") -> Message:
    return Message({"type": type, "runId": run})


def test_the_first_progress_passes_and_then_the_latest_of_each_window() -> None:
    clock = Clock()
    throttle = Throttle(0.1, clock)
    assert throttle.take(progress(1)) == [progress(1)]
    clock.now += 0.05
    assert throttle.take(progress(2)) == []
    assert throttle.take(progress(3)) == []
    assert throttle.next_due() == 100.1
    assert throttle.ripe() == []
    clock.now = 100.1
    assert throttle.ripe() == [progress(3)]
    assert throttle.next_due() is None
    # A new window began.
    clock.now = 100.15
    assert throttle.take(progress(4)) == []
    clock.now = 100.25
    assert throttle.take(progress(5)) == [progress(5)]
    assert (throttle.ripe(), throttle.rest()) == ([], [])


def test_each_run_has_a_window_of_its_own() -> None:
    throttle = Throttle(0.1, Clock())
    assert throttle.take(progress(1)) == [progress(1)]
    assert throttle.take(progress(1, "b")) == [progress(1, "b")]
    assert throttle.take(progress(2, "b")) == []
    assert throttle.rest() == [progress(2, "b")]
    assert throttle.rest() == []


def test_everything_else_passes_at_once() -> None:
    throttle = Throttle(0.1, Clock())
    throttle.take(progress(1))
    throttle.take(progress(2))
    assert throttle.take(event("step:complete")) == [event("step:complete")]


def test_a_runs_last_progress_goes_before_its_end_and_the_window_is_forgotten() -> None:
    for ending in ("run:complete", "run:fail", "run:cancel", "run:delete"):
        throttle = Throttle(0.1, Clock())
        throttle.take(progress(1))
        throttle.take(progress(2))
        throttle.take(progress(2, "b"))
        assert throttle.take(event(ending)) == [progress(2), event(ending)]
        assert throttle.take(progress(3)) == [progress(3)]


def test_without_a_window_all_pass() -> None:
    throttle = Throttle(0, Clock())
    assert [throttle.take(progress(number)) for number in range(3)] == [[progress(n)] for n in range(3)]
