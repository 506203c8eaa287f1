"""Why a run is not running, for those who may not know who executes what."""

from collections.abc import Mapping
from typing import Final

from durably import (
    AboutToStart,
    BehindKey,
    BesideSuspect,
    BodyEnding,
    Explanation,
    NoFreeSlot,
    NoWorkerAlive,
    NoWorkerKnowsJob,
    Running,
)

WORDS: Final[Mapping[type[object], str]] = {
    Running: "running",
    AboutToStart: "about to start",
    NoFreeSlot: "waiting for a free place on a worker",
    BesideSuspect: "waiting for a free place on a worker",
    NoWorkerAlive: "waiting for a worker",
    NoWorkerKnowsJob: "waiting for a worker",
    BodyEnding: "waiting for its cancelled body to end",
    BehindKey: "waiting for another run with the same concurrency key",
}


def in_private(explanation: Explanation) -> str:
    """The same without workers, other jobs and other people's runs."""
    return WORDS.get(type(explanation)) or str(explanation)
