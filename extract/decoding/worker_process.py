"""A process that answers questions in order, and whose death is an answer too.

It is started before it is known which function it applies, so that its imports go on while the
program loads an encoder, and it imports what that function needs and nothing else: no torch for
images and clips, nor the program's main module.
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
"""What a worker may take beyond the memory it starts with; more raises MemoryError (Linux)."""

END_SECONDS = 5.0
"""How long a worker whose connection is closed may take to end by itself."""

SHARED_BYTES = 1 << 16
"""Arrays of an answer that are together larger than this travel in shared memory (Linux)."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Environment of a worker: there are as many of them as cores are to be used."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Defect:
    """An exception of our own code in a worker, as text: not every exception can travel."""

    traceback: str


class Worker(Generic[Question, Answer]):
    """A process that applies one function to whatever it is sent.

    Questions wait in the worker, so sending never blocks for long. Arrays in an answer arrive in
    shared memory.
    """

    def __init__(self, imports: Sequence[str] = ()) -> None:
        """Start the process, which imports some modules while it waits for its function."""
        self._connection, theirs = Pipe()
        # Ctrl-C reaches every process of the terminal; a worker ignores it, but not at once.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | ONE_THREAD,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            # With our copy open, the worker's death would not close the connection.
            theirs.close()
        self._began = False
        self.asked = 0
        self._post((sys.path, tuple(imports)))

    def apply(self, handle: Callable[[Question], Answer]) -> None:
        """Send the function; it is pickled once, and found in its module by the worker."""
        self._post(handle)

    def send(self, question: Question) -> None:
        """Ask; the answers come in the order of the questions."""
        self.asked += 1
        self._post(question)

    def receive(self) -> Answer | None:
        """The next answer; None if the worker has died.

        Raises:
            MediaError: the worker died before it took its first question.
            RuntimeError: the function raised; the message holds its traceback.
        """
        if not self._began:
            self._await_start()
        try:
            answer = _receive_shared(self._connection)
        except (EOFError, OSError):
            return None
        if isinstance(answer, _Defect):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        reply: Answer = answer
        return reply

    def _post(self, message: object) -> None:
        # If the worker is dead, `receive` will tell.
        with suppress(OSError):
            self._connection.send(message)

    def _await_start(self) -> None:
        """No medium is to blame for a process that cannot even start."""
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise MediaError(
                f"a decoding process ended before it began (exit code {self.exit_code()}): run the "
                "same command again, with --workers 0 if it happens twice"
            ) from error
        self._began = True

    def end(self) -> None:
        """Kill the worker, whatever it does; returns when it is gone."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def exit_code(self) -> int:
        """How a worker that died did so: its exit code, or minus the signal's number."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_SECONDS)
        self._process.kill()
        return self._process.wait()


_CHILD = (
    "import sys; from epalm.extract.decoding.worker_process import work; work(int(sys.argv[1]))"
)


def work(descriptor: int) -> None:
    """Be a worker: what its process runs.

    Args:
        descriptor: of its end of the connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    connection = Connection(descriptor)
    sys.path[:], imports = connection.recv()
    with suppress(Exception):  # the function imports them too, and the program, which reports it
        for name in imports:
            import_module(name)
    try:
        handle = connection.recv()
    except (EOFError, OSError):  # the program has ended, or has nothing to decode
        return
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    _limit_memory()
    connection.send("began")
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, questions), daemon=True).start()
    while True:
        question = questions.get()
        try:
            answer = handle(question)
        except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
            answer = _Defect(traceback.format_exc())
        _send_shared(connection, answer)


def _receive(connection: Connection, questions: "queue.SimpleQueue[Any]") -> None:
    """Empty the connection while questions are answered; end with the parent."""
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        questions.put(question)


def _send_shared(connection: Connection, answer: object) -> None:
    """Send an answer; its arrays go through memory that both processes map, not the connection."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(answer, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = [view.nbytes for view in views]
    if sum(sizes) < SHARED_BYTES or not hasattr(os, "memfd_create"):
        connection.send((pickle.dumps(answer, protocol=5), None))
        return
    descriptor = os.memfd_create("epalm-answer")
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


def _receive_shared(connection: Connection) -> Any:  # noqa: ANN401 - whatever was sent
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
    """Let allocations beyond `MEMORY_BYTES` fail, before the system kills another process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    line = next(one for one in status.read_text().splitlines() if one.startswith("VmData:"))
    limit = int(line.split()[1]) * 1024 + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
