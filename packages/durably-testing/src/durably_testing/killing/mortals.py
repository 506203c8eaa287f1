"""What executes in the processes of a `KillLoop`: the warden's own, and those that are killed.

The warden imports the user's module once and forks every worker, so that a start costs
milliseconds. It opens no database and no event loop; where a fork would copy threads, and on systems
whose libraries do not survive one, it starts each worker afresh instead.

It is told by lines on its standard input (`start`, `kill`, …) and tells by lines on its standard
output (`ready 3`, `gone 3 -9`, …).
"""

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Self, TypedDict

from typing_extensions import Unpack

from durably import Durably, EventType, RealEnvironment, RunEvent, RunStarted
from durably_testing.killing.evidence import Deed, Evidence, KillMoment, Line, What, listen

ORPHANED = 0.25
"""Seconds between a worker's looks at whether its warden is alive."""

LEAVING: tuple[EventType, ...] = (
    "run:complete", "run:fail", "run:wait", "run:release", "run:reattempt", "run:continue",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What the warden and its workers need to know."""

    module: str
    file: str
    function: str
    database: str
    evidence: str
    warm: bool

    @classmethod
    def of(cls, app: Callable[[str], Durably], database: str, evidence: Path, *, warm: bool) -> Self:
        """What leads other processes to this function.

        Raises:
            ValueError: Nothing does: it is not at the top level of a module.
        """
        name = app.__qualname__
        if not name.isidentifier():
            raise ValueError(
                f"{name} is called in other processes, which have to import it: "
                "make it a function at the top level of a module"
            )
        return cls(
            module=app.__module__,
            file=inspect.getfile(app),
            function=name,
            database=database,
            evidence=str(evidence),
            warm=warm,
        )

    def app(self) -> Callable[[str], Durably]:
        """The user's function, its module imported by its name or else from its file."""
        module = self._by_name() or self._by_file()
        app: Callable[[str], Durably] = getattr(module, self.function)
        return app

    def _by_name(self) -> ModuleType | None:
        if self.module == "__main__":
            return None
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError:
            return None
        return module if getattr(module, "__file__", None) == self.file else None

    def _by_file(self) -> ModuleType:
        name = "__killed_main__" if self.module == "__main__" else self.module
        spec = importlib.util.spec_from_file_location(name, self.file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.file} cannot be imported", name=name)
        module = importlib.util.module_from_spec(spec)
        # Types that the module defines are looked up here.
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """How a worker ends, or pauses, by itself."""

    deed: Deed
    moment: KillMoment
    count: int
    """At the how-manieth of such moments."""


class Facts(TypedDict, total=False):
    """What a line tells beside what happened."""

    run_id: str
    name: str
    key: str | None
    generation: int
    resumed: bool


class Scribe:
    """Writes down what its worker does, and strikes when its fate says so."""

    def __init__(self, evidence: Evidence, worker: int, fate: Fate | None, pause: Callable[[], None]) -> None:
        self._evidence = evidence
        self._pause = pause
        self._worker = worker
        self._fate = fate
        self._left = 0 if fate is None else fate.count
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()

    def watch(self, durably: Durably) -> None:
        """Hear of everything that this instance executes."""
        note = self._note
        generations: dict[str, int] = {}

        def begin(event: RunStarted) -> None:
            generations[event.run_id] = event.generation
            note("run begins", run_id=event.run_id, generation=event.generation, resumed=event.resumed)

        durably.on("run:start", begin)
        durably.on("step:start", lambda event: note("step begins", run_id=event.run_id, name=event.step_name))
        durably.on(
            "step:complete",
            lambda event: note(
                "step saved",
                run_id=event.run_id,
                name=event.step_name,
                generation=generations.get(event.run_id, 0),
            ),
        )

        def leave(event: RunEvent) -> None:
            note("run left", run_id=event.run_id)

        for name in LEAVING:
            durably.on(name)(leave)
        listen(lambda name, key: note("effect", name=name, key=key))

    def _note(self, what: What, **facts: Unpack[Facts]) -> None:
        line = Line(what=what, worker=self._worker, **facts)
        with self._lock:
            self._evidence.write(line)
            if self._fate is None or what != self._fate.moment:
                return
            self._left -= 1
            if self._left != 0:
                return
        if self._fate.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif threading.get_ident() == self._thread:
            self._pause()
        else:
            # Between two turns of the loop: a pause must not part the look at a lease from what is
            # begun under it, which nothing can mend.
            over = threading.Event()
            self._loop.call_soon_threadsafe(self._pause)
            self._loop.call_soon_threadsafe(over.set)
            over.wait()


class Pause:
    """Standing still until somebody sends SIGCONT: once, whoever asks for it.

    A worker may be told to pause just when it does so by itself, and hears of it when it goes on.
    """

    def __init__(self) -> None:
        self._has_been = False

    def __call__(self) -> None:
        """Stand still, unless that has been."""
        if not self._has_been:
            self._has_been = True
            os.kill(os.getpid(), signal.SIGSTOP)


async def work(
    app: Callable[[str], Durably], brief: Brief, number: int, fate: Fate | None, voice: int
) -> None:
    """Be a worker until the end, which SIGTERM makes a graceful one."""
    environment = RealEnvironment()
    warden = os.getppid()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    pause = Pause()
    loop.add_signal_handler(signal.SIGUSR1, pause)
    durably = app(brief.database)
    Scribe(Evidence(Path(brief.evidence)), number, fate, pause).watch(durably)

    async def perish_alone() -> None:
        while os.getppid() == warden:
            await environment.sleep(ORPHANED)
        os.kill(os.getpid(), signal.SIGKILL)

    alone = environment.spawn(perish_alone(), name="perish alone")
    async with durably:
        tell(voice, "ready", number)
        await over.wait()
    alone.cancel()


class Warden:
    """Starts workers, kills them, and tells how they ended."""

    def __init__(self, brief: Brief, commands: BinaryIO, voice: int, *, forks: bool) -> None:
        self._brief = brief
        self._voice = voice
        self._commands = commands
        self._forks = forks
        self._pids: dict[int, int] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> "tuple[int, Fate | None] | None":
        """Do as told until the input ends; then nobody is left.

        In a forked child it returns at once, with the child's number and fate.
        """
        awake, bell = socket.socketpair()
        for end in (awake, bell):
            end.setblocking(False)
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _hear)
        with selectors.DefaultSelector() as selector, awake, bell:
            selector.register(self._commands, selectors.EVENT_READ)
            selector.register(awake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is awake:
                        awake.recv(4096)
                        self._bury()
                        continue
                    command = self._commands.readline()
                    if not command:
                        self._end_all()
                        return None
                    born = self._obey(*command.decode().split(maxsplit=2))
                    if born is not None:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        return born

    def _obey(self, verb: str, worker: str, fate: str = "null") -> "tuple[int, Fate | None] | None":
        number = int(worker)
        if verb == "start":
            return self._start(number, fate)
        if number in self._pids:
            # Nobody is buried before this is done: the number can be no stranger's.
            os.kill(self._pids[number], _SIGNALS[verb])
        return None

    def _start(self, number: int, fate: str) -> "tuple[int, Fate | None] | None":
        if not self._forks:
            command = [sys.executable, "-c", PROGRAM, str(self._voice), str(number), fate]
            process = subprocess.Popen(  # noqa: S603 - this interpreter, a program of ours
                command, stdin=subprocess.DEVNULL, pass_fds=(self._voice,)
            )
            self._processes[number] = process
            pid = process.pid
        else:
            pid = os.fork()
            if pid == 0:
                return number, read_fate(fate)
        self._pids[number] = pid
        tell(self._voice, "started", number, pid)
        return None

    def _bury(self) -> None:
        for number, pid in tuple(self._pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found == 0:
                continue
            if os.WIFSTOPPED(status):
                tell(self._voice, "paused", number)
                continue
            del self._pids[number]
            code = os.waitstatus_to_exitcode(status)
            if (process := self._processes.pop(number, None)) is not None:
                process.returncode = code
            tell(self._voice, "gone", number, code)

    def _end_all(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)


_SIGNALS = {
    "kill": signal.SIGKILL,
    "pause": signal.SIGUSR1,
    "wake": signal.SIGCONT,
    "end": signal.SIGTERM,
}

BRIEF = "DURABLY_KILL_LOOP"
PROGRAM = "from durably_testing.killing.mortals import main; main()"


def _hear(*_: object) -> None:
    """A handler has to be there for the signal to ring the bell."""


def read_fate(text: str) -> Fate | None:
    """A fate as a command carries it."""
    fate = json.loads(text)
    return None if fate is None else Fate(**fate)


def main() -> None:
    """Be the warden, or a worker that it could not fork."""
    brief = Brief(**json.loads(os.environ[BRIEF]))
    match sys.argv[1:]:
        case [voice, number, fate]:
            asyncio.run(work(brief.app(), brief, int(number), read_fate(fate), int(voice)))
        case _:
            _be_warden(brief)


def _be_warden(brief: Brief) -> None:
    # The user's jobs may print: that goes beside the lines of the protocol.
    voice = os.dup(1)
    os.dup2(2, 1)
    app = brief.app()
    forks = brief.warm and sys.platform != "darwin" and threading.active_count() == 1
    with open(0, "rb", buffering=0, closefd=False) as commands:
        born = Warden(brief, commands, voice, forks=forks).serve()
    if born is not None:
        number, fate = born
        asyncio.run(work(app, brief, number, fate, voice))


def tell(voice: int, *words: object) -> None:
    """Say a line; each by one write, so that the lines of several processes do not mix."""
    os.write(voice, (" ".join(map(str, words)) + "\n").encode())
