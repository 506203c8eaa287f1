"""A strategy for whatever JSON a type accepts, read from the schema by which pydantic validates it."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

from durably_testing.errors import SimulationError
from durably_testing.leaves import LEAVES, Schema

DEPTH = 3
"""How often a type may hold itself."""

Json = Any


def json_for(schema: Schema) -> st.SearchStrategy[Json]:
    """JSON that a schema accepts, but for what its own functions refuse; the simplest first.

    Raises:
        SimulationError: It has a part of which nothing is known, e.g. a function alone.
    """
    return _Reader({}, {}).read(schema)


def json_values(*, max_leaves: int = 8) -> st.SearchStrategy[Json]:
    """Any JSON: null, booleans, numbers, texts, lists and objects.

    Each is the same after a trip through a store.

    Args:
        max_leaves: How many values it holds at most.
    """
    plain = st.none() | st.booleans() | st.integers() | _FLOATS | _TEXTS
    return st.recursive(
        plain, lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner), max_leaves=max_leaves
    )


_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(codec="utf-8"))


class _Reader:
    """Reads one schema.

    Args:
        definitions: The parts that are named in it.
        depths: How often each of them holds itself where we are.
    """

    def __init__(self, definitions: dict[str, Schema], depths: Mapping[str, int]) -> None:
        self._definitions = definitions
        self._depths = depths

    def read(self, schema: Schema) -> st.SearchStrategy[Json]:
        kind: str = schema["type"]
        leaf = LEAVES.get(kind)
        if leaf is not None:
            return leaf(schema)
        for kinds, read in self._readers().items():
            if kind in kinds:
                return read(schema)
        raise SimulationError(
            f"no input can be drawn for a part of kind {kind!r} ({_of(schema)}): nothing says what it accepts; "
            "pass inputs=… with a strategy of your own"
        )

    def _readers(self) -> Mapping[tuple[str, ...], Callable[[Schema], st.SearchStrategy[Json]]]:
        return {
            ("any",): lambda _: json_values(max_leaves=4),
            ("model", "dataclass", "nullable", "default", "custom-error", "json", "function-before", "function-after",
             "function-wrap"): self._inner,
            ("model-fields", "typed-dict"): self._fields,
            ("dataclass-args",): self._arguments,
            ("named-tuple",): self._named_tuple,
            ("list", "deque", "generator", "set", "frozenset"): self._items,
            ("tuple",): self._tuple,
            ("dict", "ordered-dict", "frozendict", "counter"): self._mapping,
            ("literal",): lambda schema: _sampled(schema["expected"]),
            ("enum",): lambda schema: _sampled(schema["members"]),
            ("union",): self._union,
            ("tagged-union",): self._tagged_union,
            ("chain",): lambda schema: self.read(schema["steps"][0]),
            ("lax-or-strict",): self._lax_or_strict,
            ("json-or-python",): lambda schema: self.read(schema["json_schema"]),
            ("function-plain",): self._plain,
            ("definitions",): self._defined,
            ("definition-ref",): self._reference,
            ("missing-sentinel",): lambda _: st.nothing(),
        }  # fmt: skip

    # Around something else

    def _inner(self, schema: Schema) -> st.SearchStrategy[Json]:
        inner = self.read(schema["schema"])
        match schema["type"]:
            case "nullable":
                return st.none() | inner
            case "json":
                return inner.map(json.dumps)
            case "function-after" if _is_email(schema):
                return st.emails()
            case _:
                return inner

    def _plain(self, schema: Schema) -> st.SearchStrategy[Json]:
        if "json_schema_input_schema" in schema and schema["json_schema_input_schema"]["type"] != "any":
            return self.read(schema["json_schema_input_schema"])
        raise SimulationError(
            f"no input can be drawn for what {_of(schema)} checks: only that function knows what it accepts; pass "
            "inputs=… with a strategy of your own"
        )

    def _lax_or_strict(self, schema: Schema) -> st.SearchStrategy[Json]:
        try:
            return self.read(schema["lax_schema"])
        except SimulationError:
            return self.read(schema["strict_schema"])

    def _union(self, schema: Schema) -> st.SearchStrategy[Json]:
        choices: list[Schema | tuple[Schema, str]] = schema["choices"]
        return st.one_of([self.read(one[0] if isinstance(one, tuple) else one) for one in choices])

    def _tagged_union(self, schema: Schema) -> st.SearchStrategy[Json]:
        choices: Mapping[object, Schema | str] = schema["choices"]
        # A tag may be another name of another tag.
        return st.one_of([self.read(one) for one in choices.values() if not isinstance(one, str)])

    def _defined(self, schema: Schema) -> st.SearchStrategy[Json]:
        self._definitions.update({part["ref"]: part for part in schema["definitions"]})
        return self.read(schema["schema"])

    def _reference(self, schema: Schema) -> st.SearchStrategy[Json]:
        name: str = schema["schema_ref"]
        depth = self._depths.get(name, 0)
        if depth == DEPTH:
            # Whoever can do without does.
            return st.nothing()
        return _Reader(self._definitions, {**self._depths, name: depth + 1}).read(self._definitions[name])

    # Fields

    def _fields(self, schema: Schema) -> st.SearchStrategy[Json]:
        return self._object(
            (name, field["schema"], field.get("required", schema.get("total", True)), _is_kept(field))
            for name, field in schema["fields"].items()
        )

    def _arguments(self, schema: Schema) -> st.SearchStrategy[Json]:
        return self._object(
            (field["name"], field["schema"], True, _is_kept(field))
            for field in schema["fields"]
            if field.get("init", True)
        )

    def _object(self, fields: Iterable[tuple[str, Schema, bool, bool]]) -> st.SearchStrategy[Json]:
        required: dict[str, st.SearchStrategy[Json]] = {}
        optional: dict[str, st.SearchStrategy[Json]] = {}
        for name, schema, is_required, is_kept in fields:
            if _has_default(schema) or not is_required:
                if is_kept and not (found := self.read(schema)).is_empty:
                    optional[name] = found
            else:
                required[name] = self.read(schema)
        return st.fixed_dictionaries(required, optional=optional)

    def _named_tuple(self, schema: Schema) -> st.SearchStrategy[Json]:
        return st.tuples(*(self.read(field["schema"]) for field in schema["fields"])).map(list)

    # Containers

    def _items(self, schema: Schema) -> st.SearchStrategy[Json]:
        is_set = schema["type"] in {"set", "frozenset"}
        return st.lists(
            self.read(_part(schema, "items_schema")),
            min_size=schema.get("min_length", 0),
            max_size=schema.get("max_length"),
            unique_by=json.dumps if is_set else None,
        )

    def _tuple(self, schema: Schema) -> st.SearchStrategy[Json]:
        parts: list[Schema] = schema["items_schema"]
        at: int | None = schema.get("variadic_item_index")
        if at is None:
            return st.tuples(*map(self.read, parts)).map(list)
        fixed = len(parts) - 1
        most = schema.get("max_length")
        many = st.lists(
            self.read(parts[at]),
            min_size=max(0, schema.get("min_length", 0) - fixed),
            max_size=None if most is None else most - fixed,
        )
        before, after = (st.tuples(*map(self.read, part)).map(list) for part in (parts[:at], parts[at + 1 :]))
        return st.tuples(before, many, after).map(lambda found: [*found[0], *found[1], *found[2]])

    def _mapping(self, schema: Schema) -> st.SearchStrategy[Json]:
        keys = self.read(_part(schema, "keys_schema", "str")).map(
            lambda key: key if isinstance(key, str) else json.dumps(key)
        )
        return st.dictionaries(
            keys,
            self.read(_part(schema, "values_schema")),
            min_size=schema.get("min_length", 0),
            max_size=schema.get("max_length"),
        )


def _part(schema: Schema, name: str, otherwise: str = "any") -> Schema:
    found: Schema = schema.get(name, {"type": otherwise})
    return found


def _sampled(values: Iterable[object]) -> st.SearchStrategy[Json]:
    return st.sampled_from([to_jsonable_python(value) for value in values])


def _has_default(schema: Schema) -> bool:
    return schema["type"] == "default" or (
        schema["type"].startswith("function-") and "schema" in schema and _has_default(schema["schema"])
    )


def _is_kept(field: Schema) -> bool:
    """Whether the field is stored at all; one that is not is left to its default."""
    return not (field.get("serialization_exclude") or field.get("init_only"))


def _is_email(schema: Schema) -> bool:
    return "EmailStr._validate" in getattr(schema["function"]["function"], "__qualname__", "")


def _of(schema: Schema) -> str:
    """A part of a schema, by the name of what it is about."""
    about = schema.get("cls") or schema.get("function", {}).get("function")
    return str(getattr(about, "__qualname__", about or "unnamed"))
