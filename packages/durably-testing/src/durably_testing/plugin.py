"""The pytest plugin: options, fixtures, and the summary of places that no simulation reached.

It is loaded in every session of everybody who has the package installed, so it imports next to
nothing before a test asks for it.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, get_args

import pytest
import pytest_asyncio

import durably_testing
from durably_testing.errors import ReplayTokenError
from durably_testing.profile import EXAMPLES, Profile, ProfileName, current_profile, use_profile
from durably_testing.reachability import add_reached, reached
from durably_testing.tokens import Replay, read_token

if TYPE_CHECKING:
    from durably import DurablyOptions
    from durably_testing import EffectLedger, VirtualClock, VirtualDurably

# Its tests are in a package, and a failing assertion is to show its values all the same.
pytest.register_assert_rewrite("durably_testing.conformance")

PROFILE_VARIABLE = "DURABLY_PROFILE"
"""The environment variable that names the profile where the option does not."""

_REACHED = "durably_reached"

_before = pytest.StashKey[Profile]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Make the options known."""
    group = parser.getgroup("durably", "crash tests of durable jobs")
    group.addoption(
        "--durably-profile",
        choices=get_args(ProfileName),
        help=f"how much is tested; default: ${PROFILE_VARIABLE}, or quick",
    )
    group.addoption(
        "--durably-examples",
        type=_number_of_examples,
        metavar="N",
        help="random histories of each survives_crashes, beside those that are enumerated; default: "
        + ", ".join(f"{name} {count:,}" for name, count in EXAMPLES.items()),
    )
    group.addoption(
        "--durably-seed",
        type=int,
        metavar="N",
        help="what the random histories are drawn from; default: something new each time",
    )
    group.addoption(
        "--durably-replay",
        metavar="TOKEN",
        help="execute one test alone, with the one history that a failure printed this for",
    )
    group.addoption(
        "--durably-update-histories",
        action="store_true",
        help="write recorded histories anew rather than compare with them",
    )
    group.addoption(
        "--durably-require-sometimes",
        action="store_true",
        help="fail the session if a place named by sometimes(...) was never reached",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take the session's profile from its options."""
    config.addinivalue_line(
        "markers",
        "durably(**options): options of the instance that the durably fixtures give; see DurablyOptions",
    )
    config.stash[_before] = use_profile(_asked_for(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give back the profile of the session around this one, if there is one."""
    if (before := config.stash.get(_before, None)) is not None:
        use_profile(before)


def pytest_report_header() -> str | None:
    """Say what is not as always."""
    profile = current_profile()
    told = [] if profile.name == "quick" else [f"profile {profile.name}"]
    if profile.examples != EXAMPLES[profile.name]:
        told.append(f"{profile.examples} examples")
    if profile.seed is not None:
        told.append(f"seed {profile.seed}")
    if profile.replay is not None:
        told.append(f"replaying one history of {profile.replay.test}")
    return f"durably: {', '.join(told)}" if told else None


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave only the test whose history is replayed."""
    replay = current_profile().replay
    if replay is None or session.testsfailed:
        # What cannot be collected is told first.
        return
    wanted = [item for item in items if item.nodeid == replay.test]
    if not wanted:
        raise pytest.UsageError(
            f"--durably-replay: the token is of {replay.test or 'no test'}, which is not among the "
            f"{len(items)} tests that were collected"
        )
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid != replay.test])
    items[:] = wanted


class _Node(Protocol):
    """What pytest-xdist tells of one of its processes."""

    workeroutput: MutableMapping[str, object]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: _Node, error: object) -> None:
    """Add what a process of pytest-xdist reached; one that crashed has told nothing."""
    told = getattr(node, "workeroutput", {})
    add_reached(cast("Mapping[str, int]", told.get(_REACHED, {})))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where places had to be reached and were not; a process of pytest-xdist leaves it to the one that asked."""
    workeroutput = cast("MutableMapping[str, object] | None", getattr(session.config, "workeroutput", None))
    if workeroutput is not None:
        workeroutput[_REACHED] = dict(reached())
        return
    if _missing() and session.config.option.durably_require_sometimes and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the places that no simulation reached."""
    missing = _missing()
    if not missing:
        return
    is_failure = bool(config.option.durably_require_sometimes)
    terminalreporter.section("durably: what never happened", red=is_failure, yellow=not is_failure)
    for place in missing:
        terminalreporter.line(f"never reached: {place}")
    if is_failure:
        terminalreporter.line("--durably-require-sometimes: each of them must be", red=True)


@pytest.fixture
def durably_clock() -> "VirtualClock":
    """The time that the instances of a test live in: `durably_clock.advance("1h")`."""
    return durably_testing.VirtualClock()


@pytest.fixture
def durably_effects() -> "EffectLedger":
    """How often each step's body began, by the step's name; a test's doubles may note more in it."""
    return durably_testing.EffectLedger()


@pytest_asyncio.fixture
async def durably(
    request: pytest.FixtureRequest, durably_clock: "VirtualClock", durably_effects: "EffectLedger"
) -> "AsyncIterator[VirtualDurably]":
    """An instance in memory, migrated, in virtual time: `await durably.drain()` executes what is due."""
    async with durably_testing.VirtualDurably(
        clock=durably_clock, effects=durably_effects, **_marked(request)
    ) as instance:
        yield instance
        instance.verify()


@pytest_asyncio.fixture
async def durably_file(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    durably_clock: "VirtualClock",
    durably_effects: "EffectLedger",
) -> "AsyncIterator[VirtualDurably]":
    """As `durably`, on a file: `await durably_file.another()` opens it once more, as another process would."""
    async with durably_testing.VirtualDurably(
        tmp_path / "durably.db", clock=durably_clock, effects=durably_effects, **_marked(request)
    ) as instance:
        yield instance
        instance.verify()


def _marked(request: pytest.FixtureRequest) -> "DurablyOptions":
    """The options that a test's markers give, the nearest last."""
    options: DurablyOptions = {}
    for marker in reversed(list(request.node.iter_markers("durably"))):
        options.update(cast("DurablyOptions", marker.kwargs))
    return options


def _missing() -> list[str]:
    # One history cannot reach everything.
    is_replay = current_profile().replay is not None
    return [] if is_replay else [place for place, times in reached().items() if not times]


def _asked_for(config: pytest.Config) -> Profile:
    name = cast("str | None", config.option.durably_profile) or os.environ.get(PROFILE_VARIABLE) or "quick"
    if name not in get_args(ProfileName):
        raise pytest.UsageError(
            f"{PROFILE_VARIABLE} is {name!r}; it may be {', '.join(get_args(ProfileName))}"
        )
    profile = Profile(
        name=cast("ProfileName", name),
        examples=EXAMPLES[cast("ProfileName", name)],
        seed=config.option.durably_seed,
        replay=_replay(config.option.durably_replay),
        update_histories=config.option.durably_update_histories,
    )
    examples = cast("int | None", config.option.durably_examples)
    return profile if examples is None else replace(profile, examples=examples)


def _replay(token: str | None) -> Replay | None:
    if token is None:
        return None
    try:
        return read_token(token)
    except ReplayTokenError as error:
        raise pytest.UsageError(f"--durably-replay: {error}") from None


def _number_of_examples(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number of examples, from 0 on")
    return int(text)
