"""The benchmark executes the engine's own statements: a new column must not leave it behind."""

import re

import pytest

from tests.benchmarks import statements
from tests.benchmarks.statements import Values


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (statements.INSERT_RUN, statements.new_run()),
        (statements.CLAIM_RUN, statements.claim(1)),
        (statements.SAVE_STEP, statements.step("it", 1)),
        (statements.FINISH_RUN, statements.outcome("it")),
        (statements.BEGIN_WAIT, statements.waiting(1)),
        (statements.SUSPEND_RUN, statements.waiting(1)),
        (statements.INSERT_SIGNAL, statements.waiting(1)),
        (statements.END_WAIT, statements.waiting(1)),
        (statements.WAKE_RUN, statements.waiting(1)),
    ],
)
def test_the_benchmark_has_a_value_for_every_parameter(statement: str, values: Values) -> None:
    assert set(re.findall(r":([a-z_]+)", statement)) <= values.keys()
