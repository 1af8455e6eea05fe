"""What `tailorbird tune` shows while it runs: a table of kernels on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table as RichTable

from tailorbird.cli.bar import clock_words
from tailorbird.cli.table import Table, drawn
from tailorbird.units import share_words, time_words

if TYPE_CHECKING:  # --help does without torch and TVM
    from tailorbird.flow.tune import Roofline, TunedKernel
    from tailorbird.tune.session import Progress

_LINE_EVERY_S = 5.0
_REDRAW_EVERY_S = 0.25
_SHOWN = 20


class TuningView:
    """Notes are lines of their own in both; `last` is what stays beside the run's time."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._shown = 0.0
        self.cached = False
        self.last = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, now: Progress, roofline: Roofline | None) -> None:
        """Called after each trial."""
        self.last = progress_line(now)
        every = _REDRAW_EVERY_S if self._console.is_terminal else _LINE_EVERY_S
        if time.monotonic() - self._shown < every:
            return
        self._shown = time.monotonic()
        if self._console.is_terminal:
            from tailorbird.flow.tune import tuned_kernel

            slowest = sorted(now.kernels, key=lambda kernel: -kernel.calls * (kernel.us or 0.0))
            kernels = [tuned_kernel(kernel, roofline) for kernel in slowest]
            self._live.update(self._page(kernels), refresh=True)
        else:
            self.note(self.last)

    def note(self, words: str) -> None:
        """A line of its own."""
        self._console.print(escape(words), soft_wrap=True)

    def _page(self, kernels: Sequence[TunedKernel]) -> RichTable:
        table = drawn(kernels_table(kernels[:_SHOWN], self._title))
        more = len(kernels) - _SHOWN
        table.caption = escape(self.last + (f"; {more} kernels more" if more > 0 else ""))
        table.caption_justify = "left"
        return table


def kernels_table(kernels: Sequence[TunedKernel], title: str) -> Table:
    """Kernels with their best time, rate, share of the roofline, trials, and where the schedule came from."""
    columns = ("kernel", "calls", "best", "GFLOP/s", "roofline", "trials", "source")
    rows = tuple(
        (
            kernel.name,
            str(kernel.calls),
            "-" if kernel.best_us is None else time_words(kernel.best_us),
            "-" if kernel.gflops is None else f"{kernel.gflops:.1f}",
            "-" if kernel.roofline is None else share_words(kernel.roofline),
            str(kernel.trials),
            kernel.source,
        )
        for kernel in kernels
    )
    return Table(title, columns, rows, words=("source",))


def progress_line(now: Progress) -> str:
    """ "12/40 kernels, 96 trials, 2 failed, all rungs 3.1 ms, exact 3, search 9, 1:20 left"."""
    total = time_words(now.total_us) if now.total_us else "-"
    words = [f"{now.scheduled}/{len(now.kernels)} kernels", f"{now.trials} trials"]
    if now.failures:
        words.append(f"{now.failures} failed")
    words.append(f"all rungs {total}")
    sources = [kernel.source for kernel in now.kernels if kernel.us is not None]
    words += [f"{source} {sources.count(source)}" for source in sorted(set(sources))]
    if now.eta_s is not None:
        words.append(f"{clock_words(now.eta_s)} left")
    return ", ".join(words)
