"""Replay tokens: one history of one test, as a word to copy."""

import base64
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from durably_testing.errors import ReplayTokenError
from durably_testing.faults import Fault, Plan

VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everything that decides a history, but for the job's own code and its input."""

    plan: Plan = ()
    workers: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a token stands for."""

    test: str
    """The test's node id; empty: none."""
    job_name: str
    setting: Setting
    input_json: str
    struck: str
    """A digest of the faults that struck, in words."""

    def verify(self, struck: Sequence[str]) -> None:
        """Fail unless the faults struck as they did when the token was made.

        Raises:
            ReplayTokenError: They did not; says what struck now.
        """
        __tracebackhide__ = True
        if digest_of(struck) != self.struck:
            now = "; ".join(struck) or "none"
            raise ReplayTokenError(
                "the token is outdated: the job, the test or durably has changed since, and the faults do not strike "
                f"where they did (now: {now}). Run the test without it for a new one"
            )


def make_token(setting: Setting, *, job_name: str, input_json: str, struck: Sequence[str]) -> str:
    """A history as a word to copy; the test that is executing belongs to it."""
    content = [
        VERSION,
        current_test(),
        job_name,
        setting.workers,
        setting.seed,
        [[fault.at, fault.kind, fault.moment, fault.seconds] for fault in setting.plan],
        digest_of(struck),
        input_json,
    ]
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_token(token: str) -> Replay:
    """What a token stands for.

    Raises:
        ReplayTokenError: It is no token, or one of another version; says which.
    """
    try:
        # Its checksum tells a token that was not copied as a whole.
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        content = cast("list[Any]", json.loads(zlib.decompress(packed)))
        version = int(content[0])
    except (ValueError, zlib.error, LookupError, TypeError):
        raise ReplayTokenError(
            f"{token[:40]!r} is no replay token; copy the whole of what a failing test prints"
        ) from None
    if version != VERSION:
        raise ReplayTokenError(
            f"the token is of version {version}, this durably-testing replays version {VERSION}; "
            "run the test again for a new one"
        )
    _, test, job_name, workers, seed, faults, struck, input_json = content
    plan = tuple(Fault(at, kind, moment, seconds) for at, kind, moment, seconds in faults)
    return Replay(
        test=test,
        job_name=job_name,
        setting=Setting(plan=plan, workers=workers, seed=seed),
        input_json=input_json,
        struck=struck,
    )


def current_test() -> str:
    """The node id of the test that pytest is executing; empty: none."""
    # pytest's own word about it: "tests/test_orders.py::test_pay (call)".
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def digest_of(lines: Sequence[str]) -> str:
    """A few letters that tell these lines from others."""
    return sha256("\n".join(lines).encode()).hexdigest()[:8]
