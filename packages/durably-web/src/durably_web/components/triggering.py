"""Forms that trigger runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from inspect import signature
from typing import Annotated, ClassVar, Literal, TypeAlias, cast

from pydantic import AfterValidator
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException
from typing_extensions import override

from durably import JobHandle, Run
from durably_web.components.base import Component
from durably_web.forms import Group, fields_of, fill
from durably_web.forms.fields import Part
from durably_web.notices import Notice
from durably_web.visits import Visit
from durably_web.wording import sentence

Mode: TypeAlias = Literal["form", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormShown:
    """A job's form, and what stands in it."""

    job_name: str
    parts: tuple[Part, ...]
    texts: Mapping[str, str]
    """What stands in each field."""
    json: str
    """What stands in the one field of the JSON mode."""
    mode: Mode
    has_options: bool
    options: Mapping[str, str]
    problems: Mapping[str, str]
    """What is wrong, by field; those of no field are of ""."""
    action: str
    id: str
    is_hidden: bool = False
    """Whether it stands empty because the visitor may not see all of the input that it is about."""

    def problem(self, path: str) -> str | None:
        """What is wrong at a field, or within it."""
        inside = [
            text for place, text in self.problems.items() if place == path or place.startswith(f"{path}.")
        ]
        return "; ".join(dict.fromkeys(inside)) if path and inside else self.problems.get(path)

    @property
    def others(self) -> Mapping[str, str]:
        """What is wrong at no field that is shown."""
        shown = () if self.mode == "json" else tuple(_paths(self.parts))
        return {
            place: text
            for place, text in self.problems.items()
            if not any(path and (place == path or place.startswith(f"{path}.")) for path in shown)
        }


@dataclass(frozen=True)
class TriggerForm(Component):
    """A form for a job's input; runs are triggered by it."""

    job: str
    _: KW_ONLY
    initial: Annotated[object, AfterValidator(to_jsonable_python)] = None
    """What stands in its fields at first: as the job takes it, or some fields of it."""
    fields: tuple[str, ...] = ()
    """The outermost fields to show; default: all of them."""
    exclude: tuple[str, ...] = ()
    """Outermost fields that are not shown."""
    mode: Mode = "form"
    options: bool = False
    """Whether labels and keys can be given."""
    of: str | None = None
    """A run whose input stands in its fields at first."""
    live: bool = False

    name: ClassVar[str] = "trigger_form"

    @property
    @override
    def about_job(self) -> str | None:
        return self.job

    @override
    async def load(self, visit: Visit) -> FormShown:
        await visit.check_job(self.job)
        handle = self.handle(visit)
        run = await self._run(visit)
        is_hidden = run is not None and not await visit.caller.shows_input(run)
        value, has_value = self._initial(None if is_hidden else run)
        parts = self.parts(handle)
        shown = self.show(
            visit,
            texts=fill(parts, value, has_value=has_value),
            text=json.dumps(value if has_value else _example(parts), indent=2, ensure_ascii=False),
        )
        return replace(shown, is_hidden=is_hidden)

    def show(
        self,
        visit: Visit,
        *,
        texts: Mapping[str, str],
        text: str,
        problems: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        mode: Mode | None = None,
    ) -> FormShown:
        """The form with these texts in it."""
        parts = self.parts(self.handle(visit))
        shows_json = (mode or self.mode) == "json"
        return FormShown(
            job_name=self.job,
            parts=parts,
            texts=texts,
            json=text,
            mode="json" if shows_json else "form",
            has_options=self.options,
            options=options or {},
            problems=problems or {},
            action=visit.urls.trigger(self.job, self.query()),
            id=self.id or f"dw-form-{self.job}",
        )

    def handle(self, visit: Visit) -> JobHandle[object, object]:
        """The job.

        Raises:
            HTTPException: 404, this application does not know it.
        """
        handle = visit.durably.get_job(self.job)
        if handle is None:
            raise HTTPException(404, "Job not found")
        return handle

    def parts(self, handle: JobHandle[object, object]) -> tuple[Part, ...]:
        """Its fields.

        Raises:
            HTTPException: 400, one is to be shown or left out that there is not.
        """
        schema = handle.input_codec.schema()
        try:
            return fields_of(schema, label=_label(handle), exclude=self.exclude, only=self.fields)
        except ValueError as error:
            # Passed over, a misspelt name would show what was to be left out.
            raise HTTPException(400, f"trigger_form of {self.job}: {error}") from None

    async def _run(self, visit: Visit) -> Run | None:
        """The run whose input is to be edited."""
        run = None if self.of is None else await visit.run(self.of)
        return run if run is not None and run.job_name == self.job else None

    def _initial(self, run: Run | None) -> tuple[object, bool]:
        if run is not None:
            return cast("object", json.loads(run.input_json)), True
        return (self.initial, True) if self.initial is not None else (None, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonShown:
    """A button, and the run that it has triggered."""

    token: str
    label: str
    run: Run | None = None
    notice: Notice | None = None


@dataclass(frozen=True)
class TriggerButton(Component):
    """A button that triggers a run with an input that nobody can change."""

    token: str
    """What is triggered, sealed."""
    label: str = "Run"
    _: KW_ONLY
    live: bool = False

    name: ClassVar[str] = "trigger_button"
    is_inline: ClassVar[bool] = True

    @override
    async def load(self, visit: Visit) -> ButtonShown:
        sealed = visit.seal.open(self.token)
        await visit.check_job(sealed.job)
        if visit.durably.get_job(sealed.job) is None:
            raise HTTPException(404, "Job not found")
        return ButtonShown(token=self.token, label=self.label)


def _paths(parts: Sequence[Part]) -> Sequence[str]:
    return [
        path for part in parts for path in (_paths(part.members) if isinstance(part, Group) else [part.path])
    ]


def _label(handle: JobHandle[object, object]) -> str:
    """What the job's function calls its input."""
    names = list(signature(handle.definition.function).parameters)
    return sentence(names[1].replace("_", " ")) if len(names) > 1 else "Input"


def _example(parts: Sequence[Part]) -> object:
    """What may be filled in: the defaults, and null where there is none."""
    if len(parts) == 1 and not isinstance(parts[0], Group) and not parts[0].path:
        return parts[0].default
    return {
        part.path.rpartition(".")[2]: _example(part.members) if isinstance(part, Group) else part.default
        for part in parts
    }
