"""Signals: a run that is asked to stop stops after a step, not within one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOPS = (signal.SIGINT, signal.SIGTERM)
_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


class Signals:
    """Notes the first SIGINT or SIGTERM instead of dying of it; the second one acts as it would have without."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    @contextmanager
    def noted(self, *, terminate: bool) -> Iterator[None]:
        """While this lasts. terminate: SIGTERM as well as SIGINT.

        Only the main thread gets signals. A program that handles or ignores a signal itself goes on doing so.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS if terminate else _STOPS[:1]:
                if signal.getsignal(number) in _UNHANDLED:
                    self._before[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            self._give_back()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process and number == signal.SIGINT:
            return  # a terminal interrupts the workers of a loader too, and the last step needs them
        if self.asked is None and os.getpid() == self._process:
            self.asked = signal.Signals(number)
            return
        self._give_back()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
