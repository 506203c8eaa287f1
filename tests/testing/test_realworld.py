"""What a simulated job may not reach, and that nobody else notices."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from pydantic import BaseModel

from durably import ConfigurationError, JobDefinition, StepContext, define_job, job
from durably_testing import PromiseBroken, simulate


class Nothing(BaseModel):
    """An input."""


def _bind() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


def _connect() -> None:
    with socket.socket() as one:
        one.connect(("127.0.0.1", 1))


REACHES: dict[str, tuple[Callable[[], object], str]] = {
    "a thread": (lambda: threading.Thread(target=print).start(), "a thread"),
    "a program": (lambda: subprocess.run([sys.executable, "-c", ""], check=False), "another program"),
    "a shell": (lambda: getattr(os, "system")("true"), "another program"),  # noqa: B009 - frowned upon, and used
    "a port": (_bind, "a socket"),
    "a server": (_connect, "a socket"),
    "a name": (lambda: socket.getaddrinfo("localhost", 1), "the network's names"),
}


def doors() -> list[object]:
    """What a world puts its own in the place of."""
    return [
        threading.Thread.start, subprocess.Popen.__init__, vars(os)["system"], socket.getaddrinfo,
        "bind" in vars(socket.socket), "connect" in vars(socket.socket),
    ]  # fmt: skip


def reaching(reach: Callable[[], object]) -> JobDefinition[Nothing, None]:
    async def run(step: StepContext, input: Nothing) -> None:
        # Whatever it catches, it is told.
        with suppress(Exception):
            reach()

    return define_job(name="reaches", input=Nothing, output=None, run=run)


@pytest.mark.parametrize("name", REACHES)
def test_a_simulated_job_is_told_what_it_reached_for_and_nobody_else_is(name: str) -> None:
    reach, what = REACHES[name]
    before = doors()

    with pytest.raises(PromiseBroken, match=f"reached for {what}.*KillLoop"):
        simulate(reaching(reach), Nothing()).verify()

    assert doors() == before
    with suppress(ConnectionRefusedError):
        reach()


def test_a_world_that_cannot_begin_lets_the_real_one_in() -> None:
    before = doors()

    @job
    async def asks(step: StepContext, input: Nothing, pool: threading.Event) -> None: ...

    with pytest.raises(ConfigurationError):
        simulate(asks, Nothing())

    assert doors() == before
