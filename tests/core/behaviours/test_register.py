"""REG: definitions and handles."""

from typing import Annotated, NewType

from pydantic import BaseModel, Field

from durably import Durably, StepContext, define_job

Email = NewType("Email", str)
Cents = NewType("Cents", int)


class Bill(BaseModel):
    to: Email
    amount: Annotated[Cents, Field(ge=0)]


class Nothing(BaseModel):
    pass


async def pay(step: StepContext, input: Bill) -> dict[Email, Cents]:
    return {input.to: input.amount}


async def nothing(step: StepContext, input: Nothing) -> None: ...


async def test_a_handle_looked_up_by_name_triggers(durably: Durably) -> None:
    """REG-5."""
    durably.register(define_job(name="nothing", input=Nothing, run=nothing))
    handle = durably.get_job("nothing")
    assert handle is not None
    assert (await handle.trigger(Nothing())).job_name == "nothing"
    assert durably.get_job("something else") is None


async def test_a_job_without_an_output_type_answers_none(durably: Durably) -> None:
    """REG-6."""
    handle = durably.register(define_job(name="nothing", input=Nothing, run=nothing))
    await durably.start()
    assert (await handle.trigger_and_wait(Nothing(), timeout=5)).output is None


async def test_branded_types_survive_the_whole_way(durably: Durably) -> None:
    """REG-8."""
    handle = durably.register(define_job(name="pay", input=Bill, output=dict[Email, Cents], run=pay))
    await durably.start()
    bill = Bill(to=Email("ann@example.org"), amount=Cents(5))
    done = await handle.trigger_and_wait(bill, timeout=5)
    assert done.output == {"ann@example.org": 5}
    assert (run := await handle.get_run(done.id)) is not None
    assert run.input == bill


async def test_the_jobs_option_registers_several(durably: Durably) -> None:
    """REG-4."""
    definitions = [define_job(name=name, input=Nothing, run=nothing) for name in ("a", "b")]
    instance = Durably(":memory:", jobs=definitions)
    handle = instance.get_job("b")
    assert handle is not None
    assert handle.definition is definitions[1]
    assert instance.register(definitions[1]) is handle
