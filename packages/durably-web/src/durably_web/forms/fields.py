"""From a JSON schema to the fields of a form.

What a form cannot show well (unions, lists of objects, mappings, very deep things) is a text area for
JSON: so there is no input that cannot be given.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from durably_web.mistakes import nearest, shown

Schema: TypeAlias = Mapping[str, object]
Kind: TypeAlias = Literal[
    "text", "password", "email", "url", "date", "time", "datetime-local", "textarea",
    "integer", "number", "decimal", "checkbox", "select", "lines", "json",
]  # fmt: skip

DEEPEST: Final = 3
"""Groups within groups; below that it is JSON."""
LONG: Final = 200
"""A string that may be longer than this gets more than one line."""
FORMATS: Final[Mapping[str, Kind]] = {
    "email": "email",
    "uri": "url",
    "date": "date",
    "time": "time",
    "date-time": "datetime-local",
    "password": "password",
}
SCALARS: Final[Mapping[str, Kind]] = {"integer": "integer", "number": "number", "boolean": "checkbox"}
WIDGETS: Final[Collection[str]] = ("text", "textarea", "password", "json")
"""What `json_schema_extra={"x-durably": {"widget": …}}` may ask for."""
NUMBERS: Final = {"minimum": "min", "maximum": "max", "multipleOf": "step"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One of the values to choose from."""

    value: str
    """As JSON: two and "two" are not the same."""
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A value to be given."""

    path: str
    """Its place in the input, dotted; empty: it is the input."""
    kind: Kind
    label: str
    hint: str | None = None
    placeholder: str | None = None
    is_required: bool = False
    is_nullable: bool = False
    """Whether leaving it empty means null."""
    default: object = None
    has_default: bool = False
    options: tuple[Option, ...] = ()
    limits: Mapping[str, str]
    """HTML attributes: hints to a browser, pydantic decides."""
    item: "Field | None" = None
    """Of `lines`: what each line is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Fields that belong together."""

    path: str
    label: str
    hint: str | None
    members: "tuple[Field | Group, ...]"


Part: TypeAlias = Field | Group


def fields_of(
    schema: Schema, *, label: str = "Input", exclude: Collection[str] = (), only: Collection[str] = ()
) -> tuple[Part, ...]:
    """The fields for an input.

    Args:
        schema: The JSON schema of what a job takes.
        label: What a single value is called.
        exclude: Names of the outermost fields that are not shown.
        only: If there are any, those of them that are.

    Raises:
        ValueError: A name is of no field.
    """
    form = _Form(cast("Schema", schema.get("$defs", {})))
    root = form.resolved(schema)
    names = cast("Schema", root.get("properties", {}))
    unknown = next((name for name in (*exclude, *only) if name not in names), None)
    if unknown is not None:
        raise ValueError(f"there is no field {shown(unknown)}{nearest(unknown, names)} in its input")
    if root.get("type") == "null":
        return ()
    part = form.part("", label, root, is_required=True, depth=0)
    if isinstance(part, Field):
        return (part,)
    return tuple(
        member for member in part.members if member.path not in exclude and (not only or member.path in only)
    )


class _Form:
    def __init__(self, definitions: Schema) -> None:
        self._definitions = definitions

    def resolved(self, schema: Schema) -> Schema:
        """The schema itself, where this one only names it; what stands beside the name wins."""
        seen: set[str] = set()
        while isinstance(reference := schema.get("$ref"), str) and reference not in seen:
            seen.add(reference)
            target = self._definitions.get(reference.rpartition("/")[2], {})
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**cast("Schema", target), **beside}
        return schema

    def part(self, path: str, name: str, schema: Schema, *, is_required: bool, depth: int) -> Part:
        schema = self.resolved(schema)
        schema, is_nullable = self._without_null(schema)
        label = str(schema.get("title") or name)
        hint = schema.get("description")
        properties = schema.get("properties")
        # A part that may be missing as a whole cannot be told from one with empty fields.
        is_group = schema.get("type") == "object" and isinstance(properties, dict) and depth < DEEPEST
        if is_group and not is_nullable and _asked(schema) is None:
            required = cast("Collection[str]", schema.get("required", ()))
            members = self._members(path, cast("Schema", properties), required, depth)
            return Group(
                path=path, label=label, hint=None if hint is None else str(hint), members=tuple(members)
            )
        return self._field(path, label, schema, is_required=is_required, is_nullable=is_nullable)

    def _members(
        self, path: str, properties: Schema, required: Collection[str], depth: int
    ) -> Iterator[Part]:
        for name, schema in properties.items():
            resolved = self.resolved(cast("Schema", schema))
            if _extra(resolved).get("hidden"):
                continue
            place = f"{path}.{name}" if path else name
            yield self.part(place, name, resolved, is_required=name in required, depth=depth + 1)

    def _without_null(self, schema: Schema) -> tuple[Schema, bool]:
        """`X | None` as X."""
        if not isinstance(schema.get("anyOf"), list):
            return schema, False
        kinds = cast("list[Schema]", schema["anyOf"])
        others = [one for one in kinds if one.get("type") != "null"]
        if len(others) == len(kinds) or len(others) != 1:
            return schema, len(others) < len(kinds)
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**self.resolved(others[0]), **beside}, True

    def _field(self, path: str, label: str, schema: Schema, *, is_required: bool, is_nullable: bool) -> Field:
        options = _options(schema)
        kind: Kind = "select" if options else self._kind(schema)
        if kind == "checkbox" and is_nullable:
            kind = "select"
            options = (Option(value="true", label="yes"), Option(value="false", label="no"))
        item = None
        if kind == "lines":
            of = self.resolved(cast("Schema", schema.get("items", {})))
            item = self._field("", "", of, is_required=True, is_nullable=False)
        examples = schema.get("examples")
        example = cast("list[object]", examples)[0] if isinstance(examples, list) and examples else None
        hint = schema.get("description")
        return Field(
            path=path,
            kind=kind,
            label=label,
            hint=None if hint is None else str(hint),
            placeholder=None if example is None else _as_text(example),
            is_required=is_required and not is_nullable,
            is_nullable=is_nullable,
            default=schema.get("default"),
            has_default="default" in schema,
            options=options,
            limits=_limits(kind, schema),
            item=item,
        )

    def _kind(self, schema: Schema) -> Kind:
        asked = _asked(schema)
        if asked is not None:
            return asked
        if _is_decimal(schema):
            return "decimal"
        type_ = schema.get("type")
        if type_ == "string":
            longest = schema.get("maxLength")
            is_long = isinstance(longest, int) and longest > LONG
            return "textarea" if is_long else FORMATS.get(str(schema.get("format")), "text")
        if type_ == "array":
            return "lines" if self._is_of_scalars(schema) else "json"
        return SCALARS.get(str(type_), "json")

    def _is_of_scalars(self, schema: Schema) -> bool:
        if "prefixItems" in schema:
            return False
        items = self.resolved(cast("Schema", schema.get("items", {})))
        is_scalar = items.get("type") in {"string", "integer", "number"} or _is_decimal(items)
        return is_scalar and _asked(items) is None


def _extra(schema: Schema) -> Schema:
    extra = schema.get("x-durably")
    return cast("Schema", extra) if isinstance(extra, dict) else {}


def _asked(schema: Schema) -> Kind | None:
    widget = _extra(schema).get("widget")
    return cast("Kind", widget) if widget in WIDGETS else None


def _is_decimal(schema: Schema) -> bool:
    """A number, or its text with all its digits."""
    ways = schema.get("anyOf")
    if not isinstance(ways, list):
        return False
    kinds = [one.get("format", one.get("type")) for one in cast("list[Schema]", ways)]
    return "decimal" in kinds and all(kind in {"number", "decimal", "null"} for kind in map(str, kinds))


def _options(schema: Schema) -> tuple[Option, ...]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list):
        return ()
    return tuple(
        Option(value=json.dumps(value), label=_as_text(value)) for value in cast("list[object]", values)
    )


def _limits(kind: Kind, schema: Schema) -> Mapping[str, str]:
    if kind in {"integer", "number"}:
        limits = {html: str(schema[name]) for name, html in NUMBERS.items() if name in schema}
        if kind == "number":
            limits.setdefault("step", "any")
        return limits
    if kind in {"datetime-local", "time"}:
        return {"step": "any"}
    names = {"minLength": "minlength", "maxLength": "maxlength"}
    is_text = kind in {"text", "password", "email", "url", "textarea"}
    return {html: str(schema[name]) for name, html in names.items() if is_text and name in schema}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
