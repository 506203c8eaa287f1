"""The executions of a run: who carried it, from where, and how far."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from durably import RunEvent, RunStarted, StepReplayed, StepStarted
from durably_testing.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One call of the job's function by a worker."""

    process: str
    generation: int
    replayed: Sequence[str]
    """The steps that were answered by their checkpoints, in order."""
    executed: Sequence[str]
    """The steps whose bodies began, in order."""

    def __str__(self) -> str:
        replayed = f"replayed {', '.join(self.replayed)}; " if self.replayed else ""
        return f"{self.process}: {replayed}executed {', '.join(self.executed) or 'no step'}"


@dataclass(slots=True)
class _Begun:
    process: str
    generation: int
    replayed: list[str] = field(default_factory=list[str])
    executed: list[str] = field(default_factory=list[str])


class Executions:
    """Hears of them."""

    def __init__(self) -> None:
        self._begun: dict[str, list[_Begun]] = {}
        self._present: dict[tuple[str, str], _Begun] = {}

    def hear(self, process: Process, event: RunEvent) -> None:
        """A process tells of something."""
        about = (process.name, event.run_id)
        match event:
            case RunStarted():
                self._present[about] = _Begun(process.name, event.generation)
                self._begun.setdefault(event.run_id, []).append(self._present[about])
            case StepReplayed():
                self._present[about].replayed.append(event.step_name)
            case StepStarted():
                self._present[about].executed.append(event.step_name)
            case _:
                pass

    def of(self, run_id: str) -> Sequence[Execution]:
        """Those of one run, in the order in which they began."""
        return tuple(
            Execution(
                process=one.process,
                generation=one.generation,
                replayed=tuple(one.replayed),
                executed=tuple(one.executed),
            )
            for one in self._begun.get(run_id, ())
        )
