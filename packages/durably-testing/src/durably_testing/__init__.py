"""Crash tests for Durably's jobs: every step, every fault, reproducibly."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durably_testing.assertions import (
        assert_at_most_once,
        assert_effects,
        assert_no_stuck,
        assert_resumed_from,
        assert_triggered,
    )
    from durably_testing.clock import Span, VirtualClock
    from durably_testing.conformance.stage import HandClock, OpenStore
    from durably_testing.conformance.suite import StoreConformance
    from durably_testing.crashes import Failure, Report, crash_at_every_step
    from durably_testing.effects import EffectLedger
    from durably_testing.errors import (
        HistoryError,
        NothingTestedError,
        PromiseBroken,
        RealWorldError,
        ReplayTokenError,
        SimulationError,
    )
    from durably_testing.executions import Execution
    from durably_testing.fakes import FakedRun, FakeStep, fake_step
    from durably_testing.faults import Fault, Kind, Moment, Plan
    from durably_testing.faulty import FaultyStore, How
    from durably_testing.histories import assert_replays, record_history
    from durably_testing.killing.evidence import Doing, Kill, KillMoment, note_effect
    from durably_testing.killing.kill_loop import KillLoop
    from durably_testing.killing.warden import KillLoopError
    from durably_testing.leaks import assert_no_leaks
    from durably_testing.machine import DurableMachine, Wish
    from durably_testing.oracle import invariant_triggers, violations
    from durably_testing.processes import die
    from durably_testing.reachability import reached, sometimes
    from durably_testing.simulation import Scene, SimulatedRun, simulate
    from durably_testing.strategies import crash_plans, inputs_for, json_values, schedules
    from durably_testing.survival import survives_crashes
    from durably_testing.virtual import VirtualDurably

__all__ = [
    "Doing",
    "DurableMachine",
    "EffectLedger",
    "Execution",
    "Failure",
    "FakeStep",
    "FakedRun",
    "Fault",
    "FaultyStore",
    "HandClock",
    "HistoryError",
    "How",
    "Kill",
    "KillLoop",
    "KillLoopError",
    "KillMoment",
    "Kind",
    "Moment",
    "NothingTestedError",
    "OpenStore",
    "Plan",
    "PromiseBroken",
    "RealWorldError",
    "ReplayTokenError",
    "Report",
    "Scene",
    "SimulatedRun",
    "SimulationError",
    "Span",
    "StoreConformance",
    "VirtualClock",
    "VirtualDurably",
    "Wish",
    "assert_at_most_once",
    "assert_effects",
    "assert_no_leaks",
    "assert_no_stuck",
    "assert_replays",
    "assert_resumed_from",
    "assert_triggered",
    "crash_at_every_step",
    "crash_plans",
    "die",
    "fake_step",
    "inputs_for",
    "invariant_triggers",
    "json_values",
    "note_effect",
    "reached",
    "record_history",
    "schedules",
    "simulate",
    "sometimes",
    "survives_crashes",
    "violations",
]

# Where each name lives, so that nothing is imported before it is asked for: the plugin, and with it
# this module, is loaded in every pytest session of our users.
_MODULES = {
    "assertions": [
        "assert_at_most_once",
        "assert_effects",
        "assert_no_stuck",
        "assert_resumed_from",
        "assert_triggered",
    ],
    "clock": ["Span", "VirtualClock"],
    "conformance.stage": ["HandClock", "OpenStore"],
    "conformance.suite": ["StoreConformance"],
    "crashes": ["Failure", "Report", "crash_at_every_step"],
    "effects": ["EffectLedger"],
    "errors": [
        "HistoryError",
        "NothingTestedError",
        "PromiseBroken",
        "RealWorldError",
        "ReplayTokenError",
        "SimulationError",
    ],
    "executions": ["Execution"],
    "fakes": ["FakedRun", "FakeStep", "fake_step"],
    "faults": ["Fault", "Kind", "Moment", "Plan"],
    "faulty": ["FaultyStore", "How"],
    "histories": ["assert_replays", "record_history"],
    "killing.evidence": ["Doing", "Kill", "KillMoment", "note_effect"],
    "killing.kill_loop": ["KillLoop"],
    "killing.warden": ["KillLoopError"],
    "leaks": ["assert_no_leaks"],
    "machine": ["DurableMachine", "Wish"],
    "oracle": ["invariant_triggers", "violations"],
    "processes": ["die"],
    "reachability": ["reached", "sometimes"],
    "simulation": ["Scene", "SimulatedRun", "simulate"],
    "strategies": ["crash_plans", "inputs_for", "json_values", "schedules"],
    "survival": ["survives_crashes"],
    "virtual": ["VirtualDurably"],
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__
