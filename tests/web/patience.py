"""How long tests wait for what must happen. Nothing depends on it: it is there so that a failing test ends."""

from typing import Final

PATIENCE: Final = 30.0
"""Seconds."""
