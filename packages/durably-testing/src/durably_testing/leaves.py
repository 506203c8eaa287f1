"""Strategies for the JSON of plain values: numbers, texts, instants, within their constraints."""

import math
import string
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypeAlias, cast
from uuid import UUID

from hypothesis import strategies as st

Schema: TypeAlias = Mapping[str, Any]
"""A part of pydantic's core schema."""

_SINCE = datetime(1900, 1, 1, tzinfo=UTC)
_UNTIL = datetime(2200, 1, 1, tzinfo=UTC)
_BOUNDS = ("ge", "gt", "le", "lt")
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_ZONES = (UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8)))
_ALPHANUMERIC = string.ascii_letters + string.digits


def integers(schema: Schema) -> st.SearchStrategy[Any]:
    """Whole numbers."""
    step = schema.get("multiple_of", 1)
    lowest = _highest(_ceil(schema.get("ge")), _above(schema.get("gt")))
    highest = _lowest(_floor(schema.get("le")), _below(schema.get("lt")))
    numbers = st.integers(
        None if lowest is None else -(-lowest // step), None if highest is None else highest // step
    )
    return numbers if step == 1 else numbers.map(lambda number: number * step)


def floats(schema: Schema) -> st.SearchStrategy[Any]:
    """Finite numbers: NaN and infinity have no JSON."""
    if "multiple_of" in schema:
        step = schema["multiple_of"]
        bounds = {name: schema[name] / step for name in _BOUNDS if name in schema}
        return integers(bounds).map(lambda number: number * step)
    lowest, highest = schema.get("ge", schema.get("gt")), schema.get("le", schema.get("lt"))
    return st.floats(
        None if lowest is None else float(lowest),
        None if highest is None else float(highest),
        allow_nan=False,
        allow_infinity=False,
        exclude_min="gt" in schema and "ge" not in schema,
        exclude_max="lt" in schema and "le" not in schema,
    )


def decimals(schema: Schema) -> st.SearchStrategy[Any]:
    """Decimal numbers, as text."""
    step = schema.get("multiple_of")
    if step is not None:
        bounds = {name: Decimal(schema[name]) / step for name in _BOUNDS if name in schema}
        return integers(bounds).map(lambda number: str(number * step))
    places, digits = schema.get("decimal_places"), schema.get("max_digits")
    lowest: Decimal | None = schema.get("ge", schema.get("gt"))
    highest: Decimal | None = schema.get("le", schema.get("lt"))
    if digits is not None:
        places = min(2, digits) if places is None else places
        most = (Decimal(10) ** digits - 1).scaleb(-places)
        lowest = -most if lowest is None else max(-most, lowest)
        highest = most if highest is None else min(most, highest)
    excluded = {schema.get("gt"), schema.get("lt")}
    if places is not None:
        # The simplest number is a bound: it should be one that is accepted.
        unit = Decimal(1).scaleb(-places)
        if lowest is not None and lowest in excluded:
            lowest += unit
        if highest is not None and highest in excluded:
            highest -= unit
    numbers = st.decimals(lowest, highest, allow_nan=False, allow_infinity=False, places=places)
    return numbers.filter(lambda number: number not in excluded).map(str)


def fractions(schema: Schema) -> st.SearchStrategy[Any]:
    """Fractions, as text."""
    return st.fractions(
        schema.get("ge", schema.get("gt")), schema.get("le", schema.get("lt")), max_denominator=1000
    ).map(str)


def texts(schema: Schema) -> st.SearchStrategy[Any]:
    """Texts; those of a pattern match it as a whole."""
    least, most = schema.get("min_length", 0), schema.get("max_length")
    if "pattern" in schema:
        found = cast("st.SearchStrategy[str]", st.from_regex(schema["pattern"], fullmatch=True))
        return found.filter(lambda text: least <= len(text) and (most is None or len(text) <= most))
    # No lone surrogates: they have no UTF-8.
    alphabet = st.characters(codec="ascii" if schema.get("ascii_only") else "utf-8")
    return st.text(alphabet, min_size=least, max_size=most)


def binaries(schema: Schema) -> st.SearchStrategy[Any]:
    """Bytes, as text that can be read as UTF-8 and as base64 alike."""
    least, most = schema.get("min_length", 0), schema.get("max_length")
    fewest, all_ = -(-least // 4), None if most is None else most // 4
    if all_ is not None and all_ < fewest:
        return st.text(_ALPHANUMERIC, min_size=least, max_size=most)
    fours = st.text(_ALPHANUMERIC, min_size=4, max_size=4)
    return st.lists(fours, min_size=fewest, max_size=all_).map("".join)


def dates(schema: Schema) -> st.SearchStrategy[Any]:
    """Dates."""
    first, last = _SINCE.date(), _UNTIL.date()
    first = max([first, *_given(schema, "ge"), *(day + _DAY for day in _given(schema, "gt"))])
    last = min([last, *_given(schema, "le"), *(day - _DAY for day in _given(schema, "lt"))])
    today = datetime.now(UTC).date()
    if schema.get("now_op") == "past":
        last = min(last, today - 2 * _DAY)
    elif schema.get("now_op") == "future":
        first = max(first, today + 2 * _DAY)
    return st.dates(first, last).map(date.isoformat)


def datetimes(schema: Schema) -> st.SearchStrategy[Any]:
    """Instants: with a zone, unless the type wants none."""
    first = max([_SINCE, *_instants(schema, "ge"), *(one + _MICROSECOND for one in _instants(schema, "gt"))])
    last = min([_UNTIL, *_instants(schema, "le"), *(one - _MICROSECOND for one in _instants(schema, "lt"))])
    now = datetime.now(UTC)
    if schema.get("now_op") == "past":
        last = min(last, now - 2 * _DAY)
    elif schema.get("now_op") == "future":
        first = max(first, now + 2 * _DAY)
    instants = st.datetimes(first.replace(tzinfo=None), last.replace(tzinfo=None))
    wanted = schema.get("tz_constraint")
    if wanted == "naive":
        return instants.map(datetime.isoformat)
    zones = (timezone(timedelta(seconds=wanted)),) if isinstance(wanted, int) else _ZONES
    return st.builds(_zoned, instants, st.sampled_from(zones))


def times(schema: Schema) -> st.SearchStrategy[Any]:
    """Times of a day."""
    bounds = {
        name: bound.replace(tzinfo=None)
        for name, keys in (("min_value", ("ge", "gt")), ("max_value", ("le", "lt")))
        for key in keys
        for bound in _given(schema, key)
    }
    found = st.times(**bounds)
    if schema.get("tz_constraint") == "aware":
        return found.map(lambda time: time.replace(tzinfo=UTC).isoformat())
    return found.map(lambda time: time.isoformat())


def timedeltas(schema: Schema) -> st.SearchStrategy[Any]:
    """Durations, by ISO 8601."""
    least = max([timedelta(days=-36_500), *_given(schema, "ge"), *_given(schema, "gt")])
    most = min([timedelta(days=36_500), *_given(schema, "le"), *_given(schema, "lt")])
    return st.timedeltas(least, most).map(_iso8601)


def uuids(schema: Schema) -> st.SearchStrategy[Any]:
    """UUIDs, of one version where the type wants it."""
    version: int | None = schema.get("version")
    return st.integers(0, 2**128 - 1).map(lambda number: str(_uuid(number, version)))


def urls(schema: Schema) -> st.SearchStrategy[Any]:
    """URLs of a host, with a path."""
    schemes = schema.get("allowed_schemes") or ["https"]
    paths = st.text(string.ascii_lowercase + string.digits, max_size=8)
    return st.builds("{}://example.org/{}".format, st.sampled_from(schemes), paths)


def complexes(schema: Schema) -> st.SearchStrategy[Any]:
    """Complex numbers, as text."""
    del schema
    return st.complex_numbers(allow_nan=False, allow_infinity=False).map(str)


LEAVES: Mapping[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
    "none": lambda _: st.none(),
    "bool": lambda _: st.booleans(),
    "int": integers,
    "float": floats,
    "decimal": decimals,
    "fraction": fractions,
    "str": texts,
    "bytes": binaries,
    "date": dates,
    "datetime": datetimes,
    "time": times,
    "timedelta": timedeltas,
    "uuid": uuids,
    "url": urls,
    "multi-host-url": urls,
    "complex": complexes,
}


def _given(schema: Schema, name: str) -> list[Any]:
    return [schema[name]] if name in schema else []


def _instants(schema: Schema, name: str) -> list[datetime]:
    return [
        one.replace(tzinfo=UTC) if one.tzinfo is None else one.astimezone(UTC) for one in _given(schema, name)
    ]


def _zoned(instant: datetime, zone: timezone) -> str:
    return instant.replace(tzinfo=UTC).astimezone(zone).isoformat()


def _uuid(number: int, version: int | None) -> UUID:
    if version is not None:
        number = (number & ~(0xF << 76)) | (version << 76)
        number = (number & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=number)


def _iso8601(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    return f"{sign}P{value.days}DT{value.seconds}.{value.microseconds:06}S"


def _ceil(bound: float | None) -> int | None:
    return None if bound is None else math.ceil(bound)


def _floor(bound: float | None) -> int | None:
    return None if bound is None else math.floor(bound)


def _above(bound: float | None) -> int | None:
    return None if bound is None else math.floor(bound) + 1


def _below(bound: float | None) -> int | None:
    return None if bound is None else math.ceil(bound) - 1


def _highest(*bounds: int | None) -> int | None:
    return max((bound for bound in bounds if bound is not None), default=None)


def _lowest(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)
