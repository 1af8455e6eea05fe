"""Probes: small C programs that touch one limit of a device's CPU each, built here and timed there.

A board has no compiler, and neither numpy nor an inference runtime is a judge of a CPU: the one has no arithmetic for
small types, the other hides its own overhead. The host builds for the board anyway.
"""

from tailorbird.compile.probes.probes import Probe, ProbeUnavailableError, build, probes_for

__all__ = ["Probe", "ProbeUnavailableError", "build", "probes_for"]
