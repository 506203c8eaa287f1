"""What the users of an instance may set."""

from collections.abc import Callable, Iterable
from typing import TypedDict

from durably.environment import Environment
from durably.errors import ConfigurationError
from durably.jobs import AnyJob
from durably.models import Durability, Seconds
from durably.options import Limits, WorkerOptions, seconds, unknown_option, whole

MOST_SLOTS = 1000
LEASES_IN_A_STALL = 10


class DurablyOptions(TypedDict, total=False):
    """Options of `Durably`; durations are seconds or timedeltas."""

    polling_interval: Seconds
    """How often a worker looks for work without having been woken. Default 1."""
    heartbeat_interval: Seconds
    """How often it renews its leases. Default 5; at most half of `stale_threshold`."""
    stale_threshold: Seconds
    """The length of a lease: a silent worker's runs are taken over after it. Default 30."""
    stall_limit: Seconds
    """How long a worker keeps its runs while its event loop is blocked. Default: ten leases."""
    max_concurrent_runs: int
    """Runs that one worker executes at a time, 1 to 1000. Default 10."""
    max_crashes: int
    """Worker deaths in a row, without a new checkpoint, after which a run is failed. Default 5."""
    retain: Seconds | None
    """Delete ended runs after this time. Default None: never."""
    durability: Durability
    """`disk` (default): an acknowledged write survives a power cut. `process`: only a crash."""
    worker: bool
    """False for a process that triggers and looks, but executes nothing. Default True."""
    persist_logs: bool
    """False: log lines are told as events and not stored. Default True."""
    keep_results: bool
    """False: a completed run's step results are dropped; its output and steps are kept. Default True."""
    jobs: Iterable[AnyJob]
    """Definitions to register at once."""
    resources: Iterable[Callable[..., object]]
    """Factories of resources to register at once, in the order in which they are to be opened."""
    limits: Limits
    """The largest payloads."""
    environment: Environment
    """Clocks, ids, tasks and threads; for simulations."""


def worker_options(options: DurablyOptions) -> WorkerOptions:
    """The worker's part of an instance's options.

    Raises:
        ConfigurationError: One of them cannot be used; says what is allowed.
    """
    wrong = unknown_option(options, DurablyOptions.__annotations__)
    if wrong is not None:
        raise ConfigurationError(wrong)
    heartbeat = seconds(options.get("heartbeat_interval", 5.0), "heartbeat_interval")
    lease = seconds(options.get("stale_threshold", 30.0), "stale_threshold")
    if heartbeat > lease / 2:
        raise ConfigurationError(
            f"heartbeat_interval ({heartbeat:g} s) must be at most half of stale_threshold "
            f"({lease:g} s), or a single late heartbeat loses every lease"
        )
    stall_limit = seconds(options.get("stall_limit", LEASES_IN_A_STALL * lease), "stall_limit")
    if stall_limit < lease:
        raise ConfigurationError(
            f"stall_limit ({stall_limit:g} s) must be at least stale_threshold ({lease:g} s), "
            "which is how long a blocked worker would keep its runs anyway"
        )
    durability = options.get("durability", "disk")
    if durability not in ("disk", "process"):
        raise ConfigurationError(f"durability must be 'disk' or 'process', not {durability!r}")
    for name in ("worker", "persist_logs", "keep_results"):
        if not isinstance(value := options.get(name, True), bool):
            raise ConfigurationError(f"{name} must be True or False, not {value!r}")
    retain = options.get("retain")
    return WorkerOptions(
        polling_interval=seconds(options.get("polling_interval", 1.0), "polling_interval"),
        heartbeat_interval=heartbeat,
        lease_seconds=lease,
        stall_limit=stall_limit,
        slots=whole(options.get("max_concurrent_runs", 10), "max_concurrent_runs", least=1, most=MOST_SLOTS),
        max_crashes=whole(options.get("max_crashes", 5), "max_crashes", least=1, most=1000),
        retain=None if retain is None else seconds(retain, "retain"),
        persist_logs=options.get("persist_logs", True),
        keep_results=options.get("keep_results", True),
        limits=options.get("limits", Limits()),
    )
