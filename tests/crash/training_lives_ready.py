"""Imported once by the process that all lives are forked from: the networks are compiled there, untrained."""

from tests.crash import training_lives

for _kind in ("convolutions", "norms"):
    training_lives.compiled(_kind)
