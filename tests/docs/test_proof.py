"""The page on how the promises are tested lists the bugs that are planted, all of them."""

from tests.docs.pages import DOCS
from tests.testing.mutants import MUTANTS
from tests.testing.scenarios import SCENARIOS


def test_every_planted_bug_is_listed_with_the_job_that_finds_it() -> None:
    page = (DOCS / "explanation" / "proof.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    planted = [
        f"| {mutant.sentence} | {', '.join(f'`{name}`' for name in mutant.found_by)} |"
        for mutant in MUTANTS.values()
    ]

    assert rows == planted


def test_every_job_that_finds_one_exists() -> None:
    names = {scenario.name for scenario in SCENARIOS}

    assert {name for mutant in MUTANTS.values() for name in mutant.found_by} <= names
