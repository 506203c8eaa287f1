import re
from dataclasses import MISSING, fields
from typing import Any

import pytest

from durably_web import bells
from durably_web.components.base import Component
from durably_web.kit import COMPONENTS


def made(kind: type[Component]) -> Component:
    """A component with what it cannot do without."""
    needed = [prop for prop in fields(kind) if prop.default is prop.default_factory is MISSING]
    props: dict[str, Any] = {prop.name: "x" for prop in needed}
    return kind(**props)


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_what_a_page_has_missed_is_fetched_by_every_component_that_is_about_it(name: str) -> None:
    component = made(COMPONENTS[name])
    for topic in component.topics():
        assert set(component.bells()) & set(bells.of_topic(topic))


def test_the_bells_of_a_topic_are_plain_whatever_it_is_called() -> None:
    for name in (*bells.of_topic('run:x"] , click[alert(1)'), bells.of_job("täglich [1]")):
        assert re.fullmatch(r"dw-[\w-]+", name, re.ASCII)


def test_a_topic_is_of_one_run_or_of_all() -> None:
    assert bells.run_of(bells.topic_of("019a")) == "019a"
    assert bells.run_of(bells.RUNS) is None
    assert not set(bells.of_topic(bells.RUNS)) & set(bells.of_topic(bells.topic_of("019a")))
