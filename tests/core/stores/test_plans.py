"""What a statement costs must not grow with what it does not concern.

No wall clock: the plans are read, and the steps of SQLite's virtual machine are counted with little
and with much in the tables.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from durably.filters import RunFilter
from durably.models import RunStatus, StepKind
from durably.stores.sqlite import leading
from durably.stores.sqlite.listing import (
    EVERYTHING,
    Span,
    Statement,
    compose_census,
    compose_changes,
    compose_count,
    compose_endings,
    compose_label,
    compose_list,
)
from durably.stores.sqlite.queries import load
from durably.stores.values import Lease, NewSignal, Notes, Wait
from tests.core.stores.stage import LEASE, Stage

TOPICS = (
    "attempts",
    "checkpoints",
    "claims",
    "clock",
    "crashes",
    "freeing",
    "keys",
    "leases",
    "links",
    "reads",
    "schema",
    "searching",
    "spans",
    "transitions",
    "triggering",
    "waits",
    "watching",
    "workers",
)

# Walks through a table on purpose, because the table is small.
SMALL_TABLES = {
    "present_workers",
    "find_silent_worker",
    "forget_silent_workers",
    "list_workers",
    "read_version",
}

BULK = 20_000


@pytest.fixture
def path() -> str:
    """Plans do not depend on where the database is."""
    return ":memory:"


async def plan(stage: Stage, statement: str) -> list[str]:
    anything = dict.fromkeys(re.findall(r":([a-z_]+)", statement))
    rows = await stage.sql(f"EXPLAIN QUERY PLAN {statement}", anything)
    return [str(row[3]) for row in rows]


def walks(step: str) -> bool:
    """Whether a line of a plan goes through a whole table or index, or sorts."""
    return (
        step.startswith("SCAN")
        and not step.startswith(("SCAN CONSTANT", "SCAN queue", "SCAN (subquery", "SCAN page"))
    ) or "USE TEMP B-TREE" in step


@pytest.mark.parametrize(
    ("topic", "name"), [(topic, name) for topic in TOPICS for name in load(topic) if name not in SMALL_TABLES]
)
async def test_no_statement_walks_through_a_table(stage: Stage, topic: str, name: str) -> None:
    steps = await plan(stage, load(topic)[name])
    # The one sort is that of a single run's steps; the first walks are along an index made for it, LIMIT 1.
    allowed = {
        "tail_of_steps": "USE TEMP B-TREE FOR ORDER BY",
        "running_steps": "USE TEMP B-TREE FOR ORDER BY",
        "steps_of_run": "USE TEMP B-TREE FOR ORDER BY",
        "list_steps": "USE TEMP B-TREE FOR ORDER BY",
        "step_at_death": "USE TEMP B-TREE FOR ORDER BY",
        "earliest_timer": "SCAN durably_runs USING COVERING INDEX durably_runs_timed",
        "find_headless_keys": "SCAN durably_runs USING INDEX durably_runs_key_queue",
        "has_versions": "SCAN sqlite_schema",
        # One run's own waits; of two signals the older.
        "waits_of_run": "USE TEMP B-TREE FOR ORDER BY",
        "find_signal": "USE TEMP B-TREE FOR ORDER BY",
        # Every half minute, through the children that have not ended.
        "orphans": "SCAN child USING INDEX durably_runs_unfinished_child",
    }
    walked = [step for step in steps if walks(step)]
    assert all(step == allowed.get(name) for step in walked), steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("due_timers", "durably_runs_timed (timer_at<?)"),
        ("is_job_ready", "durably_runs_ready (job_name=?)"),
        ("ready_runs", "durably_runs_ready (job_name=?)"),
        ("claim_run", "durably_runs_key_holder (key_scope=? AND concurrency_key=?)"),
    ],
)
async def test_a_claim_goes_by_the_partial_indexes(stage: Stage, name: str, index: str) -> None:
    steps = await plan(stage, load("claims")[name])
    assert any(index in step for step in steps), steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("find_holder", "durably_runs_key_holder"),
        ("find_head", "durably_runs_key_head"),
        ("find_first_in_queue", "durably_runs_key_queue"),
    ],
)
async def test_a_key_is_settled_by_the_partial_indexes(stage: Stage, name: str, index: str) -> None:
    steps = await plan(stage, load("keys")[name])
    assert len(steps) == 1
    assert index in steps[0]


@pytest.mark.parametrize(
    ("name", "index"),
    [("last_in_queue", "durably_runs_key_queue"), ("first_by_the_clock", "durably_runs_key_delayed")],
)
async def test_a_waiting_run_of_a_key_is_found_by_the_partial_indexes(
    stage: Stage, name: str, index: str
) -> None:
    steps = await plan(stage, load("triggering")[name])
    assert len(steps) == 1
    assert f"{index} (key_scope=? AND concurrency_key=?" in steps[0]


FILTERS = [
    RunFilter(),
    RunFilter(status=("failed",)),
    RunFilter(status=("failed", "completed")),
    RunFilter(job_name=("job",)),
    RunFilter(job_name=("job", "other"), status=("failed",)),
    RunFilter(labels={"a": "b"}),
    RunFilter(labels={"a": "b", "c": "d"}, status=("failed",)),
]


SPANS = [EVERYTHING, Span(3), Span(3, 90)]


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize(("before", "after"), [(None, None), (7, None), (None, 7)])
@pytest.mark.parametrize("span", SPANS)
async def test_every_arm_of_a_list_is_read_in_order_from_an_index(
    stage: Stage, filter: RunFilter, before: int | None, after: int | None, span: Span
) -> None:
    statement, values = compose_list(filter, limit=50, offset=0, before=before, after=after, span=span)
    rows = await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)
    steps = [str(row[3]) for row in rows]
    for number, step in enumerate(steps):
        if step.startswith(("SEARCH run", "SEARCH label", "SCAN run")):
            # A sort would follow its table; the ones that merge the arms follow the arms, and sort a page each.
            assert "TEMP B-TREE" not in steps[number + 1], steps
            assert filter == RunFilter() or not step.startswith("SCAN run"), steps


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("span", SPANS)
async def test_changes_are_read_in_order_from_their_index(
    stage: Stage, filter: RunFilter, span: Span
) -> None:
    statement, values = compose_changes(filter, after=7, limit=50, span=span)
    rows = await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)
    steps = [str(row[3]) for row in rows]
    assert any(step.endswith("INDEX durably_runs_change (change>?)") for step in steps), steps
    assert not [step for step in steps if walks(step)], steps


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("span", SPANS)
async def test_endings_are_read_in_order_from_an_index(stage: Stage, filter: RunFilter, span: Span) -> None:
    statement, values = compose_endings(filter, since=1.0, cap=50, span=span)
    rows = await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)
    steps = [str(row[3]) for row in rows]
    assert not [step for step in steps if step.startswith("SCAN run")], steps
    for number, step in enumerate(steps):
        if step.startswith(("SEARCH run", "SEARCH label")):
            assert "TEMP B-TREE" not in " ".join(steps[number + 1 : number + 2]), steps


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("span", SPANS)
async def test_counting_goes_by_an_index(stage: Stage, filter: RunFilter, span: Span) -> None:
    statement, values = compose_count(filter, cap=100, span=span)
    rows = await stage.sql(f"EXPLAIN QUERY PLAN {statement}", values)
    if filter != RunFilter() or span != EVERYTHING:
        assert not [row[3] for row in rows if str(row[3]).startswith("SCAN run")]


async def cost(stage: Stage, work: Callable[[], Awaitable[object]]) -> int:
    """Hundreds of virtual machine steps that the writer's connection takes for it."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    await stage.at_connection(lambda connection: connection.set_progress_handler(tick, 100))
    await work()
    await stage.at_connection(lambda connection: connection.set_progress_handler(None, 100))
    return ticks


async def fill(stage: Stage, columns: str, values: str) -> None:
    """Many rows at once, straight into the table."""
    await stage.sql(
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BULK}) "
        "INSERT INTO durably_runs (id, job_name, status, change, priority, rank, ready, created_at, updated_at, "
        f"labels, input{columns}) "
        f"SELECT 'bulk-' || i, {values} FROM n"
    )


CROWDS = {
    "delayed": (
        ", timer_at, due_at",
        "'job', 'pending', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', 9e9 + i, 9e9 + i",
    ),
    "asleep": (
        ", timer_at, lease_generation",
        "'job', 'waiting', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', 9e9 + i, 1",
    ),
    "waiting for a signal": (", lease_generation", "'job', 'waiting', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', 1"),
    "of an unknown job": ("", "'unknown', 'pending', i, 0, 1.0, 1, 1.0, 1.0, '{}', '{}'"),
    "behind one key": (
        ", key_scope, concurrency_key",
        "'job', 'pending', i, 0, 1.0 + i, 0, 1.0, 1.0, '{}', '{}', 'job', 'k'",
    ),
    "finished": (", completed_at", "'job', 'completed', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', 1.0"),
    "ready": ("", "'job', 'pending', i, 0, 1.0 + i, 1, 1.0, 1.0, '{}', '{}'"),
}


@pytest.mark.parametrize("crowd", CROWDS)
async def test_no_crowd_slows_the_daily_verbs(stage: Stage, crowd: str) -> None:
    turn = 0

    async def day() -> None:
        nonlocal turn
        turn += 1
        await stage.trigger(f"it-{turn}", concurrency_key="k", priority=10_000_000_000 - turn)
        lease = (await stage.take()).lease
        assert lease.run_id == f"it-{turn}"
        await stage.save(lease)
        await stage.store.renew("w1", [lease], lease_seconds=LEASE)
        await stage.finish(lease)
        await stage.ask(limit=0)
        await stage.store.sweep()

    await day()
    empty = await cost(stage, day)
    await fill(stage, *CROWDS[crowd])
    if crowd == "behind one key":
        # Its head is up first: the day's run has to be put before it.
        assert await stage.store.sweep() == 1
    full = await cost(stage, day)
    assert full <= empty * 2 + 5, (empty, full)


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_list_of_what_was_created_lately_passes_over_the_older_runs(
    stage: Stage, status: RunStatus
) -> None:
    lately = RunFilter(status=(status,), created_since=datetime.fromtimestamp(stage.clock.now(), UTC))

    async def look() -> None:
        # With a page that is not filled, a walk would go on to the first of all runs.
        assert await stage.ids(lately) == (["new"] if status == "completed" else [])
        assert await stage.store.count_runs(lately, cap=100) == (status == "completed")

    await fill(stage, *CROWDS["finished"])
    await stage.trigger("new")
    await stage.sql(
        "UPDATE durably_runs SET status = 'completed', ready = 0, completed_at = 1 WHERE id = 'new'"
    )
    many = await cost(stage, look)
    await stage.sql("DELETE FROM durably_runs WHERE seq > 100 AND seq <= 20000")
    few = await cost(stage, look)
    # Halving looks at some more rows among many; never at all of them.
    assert many <= few + 20, (few, many)


WAITS = {
    "asleep": ("'nap', 'running', 'sleep', 9e9 + seq, NULL, NULL", ", timer_at", ", 9e9 + i"),
    "waiting for signals by keys": ("'go', 'running', 'signal', NULL, 'order-' || seq, NULL", "", ""),
    "waiting for signals by their ids": (
        "'go', 'running', 'signal', 9e9, NULL, NULL",
        ", timer_at",
        ", 9e9 + i",
    ),
    "waiting for children": ("'call', 'running', 'child', NULL, NULL, 'child-' || seq", "", ""),
    "awake again": ("'go', 'completed', 'signal', NULL, 'k', NULL", "", ""),
}


@pytest.mark.parametrize("crowd", [*WAITS, "signals by key that nobody took"])
async def test_no_crowd_of_waits_slows_waiting_and_waking(stage: Stage, crowd: str) -> None:
    """With the rows of their steps, and of signals, beside those of the runs."""
    turn = 0

    async def wait(
        lease: Lease,
        name: str,
        kind: StepKind,
        *,
        until: float | None = None,
        key: str | None = None,
        child_id: str | None = None,
    ) -> None:
        step = replace(
            stage.step(name, "running"), kind=kind, wake_at=until, signal_key=key, child_id=child_id
        )
        child = replace(stage.new(child_id), parent_id=lease.run_id) if child_id else None
        await stage.store.settle(lease, [Wait(step=step, child=child)], Notes())
        assert await stage.store.ripe_waits(lease.run_id) == []
        assert await stage.store.suspend(lease, [Wait(step=step)], Notes()) == "applied"

    async def night() -> None:
        nonlocal turn
        turn += 1
        await stage.trigger(f"it-{turn}", priority=10_000_000_000 - turn)
        await wait((await stage.take()).lease, "nap", "sleep", until=stage.clock.now() + 60)
        assert await stage.claim() == []
        stage.clock.advance(61)
        await wait((await stage.take()).lease, "go", "signal", key="k")
        await stage.store.send_signal(NewSignal(id=f"s-{turn}", name="go", payload_json="1", key="k"))
        await wait((await stage.take()).lease, "call", "child", child_id=f"kid-{turn}")
        kid = await stage.take()
        assert kid.run.id == f"kid-{turn}"
        await stage.finish(kid.lease)
        lease = (await stage.take()).lease
        assert lease.run_id == f"it-{turn}"
        await stage.finish(lease)
        await stage.store.orphans(limit=10)
        await stage.store.forget_signals(older_than=3600, limit=10)
        await stage.store.bury_dead(max_crashes=5)

    await night()
    empty = await cost(stage, night)
    if crowd in WAITS:
        step, columns, values = WAITS[crowd]
        await fill(
            stage,
            f", lease_generation{columns}",
            f"'job', 'waiting', i, 0, 1.0, 0, 1.0, 1.0, '{{}}', '{{}}', 1{values}",
        )
        await stage.sql(
            "INSERT INTO durably_steps (run_seq, position, attempt, sequence, started_at, name, status, kind, "
            f"wake_at, signal_key, child_id) SELECT seq, 1, 1, 1, 1.0, {step} FROM durably_runs "
            "WHERE id LIKE 'bulk-%'"
        )
    else:
        await stage.sql(
            f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BULK}) "
            "INSERT INTO durably_signals (id, name, key, sent_at, payload) "
            "SELECT 'bulk-' || i, 'go', 'order-' || i, 9e9, '1' FROM n"
        )
    full = await cost(stage, night)
    assert full <= empty * 1.5 + 5, (empty, full)


@pytest.mark.parametrize("address", ["its id", "a key"])
async def test_a_backlog_of_signals_costs_a_wait_no_more_than_one(stage: Stage, address: str) -> None:
    await stage.trigger("it")
    lease = (await stage.take()).lease
    turn = 0

    async def take_one() -> None:
        nonlocal turn
        turn += 1
        # A mailbox: each wait takes the oldest signal of its name.
        await stage.sql("DELETE FROM durably_steps")
        wait = Wait(step=replace(stage.step("go", "running"), kind="signal", signal_key="k"))
        [settled] = (await stage.store.settle(lease, [wait], Notes())).steps
        assert settled.result_json == str(turn)

    values = "(SELECT seq FROM durably_runs), NULL" if address == "its id" else "NULL, 'k'"
    signals = (
        "WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) "
        "INSERT INTO durably_signals (id, name, run_seq, key, sent_at, payload) "
        f"SELECT 'signal-' || i, 'go', {values}, i, i FROM n"
    )
    await stage.sql(signals.format(first=1, last=2))
    await take_one()
    short = await cost(stage, take_one)
    await stage.sql(signals.format(first=3, last=BULK))
    assert await cost(stage, take_one) <= short * 1.5 + 5


async def test_of_many_runs_that_wait_for_one_key_the_oldest_is_found_at_once(stage: Stage) -> None:
    turn = 0

    async def send() -> None:
        nonlocal turn
        turn += 1
        signal = NewSignal(id=f"s-{turn}", name="go", payload_json="1", key="k")
        assert await stage.store.send_signal(signal) == "sent"
        assert await stage.status(f"bulk-{turn}") == "pending"

    waits = (
        "INSERT INTO durably_steps (run_seq, position, attempt, sequence, name, status, kind, started_at, "
        "signal_key) SELECT seq, 1, 1, 1, 'go', 'running', 'signal', seq, 'k' FROM durably_runs WHERE seq "
    )
    await fill(stage, ", lease_generation", "'job', 'waiting', i, 0, 1.0, 0, 1.0, 1.0, '{}', '{}', 1")
    await stage.sql(f"{waits} <= 2")
    await send()
    short = await cost(stage, send)
    await stage.sql(f"{waits} > 2")
    assert await cost(stage, send) <= short * 1.5 + 5


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("waiting_for_key", "durably_steps_signal (name=? AND signal_key=?)"),
        ("waiting_for_child", "durably_steps_child (child_id=?)"),
        ("find_signal", "durably_signals_untaken (run_seq=? AND name=?)"),
        ("find_signal", "durably_signals_of_key (name=? AND key=?)"),
        ("ripe_waits", "durably_steps_1 (run_seq=?)"),
        ("ripe_waits", "durably_signals_untaken (run_seq=? AND name=?)"),
        ("ripe_waits", "durably_signals_of_key (name=? AND key=?)"),
        ("unfinished_children", "durably_runs_unfinished_child (parent_id=?)"),
        ("is_forgetting_due", "durably_signals_kept (sent_at<?)"),
    ],
)
async def test_waits_are_found_by_their_indexes(stage: Stage, name: str, index: str) -> None:
    steps = await plan(stage, load("waits")[name])
    assert any(index in step for step in steps), steps


@pytest.mark.parametrize("filter", FILTERS)
async def test_a_page_of_a_long_list_costs_what_a_page_of_a_short_one_costs(
    stage: Stage, filter: RunFilter
) -> None:
    await stage.store.enqueue([stage.new(labels={"a": "b", "c": "d"}) for _ in range(100)])
    await stage.sql("UPDATE durably_runs SET status = 'failed', ready = 0")

    async def look() -> None:
        page = await stage.store.list_runs(filter, limit=50, offset=0, before=None)
        assert len(page) == 50

    short = await cost(stage, look)
    await fill(stage, *CROWDS["finished"])
    assert await cost(stage, look) <= short * 1.5 + 5


COMMON_AND_RARE = {
    "a rare label after a common one": RunFilter(labels={"common": "1", "rare": "1"}),
    "a common label in a rare status": RunFilter(labels={"common": "1"}, status=("failed",)),
    "a common label of a rare job": RunFilter(labels={"common": "1"}, job_name=("rare",)),
}


async def label_crowd(stage: Stage) -> None:
    """Many completed runs with a common label; few of a rare job, failed, with a rare label too."""
    await fill(stage, *CROWDS["finished"])
    await stage.sql(
        "UPDATE durably_runs SET status = 'failed', job_name = 'rare' WHERE id LIKE 'bulk-%' AND seq % 1000 = 0"
    )
    await stage.sql("INSERT INTO durably_run_labels SELECT 'common', '1', seq FROM durably_runs")
    await stage.sql(
        "INSERT INTO durably_run_labels SELECT 'rare', '1', seq FROM durably_runs WHERE status = 'failed'"
    )


@pytest.mark.parametrize("what", COMMON_AND_RARE)
async def test_what_is_rare_leads_to_what_is_common(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(leading, "REACH", 100)
    filter = COMMON_AND_RARE[what]

    async def look() -> None:
        assert len(await stage.store.list_runs(filter, limit=50, before=None)) == BULK // 1000
        assert await stage.store.count_runs(filter, cap=1000) == BULK // 1000

    await label_crowd(stage)
    # Walking through the common ones takes several steps for each of them.
    assert await cost(stage, look) * 100 < BULK


@pytest.mark.parametrize(
    "filter", [RunFilter(), *COMMON_AND_RARE.values(), RunFilter(labels={"common": "1"})]
)
async def test_counting_by_status_costs_no_more_than_its_cap(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, filter: RunFilter
) -> None:
    monkeypatch.setattr(leading, "REACH", 100)

    async def count() -> None:
        counts = await stage.store.count_by_status(filter, cap=100)
        assert sum(count.number for count in counts.values()) > 0

    await label_crowd(stage)
    assert await cost(stage, count) * 100 < BULK


@pytest.mark.parametrize("statement", [compose_label(("a", "b"), cap=9), compose_census(FILTERS[-1], cap=9)])
async def test_labels_are_counted_from_their_own_index(stage: Stage, statement: Statement) -> None:
    text, values = statement
    steps = [str(row[3]) for row in await stage.sql(f"EXPLAIN QUERY PLAN {text}", values)]
    assert "SEARCH label USING PRIMARY KEY (key=? AND value=?)" in steps
    assert not [step for step in steps if step.startswith("SCAN run") or "ORDER BY" in step], steps
