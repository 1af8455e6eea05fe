"""Random networks: whatever is put together, the subnets are exact. `make fuzz` checks 2,000 of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.supernet import NETS, Kinds, check
from tests.zoo.random_nets import ACTIVATIONS, LAYERS

torch.set_num_threads(1)


@settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(kinds=NETS, activation=st.integers(0, len(ACTIVATIONS) - 1), seed=st.integers(0, 10**6))
def test_subnets_of_random_networks_are_exact(kinds: Kinds, activation: int, seed: int) -> None:
    assert check(kinds, activation, seed) == 3


@pytest.mark.parametrize("kind", LAYERS)
def test_subnets_of_every_kind_of_layer_are_exact_trained_and_exported(kind: str) -> None:
    assert check([(kind, 16)], 0, seed=8) == 3


@pytest.mark.parametrize(
    "kinds",
    [
        [("Scaled", 8), ("Grouped", 24), ("Window", 16)],  # a cut inside a group of a grouped convolution
    ],
)
def test_networks_that_once_failed_are_exact(kinds: Kinds) -> None:
    assert check(kinds, 0, seed=8) == 3
