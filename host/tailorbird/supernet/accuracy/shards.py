"""Shards: independent pieces of work spread over processes of one thread each.

Processes are forked, so that networks, data and the user's own functions need not be picklable; each computes with one
thread, which makes a forked torch safe and the results the same whatever their number. A process sends every result as
soon as it has it, and ends when there is nobody to read it: an interrupted or killed parent leaves none behind.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from tailorbird.errors import EnvironmentFaultError, TailorbirdError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE_S = 5.0  # for a process that was told to end


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Generator[tuple[Item, Result]]:
    """(item, work(item)) for every item, in the order in which they are done.

    workers: None computes here with all threads of torch, 1 here with one thread, more in so many processes. What a
    process that died left undone is done again by new ones, unless none of them gets anything done.

    Raises: UsageError for an impossible number; EnvironmentFaultError when processes keep dying; what `work` raises.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"there cannot be {workers} workers", fix="pass None or a number from 1")
    if workers is None:
        yield from ((item, work(item)) for item in items)
        return
    if workers == 1 or len(items) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        with _one_thread():
            for item in items:
                yield item, work(item)
        return
    left = list(range(len(items)))
    while left:
        done: set[int] = set()
        with contextlib.closing(_round(work, items, left, workers)) as results:
            codes = []
            for index, value in results:
                if index is None:
                    codes.append(value)
                else:
                    done.add(index)
                    yield items[index], value
        if not done:
            raise EnvironmentFaultError(
                "the worker processes die before they get anything done",
                why=f"exit codes {', '.join(map(str, sorted(set(codes))))}; -9 is what a system short of memory sends",
                fix="use fewer workers; what is done so far is kept where a cache was given",
            )
        left = [index for index in left if index not in done]


def _round(
    work: Callable[[Item], Result], items: Sequence[Item], left: list[int], workers: int
) -> Generator[tuple[int | None, Any]]:
    """One process for each share of what is left: (index, result) each, and (None, exit code) of those that died."""
    readers: dict[Connection, BaseProcess] = {}
    try:
        for number in range(min(workers, len(left))):
            share = left[number :: min(workers, len(left))]
            reader, process = _start(work, [(index, items[index]) for index in share], list(readers))
            readers[reader] = process
        while readers:
            for ready in _ready(list(readers)):
                try:
                    index, failure, value = ready.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    process = readers.pop(ready)
                    ready.close()
                    process.join()
                    if process.exitcode:
                        yield None, process.exitcode
                    continue
                if failure is not None:
                    raise failure
                yield index, value
    finally:
        for reader, process in readers.items():
            reader.close()
            process.terminate()
        for process in readers.values():
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()


def _ready(readers: list[Connection]) -> list[Connection]:
    return [reader for reader in wait(readers) if isinstance(reader, Connection)]


def _start(
    work: Callable[[Item], Result], share: list[tuple[int, Item]], others: list[Connection]
) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(work, share, writer, [reader, *others]), daemon=True)
    with warnings.catch_warnings():
        # The child runs torch with one thread and touches nothing that other threads may hold.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        process.start()
    writer.close()
    return reader, process


def _worker(
    work: Callable[[Item], Result], share: list[tuple[int, Item]], writer: Connection, others: list[Connection]
) -> None:
    """The life of a process. others: ends of pipes that it inherits and must not keep open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends its children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for connection in others:
        connection.close()
    torch.set_num_threads(1)
    try:
        for index, item in share:
            try:
                result = work(item)
            except Exception as error:  # raised again by the parent
                writer.send((index, _portable(error), None))
                return
            writer.send((index, None, result))
    except BrokenPipeError:
        return


def _portable(error: Exception) -> Exception:
    """The same error where it can travel, otherwise one that tells of it."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):  # noqa: S301  (our own bytes)
            return error
    except Exception:  # noqa: S110  (whatever stops it from travelling)
        pass
    return TailorbirdError(f"a worker process failed: {error}", why="".join(traceback.format_exception(error)).strip())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
