"""A wake-up without content: something may have changed, look again."""

import asyncio


class Doorbell:
    """Rings for everyone who waits; a ring between looking and waiting is not missed.

    Read `rings`, look, and `wait(rings)`: the wait returns at once if the bell has rung since. It belongs
    to no event loop: an instance may be closed, and opened again in another one.
    """

    def __init__(self) -> None:
        self.rings: int = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake everyone who waits. On the loop's thread only."""
        self.rings += 1
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    async def wait(self, seen: int, /, *, seconds: float | None = None) -> None:
        """Return once the bell has rung after `seen`, or after `seconds`."""
        if self.rings != seen:
            return
        rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(rung)
        try:
            async with asyncio.timeout(seconds):
                await rung
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(rung)
