"""A wake-up without content: something may have changed, look again."""

import asyncio


class Doorbell:
    """Rings for everyone who waits; a ring between looking and waiting is not missed.

    Read `rings`, look, and `wait(rings)`: the wait returns at once if the bell has rung since.
    """

    def __init__(self) -> None:
        self.rings: int = 0
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake everyone who waits. On the loop's thread only."""
        self.rings += 1
        self._rung.set()

    async def wait(self, seen: int, /, *, seconds: float | None = None) -> None:
        """Return once the bell has rung after `seen`, or after `seconds`."""
        if self.rings != seen:
            return
        self._rung.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
