"""The fleet registry."""

from tailorbird.fleet.registry import Fleet, Presence

__all__ = ["Fleet", "Presence"]
