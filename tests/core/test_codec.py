"""The codec: what comes back from storage is what went in, or it is refused with its path."""

import asyncio
import gc
import inspect
import json
import math
import sys
import traceback
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property, lru_cache, partial, wraps
from operator import itemgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, NoReturn, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, override

from durably.codec import UNTYPED, Codec, codec_for, codec_of_result
from durably.errors import (
    ConfigurationError,
    NotStorableError,
    PayloadTooLargeError,
    StoredValueError,
    ValidationError,
)

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
MIB = 1 << 20
HALF_A_PAIR = "\ud83d"
BERLIN = ZoneInfo("Europe/Berlin")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1


class Corner(Enum):
    NORTH_WEST = (0, 1)


class Item(BaseModel):
    name: str
    price: float = 0


class Article(BaseModel):
    name: str
    price: float = 0


class Discounted(Item):
    percent: int = 10


class Order(BaseModel):
    id: UUID
    total: Decimal
    at: datetime
    colour: Colour
    items: list[Item] = []
    tags: set[str] = set()
    notes: dict[date, str] = {}


@dataclass
class Point:
    x: int
    y: float = field(default=0.0, compare=False)


class Place(NamedTuple):
    name: str
    at: Point


class Row(TypedDict):
    id: int
    name: str


def back(type_: object, value: object) -> object:
    return codec_for(type_).encode(value, what="the result", limit=MIB)[1]


def untyped(value: object) -> Any:
    return value


def refusal(type_: object, value: object) -> NotStorableError:
    with pytest.raises(NotStorableError) as caught:
        codec_for(type_).encode(value, what="the result of step 'parse'", limit=MIB)
    assert str(caught.value).startswith("the result of step 'parse' cannot be stored: at $")
    return caught.value


# ------------------------------------------------------------------ there and back

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def same(one: object, other: object) -> bool:
    """Equality that tells True from 1, 1 from 1.0 and 0.0 from -0.0."""
    return one == other and repr(one) == repr(other)


@given(json_values)
@example(2**64)
@example(-(10**4000))
@example(5e-324)
@example(-0.0)
@example({"": "\0", "é": "\U0001f600"})
@example(["NaN", "Infinity", {"NaN": "-Infinity"}])
def test_every_json_value_comes_back_the_same(value: object) -> None:
    text, returned = UNTYPED.encode(value, what="it", limit=MIB)

    assert same(returned, value)
    assert same(UNTYPED.decode(text, what="it"), value)
    assert text.isascii()
    assert same(json.loads(text), value)


zones = st.sampled_from([None, UTC, BERLIN, timezone(timedelta(hours=-3, minutes=-30))])
datetimes = st.datetimes(timezones=zones, allow_imaginary=True)
typed: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    str: st.text(),
    bytes: st.text().map(str.encode),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    UUID: st.uuids(),
    Colour: st.sampled_from(Colour),
    date: st.dates(),
    timedelta: st.timedeltas(),
    datetime: st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])),
    PurePosixPath: st.text(st.characters(codec="ascii"), max_size=20).map(PurePosixPath),
    int | None: st.none() | st.integers(),
    int | str: st.integers() | st.text(),
    bool | float | str: st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    list[int | None]: st.lists(st.none() | st.integers()),
    tuple[int, ...]: st.lists(st.integers()).map(tuple),
    tuple[int, str]: st.tuples(st.integers(), st.text()),
    set[int]: st.sets(st.integers()),
    frozenset[str]: st.frozensets(st.text()),
    deque[int]: st.lists(st.integers()).map(deque),
    dict[int, str]: st.dictionaries(st.integers(), st.text()),
    dict[date, list[Decimal]]: st.dictionaries(
        st.dates(), st.lists(st.decimals(allow_nan=False, allow_infinity=False))
    ),
    Row: st.fixed_dictionaries({"name": st.text(), "id": st.integers()}),
    Point: st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    Place: st.builds(Place, st.text(), st.builds(Point, st.integers())),
    Item: st.builds(Item, name=st.text(), price=st.floats(allow_nan=False, allow_infinity=False)),
    Order: st.builds(
        Order,
        total=st.decimals(allow_nan=False, allow_infinity=False),
        at=st.datetimes(timezones=st.just(UTC)),
        items=st.lists(st.builds(Item, price=st.floats(allow_nan=False, allow_infinity=False)), max_size=3),
        notes=st.dictionaries(st.dates(), st.text(), max_size=3),
    ),
}
ORDERLESS = (set[int], frozenset[str], Order)


@pytest.mark.parametrize("type_", typed, ids=str)
@given(data=st.data())
def test_a_typed_value_comes_back_by_type_and_value(type_: object, data: st.DataObject) -> None:
    codec = codec_for(type_)
    value = data.draw(typed[type_])

    text, returned = codec.encode(value, what="it", limit=MIB)

    assert returned == value
    assert type(returned) is type(value) or (type_ is float and type(returned) is float)
    assert codec.decode(text, what="it") == returned
    assert text.isascii()
    json.loads(text, parse_constant=pytest.fail)
    again, twice = codec.encode(returned, what="it", limit=MIB)
    assert twice == returned
    assert again == text or type_ in ORDERLESS


anything = st.recursive(
    st.sampled_from([None, True, 1, -1, 1.5, math.nan, math.inf, "x", "1", HALF_A_PAIR, b"x", b"\xff"])
    | st.sampled_from(
        [Colour.RED, Size.SMALL, Corner.NORTH_WEST, Decimal("1.0"), UUID(int=1), Item(name="x")]
    )
    | datetimes
    | st.builds(Discounted, name=st.text(max_size=2))
    | st.builds(Point, st.integers() | st.text(max_size=1)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.booleans() | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=anything, type_=st.sampled_from([object, list[object], dict[str, Any], *typed]))
def test_whatever_is_accepted_reads_back_as_what_was_returned(value: object, type_: object) -> None:
    codec = codec_for(type_)
    try:
        text, returned = codec.encode(value, what="it", limit=MIB)
    except NotStorableError as error:
        assert error.path.startswith("$")  # noqa: PT017
        return

    assert same(codec.decode(text, what="it"), returned)
    assert codec.encode(returned, what="it", limit=MIB)[0] == text or type_ in ORDERLESS
    json.loads(text, parse_constant=pytest.fail)
    if type_ is object:
        assert same(untupled(value), returned)


def untupled(value: Any) -> object:
    if isinstance(value, list | tuple):
        return [untupled(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: untupled(item) for key, item in cast("dict[object, object]", value).items()}
    return value


SURVIVORS: list[tuple[object, object]] = [
    (Size, Size.SMALL),
    (time, time(12, 30, 1, 5)),
    (OrderedDict[str, int], OrderedDict(a=1)),
    (Counter[str], Counter("aab")),
    (Literal["a", 1], 1),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (Annotated[int, Field(gt=3)], 5),
    (dict[str, Any], {"a": [1, None, {"b": "c"}]}),
    (type(None), None),
]


@pytest.mark.parametrize(("type_", "value"), SURVIVORS)
def test_annotations_carry_what_plain_json_cannot(type_: object, value: object) -> None:
    assert same(back(type_, value), value)


def test_an_untyped_tuple_comes_back_as_a_list_live_too() -> None:
    assert back(object, (1, [(2,)], {"a": (None, "x")})) == [1, [[2]], {"a": [None, "x"]}]


def test_a_tuple_below_an_annotation_is_refused() -> None:
    assert refusal(dict[str, Any], {"a": (1,)}).path == "$.a"


def test_an_int_is_taken_for_a_float_and_comes_back_as_one() -> None:
    text, returned = codec_for(list[float]).encode([1, 2.5], what="it", limit=MIB)

    assert same(returned, [1.0, 2.5])
    assert text == "[1.0,2.5]"


def test_an_int_that_a_float_cannot_hold_is_refused() -> None:
    assert refusal(Item, Item.model_construct(name="x", price=2**53 + 1)).path == "$.price"


def test_the_repeated_hour_of_a_zone_survives() -> None:
    twice = [datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold) for fold in (0, 1)]

    returned: Any = back(list[datetime], twice)

    assert [one.utcoffset() for one in returned] == [timedelta(hours=2), timedelta(hours=1)]
    assert [one.hour for one in returned] == [2, 2]


def test_the_text_settles_the_order_of_a_typed_dict() -> None:
    codec = codec_for(Row)

    assert codec.encode({"name": "x", "id": 1}, what="it", limit=MIB)[0] == '{"id":1,"name":"x"}'


class Aliased(BaseModel):
    kind: Literal["aliased"] = Field(default="aliased", alias="k")
    plain: int = Field(alias="Plain")
    read: int = Field(default=0, validation_alias=AliasPath("somewhere", "else"))
    written: int = Field(default=0, serialization_alias="Written")

    @computed_field
    def double(self) -> int:
        return self.plain * 2

    @cached_property
    def slow(self) -> int:
        return 5


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["other"] = Field(default="other", alias="k")

    @computed_field
    def double(self) -> int:
        return 2


def test_aliases_and_computed_fields_do_not_stand_in_the_way() -> None:
    value = Aliased(Plain=3, written=4).model_copy(update={"read": 7})
    assert value.slow == 5

    text, returned = codec_for(Aliased).encode(value, what="it", limit=MIB)

    assert json.loads(text) == {"kind": "aliased", "plain": 3, "read": 7, "written": 4}
    assert returned.read == 7
    either = Annotated[Aliased | Other, Field(discriminator="kind")]
    assert back(list[either], [Other(), value]) == [Other(), returned]


def test_extra_fields_of_a_model_are_kept() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    returned = back(Open, Open.model_validate({"a": [1]}))

    assert isinstance(returned, Open)
    assert returned.model_extra == {"a": [1]}
    assert refusal(Open, Open.model_validate({"a": {1: (2,)}})).path == "$.a[1]"


# ------------------------------------------------------------------ what is refused, and where


class Loose(BaseModel):  # noqa: PLW1641
    value: int
    hidden: int = Field(default=0, exclude=True)

    @override
    def __eq__(self, other: object) -> bool:
        return True


class Guarded(BaseModel):
    password: SecretStr
    _seen: int = PrivateAttr(default=0)

    def look(self) -> "Guarded":
        self._seen += 1
        return self


class Required(BaseModel):
    gone: int = Field(exclude=True)


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    value: float | None = None


Shouted = Annotated[str, PlainSerializer(str.upper)]


class Basket(BaseModel):
    items: list[Item] = []
    best: Item | None = None


@dataclass
class Careless:  # noqa: PLW1641
    value: object

    @override
    def __eq__(self, other: object) -> bool:
        return True


LOOP: list[object] = []
LOOP.append({"again": LOOP})


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


REFUSED: list[tuple[object, object, str, str]] = [
    # NaN and infinity, wherever they hide
    (object, math.nan, "$", "NaN"),
    (object, {"a": [1.0, math.inf]}, "$.a[1]", "NaN"),
    (float, math.nan, "$", "NaN"),
    (list[float], [0.5, -math.inf], "$[1]", "NaN"),
    (dict[str, float | None], {"a": math.nan}, "$.a", "NaN"),
    (Basket, Basket(items=[Item(name="x", price=math.nan)]), "$.items[0].price", "NaN"),
    (Constants, Constants(value=math.inf), "$.value", "NaN"),
    (Decimal, Decimal("NaN"), "$", "finite"),
    # text and bytes that JSON cannot hold
    (object, {"a": ["x", "y" + HALF_A_PAIR]}, "$.a[1]", "surrogate"),
    (object, {"a": {HALF_A_PAIR: 1}}, "$.a['\\ud83d']", "surrogate"),
    (str, HALF_A_PAIR, "$", "surrogate"),
    (
        Basket,
        Basket(items=[Item.model_construct(name=HALF_A_PAIR, price=0.0)]),
        "$.items[0].name",
        "surrogate",
    ),
    (dict[str, bytes], {"a": b"fine", "b": b"\xff"}, "$.b", "UTF-8"),
    # shapes
    (object, LOOP, "$[0].again", "contains itself"),
    (object, {"a": 10**5000}, "$.a", "digits"),
    (list[int], [1, -(10**5000)], "$[1]", "digits"),
    # models
    (Guarded, Guarded(password=SecretStr("hush")), "$.password", "changed"),
    (Guarded, Guarded(password=SecretStr("")).look(), "$._seen", "changed"),
    (Loose, Loose(value=1, hidden=2), "$.hidden", "changed"),
    (Required, Required(gone=1), "$.gone", "does not come back"),
    (Item, Discounted(name="x"), "$", "Discounted comes back as Item"),
    (
        Basket,
        Basket(items=[Item(name="a"), Discounted(name="b")]),
        "$.items[1]",
        "Discounted comes back as Item",
    ),
    (Basket, Basket(best=Discounted(name="b")), "$.best", "Discounted comes back as Item"),
    (Item, Item.model_construct(name=untyped(5)), "$.name", "int"),
    (Basket, Basket.model_construct(items=untyped(())), "$.items", "tuple"),
    (Careless, Careless(value={1}), "$.value", "set comes back as list"),
    (Point, Point(untyped("1")), "$.x", "str comes back as int"),
    (Place, Place("x", Point(True)), "$.at.x", "bool comes back as int"),
    (Row, {"id": True, "name": "x"}, "$.id", "bool comes back as int"),
    (Row, {"id": 1}, "$.name", "does not come back"),
    (Row, {"id": 1, "name": "x", "more": 2}, "$.more", "does not come back"),
    # types that are nearly the same
    (int, True, "$", "bool comes back as int"),
    (int, Size.SMALL, "$", "Size comes back as int"),
    (int, 5.0, "$", "float comes back as int"),
    (str, Colour.RED, "$", "Colour comes back as str"),
    (Decimal, 5, "$", "int comes back as Decimal"),
    (list[int], (1, 2), "$", "tuple comes back as list"),
    (set[int], {True}, "$[0]", "bool comes back as int"),
    (deque[int], deque([True]), "$[0]", "bool comes back as int"),
    (dict[str, int], OrderedDict(a=1), "$", "OrderedDict comes back as dict"),
    (dict[int, int], {True: 1}, "$", "dict does not come back"),
    (dict[date, int], {date(2026, 1, 1): "x"}, "$['2026-01-01']", "str does not come back"),
    (dict[float, int], {1: 1}, "$[1]", "its key, int, comes back as float"),
    (list[Discounted | Item], [Item(name="x")], "$[0]", "Item comes back as Discounted"),
    (Corner, Corner.NORTH_WEST, "$", "Corner does not come back"),
    (type(None), 5, "$", "int does not come back"),
    (Colour, "green", "$", "str does not come back"),
    (int | str, Decimal(5), "$", "Decimal comes back as"),
    (datetime, datetime(1890, 1, 1, tzinfo=BERLIN), "$", "changed"),
    # without an annotation, all but plain JSON
    (object, {"a": {1, 2}}, "$.a", "set comes back as list"),
    (object, {1: "x"}, "$[1]", "its key, int"),
    (object, {None: "x"}, "$[None]", "its key, NoneType"),
    (object, {(1, 2): "x"}, "$[tuple]", "its key, tuple"),
    (object, {"not a name": {"x" * 100: {1}}}, f"$['not a name'].{'x' * 40}", "set comes back as list"),
    (object, [datetime(2026, 1, 1, tzinfo=UTC)], "$[0]", "datetime comes back as str"),
    (object, Item(name="x"), "$", "Item comes back as dict"),
    (object, Point(1), "$", "Point comes back as dict"),
    (object, Place("x", Point(1)), "$", "Place comes back as list"),
    (object, UUID(int=1), "$", "UUID comes back as str"),
    (object, b"x", "$", "bytes comes back as str"),
    (object, Colour.RED, "$", "Colour comes back as str"),
    (object, {"f": [print]}, "$.f[0]", "no JSON form"),
    (object, iter([1]), "$", "comes back as list"),
    (object, (one for one in "ab"), "$", "can be read only once"),
    (list[Shouted], ["LOUD", "quiet"], "$[1]", "str comes back changed"),
]


@pytest.mark.parametrize(("type_", "value", "path", "reason"), REFUSED)
def test_what_would_change_is_refused_with_its_path(
    type_: object, value: object, path: str, reason: str
) -> None:
    error = refusal(type_, value)

    assert error.path == path
    assert reason in str(error)


@pytest.mark.parametrize("type_", [object, list[Any]])
def test_depth_is_refused_not_a_crash(type_: object) -> None:
    assert back(type_, nested(150)) == nested(150)
    for depth in (230, 5_000):
        assert "nested too deeply" in str(refusal(type_, nested(depth)))


def test_a_long_path_is_cut() -> None:
    value: object = {1}
    for _ in range(50):
        value = {"rather_long": value}

    assert refusal(object, value).path == ("$" + ".rather_long" * 50)[:200]


def test_little_stack_left_is_refused_not_a_crash() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        error = refusal(object, nested(150))
    finally:
        sys.setrecursionlimit(limit)

    assert "nested too deeply" in str(error)


def test_the_refusal_of_an_untyped_value_says_what_to_do() -> None:
    assert "annotate the function's return type, or pass result=Type" in str(refusal(object, {"a": {1}}))
    assert "result=Type" not in str(refusal(list[Any], [{1}]))


def test_an_odd_comparison_or_validator_is_a_refusal_not_a_crash() -> None:
    class Odd(BaseModel):
        value: int

        @field_validator("value")
        @classmethod
        def _check(cls, value: int) -> int:
            if value == 7:
                raise LookupError("no 7")
            return value

    assert "LookupError" in str(refusal(Odd, Odd.model_construct(value=7)))


def test_a_refusal_holds_no_value_of_the_result() -> None:
    error = refusal(Item, Item.model_construct(name="x", price=untyped("secret-price")))

    assert "secret" not in "".join(traceback.format_exception(error))


# ------------------------------------------------------------------ sizes


def test_the_limit_is_bytes_of_text() -> None:
    value = "é" * 10
    text, _ = UNTYPED.encode(value, what="it", limit=62)
    assert len(text) == 62

    with pytest.raises(PayloadTooLargeError) as caught:
        UNTYPED.encode(value, what="the input of job 'import'", limit=61)

    assert (caught.value.size, caught.value.limit) == (62, 61)
    assert "the input of job 'import'" in str(caught.value)


def test_a_value_that_is_too_large_is_not_examined_further() -> None:
    with pytest.raises(PayloadTooLargeError):
        UNTYPED.encode({"a": {1}, "b": "x" * 100}, what="it", limit=100)


# ------------------------------------------------------------------ decoding and validating


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: UUID
    count: int = Field(gt=3)
    kind: Annotated[Item | Point, Field(union_mode="left_to_right")] | None = None
    label: str = "x"
    prices: dict[str, float] = {}

    @field_validator("label")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            raise ValueError(f"{value!r} has spaces" if value.startswith("quote") else "must not have spaces")
        if value == "custom secret":
            raise PydanticCustomError("mine", "custom words")
        return value


GOOD = {"id": str(UUID(int=1)), "count": 5}


def decode_error(type_: object, text: str) -> str:
    with pytest.raises(StoredValueError) as caught:
        codec_for(type_).decode(text, what="the output of run 7")
    assert str(caught.value).startswith("the output of run 7 as stored does not fit ")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def invalid(type_: object, value: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        codec_for(type_).validate(value, what="the input of job 'x'")
    assert str(caught.value).startswith("the input of job 'x' does not fit ")
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_a_stored_value_of_another_shape_names_fields_and_shapes_never_values() -> None:
    message = decode_error(Strict, json.dumps({"id": "secret", "count": ["secret"], "label": "a secret"}))

    assert "Strict" in message
    assert "id: Input should be a valid UUID (found a string)" in message
    assert "count: Input should be a valid integer (found an array)" in message
    assert "label: refused by its validator (found a string)" in message


def test_a_missing_field_and_a_whole_value_are_named() -> None:
    assert "count: Field required" in decode_error(Strict, json.dumps({"id": GOOD["id"]}))
    assert "the value: Input should be a valid integer (found null)" in decode_error(int, "null")
    assert "list[int]" in decode_error(list[int], '["secret"]')
    assert "Invalid JSON" in decode_error(object, '{"secret')


def test_a_validator_that_breaks_on_old_data_is_a_stored_value_error() -> None:
    class Breaks(BaseModel):
        @model_validator(mode="before")
        @classmethod
        def _upgrade(cls, data: dict[str, object]) -> object:
            return data["secret"]

    assert "KeyError" in decode_error(Breaks, "{}")


def test_validation_converts_and_takes_instances() -> None:
    codec = codec_for(Strict)
    value = codec.validate(GOOD, what="it")

    assert value == Strict(id=UUID(int=1), count=5)
    assert codec.validate(value, what="it") is value
    assert UNTYPED.validate({"a": (1,)}, what="it") == {"a": (1,)}


def test_json_from_outside_is_read_as_json_also_by_a_strict_type() -> None:
    class Day(BaseModel, strict=True):
        on: date

    assert codec_for(Day).validate_json('{"on": "2026-11-22"}', what="it") == Day(on=date(2026, 11, 22))
    with pytest.raises(ValidationError, match="it does not fit Day: on: ") as refusal:
        codec_for(Day).validate_json('{"on": "secret"}', what="it")
    assert refusal.value.fields == ("on",)
    with pytest.raises(ValidationError, match="Invalid JSON"):
        codec_for(Day).validate_json("{", what="it")


@pytest.mark.parametrize(
    ("data", "fields", "reason"),
    [
        ({"id": "secret-id"}, ("id",), "id: Input should be a valid UUID"),
        ({"count": 2}, ("count",), "count: Input should be greater than 3"),
        ({"count": "secret", "prices": {"a": "secret"}}, ("count", "prices.a"), "prices.a: Input should be"),
        ({"label": "a secret"}, ("label",), "label: Value error, must not have spaces"),
        ({"label": "quote secret"}, ("label",), "label: refused by its validator"),
        ({"more": "secret"}, ("more",), "more: Extra inputs are not permitted"),
    ],
)
def test_invalid_input_names_field_and_reason_never_the_value(
    data: dict[str, object], fields: tuple[str, ...], reason: str
) -> None:
    error = invalid(Strict, GOOD | data)

    assert error.fields == fields
    assert reason in str(error)


def test_a_wrong_tag_and_a_custom_error_are_told_without_the_input() -> None:
    either = Annotated[Aliased | Other, Field(discriminator="kind")]
    assert "'aliased', 'other'" in str(invalid(either, {"k": "secret"}))

    def own(value: str) -> str:
        raise PydanticCustomError("mine", "not {word}", {"word": value})

    assert "refused by its validator" in str(invalid(Annotated[str, AfterValidator(own)], "secret"))


def test_a_long_list_of_errors_is_cut() -> None:
    error = invalid(list[int], ["secret"] * 25)

    assert str(error).endswith("; and 15 more")
    assert str(error).count("Input should be") == 10
    assert len(error.fields) == 25
    assert invalid(int, "secret").fields == ()


def test_a_form_is_told_the_reason_at_each_place() -> None:
    error = invalid(Strict, GOOD | {"count": "secret", "prices": {"a": "secret", "b": 1}})

    assert list(error.reasons) == list(error.fields) == ["count", "prices.a"]
    assert error.reasons["count"].startswith("Input should be a valid integer")
    assert dict(invalid(int, "secret").reasons).keys() == {""}
    # Where several types are possible, none of their reasons is lost.
    either = invalid(Annotated[int | None, Field(gt=3)], "secret")
    assert all(reason for reason in either.reasons.values())


def test_schema_describes_what_comes_in() -> None:
    assert codec_for(Item).schema()["required"] == ["name"]
    assert UNTYPED.schema() == {}


def test_a_default_that_is_no_json_is_left_out_of_the_schema() -> None:
    class Lazy(BaseModel):
        value: Any = object()

    assert codec_for(Lazy).schema()["properties"] == {"value": {"title": "Value"}}


def test_a_type_without_a_schema_takes_anything_by_its_schema() -> None:
    class Unheard(BaseModel):
        call: Callable[[], None]

    assert codec_for(Unheard).schema() == {}


# ------------------------------------------------------------------ the codec of a type


def test_a_codec_is_made_once_per_type() -> None:
    assert codec_for(Item) is codec_for(Item)
    assert codec_for(list[int]) is codec_for(list[int])
    assert codec_for(object) is UNTYPED
    unhashable = Annotated[int, Field(json_schema_extra={"a": 1}), []]
    assert back(unhashable, 5) == 5


def test_unions_that_are_equal_but_ordered_otherwise_have_their_own_codecs() -> None:
    one, other = list[Item | Article], list[Article | Item]
    assert one == other

    assert codec_for(one).decode('[{"name": "x"}]', what="it") == [Item(name="x")]
    assert codec_for(other).decode('[{"name": "x"}]', what="it") == [Article(name="x")]


class Handle:
    pass


@pytest.mark.parametrize("type_", [Handle, list[Handle], "Nowhere", 5, AsyncIterator[int]])
def test_a_type_without_a_json_form_is_a_configuration_error(type_: object) -> None:
    with pytest.raises(ConfigurationError, match="result=Type"):
        codec_for(type_)


# ------------------------------------------------------------------ the codec of a result


def plain() -> Item:
    raise NotImplementedError


async def coroutine() -> Item:
    raise NotImplementedError


def awaitable() -> Awaitable[Item]:
    raise NotImplementedError


def made() -> Coroutine[Any, Any, Item]:
    raise NotImplementedError


def task() -> asyncio.Task[Item]:
    raise NotImplementedError


def text() -> "Item":
    raise NotImplementedError


def text_awaitable() -> "Awaitable[Item]":
    raise NotImplementedError


def for_the_checker(value: "Fraction") -> "Item":
    raise NotImplementedError


def nothing() -> None:
    raise NotImplementedError


def anything_() -> Any:
    raise NotImplementedError


def thing() -> object:
    raise NotImplementedError


def never() -> NoReturn:
    raise NotImplementedError


def generic(value: T) -> T:
    raise NotImplementedError


def annotated(**annotations: object) -> Callable[[], object]:
    def function() -> object:
        raise NotImplementedError

    function.__annotations__ = annotations
    function.__name__ = f"annotated-{annotations}"
    return function


@lru_cache
def cached() -> Item:
    raise NotImplementedError


def decorated(function: Callable[..., T]) -> Callable[..., T]:
    @wraps(function)
    def wrapper(*args: object) -> T:
        return function(*args)

    return wrapper


@contextmanager
def elsewhere() -> Generator[None]:
    yield


class Service:
    annotations_of_the_class: ClassVar[int] = 1

    def method(self) -> Item:
        raise NotImplementedError

    async def __call__(self) -> Item:
        raise NotImplementedError

    @classmethod
    def of_class(cls) -> "Item":
        raise NotImplementedError

    @staticmethod
    def static() -> Item:
        raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        plain,
        coroutine,
        awaitable,
        made,
        task,
        text,
        text_awaitable,
        for_the_checker,
        cached,
        pytest.param(decorated(text), id="decorated"),
        pytest.param(elsewhere()(text), id="decorated-elsewhere"),
        partial(partial(plain)),
        partial(Service().method),
        Service().method,
        Service().of_class,
        Service.static,
        Service(),
        Item,
    ],
)
def test_the_return_annotation_decides(function: Callable[..., object]) -> None:
    assert codec_of_result(function) is codec_for(Item)
    assert codec_of_result(function) is codec_for(Item)


UNANNOTATED: list[Callable[..., object]] = [
    lambda: 1,
    annotated(),
    annotated(value=int),
    anything_,
    thing,
    never,
    generic,
    annotated(**{"return": Awaitable}),
    annotated(**{"return": asyncio.Future}),
    len,
    json.loads,
    partial(itemgetter(0), []),
]


@pytest.mark.parametrize("function", UNANNOTATED)
def test_without_an_annotation_plain_json_is_expected(function: Callable[..., object]) -> None:
    assert codec_of_result(function) is UNTYPED


def test_none_is_a_type_like_any_other() -> None:
    assert codec_of_result(nothing) is codec_for(type(None))


def test_nested_forward_references_are_resolved() -> None:
    def rows() -> list["Item"]:
        raise NotImplementedError

    assert codec_of_result(rows).decode('[{"name": "x"}]', what="it") == [Item(name="x")]


def test_an_annotation_that_cannot_be_resolved_says_what_to_do() -> None:
    def unresolvable() -> "Fraction":
        raise NotImplementedError

    with pytest.raises(
        ConfigurationError, match=r"unresolvable cannot be resolved .*Fraction.*pass result=Type"
    ):
        codec_of_result(unresolvable)


def test_inner_functions_are_not_kept_alive() -> None:
    def inner() -> "Item":
        raise NotImplementedError

    codec_of_result(inner)
    gone = weakref.ref(inner)
    del inner
    gc.collect()

    assert gone() is None


def checked_types() -> None:
    """For the type checkers: the value's type goes through."""
    codec: Codec[Item] = codec_for(Item)
    item: Item = codec.decode("", what="")
    other: Codec[object] = codec_for(list[int] | None)
    result: Codec[object] = codec_of_result(plain)
    del item, other, result
