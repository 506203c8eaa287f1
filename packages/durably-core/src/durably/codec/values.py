"""The codec of one type: a trip through JSON text that either changes nothing or is refused."""

import json
from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from types import GeneratorType
from typing import Any, Generic, Never, NoReturn, cast, overload

from pydantic import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError
from pydantic_core.core_schema import DecimalSchema
from typing_extensions import TypeVar, override

from durably.codec.difference import SCALARS, Difference, find_difference, kind_of, type_name
from durably.codec.reasons import explain, why
from durably.codec.shapes import shape_of_schema, shape_of_text
from durably.errors import (
    ConfigurationError,
    NotStorableError,
    PayloadTooLargeError,
    StoredValueError,
    ValidationError,
)

T = TypeVar("T")

_PATH_LENGTH = 200
_ANYTHING: frozenset[object] = frozenset({object, Any, NoReturn, Never})

_ADVICE = "; annotate the function's return type, or pass result=Type"


class Codec(Generic[T]):
    """Values of one type to and from stored JSON text; `codec_for` makes them.

    The text is ASCII, without NaN and Infinity. Fields stand under their names, never under aliases
    (those may differ between reading and writing); computed fields are left out.
    """

    def __init__(self, type_: object) -> None:
        try:
            # A type form such as `int | None` is no `type[T]`; codec_for's overloads say what T is.
            self._adapter: TypeAdapter[T] = TypeAdapter(cast("Any", type_))
            self._adapter.rebuild()
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            reason = str(error).splitlines()[0]
            message = f"{type_name(type_)} cannot be stored as JSON ({reason}); use a model, a dataclass or plain values"
            raise ConfigurationError(message + _ADVICE) from error
        self.type: object = type_
        """The type, or type form, of the values."""
        self._type_name = type_name(type_)
        self._untyped = type_ is object

    def encode(self, value: T, *, what: str, limit: int) -> tuple[str, T]:
        """The text to store, and the value as `decode` will give it back: go on with that one.

        Encoding the returned value gives the same text again (but for the order of a set, which has none).

        Raises:
            NotStorableError: A part would come back with another type or unequal; names its path.
            PayloadTooLargeError: The text takes more than `limit` bytes.
        """
        text, back = self._trip(value, what, limit)
        # What may still move (the keys of a TypedDict, an int that became a float) settles at the second trip.
        if type(value) not in SCALARS and not self._untyped and self._dump(back) != text:
            text, back = self._trip(back, what, limit)
        return text, back

    def decode(self, text: str, *, what: str) -> T:
        """The value of a stored text.

        Raises:
            StoredValueError: The text does not fit the type. Names fields and both shapes, never values.
        """
        fields: list[str] = []
        try:
            return self._load(text)
        except PydanticValidationError as error:
            by_place, reasons = explain(error, stored=True)
            fields = [place for place in by_place if place]
        except Exception as error:  # noqa: BLE001 (a model's own code may raise anything)
            reasons = f"reading it raised {kind_of(error)}"
        first = {part for place in fields for part in place.split(".")}
        # Raised outside the handlers: pydantic's message holds the values, and a traceback would print it.
        raise StoredValueError(
            f"{what} as stored does not fit {self._type_name}: {reasons}",
            fields=fields,
            stored=shape_of_text(text, first=first),
            expected=self._expected(first),
        )

    def validate(self, value: object, *, what: str) -> T:
        """A value from outside (an instance, or the data for one), checked and converted.

        Raises:
            ValidationError: It does not fit. Names every field with its reason, never values.
        """
        return self._checked(self._adapter.validate_python, value, what)

    def validate_json(self, text: str, *, what: str) -> T:
        """A value from outside as JSON text, checked and converted; takes dates and the like as text.

        Raises:
            ValidationError: It is no JSON, or does not fit. Names every field with its reason, never values.
        """
        return self._checked(self._adapter.validate_json, text, what)

    def _checked(self, read: Callable[[Any], T], value: object, what: str) -> T:
        try:
            return read(value)
        except PydanticValidationError as error:
            by_place, reasons = explain(error, stored=False)
        raise ValidationError(
            f"{what} does not fit {self._type_name}: {reasons}",
            fields=[place for place in by_place if place],
            reasons=by_place,
        )

    def schema(self) -> Mapping[str, object]:
        """The JSON schema of what `validate` takes; empty, so anything, for a type that has none."""
        try:
            return self._adapter.json_schema(schema_generator=_Schema)
        except PydanticInvalidForJsonSchema:
            return {}

    def _expected(self, first: Container[str]) -> str:
        """The outline of what `decode` takes."""
        try:
            return shape_of_schema(
                self._adapter.json_schema(by_alias=False, schema_generator=_Schema), first=first
            )
        except Exception:  # noqa: BLE001 (a type may have no schema, and a model's own code may make it)
            return self._type_name

    def _trip(self, value: T, what: str, limit: int) -> tuple[str, T]:
        if isinstance(value, GeneratorType):  # pydantic would read on for ever if it has no end
            raise NotStorableError(what, "$", "a generator can be read only once; return a list")
        text, back = "", value
        difference: Difference | None = None
        try:
            text = self._dump(value)
            if len(text) <= limit:
                if "NaN" in text or "Infinity" in text:  # a model's config may ask pydantic for these
                    json.loads(text, parse_constant=_refuse_constant)
                back = self._load(text)
                difference = find_difference(value, back, tuples=self._untyped)
        except Exception as error:  # noqa: BLE001 (a model's own code may raise anything)
            difference = why(error, value)
        if difference is not None:
            path, reason = difference
            raise NotStorableError(
                what, f"${path}"[:_PATH_LENGTH], reason + (_ADVICE if self._untyped else "")
            )
        if len(text) > limit:  # ASCII: as many bytes as characters
            raise PayloadTooLargeError(what, size=len(text), limit=limit)
        return text, back

    def _dump(self, value: T) -> str:
        # No warnings: the comparison is the judge. round_trip leaves computed fields out.
        return self._adapter.serializer.to_json(
            value, ensure_ascii=True, by_alias=False, round_trip=True, warnings=False
        ).decode("ascii")

    def _load(self, text: str) -> T:
        return cast("T", self._adapter.validator.validate_json(text, by_alias=False, by_name=True))


class _Schema(GenerateJsonSchema):
    # A default that is no JSON is left out of the schema: nothing to warn about.
    ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - as in its base class

    @override
    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        """Tells decimals from `float | str`: as text they keep all their digits, as numbers they may not."""
        shape = super().decimal_schema(schema)
        for way in shape.get("anyOf", ()):
            if way["type"] == "string":
                way["format"] = "decimal"
        return shape


def _refuse_constant(name: str) -> NoReturn:
    raise PydanticSerializationError(name)


UNTYPED: Codec[object] = Codec(object)
"""For values without an annotation: plain JSON. A tuple comes back as a list; nothing else may change."""


# The overlap is meant: a type says what its values are, a type form cannot (yet).
@overload
def codec_for(type_: type[T]) -> Codec[T]: ...  # pyright: ignore[reportOverlappingOverload] - as said
@overload
def codec_for(type_: object) -> Codec[object]: ...
def codec_for(type_: object) -> Codec[Any]:
    """The codec of a type or type form (`list[Row]`, `int | None`), made once for each.

    Raises:
        ConfigurationError: The type has no JSON form.
    """
    try:
        # `int | str` equals `str | int`, and yet they read JSON in another order: the repr tells them apart.
        return _cached(type_, "" if isinstance(type_, type) else repr(type_))
    except TypeError:  # metadata that cannot be hashed
        return Codec(type_)


@lru_cache(maxsize=1024)
def _cached(type_: object, _repr: str) -> Codec[object]:
    return UNTYPED if type_ in _ANYTHING or isinstance(type_, TypeVar) else Codec(type_)
