"""Several components in one box."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

from markupsafe import Markup
from typing_extensions import override

from durably import Run
from durably_web import bells
from durably_web.bells import Bell, Topic
from durably_web.components.base import Component, RunComponent
from durably_web.components.logs import LogTail
from durably_web.components.run import RunActions, RunFailure, RunPayload, RunProgress, RunStatusBadge
from durably_web.components.triggering import TriggerForm
from durably_web.visits import Visit

Part: TypeAlias = Literal["status", "progress", "actions", "error", "output", "logs"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelShown:
    """A run, and the parts of its panel."""

    run: Run
    parts: Mapping[Part, Markup]


@dataclass(frozen=True)
class RunPanel(RunComponent):
    """A run in one box: as much of it as one wants to see."""

    _: KW_ONLY
    parts: tuple[Part, ...] = PARTS

    name: ClassVar[str] = "run_panel"

    @override
    async def load(self, visit: Visit) -> PanelShown:
        run = await visit.run(self.run_id)
        made: Mapping[Part, Component] = {
            "status": RunStatusBadge(self.run_id),
            "progress": RunProgress(self.run_id, big=True),
            "actions": RunActions(self.run_id),
            "error": RunFailure(self.run_id),
            "output": RunPayload(self.run_id, which="output"),
            "logs": LogTail(self.run_id),
        }
        return PanelShown(
            run=run,
            parts={
                part: await visit.draw(component, visit)
                for part, component in made.items()
                if part in self.parts
            },
        )

    @override
    def topics(self) -> Sequence[Topic]:
        # Its parts follow by themselves.
        return ()

    @override
    def bells(self) -> Sequence[Bell]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPanelShown:
    """A job's form and the run that it is about."""

    job: str
    run_id: str | None
    form: Markup
    panel: Markup | None


@dataclass(frozen=True)
class JobPanel(Component):
    """A job in one box: its form, and the run that is going on."""

    job: str
    _: KW_ONLY
    auto_resume: bool = True
    """Whether a run that is going on already is shown."""

    name: ClassVar[str] = "job_panel"
    is_held: ClassVar[bool] = True

    @property
    @override
    def about_job(self) -> str | None:
        return self.job

    @override
    async def load(self, visit: Visit) -> JobPanelShown:
        await visit.check_job(self.job)
        run = await visit.caller.current_run(self.job) if self.auto_resume else None
        return JobPanelShown(
            job=self.job,
            run_id=None if run is None else run.id,
            form=await visit.draw(TriggerForm(self.job), visit),
            panel=None if run is None else await visit.draw(RunPanel(run.id), visit),
        )

    @override
    def topics(self) -> Sequence[Topic]:
        return (bells.RUNS,)

    @override
    def bells(self) -> Sequence[Bell]:
        return (bells.of_job(self.job), bells.JOBS)
