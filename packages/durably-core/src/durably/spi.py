"""What authors of stores and of simulations build on, beside the names of `durably` itself.

A store is anything that keeps `Store`'s promises; a simulation is an `Environment` of its own under the
real engine. These names may change with a minor release; the release notes then say how.
"""

from durably.codec import Codec, codec_for
from durably.environment import Environment, Lane, RealEnvironment, ThreadPool, Ticker
from durably.filters import RunFilter
from durably.inline import StandIn
from durably.stores.base import Store
from durably.stores.sqlite import SqliteStore
from durably.stores.sqlite.connection import Connector
from durably.stores.values import (
    Answer,
    Claim,
    Claimed,
    ClaimRequest,
    Completed,
    Continued,
    Enqueued,
    Failed,
    Lease,
    NewRun,
    NewSignal,
    NewWorker,
    Notes,
    Outcome,
    Reattempt,
    Receipt,
    Settled,
    StepRecord,
    Transition,
    Wait,
)
from durably.stores.watching import Facts, Seen, Survey, Tail

__all__ = [
    "Answer",
    "Claim",
    "ClaimRequest",
    "Claimed",
    "Codec",
    "Completed",
    "Connector",
    "Continued",
    "Enqueued",
    "Environment",
    "Facts",
    "Failed",
    "Lane",
    "Lease",
    "NewRun",
    "NewSignal",
    "NewWorker",
    "Notes",
    "Outcome",
    "RealEnvironment",
    "Reattempt",
    "Receipt",
    "RunFilter",
    "Seen",
    "Settled",
    "SqliteStore",
    "StandIn",
    "StepRecord",
    "Store",
    "Survey",
    "Tail",
    "ThreadPool",
    "Ticker",
    "Transition",
    "Wait",
    "codec_for",
]
