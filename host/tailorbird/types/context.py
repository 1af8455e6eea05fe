"""Context: the circumstances a time holds under. Times of two contexts are never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Context:
    """A device, the runtime and the threads it runs with, and the system under them.

    system: what changes timings although device and runtime keep their names (`kernel=6.6 governor=performance`); ""
    when it was not noted.
    """

    device: str
    runtime: str
    runtime_version: str
    threads: int = 1
    system: str = ""

    @property
    def words(self) -> str:
        """For a person: `rpi4-1, litert 2.3.0, 2 threads, kernel=6.6`."""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        parts = (self.device, f"{self.runtime} {self.runtime_version}".strip(), threads, self.system)
        return ", ".join(part for part in parts if part)


def short_names(contexts: Iterable[Context]) -> dict[Context, str]:
    """A distinct name for each: the device, and of the rest what tells it from the device's other contexts."""
    every = sorted(set(contexts))
    names: dict[Context, str] = {}
    for context in every:
        mates = [other for other in every if other.device == context.device]
        parts = [context.device]
        if len({(m.runtime, m.runtime_version) for m in mates}) > 1:
            versions = {m.runtime_version for m in mates if m.runtime == context.runtime}
            parts.append(f"{context.runtime} {context.runtime_version}" if len(versions) > 1 else context.runtime)
        if len({m.threads for m in mates}) > 1:
            parts.append(f"x{context.threads}")
        if len({m.system for m in mates}) > 1:
            shared = set.intersection(*(set(m.system.split()) for m in mates))
            own = [word for word in context.system.split() if word not in shared]
            parts.append(" ".join(own) or "unnoted")
        names[context] = " ".join(parts)
    return names
