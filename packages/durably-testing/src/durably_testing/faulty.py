"""A store that fails where a test wants it to, in front of any real one."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, get_args

from typing_extensions import override

from durably.spi import SqliteStore, Store
from durably_testing.errors import NothingTestedError
from durably_testing.interposition import VERBS, Interposed, Trouble, Verb, trouble

How: TypeAlias = Literal["before", "after", "busy", "io", "full", "hang"]
"""In what way a store fails:

- `before`: it cannot be reached, and has done nothing.
- `after`: it cannot be reached, and has done it all the same: the outcome is unknown to the caller.
- `busy`, `io`, `full`: it is locked by another, its disk does not work, there is no room; nothing was done.
- `hang`: it does not answer, and has done nothing until it does.
"""

_TROUBLES: dict[How, Trouble] = {
    "before": "error",
    "after": "error",
    "busy": "busy",
    "io": "io",
    "full": "full",
}


@dataclass(slots=True)
class _Plan:
    verb: str
    nth: int
    times: int | None
    how: How
    seconds: float | None
    struck: int = 0

    def __str__(self) -> str:
        return f"{self.verb} (call {self.nth}, {self.how})"

    def strikes(self, call: int) -> bool:
        """Whether it is for this call of its verb."""
        return call >= self.nth and (self.times is None or call < self.nth + self.times)


if TYPE_CHECKING:
    # A checker cannot see that every verb is passed on.
    class _Passed(Interposed, SqliteStore): ...
else:
    _Passed = Interposed


class FaultyStore(_Passed):
    """Passes every verb to the store behind it, but for the faults that a test has planned.

        store = FaultyStore(SqliteStore("app.db", environment=RealEnvironment()))
        store.fail("save_step", nth=2, how="after")
        async with Durably(store) as durably: ...

    Args:
        store: The real one.
        sleep: How time passes while it hangs; for virtual clocks.
    """

    def __init__(
        self, store: Store, /, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        Interposed.__init__(self, store)
        self._sleep = sleep
        self._calls = Counter[str]()
        self._plans: list[_Plan] = []
        self._healed = asyncio.Event()
        self._struck: list[str] = []

    @property
    def struck(self) -> Sequence[str]:
        """The faults that have struck, in words."""
        return tuple(self._struck)

    def calls(self, verb: str, /) -> int:
        """How often a verb was said; failed calls count."""
        return self._calls[_known(verb)]

    def fail(
        self,
        verb: str,
        /,
        *,
        nth: int = 1,
        times: int | None = 1,
        how: How = "before",
        seconds: float | None = None,
    ) -> Self:
        """Plan a fault; answers the store, so that several can be planned in a row.

        The engine says a verb again after a fault, within the lease: one that must be felt by a job
        takes `times=None`.

        Args:
            verb: Of `durably.spi.Store`, e.g. `save_step`.
            nth: Which of its calls from now on fails first; from 1.
            times: How many in a row; None: from then on all of them.
            how: In what way.
            seconds: How long it hangs; None: until `heal`.

        Raises:
            ValueError: There is no such verb, or a number makes no sense.
        """
        if how not in get_args(How):
            raise ValueError(f"a store cannot fail {how!r}; it may {', '.join(get_args(How))}")
        if nth < 1 or (times is not None and times < 1):
            raise ValueError("calls are counted from 1: nth and times must be at least that")
        nth += self._calls[_known(verb)]
        self._plans.append(_Plan(verb, nth, times, how, seconds))
        return self

    def heal(self) -> None:
        """Work again: forget the plans, and answer whoever still waits."""
        self._plans.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def verify(self) -> None:
        """Fail if a fault was planned and never struck.

        Raises:
            NothingTestedError: It was; says which, and what was called how often.
        """
        idle = [plan for plan in self._plans if not plan.struck]
        if idle:
            calls = ", ".join(f"{verb} {times}x" for verb, times in sorted(self._calls.items()))
            raise NothingTestedError(
                f"planned and never struck: {', '.join(map(str, idle))}; what was called: {calls or 'nothing'}"
            )

    @override
    def around(self, name: str, verb: Verb, /) -> Verb:
        async def say(*args: object, **options: object) -> object:
            self._calls[name] += 1
            call = self._calls[name]
            plan = next((one for one in self._plans if one.verb == name and one.strikes(call)), None)
            if plan is None:
                return await verb(*args, **options)
            plan.struck += 1
            self._struck.append(f"{name} failed {plan.how} at its call {call}")
            if plan.how == "after":
                await verb(*args, **options)
            if plan.how in _TROUBLES:
                raise trouble(_TROUBLES[plan.how])
            await (self._healed.wait() if plan.seconds is None else self._sleep(plan.seconds))
            return await verb(*args, **options)

        return say


def _known(verb: str) -> str:
    if verb not in VERBS:
        raise ValueError(f"a store has no verb {verb!r}; there are {', '.join(sorted(VERBS))}")
    return verb
