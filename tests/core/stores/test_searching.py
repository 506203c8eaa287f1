"""What a search costs."""

from durably.filters import RunFilter
from durably.stores.sqlite.listing import Span, compose_errors, compose_ids
from durably_testing.conformance.searching import found
from tests.core.stores.stage import Stage
from tests.core.stores.test_plans import BULK, cost, fill


async def test_a_search_looks_at_no_more_runs_than_it_may(stage: Stage) -> None:
    async def search() -> None:
        for by in ("id", "error"):
            answer = await found(stage, "nobody", by=by, among=50)
            assert (answer.runs, answer.looked_at) == ((), 50)

    await fill(stage, ", error", """'job', 'failed', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', '{"type": "E"}'""")
    many = await cost(stage, search)
    await stage.sql(f"DELETE FROM durably_runs WHERE seq > 100 AND seq <= {BULK}")
    few = await cost(stage, search)
    assert many <= few + 5, (few, many)


async def test_ids_are_read_from_their_index_alone(stage: Stage) -> None:
    filter = RunFilter(status=("failed",), labels={"a": "b"})
    statement, values = compose_ids(filter, text="x", top="y", among=5, limit=5, span=Span(1, 9))
    plan = [str(row[3]) for row in await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert "SEARCH durably_runs USING COVERING INDEX sqlite_autoindex_durably_runs_1 (id<?)" in plan
    # By its place; newer releases of SQLite read the status on the way.
    assert any(step.startswith("SEARCH run USING ") and step.endswith("rowid=?)") for step in plan), plan


async def test_errors_are_read_of_the_newest_failed_runs(stage: Stage) -> None:
    filter = RunFilter(status=("failed",))
    statement, values = compose_errors(filter, text="x", among=5, limit=5, span=Span(1, 9))
    plan = [str(row[3]) for row in await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not [step for step in plan if step.startswith("SCAN run")], plan
    assert any("durably_runs_status (status=?" in step for step in plan), plan
