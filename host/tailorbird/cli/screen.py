"""What the user sees: results on stdout (tables, TSV or JSON), progress on stderr."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tailorbird.cli.bar import RunBar
from tailorbird.cli.table import Table, drawn
from tailorbird.cli.tuning import TuningView
from tailorbird.document import dump_document
from tailorbird.errors import TailorbirdError, UsageError
from tailorbird.ui.run import StageTime

if TYPE_CHECKING:  # the workspace pulls in the data base; --help does without
    from tailorbird.flow.workspace import Workspace
    from tailorbird.supernet.page import Page

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object with a `schema` field, nothing else.")]
DeviceOption = Annotated[
    str,
    typer.Option("--device", "-d", metavar="NAME", help="A device of `tailorbird devices`; `local` is this machine."),
]
_DATA_HELP = "FILE.npz, or FILE.py:callable, with train, validation and test splits."
DataOption = Annotated[str, typer.Option("--data", metavar="DATA", help=_DATA_HELP)]
OptionalDataOption = Annotated[
    str | None, typer.Option("--data", metavar="DATA", help=_DATA_HELP + " By default what `train` used.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, metavar="N", help="Threads of one inference.  [default: `threads` of the settings]"
    ),
]
#: Exit code of a command whose figures are flagged noisy, throttled or unstable.
NOISY = 5


class Screen:
    """The terminal, a pipe, or one JSON object, decided once per command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether results go to a person's terminal."""
        return self._out.is_terminal and not self.as_json

    @contextmanager
    def workspace(self, *, fresh: bool = False, threads: int | None = None) -> Iterator[Workspace]:
        """The user's workspace, closed afterwards. fresh: with an empty cache and store of its own, gone afterwards;
        threads: of one inference, by default what the settings say."""
        from tailorbird.flow.workspace import Workspace

        if not fresh:
            with Workspace.open(None if threads is None else {"threads": threads}) as workspace:
                yield workspace
            return
        with tempfile.TemporaryDirectory(prefix="tailorbird-fresh-") as folder, Workspace.open({"home": folder}) as own:
            yield own

    def say(self, words: str) -> None:
        """One line of progress, on stderr."""
        self._err.print(escape(words), soft_wrap=True)

    @contextmanager
    def busy(self, title: str) -> Iterator[Progress]:
        """A progress line on stderr: a spinner with the latest note on a terminal, one line at the end everywhere."""
        progress = Progress(self._err)
        started = time.monotonic()
        if self._err.is_terminal:
            with self._err.status(escape(title)) as status:
                progress.on_note = lambda note: status.update(f"{escape(title)}  [dim]{escape(note)}[/dim]")
                yield progress
        else:
            yield progress
        self._ended(title, started, progress.last, cached=progress.cached)

    @contextmanager
    def training(self, title: str) -> Iterator[RunBar]:
        """A bar with the figures of a training run on stderr, one line for each check in a pipe, one at the end."""
        bar = RunBar(self._err, title)
        started = time.monotonic()
        with bar:
            yield bar
        self._ended(title, started, bar.last, cached=bar.cached)

    @contextmanager
    def tuning(self, title: str) -> Iterator[TuningView]:
        """A table of kernels that changes as they are tuned, on stderr; lines in a pipe, one at the end."""
        view = TuningView(self._err, title)
        started = time.monotonic()
        with view:
            yield view
        self._ended(title, started, view.last, cached=False)

    def _ended(self, title: str, started: float, last: str, *, cached: bool) -> None:
        seconds = "cached" if cached else f"{time.monotonic() - started:.1f} s"
        tail = f"  {last}" if last else ""
        self._err.print(f"[bold]{escape(title):<44}[/bold] {seconds:>8}[dim]{escape(tail)}[/dim]", soft_wrap=True)

    def detail(self, tables: Sequence[Table | Page]) -> None:
        """Tables between stages, as they come: in a pipe they are progress and go to stderr; not under --json."""
        if not self.as_json:
            console = self._out if self.is_terminal else self._err
            for table in tables:
                console.print(drawn(table) if isinstance(table, Table) else table.rich())

    def show_page(self, document: Any, page: Page, notes: Sequence[str] = ()) -> None:
        """A result that is a page to read: drawn on a terminal, plain text in a pipe, `document` under --json."""
        if not self.as_json:
            if self.is_terminal:
                self._out.print(page.rich())
            else:
                sys.stdout.write(page.plain())
        self.show(document, notes=notes)

    def show(self, document: Any, tables: Sequence[Table] = (), notes: Sequence[str] = ()) -> None:
        """The result: `document` (a dataclass or mapping with `schema`) under --json, else tables and notes.

        On a terminal tables are drawn and notes follow; in a pipe tables become TSV and notes go to stderr.
        """
        if self.as_json:
            text = json.dumps(document, ensure_ascii=False) if isinstance(document, dict) else dump_document(document)
            sys.stdout.write(text + "\n")
            return
        for i, table in enumerate(tables):
            if self.is_terminal:
                self._out.print(drawn(table))
            else:
                sys.stdout.write(("\n" if i else "") + _tsv(table))
        for note in notes:
            (self._out if self.is_terminal else self._err).print(escape(note), soft_wrap=True)


class Progress:
    """Notes of a running stage; the last one stays on screen beside the stage's time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.last = ""
        self.cached = False
        self.on_note: Any = None

    def done(self, stage: StageTime) -> None:
        """End with a stage's own figures."""
        self.cached = stage.cached
        self.last = "; ".join(f"{figure.name} {figure.words}" for figure in stage.figures)

    def note(self, words: str) -> None:
        """Replace the note shown beside the running stage."""
        self.last = words
        if self.on_note is not None:
            self.on_note(words)


def data_of(given: str | None, known: str | None) -> str:
    """The data a later stage uses: what the user gives, or what training used.

    Raises:
        UsageError: neither is known.
    """
    data = given or known
    if data is None:
        raise UsageError("no data is named", why="this artifact was not trained here", fix="give --data")
    return data


def print_failure(error: TailorbirdError, *, as_json: bool) -> None:
    """What, why and fix on stderr; under --json the same four fields as an object on stdout."""
    if as_json:
        fields = {"what": error.what, "why": error.why, "fix": error.fix, "reason": error.reason}
        sys.stdout.write(json.dumps({"schema": "tailorbird.error/1", "error": fields}, ensure_ascii=False) + "\n")
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]error[/bold red] {escape(error.what)}", soft_wrap=True)
    for name, words in (("why", error.why), ("fix", error.fix)):
        if words:
            console.print(f"  [bold]{name}[/bold] {escape(words)}", soft_wrap=True)


def _tsv(table: Table) -> str:
    lines = (table.columns, *table.rows)
    return "".join("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line) + "\n" for line in lines)
