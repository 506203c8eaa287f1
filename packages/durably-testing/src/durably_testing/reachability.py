"""What simulations have reached: a test that never came to a place has not tested it.

`sometimes` is said where something rare happens; at the end of a session the places that were named
and never reached are listed.
"""

from collections.abc import Mapping

_reached: dict[str, int] = {}


def sometimes(name: str, condition: object = True, /) -> None:
    """Note that a place exists, and, if the condition holds, that it was reached.

    Args:
        name: What happens there, as a sentence: `a lease was taken over`.
        condition: Whether it happened this time.
    """
    _reached[name] = _reached.get(name, 0) + bool(condition)


def reached() -> Mapping[str, int]:
    """How often each place was reached; 0: named, and never reached."""
    return dict(_reached)


def add_reached(elsewhere: Mapping[str, int]) -> None:
    """Add what another process of the same session reached."""
    for name, times in elsewhere.items():
        _reached[name] = _reached.get(name, 0) + times


def forget_reached() -> None:
    """Begin anew."""
    _reached.clear()
