"""Stored JSON as something to look at."""

import json

import pytest

from durably_web.payloads import DEEPEST, LONGEST_STRING, MOST_ITEMS, Node, pretty, tree


def test_numbers_stay_as_they_are_stored() -> None:
    text = '{"big": 12345678901234567890123, "float": 1.10, "exponent": 1e400, "x": -0}'
    assert [child.text for _, child in tree(text).children] == [
        "12345678901234567890123",
        "1.10",
        "1e400",
        "-0",
    ]
    assert pretty(text) == (
        '{\n  "big": 12345678901234567890123,\n  "float": 1.10,\n  "exponent": 1e400,\n  "x": -0\n}'
    )


def test_a_tree_has_keys_words_and_counts() -> None:
    node = tree('{"a": [1, "two\\n", null, true], "b": {}, "c": []}')
    (key, a), (_, b), (_, c) = node.children
    assert (node.kind, node.text, key, a.kind, a.text) == ("object", "3 keys", '"a"', "array", "4 items")
    assert [(child.kind, child.text) for _, child in a.children] == [
        ("number", "1"),
        ("string", '"two\\n"'),
        ("word", "null"),
        ("word", "true"),
    ]
    assert (b.kind, b.children, c.kind) == ("object", (), "array")
    assert tree('{"only": 1}').text == "1 key"


@pytest.mark.parametrize("value", [{}, [], "text", 1, None, [[], {}], {"a": {"b": [1, {"c": "é"}]}}])
def test_pretty_text_means_the_same(value: object) -> None:
    assert json.loads(pretty(json.dumps(value))) == value


def test_what_is_very_deep_long_or_large_is_cut() -> None:
    deep = json.dumps(value) if (value := json.loads("[" * 40 + '{"a": 1.0}' + "]" * 40)) else ""
    node = tree(deep)
    for _ in range(DEEPEST):
        [(_, node)] = node.children
    assert (node.kind, node.text) == ("word", "[" * 8 + '{"a": 1.0}' + "]" * 8)

    [(_, long)] = tree(json.dumps(["x" * (LONGEST_STRING + 10)])).children
    assert (len(long.text), long.omitted) == (LONGEST_STRING, 12)
    many = tree(json.dumps(list(range(MOST_ITEMS + 3))))
    assert (len(many.children), many.omitted) == (MOST_ITEMS, 3)


def test_what_is_no_json_is_shown_as_it_is() -> None:
    assert pretty("{") == "{"
    assert pretty("[" * 100_000) == "[" * 100_000
    with pytest.raises(ValueError, match="Expecting"):
        tree("{")


def test_a_leaf_is_a_node() -> None:
    assert tree("true") == Node(kind="word", text="true")
