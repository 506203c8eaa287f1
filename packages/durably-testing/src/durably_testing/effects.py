"""The ledger of effects: what happened to the outside world, and how often.

Every body of a step that begins counts as an effect under the step's name; a job under test may note
others of its own.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from durably_testing.processes import current_process


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect."""

    name: str
    key: str | None
    process: str


class EffectLedger:
    """Counts effects; those of dead processes are refused, as the world would not see them.

    Call it within a step: `effects("charge", key=order.id)`.
    """

    def __init__(self) -> None:
        self._entries: list[Effect] = []

    def __call__(self, name: str, *, key: str | None = None) -> None:
        """Note an effect.

        Args:
            name: What was done; a name of its own, not a step's.
            key: To whom, where one name covers many.
        """
        process = current_process.get()
        if process is not None and process.is_dead:
            return
        self._entries.append(Effect(name, key, "" if process is None else process.name))

    def count(self, name: str, *, key: str | None = None) -> int:
        """How often it happened; with a key: to this one."""
        return sum(1 for entry in self._entries if entry.name == name and (key is None or entry.key == key))

    def counts(self) -> Mapping[str, int]:
        """How often each happened; 0 for what never did."""
        return Counter(entry.name for entry in self._entries)

    def order(self) -> tuple[str, ...]:
        """The names in the order in which they happened."""
        return tuple(entry.name for entry in self._entries)

    def clear(self) -> None:
        """Forget everything: a new history begins."""
        self._entries.clear()
