"""What a form sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from durably import ValidationError
from durably_web.auth import TriggerRequest
from durably_web.components.triggering import FormShown, Mode, TriggerForm
from durably_web.forms.filling import fill, read
from durably_web.guard import read_body
from durably_web.reading import whole
from durably_web.visits import Visit

MOST_FIELDS: Final = 5_000
OPTIONS: Final = ("labels", "idempotency_key", "concurrency_key")


class Form:
    """The fields of a form that was sent, in order."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = pairs

    @classmethod
    async def of(cls, request: Request) -> "Form":
        """Read it.

        Raises:
            HTTPException: 400, it is no form; 413, it is too large.
        """
        body = await read_body(request)
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:
            raise HTTPException(400, "This is no form") from None
        return cls(pairs)

    def get(self, name: str, otherwise: str = "") -> str:
        """The last value of a field."""
        return next((value for key, value in reversed(self.pairs) if key == name), otherwise)

    def number(self, name: str) -> int | None:
        """The last value of a field, if it is a whole number."""
        return whole(self.get(name))

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for key, value in self.pairs if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A job's form, as it was sent."""

    component: TriggerForm
    texts: Mapping[str, str]
    text: str
    """Of the JSON mode."""
    mode: Mode
    value: object
    problems: Mapping[str, str]
    """What could not be read."""
    options: Mapping[str, str]
    shows: Mode | None
    """Which mode the form is to be shown in, if nothing is to be triggered."""

    @classmethod
    def of(cls, form: Form, component: TriggerForm, visit: Visit) -> "Sent":
        """What the form says."""
        mode: Mode = "json" if form.get("_mode") == "json" else "form"
        parts = component.parts(component.handle(visit))
        texts: Mapping[str, str] = {name[2:]: value for name, value in form.pairs if name.startswith("f.")}
        text = form.get("_json")
        problems: Mapping[str, str] = {}
        value: object = None
        if mode == "json":
            try:
                value = cast("object", json.loads(text))
            except (ValueError, RecursionError) as error:
                problems = {"": f"This is no JSON: {error}"}
            texts = fill(parts, value, has_value=not problems)
        else:
            filled = read(parts, texts)
            value, problems = filled.value, filled.problems
            text = json.dumps(value, indent=2, ensure_ascii=False)
        asked = form.get("_show")
        return cls(
            component=component,
            texts=texts,
            text=text,
            mode=mode,
            value=value,
            problems=problems,
            options={name: form.get(f"_{name}").strip() for name in OPTIONS},
            shows="json" if asked == "json" else "form" if asked == "form" else None,
        )

    def again(self, visit: Visit, *, problems: Mapping[str, str], mode: Mode | None) -> FormShown:
        """The form with the same in it."""
        # What cannot be read cannot be shown in the other way either.
        is_stuck = mode == "form" and bool(self.problems)
        return self.component.show(
            visit,
            texts=self.texts,
            text=self.text,
            problems=self.problems if is_stuck else problems,
            options=self.options,
            mode=self.mode if is_stuck else mode or self.mode,
        )

    def request(self) -> TriggerRequest:
        """What is to be executed.

        Raises:
            ValidationError: A line of the labels is none.
        """
        lines = [line.strip() for line in self.options["labels"].splitlines() if line.strip()]
        for line in lines:
            if "=" not in line:
                raise ValidationError(f"labels: {line!r} is none; say key=value, one a line")
        pairs = [line.partition("=") for line in lines]
        return TriggerRequest(
            job_name=self.component.job,
            input=self.value,
            labels={key.strip(): value.strip() for key, _, value in pairs},
            idempotency_key=self.options["idempotency_key"] or None,
            concurrency_key=self.options["concurrency_key"] or None,
        )
