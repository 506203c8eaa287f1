"""What the strategies draw: the job accepts it, and it survives being stored."""

import asyncio
import json
import re
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, cast
from uuid import UUID

import hypothesis
import pytest
from annotated_types import Ge, Interval, Len, MultipleOf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import (
    UUID7,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FutureDate,
    FutureDatetime,
    HttpUrl,
    Json,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    PlainValidator,
    PostgresDsn,
    RootModel,
    Tag,
    field_validator,
)
from typing_extensions import TypedDict

from durably import Limits, StepContext, define_job
from durably.spi import codec_for
from durably_testing import (
    Fault,
    SimulationError,
    crash_plans,
    inputs_for,
    json_values,
    schedules,
    simulate,
)
from tests.testing.sample_jobs import Order, order
from tests.volume import limit, volume

FEW = settings(max_examples=volume(quick=15, ci=300), database=None, deadline=None)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Address(BaseModel):
    street: str = Field(min_length=1, max_length=30)
    zip_code: str = Field(pattern=r"^\d{5}$")
    email: str = Field(pattern=r"^[a-z]+@[a-z]+\.[a-z]{2,}$", max_length=40)


class Line(BaseModel):
    sku: Annotated[str, Len(3, 8)]
    price: Decimal = Field(gt=0, max_digits=8, decimal_places=2)
    count: int = Field(ge=1, le=99, multiple_of=3)
    weight: float = Field(gt=0, lt=100)


class Card(BaseModel):
    kind: Literal["card"]
    digits: Annotated[str, Field(pattern=r"[0-9]{4}")]


class Invoice(BaseModel):
    kind: Literal["invoice"]
    days: Literal[14, 30]


class Purchase(BaseModel):
    """Everything at once."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    color: Color
    size: Size = Size.SMALL
    note: str | None
    address: Address
    lines: list[Line] = Field(min_length=1, max_length=3)
    payment: Card | Invoice = Field(discriminator="kind")
    tags: set[Literal["a", "b", "c"]] = Field(default_factory=set, max_length=2)
    scores: dict[str, float]
    at: datetime
    until: AwareDatetime = Field(ge=datetime(2026, 1, 1, tzinfo=UTC), lt=datetime(2027, 1, 1, tzinfo=UTC))
    pair: tuple[int, str]
    many: tuple[int, ...] = ()
    alias_of: int = Field(alias="aliasOf", ge=0)
    hidden: str = Field(default="x", exclude=True)


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    parent: "Tree | None" = None


@dataclass
class Point:
    x: int
    y: Annotated[int, Ge(10)]
    label: str = ""
    seen: bool = field(default=False, init=False)


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Loose(TypedDict, total=False):
    title: str


class Position(NamedTuple):
    column: int
    row: int = 1


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it must be even")
        return value


class Never(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def refuse(cls, value: int) -> int:
        raise ValueError("not this one")


class Opaque:
    """Nothing that pydantic knows."""


class HoldsOpaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    it: Opaque


OPAQUE: Any = Annotated[int, PlainValidator(int)]


async def _nothing(step: StepContext, input: int) -> None: ...


def _kind(value: object) -> str:
    found: object = (
        cast("dict[str, object]", value)["kind"] if isinstance(value, dict) else vars(value)["kind"]
    )
    return str(found)


TYPES: list[Any] = [
    Purchase,
    Tree,
    list[Tree],
    Point,
    Movie,
    Loose,
    Position,
    Even,
    Order,
    RootModel[list[int]],
    int,
    Annotated[int, Field(gt=3, lt=5)],
    Annotated[int, Field(ge=-7, multiple_of=5)],
    Annotated[float, Field(ge=0, le=1)],
    Annotated[float, Field(multiple_of=0.5, ge=0, le=9)],
    Decimal,
    Annotated[Decimal, Field(ge=1, le=2)],
    Annotated[Decimal, Field(max_digits=5)],
    Annotated[Decimal, MultipleOf(Decimal("0.05")), Interval(ge=0, le=1)],
    Fraction,
    complex,
    bool,
    None,
    str,
    Annotated[str, Field(min_length=2, pattern="^[ab]*$")],
    Annotated[str, Field(max_length=4)],
    bytes,
    Annotated[bytes, Field(min_length=3, max_length=9)],
    date,
    Annotated[date, Field(gt=date(2026, 1, 1), lt=date(2026, 1, 3))],
    datetime,
    Annotated[datetime, Field(le=datetime(1999, 1, 1))],  # noqa: DTZ001 - pydantic takes such bounds
    NaiveDatetime,
    PastDatetime,
    FutureDatetime,
    PastDate,
    FutureDate,
    time,
    Annotated[time, Field(ge=time(9), le=time(17))],
    timedelta,
    Annotated[timedelta, Field(ge=timedelta(seconds=1), lt=timedelta(days=2))],
    UUID,
    UUID7,
    HttpUrl,
    PostgresDsn,
    IPv4Address | int,
    Path,
    Color,
    Size,
    Literal["a", 1] | None,
    list[int | str],
    Annotated[list[int], Field(min_length=2, max_length=4)],
    set[int],
    frozenset[Annotated[str, Field(max_length=2)]],
    deque[int],
    Counter[str],
    OrderedDict[str, int],
    dict[int, bool],
    dict[date, list[Color]],
    Annotated[dict[str, int], Field(min_length=1, max_length=2)],
    tuple[int, ...],
    tuple[()],
    tuple[int, *tuple[str, ...], bool],
    Json[list[int]],
    Any,
    object,
    list,
    dict,
    Annotated[int, AfterValidator(abs)],
    Annotated[int, BeforeValidator(int)],
    Annotated[int, PlainValidator(int, json_schema_input_type=int)],
    Annotated[Annotated[Card, Tag("card")] | Annotated[Invoice, Tag("invoice")], Discriminator(_kind)],
]


def _name(type_: Any) -> str:
    # A function's address is another one in each process.
    return re.sub(r" at 0x[0-9a-f]+", "", str(type_))


@limit(60)
@pytest.mark.parametrize("type_", TYPES, ids=_name)
def test_what_is_drawn_fits_the_type_and_survives_being_stored(type_: Any) -> None:
    codec = codec_for(type_)

    @FEW
    @given(inputs_for(type_))
    def holds(value: object) -> None:
        text, back = codec.encode(value, what="it", limit=Limits().payload_bytes)
        assert back == codec.decode(text, what="it") == value

    holds()


def test_a_job_accepts_its_inputs() -> None:
    @settings(max_examples=10, database=None, deadline=None)
    @given(inputs_for(order), schedules(workers=2))
    def holds(input: Order, schedule: Any) -> None:
        run = simulate(order, input, **schedule)
        assert run.output.paid == input.amount
        assert 1 <= schedule["workers"] <= 2

    holds()


def test_the_simplest_input_is_simple() -> None:
    # Without shrinking: the first one that is drawn.
    simplest = hypothesis.find(
        inputs_for(Purchase), lambda _: True, settings=settings(database=None, phases=[Phase.generate])
    )

    assert simplest.id.int == 0
    assert (simplest.color, simplest.size, simplest.note) == (Color.RED, Size.SMALL, None)
    assert len(simplest.lines) == 1
    assert simplest.lines[0].count == 3
    assert simplest.at == datetime(2000, 1, 1, tzinfo=UTC)
    assert simplest.scores == {}
    assert simplest.payment == Card(kind="card", digits="0000")
    assert hypothesis.find(inputs_for(order), lambda _: True).amount == 1


def test_a_type_that_holds_itself_is_drawn_to_a_depth() -> None:
    def depth(tree: Tree) -> int:
        inner = [*tree.children, *([tree.parent] if tree.parent else [])]
        return 1 + max(map(depth, inner), default=0)

    @settings(max_examples=200, database=None, deadline=None)
    @given(inputs_for(Tree))
    def holds(tree: Tree) -> None:
        deepest.append(depth(tree))

    deepest: list[int] = []
    holds()
    assert 1 in deepest
    assert 2 < max(deepest) <= 4


def test_a_validator_that_refuses_nearly_everything_is_named_with_the_way_out() -> None:
    @settings(database=None)
    @given(inputs_for(Never))
    def never(value: Never) -> None: ...

    with pytest.raises(SimulationError, match=r"of \d+ inputs .* none was accepted: .*number.* Pass inputs="):
        never()


def test_a_type_that_says_nothing_of_what_it_accepts_needs_a_strategy() -> None:
    with pytest.raises(SimulationError, match=r"what int checks: only that function knows .* inputs="):
        inputs_for(define_job(name="a", input=cast("type[int]", OPAQUE), output=None, run=_nothing))
    with pytest.raises(SimulationError, match=r"kind 'is-instance' .*Opaque.* inputs="):
        inputs_for(HoldsOpaque)


def test_any_json_survives_being_stored() -> None:
    @settings(max_examples=200, database=None)
    @given(json_values())
    def holds(value: object) -> None:
        text, back = codec_for(object).encode(value, what="it", limit=Limits().payload_bytes)
        assert json.loads(text) == back == value

    holds()


def test_a_model_that_is_given_in_place_of_a_job_may_be_that_of_any_job() -> None:
    async def body(step: StepContext, input: Even) -> int:
        return await step.run("halve", lambda: input.number // 2)

    halves = define_job(name="halves", input=Even, output=int, run=body)

    @settings(max_examples=10, database=None, deadline=None)
    @given(inputs_for(halves))
    def holds(input: Even) -> None:
        assert simulate(halves, input).output * 2 == input.number

    holds()


@limit(60)
@FEW
@given(crash_plans(max_faults=2, kinds=("pause", "hang")))
def test_plans_have_few_faults_of_the_kinds_that_are_wanted(plan: tuple[Fault, ...]) -> None:
    assert len(plan) <= 2
    assert all(fault.kind in {"pause", "hang"} and fault.seconds > 0 for fault in plan)


async def test_strategies_are_drawn_from_while_a_loop_is_running() -> None:
    await asyncio.sleep(0)
    assert hypothesis.find(inputs_for(Order), lambda found: found.amount > 5).amount == 6


def test_strategies_can_be_combined() -> None:
    both = st.tuples(inputs_for(Order), schedules())
    found, schedule = hypothesis.find(both, lambda _: True)
    assert (found.amount, schedule) == (1, {"workers": 1, "seed": 0})
