"""How the workers of a `KillLoop` are to end: chosen beforehand, by a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from durably_testing.killing.evidence import Deed, KillMoment

LONGEST_LIFE = 0.5
"""Seconds within which a worker at work is killed that dies at any time."""
LONGEST_START = 0.1
"""Seconds within which one is killed that dies in the midst of its start."""
COUNTS = (1, 1, 2, 3, 5)
"""At the how-manieth of its moments a worker may die."""
A_START = 0.2
"""The share of workers, among those that die at any time, that may die in the midst of their start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doom:
    """How a worker is to end, or to pause."""

    deed: Deed
    moment: KillMoment
    count: int
    """At the how-manieth of such moments."""
    delay: float
    """At any time: how many seconds after it began its work, or its start."""
    in_its_start: bool


def dooms(kills: int, pauses: int, moments: Sequence[KillMoment], chance: random.Random) -> list[Doom]:
    """Dooms for so many workers, in a random order."""
    found: list[Doom] = []
    for number in range(kills + pauses):
        deed: Deed = "kill" if number < kills else "pause"
        in_its_start = deed == "kill" and chance.random() < A_START
        found.append(
            Doom(
                deed=deed,
                moment=chance.choice(moments),
                count=chance.choice(COUNTS),
                delay=chance.uniform(0, LONGEST_START if in_its_start else LONGEST_LIFE),
                in_its_start=in_its_start,
            )
        )
    chance.shuffle(found)
    return found
