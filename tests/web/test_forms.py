"""From schemas to forms, and from forms to values."""

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AnyUrl, BaseModel, Field, SecretStr, TypeAdapter

from durably.codec import codec_for
from durably_web.forms import Field as FormField
from durably_web.forms import Group, fields_of, fill, read


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """What is inside."""

    name: str


class Deep(BaseModel):
    inner: Inner


class Deeper(BaseModel):
    deep: Deep


class Deepest(BaseModel):
    deeper: Deeper


def one(type_: Any) -> FormField:
    [part] = fields_of(codec_for(type_).schema())
    assert isinstance(part, FormField)
    return part


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (str, "text"),
        (Annotated[str, Field(max_length=1000)], "textarea"),
        (SecretStr, "password"),
        (AnyUrl, "url"),
        (date, "date"),
        (datetime, "datetime-local"),
        (time, "time"),
        (int, "integer"),
        (float, "number"),
        (Decimal, "decimal"),
        (Decimal | None, "decimal"),
        (bool, "checkbox"),
        (bool | None, "select"),
        (Colour, "select"),
        (Literal["a", 2], "select"),
        (Literal["only"], "select"),
        (list[str], "lines"),
        (list[int] | None, "lines"),
        (list[Decimal], "lines"),
        (list[Inner], "json"),
        (tuple[int, str], "json"),
        (dict[str, int], "json"),
        (int | str, "json"),
        (float | str, "json"),
        (int | str | None, "json"),
        (Inner | None, "json"),
        (Any, "json"),
        (Annotated[str, Field(json_schema_extra={"x-durably": {"widget": "textarea"}})], "textarea"),
        (Annotated[str, Field(json_schema_extra={"x-durably": {"widget": "nonsense"}})], "text"),
    ],
    ids=map(str, range(29)),
)
def test_each_type_has_its_field(type_: Any, kind: str) -> None:
    assert one(type_).kind == kind


def test_nothing_is_asked_where_nothing_is_taken() -> None:
    assert fields_of(TypeAdapter(None).json_schema()) == ()
    assert read((), {}).value is None


def test_groups_are_three_deep_and_json_below() -> None:
    [deeper] = fields_of(Deepest.model_json_schema())
    assert isinstance(deeper, Group)
    [deep] = deeper.members
    assert isinstance(deep, Group)
    [inner] = deep.members
    assert isinstance(inner, FormField)
    assert (inner.path, inner.kind) == ("deeper.deep.inner", "json")


def test_outermost_fields_can_be_chosen_left_out_or_hidden() -> None:
    class Order(BaseModel):
        id: int
        tenant: str
        secret: str = Field("x", json_schema_extra={"x-durably": {"hidden": True}})

    schema = Order.model_json_schema()
    assert [part.path for part in fields_of(schema)] == ["id", "tenant"]
    assert [part.path for part in fields_of(schema, exclude=["tenant"])] == ["id"]
    assert [part.path for part in fields_of(schema, only=["tenant"])] == ["tenant"]


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (int, "12345678901234567890", 12345678901234567890),
        (int, "1.5", 1.5),
        (int, "many", "many"),
        (float, "nan", "nan"),
        (Decimal, " 0.12345678901234567890123 ", "0.12345678901234567890123"),
        (Decimal | None, "", None),
        (list[Decimal], "1.10\n2", ["1.10", "2"]),
        (str, "  spaces  ", "  spaces  "),
        (str, "a\r\nb", "a\nb"),
        (str | None, "", None),
        (int | None, " ", None),
        (bool | None, "", None),
        (bool | None, "true", True),
        (Literal["a", 2], "2", 2),
        (Literal["a", "2"], '"2"', "2"),
        (list[int], "1\n\n 2 \n", [1, 2]),
        (list[str], "", []),
        (list[str] | None, "", None),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (datetime, "2026-11-22T10:00", "2026-11-22T10:00Z"),
        (datetime, "2026-11-22T10:00+02:00", "2026-11-22T10:00+02:00"),
        (bool, "false", False),
    ],
    ids=map(str, range(22)),
)
def test_a_text_means_a_value(type_: Any, text: str, value: object) -> None:
    filled = read([one(type_)], {"": text})
    assert (filled.value, filled.problems) == (value, {})
    assert type(filled.value) is type(value)


def test_each_choice_means_its_value() -> None:
    field = one(Literal["a", 2, "2", True])
    texts = [option.value for option in field.options]
    assert [read([field], {"": text}).value for text in texts] == ["a", 2, "2", True]
    assert [fill([field], value, has_value=True)[""] for value in ("a", 2, "2", True)] == texts


@pytest.mark.parametrize("text", ["{", "[" * 100_000], ids=["torn", "deep"])
def test_what_is_no_json_is_told_at_its_field(text: str) -> None:
    filled = read([one(dict[str, int])], {"": text})
    assert filled.problems == {"": "This is no JSON"}


class Everything(BaseModel):
    text: str
    number: int = 3
    ratio: float | None = None
    price: Decimal = Decimal("1.50")
    flag: bool = False
    colour: Colour = Colour.RED
    tags: list[str] = []
    at: datetime | None = None
    inner: Inner
    extra: dict[str, int] = {}


@pytest.mark.parametrize(
    "given",
    [
        Everything(text="a", inner=Inner(name="b")),
        Everything(
            text="ä\nö",
            number=2**70,
            ratio=0.5,
            price=Decimal("0.10000000000000000000000000000000001"),
            flag=True,
            colour=Colour.BLUE,
            tags=["x", "y"],
            at=datetime.fromisoformat("2026-11-22T10:00:30+00:00"),
            inner=Inner(name=""),
            extra={"k": 1},
        ),
    ],
)
def test_a_value_that_is_shown_and_sent_comes_back(given: Everything) -> None:
    parts = fields_of(codec_for(Everything).schema())
    texts = fill(parts, given.model_dump(mode="json"), has_value=True)
    filled = read(parts, texts)
    assert filled.problems == {}
    assert Everything.model_validate(filled.value) == given


def test_without_a_value_the_defaults_are_shown() -> None:
    texts = fill(fields_of(codec_for(Everything).schema()), None, has_value=False)
    assert texts == {
        "text": "", "number": "3", "ratio": "", "price": "1.50", "flag": "false", "colour": '"red"',
        "tags": "", "at": "", "inner.name": "", "extra": "{}",
    }  # fmt: skip
