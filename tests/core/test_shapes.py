"""Outlines of what is stored and of what is expected."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import override

from durably import StoredValueError
from durably.codec import codec_for
from durably.codec.shapes import LONGEST


class Item(BaseModel):
    price: float
    label: str = "none"


class Tree(BaseModel):
    children: list["Tree"] = []
    size: int


class Order(BaseModel):
    number: int
    items: list[Item] = Field(alias="Items")
    notes: dict[str, Item] = {}
    sent_at: datetime | None = None


class Wide(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1
    b: int = 1
    wanted: int


class Opaque(BaseModel):
    value: int

    @override
    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        raise TypeError("no schema")


def mismatch(type_: object, value: object) -> StoredValueError:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(StoredValueError) as caught:
        codec_for(type_).decode(text, what="the output of run 7")
    return caught.value


@pytest.mark.parametrize(
    ("type_", "outline"),
    [
        (int, "int"),
        (list[int], "[int]"),
        (list[Any], "list"),
        (dict[str, int], "{str: int}"),
        (dict[str, Any] | int, "dict | int"),
        (tuple[int, str], "[int, str]"),
        (int | None, "int | None"),
        (Decimal, "float | str (decimal)"),
        (Literal["a", "b", 3], "'a' | 'b' | 3"),
        (Literal["a"], "'a'"),
        (Annotated[int, Field(ge=3)], "int"),
        (Item, "{price: float, label?: str}"),
        (Tree, "{size: int, children?: [Tree]}"),
        (Opaque, "Opaque"),
    ],
)
def test_what_is_expected_is_outlined(type_: object, outline: str) -> None:
    unfit = "[]" if outline.startswith("dict") else '{"size": "secret", "price": "secret"}'
    assert mismatch(type_, unfit).expected == outline


@pytest.mark.parametrize(
    ("value", "outline"),
    [
        (None, "None"),
        (True, "bool"),
        (1.5, "float"),
        ('"secret"', "str"),
        ("[]", "[]"),
        ("{}", "{}"),
        ([1, "secret", 2, None], "[int | str | None]"),
        ({"rows": [{"a": 1}, {"a": 2}, {"a": "secret"}]}, "{rows: [{a: int} | {a: str}]}"),
        ({"secret@example.com": 1, "and more": "x"}, "{str: int | str}"),
        ({"field": 1, "a secret": 2}, "{field: int, …}"),
        ([[[[[[[1]]]]]]], "[[[[[[…]]]]]]"),
        ([[[[[{"a": 1}, {}]]]]], "[[[[[{…} | {}]]]]]"),
        ("[[[[[[]]]]]]", "[[[[[[]]]]]]"),
        ('{"secret', "no JSON"),
    ],
)
def test_what_is_stored_is_outlined_without_its_values(value: object, outline: str) -> None:
    error = mismatch(Literal["nothing"], value)
    assert error.stored == outline
    assert "secret" not in str(error)


def test_both_shapes_stand_in_the_message_after_the_reason() -> None:
    error = mismatch(Order, {"number": 5, "items": [{"price": 1}, {"price": "secret"}], "notes": {"x y": {}}})
    assert str(error) == (
        "the output of run 7 as stored does not fit Order: items.1.price: Input should be a valid number, unable "
        "to parse string as a number (found a string); notes.x y.price: Field required; stored: {items: [{price: "
        "int} | {price: str}], notes: {str: {}}, number: int}; expected: {items: [{price: float, label?: str}], "
        "notes?: {str: {price: float, label?: str}}, number: int, sent_at?: str (date-time) | None}"
    )
    assert error.fields == ("items.1.price", "notes.x y.price")


def test_an_outline_is_short_and_begins_with_what_does_not_fit() -> None:
    value = {f"field_with_a_long_name_{number}": number for number in range(100)}
    error = mismatch(Wide, value | {"wanted": "secret"})
    assert error.stored.startswith("{wanted: str, field_with_a_long_name_0: int, ")
    assert error.stored.endswith("field_…")
    assert len(error.stored) == LONGEST
    assert error.expected == "{wanted: int, a?: int, b?: int}"
    many = mismatch(int, {f"f{number}": number for number in range(100)})
    assert many.stored.endswith("f11: int, …}")
    kinds = mismatch(int, [{f"f{number}": 1} for number in range(100)])
    assert kinds.stored.endswith("{f11: int} | …]")
