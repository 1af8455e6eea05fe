"""Benchmarks: each module prints one JSON object; a target that is missed is reported as missed."""
