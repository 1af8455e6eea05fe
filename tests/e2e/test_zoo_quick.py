"""The quick part of the zoo benchmark, one test for each network."""

from __future__ import annotations

import pytest
import torch

from tests.bench.zoo_check import check
from tests.zoo import catalogue


@pytest.mark.parametrize("name", catalogue.QUICK)
def test_subnets_of_a_network_of_the_zoo_are_exact(name: str) -> None:
    torch.set_num_threads(1)
    row = check(catalogue.entry(name), configurations=2)
    assert row["status"] == "exact", row
    assert row["configurations"] == {"bitwise": 3}
    assert row["finite"]
    assert row["depth"] or not row["wants"]["depth"]
