"""A clock that stands still while other programs have the processor."""

from __future__ import annotations

import time

import torch


class CpuClock:
    """Seconds this process was computing, as if alone on its cores: what training budgets are counted in.

    The larger of two figures: CPU time of the whole process divided by torch's threads, which is the time of a program
    that keeps them all busy, and CPU time of the calling thread, which is that of one that keeps only this busy (data
    loading, Python). So a budget is never stretched by leaving threads idle. Call it from one thread.
    """

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()

    def __call__(self) -> float:
        """Seconds since some moment in the past; never falls."""
        return max(time.process_time() / self.threads, time.thread_time())


WORDING = "seconds of max(process CPU time / torch threads, CPU time of the main thread)"
