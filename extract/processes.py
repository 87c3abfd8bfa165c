"""A process that answers questions in order, and whose death is an answer too."""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from epalm.errors import MediaError

MEMORY_BYTES = 1_500_000_000
"""What a worker may take beyond the memory it starts with; more raises MemoryError (Linux)."""

END_SECONDS = 5.0
"""How long a worker whose connection is closed may take to end by itself."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Defect:
    """An exception of our own code in a worker, as text: not every exception can travel."""

    traceback: str


class Worker(Generic[Question, Answer]):
    """A process that applies one function to whatever it is sent.

    Questions wait in the worker, so sending never blocks for long. Tensors in an answer arrive in
    shared memory.
    """

    def __init__(self, handle: Callable[[Question], Answer]) -> None:
        """Start the process; `handle` is pickled once."""
        context = _context()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(  # type: ignore[attr-defined]  # not in typeshed's base
            target=_work, args=(theirs, handle), daemon=True
        )
        self._process.start()
        # With our copy open, the worker's death would not close the connection.
        theirs.close()
        self._began = False
        self.asked = 0

    def send(self, question: Question) -> None:
        """Ask; the answers come in the order of the questions."""
        self.asked += 1
        try:
            self._connection.send(question)
        except OSError:
            # The worker is dead, which `receive` will tell.
            return

    def receive(self) -> Answer | None:
        """The next answer; None if the worker has died.

        Raises:
            MediaError: the worker died before it took its first question.
            RuntimeError: the function raised; the message holds its traceback.
        """
        if not self._began:
            self._await_start()
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, _Defect):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        reply: Answer = answer
        return reply

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
        self._process.join()
        self._connection.close()

    def exit_code(self) -> int:
        """How a worker that died did so: its exit code, or minus the signal's number."""
        self._process.join(END_SECONDS)
        self._process.kill()
        self._process.join()
        code: int = self._process.exitcode
        return code


def _context() -> BaseContext:
    """Workers come from a clean process: a fork of this one could inherit locks of its threads.

    Where the system can, that process imports what decoding needs once for all workers.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # Made now, the folder for sockets is this process's, which deletes it in the end; a worker that
    # is killed would leave its own behind.
    get_temp_dir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["epalm.extract.loading", "epalm.extract.preprocess"])
    return context


def _work(connection: Connection, handle: Callable[[Any], Any]) -> None:
    # Ctrl-C reaches every process of the terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        connection.send(answer)


def _receive(connection: Connection, questions: "queue.SimpleQueue[Any]") -> None:
    """Empty the connection while questions are answered; end with the parent."""
    while True:
        try:
            question = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        questions.put(question)


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
