"""What a network is trained for, named on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.errors import UsageError
from tailorbird.flow.source import Source, cause_words, source_sha256
from tailorbird.supernet import Task


@dataclass(frozen=True, slots=True)
class NamedTask:
    """A task, and what tells it from others: its name, or the digest of its source."""

    task: Task
    identity: str

    @classmethod
    def parse(cls, text: str) -> NamedTask:
        """Read "segmentation", or "FILE.py:callable" whose callable returns a Task of the user's own.

        Raises: UsageError; ModelError when the callable fails.
        """
        if ":" not in text:
            return cls(Task.of(text), text)
        source = Source.parse(text)
        try:
            found = source.load()()
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{source} failed", why=cause_words(error, source.location), fix="it is called without arguments"
            ) from error
        if not isinstance(found, Task):
            raise UsageError(
                f"{source} returned a {type(found).__name__}",
                fix="return tailorbird.supernet.Task(name, loss, metric, distance)",
            )
        return cls(found, f"{source.name} {source_sha256(source)}")
