"""Tuning beside its peers: whole models, transfer without search, warm starts; `python -m tests.bench.tune`."""
