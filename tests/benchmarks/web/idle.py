"""Many open pages, and nothing that happens."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from durably_web.live import LIFE
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.processes import started
from tests.benchmarks.web import filling

OPENED_WITHIN = 10.0
"""Seconds in which the pages are opened, one after another: so they do not all come again at once."""
SETTLING = 3.0
AGAIN = 0.05
TARGET = 0.03


class OpenPage:
    """A page in a browser, as far as it listens: when its stream has ended it comes again, from where it was."""

    def __init__(self, address: str, topics: str) -> None:
        self._host, self._port = urlsplit(address).hostname, urlsplit(address).port
        self._topics = topics
        self._last_id = ""
        self.told = 0
        """Messages that named something, since it was opened."""
        self.streams = 0

    async def listen(self) -> None:
        """Until it is cancelled; over one connection, as browsers do."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            while True:
                self._ask(writer)
                await self._hear(reader)
                await asyncio.sleep(AGAIN)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _ask(self, writer: asyncio.StreamWriter) -> None:
        self.streams += 1
        request = (
            f"GET /-/live?topics={quote(self._topics)} HTTP/1.1\r\nhost: {self._host}\r\n"
            f"sec-fetch-site: same-origin\r\nlast-event-id: {self._last_id}\r\n\r\n"
        )
        writer.write(request.encode())

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """The answer, to its end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 200 " not in head.partition("\r\n")[0] or "chunked" not in head:
            raise RuntimeError(f"a page may not listen: {head}")
        while size := int(await reader.readline(), 16):
            chunk = (await reader.readexactly(size + 2)).decode()
            for line in chunk.splitlines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self._last_id = value
                self.told += name == "data" and "dw-" in value
        await reader.readline()


async def idle(database: Path, runs: int, pages: int, seconds: float) -> list[Figure]:
    """CPU and memory of a process at which this many pages listen: half at lists, half at runs that go on.

    Beside it, at the same time: a process whose streams have the same beats and lives, and nothing behind them.
    """
    going = [filling.run_id(seq) for seq in filling.running(runs)]
    topics = ["runs" if number % 2 else f"run:{going[number // 2 % len(going)]}" for number in range(pages)]
    async with (
        started("tests.benchmarks.web.server", database) as server,
        started("tests.benchmarks.web.bare") as bare,
    ):
        processes = (server, bare)
        addresses = [await process.hear() for process in processes]
        first = [asyncio.create_task(OpenPage(address, "runs").listen()) for address in addresses]
        await asyncio.sleep(SETTLING)
        empty = [await process.usage() for process in processes]
        opened = [[OpenPage(address, topic) for topic in topics] for address in addresses]
        listening = await _open([page for pair in zip(*opened, strict=True) for page in pair])
        await asyncio.sleep(SETTLING)
        begun, told = [await process.usage() for process in processes], _told(opened[0])
        again = await _renew(
            listening, [page for pair in zip(*opened, strict=True) for page in pair], seconds
        )
        ended = [await process.usage() for process in processes]
        await _close([*first, *listening])
    shares = [(late.cpu - early.cpu) / seconds for early, late in zip(begun, ended, strict=True)]
    sizes = [(late.resident - early.resident) / pages for early, late in zip(empty, ended, strict=True)]
    floor = "bare streams"
    return [
        Figure(
            name=f"CPU of a process with {pages} open pages while nothing happens",
            value=shares[0],
            unit="cpu",
            ratios={floor: shares[0] / shares[1]},
            target=at_most("3 % of a core", shares[0], TARGET),
            note=f"{seconds:.0f} s, in which {again // 2} streams ended and began again, "
            f"and {_told(opened[0]) - told} messages named something",
        ),
        Figure(name=f"… {floor} alone", value=shares[1], unit="cpu"),
        Figure(name="… memory a page", value=sizes[0], unit="bytes", ratios={floor: sizes[0] / sizes[1]}),
        Figure(name="… memory of the process", value=float(ended[0].resident), unit="bytes"),
    ]


def _told(pages: Sequence[OpenPage]) -> int:
    return sum(page.told for page in pages)


async def _open(pages: Sequence[OpenPage]) -> list[asyncio.Task[None]]:
    listening: list[asyncio.Task[None]] = []
    for page in pages:
        listening.append(asyncio.create_task(page.listen()))
        await asyncio.sleep(OPENED_WITHIN / len(pages))
    return listening


async def _renew(listening: list[asyncio.Task[None]], pages: Sequence[OpenPage], seconds: float) -> int:
    """Have streams end and begin again for so long, as many as would of pages opened at any time; answers how many."""
    pause = LIFE / len(pages)
    end = asyncio.get_running_loop().time() + seconds
    number = 0
    while asyncio.get_running_loop().time() + pause < end:
        await asyncio.sleep(pause)
        place = number % len(pages)
        await _close([listening[place]])
        listening[place] = asyncio.create_task(pages[place].listen())
        number += 1
    await asyncio.sleep(max(0.0, end - asyncio.get_running_loop().time()))
    return number


async def _close(tasks: Sequence[asyncio.Task[None]]) -> None:
    broken = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in broken:
        task.result()
