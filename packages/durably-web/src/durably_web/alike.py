"""Steps that are alike: `sync-item-1` to `sync-item-4800`, which one row stands for."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from durably import Step

DISTINCTION: Final = re.compile(
    r"\[[^\]]*\]|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-z])(?=[a-f]*[0-9])[0-9a-f]{8,}(?![0-9a-z])|[0-9]+",
    re.IGNORECASE,
)
"""What tells steps apart that do the same: the key of a map's item, an id, a number."""
FEW: Final = 30
"""Steps that are all shown, however alike they are."""
LEAST: Final = 10
"""Steps of a kind that are folded into one row."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Completed steps that are alike, in order."""

    kind: str
    """Their name, without what tells them apart."""
    steps: tuple[Step, ...]


Item: TypeAlias = Step | Alike


def kind(name: str) -> str:
    """The name without what tells a step from others: `sync-item-#`, `thumb[#]`."""
    return DISTINCTION.sub(lambda found: "[#]" if found[0].startswith("[") else "#", name)


def fold(steps: Sequence[Step]) -> list[Item]:
    """The steps, many that are alike as one, where the first of them stood.

    What failed, goes on or was cancelled is never folded.
    """
    if len(steps) <= FEW:
        return list(steps)
    kinds: defaultdict[str, list[Step]] = defaultdict(list)
    names = {step.name: kind(step.name) for step in steps}
    for step in steps:
        if step.status == "completed":
            kinds[names[step.name]].append(step)
    items: list[Item] = []
    for step in steps:
        alike = kinds[names[step.name]] if step.status == "completed" else []
        if len(alike) < LEAST:
            items.append(step)
        elif alike[0] is step:
            items.append(Alike(names[step.name], tuple(alike)))
    return items
