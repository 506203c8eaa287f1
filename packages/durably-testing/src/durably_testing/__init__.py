"""Crash tests for Durably's jobs: every step, every fault, reproducibly."""

__all__: list[str] = []
