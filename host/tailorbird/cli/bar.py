"""The bar of a training run: how far it is, what the last check of accuracies found, how fast it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from tailorbird.units import count_words, share_words

if TYPE_CHECKING:  # --help does without torch
    from tailorbird.supernet.training import Progress

_SCORES = ("full", "smallest", "random")


class RunBar:
    """On a terminal a bar that moves; in a pipe a line for each check. Notes are lines of their own in both."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[words]}[/dim]"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(escape(title), total=1.0, words="")
        self.cached = False
        self.last = ""

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._bar.__exit__(*ended)  # type: ignore[arg-type]

    def update(self, now: Progress) -> None:
        """Called after each step."""
        if now.note:
            self.note(now.note)
        words = progress_words(now)
        self._bar.update(self._task, completed=now.share, words=escape(words))
        if now.checked and not self._console.is_terminal:
            self.note(f"step {now.step}, {now.share:.0%}: {words}")

    def note(self, words: str) -> None:
        """A line of its own."""
        self._bar.console.print(escape(words), soft_wrap=True)


def progress_words(now: Progress) -> str:
    """ "full 91.2 %, smallest 70.1 %, random 84.0 %, loss 0.213, 512 images/s, 3:20 left"."""
    scores = [(name, getattr(now, name)) for name in _SCORES]
    words = [f"{name} {share_words(value)}" for name, value in scores if value is not None]
    if now.loss is not None:
        words.append(f"loss {now.loss:.3f}")
    words.append(f"{count_words(round(now.rate))} {now.unit}/s")
    if now.eta_s is not None:
        words.append(f"{clock_words(now.eta_s)} left")
    return ", ".join(words)


def clock_words(seconds: float) -> str:
    """ "0:07", "12:30" or "3:05:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
