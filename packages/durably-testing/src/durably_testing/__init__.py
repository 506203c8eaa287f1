"""Crash tests for Durably's jobs: every step, every fault, reproducibly."""

from durably_testing.crashes import Failure, Report, crash_at_every_step
from durably_testing.effects import EffectLedger
from durably_testing.errors import (
    NothingTestedError,
    PromiseBroken,
    RealWorldError,
    ReplayTokenError,
    SimulationError,
)
from durably_testing.faults import Fault, Kind, Moment, Plan
from durably_testing.oracle import invariant_triggers, violations
from durably_testing.reachability import reached, sometimes
from durably_testing.simulation import Scene, SimulatedRun, simulate
from durably_testing.strategies import crash_plans, inputs_for
from durably_testing.survival import survives_crashes

__all__ = [
    "EffectLedger",
    "Failure",
    "Fault",
    "Kind",
    "Moment",
    "NothingTestedError",
    "Plan",
    "PromiseBroken",
    "RealWorldError",
    "ReplayTokenError",
    "Report",
    "Scene",
    "SimulatedRun",
    "SimulationError",
    "crash_at_every_step",
    "crash_plans",
    "inputs_for",
    "invariant_triggers",
    "reached",
    "simulate",
    "sometimes",
    "survives_crashes",
    "violations",
]
