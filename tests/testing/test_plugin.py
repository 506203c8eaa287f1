"""The pytest plugin, in sessions of its own: what a user types, and what pytest answers."""

import ast
import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import durably_testing

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "durably_testing.plugin", "-p", "no:durably")

CARELESS = """
from durably import StepContext, job
from durably_testing import crash_at_every_step, sometimes, survives_crashes


def charge() -> int:
    return 1


@job
async def order(step: StepContext, amount: int) -> int:
    await step.run("charge", charge)
    return amount


@survives_crashes(order, kinds=["kill"])
def test_charges_once(input, run):
    assert run.effects["charge"] <= 1


def test_charges_once_too():
    def once(run):
        assert run.effects["charge"] <= 1
    crash_at_every_step(order, 3, kinds=["kill"], check=once).verify()


def test_of_something_else():
    raise AssertionError
"""

SHOWS_PROFILE = """
from durably_testing.profile import current_profile

def test_it():
    profile = current_profile()
    print(profile.name, profile.examples, profile.seed, profile.replay, profile.update_histories)
"""

CARELESS_PLAN = """
import pytest

@pytest.mark.asyncio
@pytest.mark.parametrize("fixture", ["durably", "durably_file"])
async def test_it(durably, durably_file, fixture):
    {"durably": durably, "durably_file": durably_file}[fixture].faults.fail("claim")
"""

RARE = """
from durably_testing import sometimes

def test_it():
    sometimes("a lease was taken over", False)
    sometimes("a disk was full", True)
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester.runpytest_inprocess(*PLUGIN, *options)


def tokens_in(result: pytest.RunResult) -> list[str]:
    return list(dict.fromkeys(re.findall(r"--durably-replay=([\w-]+)", result.stdout.str())))


def test_the_plugin_imports_next_to_nothing() -> None:
    """It is loaded in every session of everybody who has the package installed."""
    script = "import sys; there = set(sys.modules); import durably_testing.plugin; print(*set(sys.modules) - there)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"hypothesis", "durably", "pydantic", "sqlite3"}.isdisjoint(loaded.stdout.split())


def test_every_public_name_is_there_once_it_is_asked_for() -> None:
    (checked,) = [
        node
        for node in ast.parse(Path(durably_testing.__file__).read_text()).body
        if isinstance(node, ast.If)
    ][:1]
    promised = {
        str(node.module).removeprefix("durably_testing."): sorted(alias.name for alias in node.names)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
    }
    found = {module: sorted(names) for module, names in vars(durably_testing)["_MODULES"].items()}

    assert found == promised, "type checkers see what is there"
    assert sorted(name for names in found.values() for name in names) == sorted(durably_testing.__all__)
    assert dir(durably_testing) == sorted(durably_testing.__all__)
    assert all(hasattr(durably_testing, name) for name in durably_testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'survives'"):
        getattr(durably_testing, "survives")  # noqa: B009 - a checker would refuse it


def test_the_profile_comes_from_the_options_or_from_the_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(SHOWS_PROFILE)
    monkeypatch.delenv("DURABLY_PROFILE", raising=False)

    asked = run(
        pytester, "-s", "--durably-profile=ci", "--durably-examples=7", "--durably-seed=3",
        "--durably-update-histories",
    )  # fmt: skip
    asked.stdout.fnmatch_lines(["durably: profile ci, 7 examples, seed 3", "*ci 7 3 None True*"])

    monkeypatch.setenv("DURABLY_PROFILE", "nightly")
    run(pytester, "-s").stdout.fnmatch_lines(["*nightly 20000 None None False*"])


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--durably-profile=slow", "*invalid choice: 'slow'*quick*ci*nightly*"),
        ("--durably-examples=-1", "*'-1' is not a number of examples, from 0 on*"),
        ("--durably-replay=abc", "*'abc' is no replay token; copy the whole*"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    pytester: pytest.Pytester, option: str, answer: str
) -> None:
    pytester.makepyfile(SHOWS_PROFILE)
    result = run(pytester, option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([answer])


def test_a_profile_that_the_environment_misspells_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLY_PROFILE", "slow")
    result = run(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*DURABLY_PROFILE is 'slow'; it may be quick, ci, nightly*"])


def test_places_that_were_never_reached_are_listed_and_may_be_demanded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(RARE)

    # In processes of their own: places are named for a whole process, and this one has its own.
    told = pytester.runpytest_subprocess(*PLUGIN)
    assert told.ret == pytest.ExitCode.OK
    told.stdout.fnmatch_lines(["*what never happened*", "never reached: a lease was taken over"])
    told.stdout.no_fnmatch_line("*a disk was full*")

    demanded = pytester.runpytest_subprocess(*PLUGIN, "--durably-require-sometimes")
    assert demanded.ret == pytest.ExitCode.TESTS_FAILED
    demanded.stdout.fnmatch_lines(["--durably-require-sometimes: each of them must be"])


def test_places_are_counted_over_all_processes_of_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_one="from durably_testing import sometimes\ndef test_it(): sometimes('a disk was full', False)",
        test_two="from durably_testing import sometimes\ndef test_it(): sometimes('a disk was full', True)",
        test_three="from durably_testing import sometimes\ndef test_it(): sometimes('a lease ended', False)",
    )
    told = pytester.runpytest_subprocess(
        "-p", "xdist", *PLUGIN, "--numprocesses=2", "--durably-require-sometimes"
    )

    assert told.ret == pytest.ExitCode.TESTS_FAILED
    told.stdout.fnmatch_lines(["*3 passed*"])
    told.stdout.fnmatch_lines(["never reached: a lease ended"])
    told.stdout.no_fnmatch_line("*a disk was full*")


def test_the_fixtures_tell_of_a_planned_fault_that_never_struck(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CARELESS_PLAN)
    told = run(pytester)

    told.assert_outcomes(passed=2, errors=2)
    told.stdout.fnmatch_lines(["*planned and never struck: claim (call 1, before)*"])


def test_a_token_replays_one_history_of_its_own_test_and_nothing_else(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_orders=CARELESS)
    failed = run(pytester, "--durably-examples=0")
    failed.assert_outcomes(failed=3)
    first, second = tokens_in(failed)[0], tokens_in(failed)[-1]

    replayed = run(pytester, f"--durably-replay={first}")
    replayed.assert_outcomes(failed=1, deselected=2)
    replayed.stdout.fnmatch_lines(["durably: replaying one history of test_orders.py::test_charges_once"])
    assert tokens_in(replayed) == [first]

    replayed = run(pytester, f"--durably-replay={second}")
    replayed.assert_outcomes(failed=1, deselected=2)
    assert "1 crashes of order, 1 of them not survived" in replayed.stdout.str()


def test_a_token_of_another_day_says_what_is_wrong_with_it(pytester: pytest.Pytester) -> None:
    place = pytester.makepyfile(test_orders=CARELESS)
    token = tokens_in(run(pytester, "--durably-examples=0", "-k", "test_charges_once"))[0]

    def changed(before: str, after: str) -> str:
        place.write_text(CARELESS.replace(before, after))
        result = run(pytester, f"--durably-replay={token}")
        assert result.ret
        return result.stdout.str() + result.stderr.str()

    assert "of job 'order', the test is about 'purchase' now" in changed("@job", "@job(name='purchase')")
    assert "the faults do not strike where they did" in changed('"charge", charge', '"pay", charge')
    assert "the token's input as stored does not fit" in changed(
        "amount: int) -> int:", "amount: list[int]) -> object:"
    )
    assert "test_orders.py::test_charges_once, which is not among the 3 tests" in changed(
        "def test_charges_once(", "def test_charged_once("
    )


def test_a_token_of_another_version_is_told_from_rubbish(pytester: pytest.Pytester) -> None:
    old = base64.urlsafe_b64encode(zlib.compress(json.dumps([1, "order"]).encode())).decode().rstrip("=")
    result = run(pytester, f"--durably-replay={old}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the token is of version 1, this durably-testing replays version *"])
