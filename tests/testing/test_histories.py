"""Recorded histories, and what the present code makes of them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from durably import Durably, JobDefinition, StepContext, StepFailed, define_job, job
from durably_testing import (
    HistoryError,
    NothingTestedError,
    assert_replays,
    record_history,
    simulate,
)
from durably_testing.profile import current_profile, use_profile

executed: list[str] = []


class Order(BaseModel):
    amount: int


class Paid(BaseModel):
    amount: int


class PaidInCents(BaseModel):
    cents: int


def charge(amount: int) -> Paid:
    executed.append("charge")
    return Paid(amount=amount)


def pack(amount: int) -> str:
    executed.append("pack")
    return f"{amount} things"


def refuse() -> int:
    executed.append("refuse")
    raise LookupError("no such thing")


Body = Callable[[StepContext, Order], Awaitable[str]]


def version(body: Body, name: str = "order") -> JobDefinition[Order, str]:
    """A version of the job."""
    return define_job(name=name, input=Order, output=str, run=body)


@job
async def child(step: StepContext, input: Order) -> int:
    return input.amount * 10


async def complaint(step: StepContext) -> str:
    try:
        await step.run("refuse", refuse)
    except StepFailed as failure:
        return f"{failure.message} but "
    return ""


@version
async def first(step: StepContext, input: Order) -> str:
    paid = await step.run("charge", charge, input.amount)
    parcel = await complaint(step)
    await step.sleep("wait", 3600)
    parcel += await step.wait_for_signal("packed", str)
    tens = await step.invoke("tens", child, input)
    parcel += await step.run("pack", pack, paid.amount)
    return f"{parcel} {tens} {step.uuid('id')}"


@pytest.fixture(autouse=True)
def nothing_is_executed() -> None:
    executed.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one history of the first version."""

    async def send(durably: Durably, run_id: str) -> None:
        await asyncio.sleep(5000)
        await durably.signal("packed", "well packed, ", run_id=run_id)

    run = simulate(first, Order(amount=3), jobs=[child], meanwhile=send)
    run.verify()
    record_history(run, tmp_path / "more" / "order.json")
    executed.clear()
    return tmp_path / "more"


@pytest.fixture
def updating() -> Iterator[None]:
    before = use_profile(replace(current_profile(), update_histories=True))
    yield
    use_profile(before)


def test_a_history_is_readable_and_the_same_every_time(folder: Path) -> None:
    text = (folder / "order.json").read_text()
    content = json.loads(text)

    assert text.endswith("\n}\n")
    assert (content["durably_history"], content["job"], content["input"]) == (1, "order", {"amount": 3})
    assert [(step["name"], step.get("kind", "run")) for step in content["steps"]] == [
        ("charge", "run"), ("refuse", "run"), ("wait", "sleep"), ("packed", "signal"), ("tens", "child"), ("pack", "run"),
    ]  # fmt: skip
    assert content["steps"][0] == {"name": "charge", "result": {"amount": 3}}
    assert content["steps"][1]["error"] == {"type": "LookupError", "message": "no such thing"}
    assert "error" not in content


def test_the_same_code_replays_every_prefix_and_executes_nothing(folder: Path) -> None:
    assert_replays(first, folder / "*.json", jobs=[child])
    assert executed == []


def test_a_renamed_step_is_named_and_only_the_new_one_is_executed(folder: Path) -> None:
    @version
    async def renamed(step: StepContext, input: Order) -> str:
        paid = await step.run("charge-card", charge, input.amount)
        return await rest(step, input, paid.amount)

    with pytest.raises(HistoryError, match=r"step 'charge' is never come to: .*; new are 'charge-card'"):
        assert_replays(renamed, folder / "*.json", jobs=[child])
    assert set(executed) == {"charge"}


async def rest(step: StepContext, input: Order, amount: int) -> str:
    parcel = await complaint(step)
    await step.sleep("wait", 3600)
    parcel += await step.wait_for_signal("packed", str)
    tens = await step.invoke("tens", child, input)
    parcel += await step.run("pack", pack, amount)
    return f"{parcel} {tens} {step.uuid('id')}"


def test_a_changed_shape_is_named_with_the_prefix_that_meets_it_first(folder: Path) -> None:
    def charge_in_cents(amount: int) -> PaidInCents:
        return PaidInCents(cents=amount * 100)

    @version
    async def in_cents(step: StepContext, input: Order) -> str:
        paid = await step.run("charge", charge_in_cents, input.amount)
        return await rest(step, input, paid.cents)

    with pytest.raises(HistoryError) as found:
        assert_replays(in_cents, folder / "*.json", jobs=[child])
    message = str(found.value)
    assert "resumed after 'charge' (1 of 6): it fails: " in message
    assert "StoredValueError" in message
    assert "cents: Field required" in message
    assert message.count("it fails") == 1, "each thing is told once"


def test_an_input_that_does_not_fit_any_more_is_named(folder: Path) -> None:
    class Stricter(BaseModel):
        amount: int
        address: str

    async def deliver(step: StepContext, input: Stricter) -> str:
        return input.address

    strict = define_job(name="order", input=Stricter, output=str, run=deliver)
    with pytest.raises(HistoryError, match=r"resumed at its beginning: it fails: .*address: Field required"):
        assert_replays(strict, folder / "*.json")


def test_a_resume_that_fails_is_named(folder: Path) -> None:
    @version
    async def picky(step: StepContext, input: Order) -> str:
        paid = await step.run("charge", charge, input.amount)
        if paid.amount < 10:
            raise ValueError("too little to bother")
        return await rest(step, input, paid.amount)

    with pytest.raises(HistoryError, match=r"after 'charge' .*: it fails: ValueError: too little to bother"):
        assert_replays(picky, folder / "*.json", jobs=[child])


def test_another_output_is_named(folder: Path) -> None:
    @version
    async def shouting(step: StepContext, input: Order) -> str:
        paid = await step.run("charge", charge, input.amount)
        return (await rest(step, input, paid.amount)).upper()

    with pytest.raises(HistoryError, match=r"its output is 'NO SUCH THING BUT .*', and was 'no such"):
        assert_replays(shouting, folder / "*.json", jobs=[child])


def test_a_name_that_became_another_kind_is_named(folder: Path) -> None:
    @version
    async def impatient(step: StepContext, input: Order) -> str:
        await step.run("charge", charge, input.amount)
        await step.wait_for_signal("wait", str)
        return "never"

    with pytest.raises(HistoryError, match=r"after 'wait' .*StepChangedError"):
        assert_replays(impatient, folder / "*.json")


def test_a_wait_that_the_history_does_not_have_never_ends_unless_its_end_is_given(folder: Path) -> None:
    @version
    async def asking(step: StepContext, input: Order) -> str:
        if not await step.wait_for_signal("approved", bool):
            return "refused"
        paid = await step.run("charge", charge, input.amount)
        return await rest(step, input, paid.amount)

    with pytest.raises(HistoryError, match=r"it never ends: .*approved.*given="):
        assert_replays(asking, folder / "*.json", jobs=[child])
    assert_replays(asking, folder / "*.json", jobs=[child], given={"approved": True})


def test_a_new_step_is_executed_unless_its_result_is_given(folder: Path) -> None:
    def weigh() -> int:
        executed.append("weigh")
        return 5

    @version
    async def weighing(step: StepContext, input: Order) -> str:
        await step.run("weigh", weigh)
        paid = await step.run("charge", charge, input.amount)
        return await rest(step, input, paid.amount)

    assert_replays(weighing, folder / "*.json", jobs=[child], given={"weigh": 7})
    assert executed == []
    assert_replays(weighing, folder / "*.json", jobs=[child])
    assert set(executed) == {"weigh"}


def test_a_new_step_that_reaches_for_the_network_is_told(folder: Path) -> None:
    def ask_around() -> int:
        import socket

        socket.create_connection(("127.0.0.1", 1))
        return 1

    @version
    async def asking(step: StepContext, input: Order) -> str:
        await step.run("ask", ask_around)
        return "asked"

    with pytest.raises(HistoryError, match="a simulated job reached for"):
        assert_replays(asking, folder / "*.json")


def test_a_renamed_job_and_an_empty_folder_test_nothing(folder: Path) -> None:
    async def body(step: StepContext, input: Order) -> str:
        return ""

    with pytest.raises(NothingTestedError, match=r"no history of job 'orders' \(of: order\).*renamed"):
        assert_replays(version(body, "orders"), folder / "*.json")
    with pytest.raises(NothingTestedError, match="none at all"):
        assert_replays(first, folder / "*.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"durably_history": 2}, "version 2.* reads version 1"),
        ({"durably_history": None}, "version None"),
        ({"steps": [{"name": "x", "kind": "dream"}]}, "damaged: .*dream"),
        ({"steps": None}, "damaged"),
    ],
)
def test_a_file_that_is_no_good_history_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "order.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(HistoryError, match=rf"order\.json .*{message}"):
        assert_replays(first, path)


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("Dear diary,")
    with pytest.raises(HistoryError, match=r"notes\.json is no history"):
        assert_replays(first, tmp_path / "*.json")


def test_a_history_is_recorded_once_and_written_anew_when_asked(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    path = folder / "order.json"
    before = path.read_text()

    @version
    async def shorter(step: StepContext, input: Order) -> str:
        paid = await step.run("charge", charge, input.amount)
        return await step.run("send", pack, paid.amount)

    record_history(simulate(shorter, Order(amount=3)), path)
    assert path.read_text() == before, "what older code has done is not overwritten"

    request.getfixturevalue("updating")
    executed.clear()
    assert_replays(shorter, path)
    assert executed == ["pack"], "what is recorded is not executed"
    assert [step["name"] for step in json.loads(path.read_text())["steps"]] == ["charge", "send"]
    assert json.loads(path.read_text())["output"] == "3 things"


def test_a_history_that_never_ends_is_not_written_anew(folder: Path, updating: None) -> None:
    @version
    async def waiting(step: StepContext, input: Order) -> str:
        return await step.wait_for_signal("never", str)

    before = (folder / "order.json").read_text()
    with pytest.raises(HistoryError, match="cannot be written anew"):
        assert_replays(waiting, folder / "*.json")
    assert (folder / "order.json").read_text() == before


def test_a_failed_run_is_replayed_to_its_failure(tmp_path: Path) -> None:
    @version
    async def failing(step: StepContext, input: Order) -> str:
        await step.run("charge", charge, input.amount)
        await step.run("refuse", refuse)
        return "never"

    @version
    async def forgiving(step: StepContext, input: Order) -> str:
        await step.run("charge", charge, input.amount)
        try:
            await step.run("refuse", refuse)
        except StepFailed:
            return "never mind"
        return "never"

    record_history(simulate(failing, Order(amount=1)), tmp_path / "failed.json")
    assert_replays(failing, tmp_path / "*.json")
    with pytest.raises(HistoryError, match="it is completed, and had failed with LookupError: no such thing"):
        assert_replays(forgiving, tmp_path / "*.json")


async def test_a_run_of_a_real_instance_is_recorded_with_its_steps(tmp_path: Path) -> None:
    @version
    async def plain(step: StepContext, input: Order) -> str:
        return await step.run("pack", pack, input.amount)

    async with Durably(":memory:") as durably:
        handle = durably.register(plain)
        run = await handle.trigger(Order(amount=2))
        with pytest.raises(HistoryError, match="is pending"):
            record_history(run, tmp_path / "early.json", steps=())
        done = await durably.wait_for_run(run.id)
        with pytest.raises(HistoryError, match="needs its steps"):
            record_history(done, tmp_path / "no.json")
        with pytest.raises(HistoryError, match="no result any more"):
            record_history(done, tmp_path / "no.json", steps=await durably.get_steps(run.id, results=False))
        record_history(done, tmp_path / "plain.json", steps=await durably.get_steps(run.id))
    executed.clear()
    assert_replays(plain, tmp_path / "*.json")
    assert executed == []


def test_a_chain_is_replayed_in_its_last_link(tmp_path: Path) -> None:
    @version
    async def countdown(step: StepContext, input: Order) -> str:
        await step.run("pack", pack, input.amount)
        if input.amount:
            await step.continue_as_new(Order(amount=input.amount - 1))
        return str(step.uuid("id"))

    record_history(simulate(countdown, Order(amount=2)), tmp_path / "chain.json")
    assert json.loads((tmp_path / "chain.json").read_text())["link"] == 3
    executed.clear()
    assert_replays(countdown, tmp_path / "*.json")
    assert executed == []
