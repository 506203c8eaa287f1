"""What can be measured, by name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.benchmarks.workloads.children import children
from tests.benchmarks.workloads.footprint import idle, imports, memory
from tests.benchmarks.workloads.growth import growth
from tests.benchmarks.workloads.latency import across_processes, same_process
from tests.benchmarks.workloads.listing import listing
from tests.benchmarks.workloads.resume import crash, resume
from tests.benchmarks.workloads.steps import cpu, many_runs, one_run
from tests.benchmarks.workloads.triggers import batches, triggers
from tests.benchmarks.workloads.waits import signal_latency, signals, sleeps

Workload: TypeAlias = Callable[[Bench], Awaitable[list[Figure]]]

WORKLOADS: Mapping[str, Workload] = {
    "triggers": triggers,
    "batches": batches,
    "steps": one_run,
    "concurrency": many_runs,
    "cpu": cpu,
    "latency": same_process,
    "processes": across_processes,
    "sleeps": sleeps,
    "signals": signals,
    "signal-latency": signal_latency,
    "children": children,
    "growth": growth,
    "listing": listing,
    "resume": resume,
    "crash": crash,
    "memory": memory,
    "import": imports,
    "idle": idle,
}


def described(workload: Workload) -> str:
    """The first line of what it says of itself."""
    return (workload.__doc__ or "").strip().splitlines()[0]


def chosen(names: list[str]) -> dict[str, Workload]:
    """The workloads whose names begin with one of these; all without any.

    Raises:
        KeyError: A name fits none.
    """
    for name in names:
        if not any(known.startswith(name) for known in WORKLOADS):
            raise KeyError(name)
    return {
        name: workload
        for name, workload in WORKLOADS.items()
        if not names or any(name.startswith(wanted) for wanted in names)
    }
