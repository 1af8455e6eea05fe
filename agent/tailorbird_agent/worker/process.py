"""A worker's process as the daemon sees it: start by exec, read its messages, notice its end, kill it.

The end of a worker is noticed by the end of its channel, which the kernel closes with the process whatever ended it;
messages sent before are still read first. The loop's thread must outlive the worker: a death signal follows the thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from tailorbird_agent.worker.channel import Channel, Message

Role = Literal["serve", "measure"]

#: What a worker may know of the daemon's environment: where programs and libraries are, nothing else.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "TMPDIR")
_TAIL_BYTES = 2000
#: Iterations for TVM and GNU OpenMP, milliseconds for LLVM's OpenMP, a power of two of cycles for OpenBLAS.
_SHORT_SPIN = {
    "TVM_THREAD_POOL_SPIN_COUNT": "200",
    "GOMP_SPINCOUNT": "10000",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_THREAD_TIMEOUT": "16",
}
#: How long a worker may take to end after it closed its channel: an interpreter that ends by an error closes it first.
_EXIT_GRACE_S = 1.0
_EXIT_POLL_S = 0.002


class WorkerProcess:
    """One child. on_message gets every message, on_end is called once, after the last one, with the exit status."""

    def __init__(
        self,
        role: Role,
        *,
        threads: int,
        address_space_bytes: int | None,
        on_message: Callable[[Message], None],
        on_end: Callable[[int], None],
    ) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        #: Exit status once the process is reaped; negative for the signal that ended it.
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.killed_for = ""
        self._log = os.memfd_create("tailorbird-worker-log", os.MFD_CLOEXEC)
        self._channel, theirs = Channel.pair()
        command = [sys.executable, "-m", "tailorbird_agent.worker", role]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        if address_space_bytes is not None:
            command += ["--address-space", str(address_space_bytes)]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd="/",
                env=worker_environment(threads),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError:
            self._channel.close()
            os.close(self._log)
            raise
        finally:
            theirs.close()
        self.pid = self._child.pid
        self._loop.add_reader(self._channel.fileno(), self._read)

    @property
    def alive(self) -> bool:
        """Whether its channel is open: it can be written to."""
        return not self.exited.done() and self._channel.fileno() >= 0

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one message; see Channel.send for what it raises."""
        self._channel.send(message, descriptors)

    def kill(self, why: str = "") -> None:
        """End the whole process group now; on_end follows. why becomes part of obituary()."""
        if self.alive:
            self.killed_for = self.killed_for or why
            self._kill_group()

    def obituary(self, status: int) -> str:
        """How it ended, in one line, with the last line it wrote to standard error."""
        if self.killed_for:
            how = f"was killed: {self.killed_for}"
        elif status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += " (the kernel does this when memory runs out)"
        else:
            how = f"exited with status {status}"
        lines = [line.strip() for line in self._tail().splitlines() if line.strip()]
        return f"worker {self.pid} {how}" + (f"; its last words: {lines[-1][:300]}" if lines else "")

    def _tail(self) -> str:
        """The end of what it wrote to standard output and error."""
        try:
            size = os.fstat(self._log).st_size
            return os.pread(self._log, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
        except OSError:
            return ""

    def _read(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                self._on_message(message)
        except BlockingIOError:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._channel.close()
        # The channel closes before the process has ended, by a little or for good: wait for that off the loop.
        reaping = self._loop.run_in_executor(None, self._reap)
        reaping.add_done_callback(lambda done: self._ended(done.result()))

    def _reap(self) -> int:
        """Exit status, once the leader has ended and its group with it. One that only closed its channel is killed."""
        end_s = time.monotonic() + _EXIT_GRACE_S
        # WNOWAIT: until it is reaped its number is nobody else's, and the group can still be killed by it.
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() >= end_s:
                self.killed_for = self.killed_for or "it closed its channel and did not end"
                break
            time.sleep(_EXIT_POLL_S)
        self._kill_group()
        return self._child.wait()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # it ended before it had a group of its own
            os.killpg(self.pid, signal.SIGKILL)

    def _ended(self, status: int) -> None:
        self._on_end(status)
        self.exited.set_result(status)
        os.close(self._log)


def worker_environment(threads: int) -> dict[str, str]:
    """A scrubbed environment; every thread pool a runtime may open gets the same size and stays off fixed cores.

    Its threads wait for work awake for some ten microseconds, which bridges the gap to the next kernel of a network,
    and then sleep: the defaults, milliseconds of spinning, take the CPU from others and spoil measured CPU time.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
    return kept | dict.fromkeys(pools, str(threads)) | _SHORT_SPIN | {"TVM_BIND_THREADS": "0", "PYTHONUNBUFFERED": "1"}
