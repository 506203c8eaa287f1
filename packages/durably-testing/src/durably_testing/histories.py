"""Recorded histories: does the present code still resume what older code has left?"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

from durably import Run, Step
from durably_testing.errors import HistoryError, NothingTestedError
from durably_testing.history import History, RecordedStep, history_of, read_history, write_history
from durably_testing.profile import current_profile
from durably_testing.resuming import Resumed, resume
from durably_testing.simulation import AnyJob, SimulatedRun, definition_of

SHOWN = 200
"""Letters of a value that a message shows."""


def record_history(
    run: "SimulatedRun[Any, Any] | Run", path: str | Path, /, *, steps: Sequence[Step] | None = None
) -> None:
    """Write down what a run was given and what its steps came to, for `assert_replays`.

    A file that is there already is left as it is: it is what older code has done. With
    `--durably-update-histories` it is written anew. Its values are those of the run; mind what is
    private before it goes into a repository.

    Args:
        run: What `simulate` answered; or any run that completed or failed, with `steps`.
        path: The file; its folders are made.
        steps: Of any run: `await durably.get_steps(run.id)`.

    Raises:
        HistoryError: The run has not ended, its steps are not given, or their results were not kept.
    """
    path = Path(path)
    if isinstance(run, SimulatedRun):
        history = history_of(run.run, run.steps)
    elif steps is None:
        raise HistoryError("record_history of a run needs its steps: steps=await durably.get_steps(run.id)")
    else:
        history = history_of(run, steps)
    if current_profile().update_histories or not path.exists():
        write_history(history, path)


def assert_replays(
    job: AnyJob[Any, Any],
    pattern: str | Path,
    /,
    *,
    jobs: Iterable[AnyJob[Any, Any]] = (),
    resources: Iterable[Callable[..., object]] = (),
    prepare: Callable[[], object] | None = None,
    given: Mapping[str, object] | None = None,
) -> None:
    """Resume the present code from every prefix of recorded histories, and name what would go wrong.

    A recorded step is never executed: the code is stopped where it comes to the next one. The body of
    a step that the record does not have is executed in the simulation, unless its end is given.

    With `--durably-update-histories` each history is written anew, as the present code leaves it.

    Args:
        job: The present code.
        pattern: The files, e.g. `histories/*.json`; those of other jobs are passed over.
        jobs: Other jobs that the present code begins.
        resources: Factories of what the jobs take by type, as in `simulate`.
        prepare: Called before each resume, as in `simulate`.
        given: What steps come to that the record does not have, by their names; JSON values.

    Raises:
        HistoryError: A history is not resumed as it should be; all that is wrong with all of them.
        NothingTestedError: No file is a history of this job.
        ConfigurationError: A job takes what no factory in `resources` gives.
        ResourceError: One of them raised.
    """
    definition = definition_of(job)
    paths = [Path(name) for name in sorted(glob(str(pattern), recursive=True))]  # noqa: PTH207 - absolute ones too
    histories = {path: read_history(path) for path in paths}
    own = {path: history for path, history in histories.items() if history.job_name == definition.name}
    if not own:
        others = ", ".join(sorted({history.job_name for history in histories.values()})) or "none at all"
        raise NothingTestedError(
            f"{pattern} has no history of job {definition.name!r} (of: {others}): nothing was tested. "
            "Was the job renamed? Then its unfinished runs wait for the old name"
        )
    known, doubles = [definition, *map(definition_of, jobs)], tuple(resources)

    def resumed(history: History, kept: Sequence[RecordedStep], stop_at: Collection[str]) -> Resumed:
        if prepare is not None:
            prepare()
        return resume(known, history, kept, stop_at=stop_at, resources=doubles)

    replays = [_Replay(path, history, resumed, given or {}) for path, history in own.items()]
    if current_profile().update_histories:
        for replay in replays:
            replay.update()
        return
    problems = [problem for replay in replays for problem in replay.problems()]
    if problems:
        raise HistoryError("\n".join([f"the present code of job {definition.name!r} does not resume what it should:"]
                                     + [f"- {problem}" for problem in problems]))  # fmt: skip


class _Replay:
    """One history, met by the present code."""

    def __init__(
        self,
        path: Path,
        history: History,
        resume: Callable[[History, Sequence[RecordedStep], Collection[str]], Resumed],
        given: Mapping[str, object],
    ) -> None:
        self._path = path
        self._history = history
        self._resume = resume
        self._given = given

    def problems(self) -> Sequence[str]:
        """What is wrong, each thing once, with the first prefix that shows it."""
        steps = self._history.steps
        found: dict[str, str] = {}
        for count in range(len(steps) + 1):
            where = f"{self._path}, resumed {self._place(count)}"
            for problem in self._problems_at(count):
                found.setdefault(problem, f"{where}: {problem}")
        return tuple(found.values())

    def update(self) -> None:
        """Write the history as the present code leaves it.

        Raises:
            HistoryError: It does not come to an end.
        """
        resumed = self._resumed(len(self._history.steps))
        if resumed.run.status not in {"completed", "failed"}:
            raise HistoryError(f"{self._path} cannot be written anew: the run does not end: {resumed.reason}")
        used = resumed.met | set(resumed.executed)
        write_history(
            history_of(resumed.run, [step for step in resumed.steps if step.name in used]), self._path
        )

    def _problems_at(self, count: int) -> Sequence[str]:
        resumed = self._resumed(count)
        is_whole = count == len(self._history.steps)
        problems = list(resumed.violations)
        if resumed.reason:
            problems.append(
                f"it never ends: {resumed.reason}. If it waits for a step that the history does not have, "
                "say what comes of it: assert_replays(…, given={name: value})"
            )
        elif resumed.run.status == "failed" and (not is_whole or self._history.error is None):
            problems.append(f"it fails: {_told(resumed)}")
        elif is_whole:
            problems.extend(self._differences(resumed))
        if is_whole:
            problems.extend(self._orphans(resumed))
        return problems

    def _differences(self, resumed: Resumed) -> Sequence[str]:
        """Of the whole history: what ends differently."""
        recorded = self._history.error
        if recorded is None:
            output = history_of(resumed.run, ()).output if resumed.run.status == "completed" else None
            same = output == self._history.output
            return [] if same else [f"its output is {_short(output)}, and was {_short(self._history.output)}"]
        if resumed.run.error is None or resumed.run.status != "failed":
            return [f"it is {resumed.run.status}, and had failed with {recorded.type}: {recorded.message}"]
        same = resumed.run.error.type == recorded.type
        return [] if same else [f"it fails with {_told(resumed)}, and had failed with {recorded.type}"]

    def _orphans(self, resumed: Resumed) -> Sequence[str]:
        """Of the whole history: the checkpoints that nobody came to."""
        if resumed.run.status == "failed" and self._history.error is None:
            # What comes after the failure was not to be come to.
            return []
        new = f"; new are {', '.join(map(repr, resumed.executed))}" if resumed.executed else ""
        return [
            f"step {step.name!r} is never come to: it was renamed or removed, and what it did is done again or lost{new}"
            for step in self._history.steps
            if step.name not in resumed.met
        ]

    def _resumed(self, count: int) -> Resumed:
        kept = list(self._history.steps[:count])
        rest = {step.name for step in self._history.steps[count:]}
        while True:
            open_names = self._given.keys() - {step.name for step in kept}
            resumed = self._resume(self._history, kept, rest | open_names)
            if resumed.next is None or resumed.next.name in rest:
                return resumed
            kept.append(replace(resumed.next, result=self._given[resumed.next.name]))

    def _place(self, count: int) -> str:
        steps = self._history.steps
        return (
            "at its beginning" if not count else f"after {steps[count - 1].name!r} ({count} of {len(steps)})"
        )


def _told(resumed: Resumed) -> str:
    error = resumed.run.error
    return "nothing" if error is None else f"{error.type}: {error.message}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
