"""A worker process that applies a function to inputs in order, and whose crash is detected.

It starts before its function is known, so that it imports modules while the main process loads an
encoder. It imports only what the function needs: no torch for images and videos, and not the main
module of the program.
"""

import mmap
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, Generic, TypeVar

from epalm.errors import MediaError

MEMORY_BYTES = 1_500_000_000
"""Memory that a worker may allocate after its start; beyond it, MemoryError is raised (Linux)."""

END_SECONDS = 5.0
"""Time in which a worker whose connection is closed has to end by itself."""

SHARED_BYTES = 1 << 16
"""Results whose arrays are larger than this in total are sent in shared memory (Linux)."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of a worker, since the number of workers is chosen by the number of cores."""

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _UnexpectedError:
    """An unexpected exception in a worker, as text, since not every exception can be pickled."""

    traceback: str


class Worker(Generic[Request, Result]):
    """A process that applies one function to each request.

    Requests are queued in the worker, so sending never blocks for long. Arrays of a result are
    received in shared memory.
    """

    def __init__(self, imports: Sequence[str] = ()) -> None:
        """Start the process, which imports modules while it waits for its function."""
        self._connection, child_end = Pipe()
        # Ctrl-C reaches every process of the terminal; a worker ignores it, but not at once.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | ONE_THREAD,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            # With our copy open, the worker's death would not close the connection.
            child_end.close()
        self._started = False
        self.sent = 0
        self._post((sys.path, tuple(imports)))

    def apply(self, handle: Callable[[Request], Result]) -> None:
        """Send the function; it is pickled once, and the worker imports its module."""
        self._post(handle)

    def send(self, request: Request) -> None:
        """Send a request; results are received in the order of the requests."""
        self.sent += 1
        self._post(request)

    def receive(self) -> Result | None:
        """Receive the next result; None if the worker has died.

        Raises:
            MediaError: the worker died before its first request.
            RuntimeError: the function raised; the message contains the traceback.
        """
        if not self._started:
            self._await_start()
        try:
            message = _receive_shared(self._connection)
        except (EOFError, OSError):
            return None
        if isinstance(message, _UnexpectedError):
            raise RuntimeError(f"a worker process failed:\n{message.traceback}")
        result: Result = message
        return result

    def _post(self, message: object) -> None:
        # If the worker is dead, `receive` reports it.
        with suppress(OSError):
            self._connection.send(message)

    def _await_start(self) -> None:
        """Wait for the start; no sample is the cause if a process cannot even start."""
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise MediaError(
                f"a decoding process ended during its start (exit code {self.exit_code()}): run "
                "the same command again, with --workers 0 if it happens twice"
            ) from error
        self._started = True

    def end(self) -> None:
        """Kill the worker and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def exit_code(self) -> int:
        """The exit code of a worker that died, or minus the number of the signal that ended it."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_SECONDS)
        self._process.kill()
        return self._process.wait()


_CHILD = (
    "import sys; from epalm.extract.decoding.worker_process import work; work(int(sys.argv[1]))"
)


def work(descriptor: int) -> None:
    """Run a worker in this process.

    Args:
        descriptor: file descriptor of the worker's end of the connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    connection = Connection(descriptor)
    sys.path[:], imports = connection.recv()
    with suppress(Exception):  # the function imports them again and reports the error
        for name in imports:
            import_module(name)
    try:
        handle = connection.recv()
    except (EOFError, OSError):  # the program has ended or has nothing to decode
        return
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    _limit_memory()
    connection.send("started")
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    while True:
        request = requests.get()
        try:
            result = handle(request)
        except Exception:  # noqa: BLE001 - the parent process raises it again
            result = _UnexpectedError(traceback.format_exc())
        _send_shared(connection, result)


def _receive(connection: Connection, requests: "queue.SimpleQueue[Any]") -> None:
    """Queue requests while others are processed; exit when the parent process ends."""
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        requests.put(request)


def _send_shared(connection: Connection, result: object) -> None:
    """Send a result; its arrays go through shared memory instead of the connection."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [view.nbytes for view in views]
    if sum(sizes) < SHARED_BYTES or not hasattr(os, "memfd_create"):
        connection.send((pickle.dumps(result, protocol=5), None))
        return
    descriptor = os.memfd_create("epalm-result")
    try:
        os.truncate(descriptor, sum(sizes))
        with mmap.mmap(descriptor, sum(sizes)) as memory:
            start = 0
            for view in views:
                memory[start : start + view.nbytes] = view
                start += view.nbytes
        connection.send((data, sizes))
        send_handle(connection, descriptor, os.getppid())
    finally:
        os.close(descriptor)


def _receive_shared(connection: Connection) -> Any:  # noqa: ANN401 - any result
    data, sizes = connection.recv()
    if sizes is None:
        return pickle.loads(data)
    descriptor = recv_handle(connection)
    try:
        memory = memoryview(mmap.mmap(descriptor, sum(sizes)))
    finally:
        os.close(descriptor)
    buffers, start = [], 0
    for size in sizes:
        buffers.append(memory[start : start + size])
        start += size
    return pickle.loads(data, buffers=buffers)


def _limit_memory() -> None:
    """Let allocations beyond `MEMORY_BYTES` fail, before the system kills some other process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    line = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    limit = int(line.split()[1]) * 1024 + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
