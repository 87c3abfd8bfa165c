"""Processes in virtual time: threads of which one runs at a time, in an order that a seed decides.

A process runs ordinary code. Wherever that waits for something it calls `sleep`, and the process
whose wait ends next runs on. So a thousand processes that work for hours take seconds.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property

STACK_BYTES = 1 << 20


class Killed(BaseException):
    """Ends a process at once, as SIGKILL does; no code of the project catches it."""


class SimulatedProcess:
    """A process; `error` is what ended it, None if it came to its end."""

    def __init__(
        self, run: Callable[[], None], on_end: Callable[["SimulatedProcess"], None]
    ) -> None:
        self.error: BaseException | None = None
        self.ended = self.killed = False
        self.turn = threading.Semaphore(0)
        self.wake: tuple[float, int] = (0.0, -1)  # time and number of the event that resumes it
        self.on_end = on_end
        self.run = run


class VirtualTime:
    """The clock, and the processes that wait for it.

    Attributes:
        now: seconds since the start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._alive = 0
        self._current: SimulatedProcess | None = None
        self._back = threading.Semaphore(0)

    def at(self, time: float, action: Callable[[], None]) -> int:
        """Call a function at a time; the number of the event."""
        number = next(self._numbers)
        heapq.heappush(self._events, (time, number, action))
        return number

    def start(
        self,
        run: Callable[[], None],
        on_end: Callable[[SimulatedProcess], None],
        *,
        delay: float = 0.0,
    ) -> SimulatedProcess:
        """Start a process after a delay; `on_end` is called when it has ended."""
        process = SimulatedProcess(run, on_end)
        self._alive += 1

        def begin() -> None:
            threading.stack_size(STACK_BYTES)
            threading.Thread(target=self._body, args=(process,), daemon=True).start()
            self._switch_to(process)

        self.at(self.now + delay, begin)
        return process

    def sleep(self, seconds: float) -> None:
        """Let time pass for the process that calls it; outside of a process do nothing.

        Raises:
            Killed: the process was killed meanwhile.
        """
        process = self._current
        if process is None:
            return
        if process.killed:  # its code runs on in a `finally`, which a dead process cannot do
            raise Killed
        self._wake_at(process, self.now + seconds)
        self._back.release()
        process.turn.acquire()
        if process.killed:
            raise Killed

    def kill(self, process: SimulatedProcess) -> bool:
        """End a process wherever it waits; False if it has ended or not begun."""
        if process.ended or process.wake[1] < 0:
            return False
        process.killed = True
        self._wake_at(process, self.now)
        return True

    def stall(self, process: SimulatedProcess, seconds: float) -> bool:
        """Freeze a process for a time; False if it has ended or not begun."""
        if process.ended or process.wake[1] < 0:
            return False
        self._wake_at(process, process.wake[0] + seconds)
        return True

    def run(self) -> None:
        """Run until every process has ended, and forget what would have happened later."""
        while self._events and self._alive:
            time, _, action = heapq.heappop(self._events)
            self.now = max(self.now, time)
            action()
        self._events.clear()

    def _wake_at(self, process: SimulatedProcess, time: float) -> None:
        number = self.at(time, lambda: self._resume(process, number))
        process.wake = (time, number)

    def _resume(self, process: SimulatedProcess, number: int) -> None:
        if process.wake[1] == number and not process.ended:
            self._switch_to(process)

    def _switch_to(self, process: SimulatedProcess) -> None:
        self._current = process
        process.turn.release()
        self._back.acquire()
        self._current = None
        if process.ended:
            process.on_end(process)
            self._alive -= 1

    def _body(self, process: SimulatedProcess) -> None:
        process.turn.acquire()
        try:
            process.run()
        except BaseException as error:  # noqa: BLE001 - reported by whoever started the process
            process.error = error
        process.ended = True
        self._back.release()


def unlock_properties(kind: type) -> None:
    """Remove the locks of a class's cached properties, which Python 3.11 still has.

    A process that sleeps while it computes one would block all others, which it cannot do where
    they are processes and not threads.
    """
    for parent in kind.__mro__:
        for attribute in vars(parent).values():
            if isinstance(attribute, cached_property) and hasattr(attribute, "lock"):
                setattr(attribute, "lock", nullcontext())  # noqa: B010 - not in its type
