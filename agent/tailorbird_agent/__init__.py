"""The agent: a daemon that measures, holds and serves on one edge device.

Architecture invariants: this package never imports the host package, torch or a compiler [tests/unit/agent]; the daemon
process imports neither numpy nor a runtime, and never loads a model [tests/unit/agent/test_agent_imports.py].
"""

__version__ = "0.1.0"
