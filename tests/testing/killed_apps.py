"""Applications for a `KillLoop`, most of them with something wrong."""

import asyncio
import os
import time
from dataclasses import replace
from functools import partial

from typing_extensions import override

from durably import Durably, RealEnvironment, StepContext, job
from durably.spi import Claimed, ClaimRequest, SqliteStore
from durably_testing.killing.evidence import note_effect


@job
async def letter(step: StepContext, input: int) -> str:
    """Short steps in the loop and in threads."""

    def send() -> int:
        note_effect("sent", key=f"{input}")
        print("a job may print")
        return input

    await step.run("write", asyncio.sleep, 0.01)
    await step.run("send", send)
    await step.run("file", time.sleep, 0.01)
    return f"letter {input}"


def app(database: str) -> Durably:
    """Nothing is wrong here."""
    return Durably(database, jobs=[letter], stale_threshold=0.6, heartbeat_interval=0.15)


class Forgetful(SqliteStore):
    """Hands a resumed run over without its checkpoints."""

    @override
    async def claim(self, request: ClaimRequest, /) -> Claimed:
        claimed = await super().claim(request)
        return replace(claimed, claims=[replace(claim, steps=()) for claim in claimed.claims])


def forgetful(database: str) -> Durably:
    """Executes finished steps again."""
    environment = RealEnvironment()
    store = Forgetful(database.removeprefix("sqlite:///"), environment=environment)
    return Durably(store, jobs=[letter], environment=environment)


@job
async def patient(step: StepContext, input: int) -> int:
    """Waits for what nobody sends."""
    await step.run("begin", asyncio.sleep, 0.01)
    return await step.wait_for_signal("godot", int)


@job
async def suicidal(step: StepContext, input: int) -> None:
    """Ends its own process, in its own way."""
    await step.run("end", os._exit, input)


def odd(database: str) -> Durably:
    """Jobs that do not end, or end more than themselves."""
    return Durably(database, jobs=[patient, suicidal])


def tidy(database: str) -> Durably:
    """Has a job that removes what has ended."""
    durably = app(database)

    @durably.job(name="tidy")
    async def purge(step: StepContext, older_than: float) -> int:
        return await step.run("purge", partial(durably.purge_runs, older_than=older_than))

    return durably


def broken(database: str) -> Durably:
    """Cannot be made, but in the process of the test."""
    if os.environ.get("DURABLY_KILL_LOOP"):
        raise RuntimeError("no such thing as an app")
    return app(database)
