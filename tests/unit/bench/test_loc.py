"""The table of lines of code counts what it says it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tailorbird.demo.data import digits
from tests.bench.loc.count import PUBLISHED, lines, ours
from tests.bench.loc.example import serve


def test_blank_lines_and_comments_alone_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('title = "x"\n\n# a remark\n  # another\n[arch]\nwide = [1,  # counts\n  2]\n   \n')
    assert lines(path) == 4


def test_one_line_of_the_example_makes_the_supernet() -> None:
    cost = ours()
    assert cost.construction == 1
    assert 1 < cost.end_to_end < 20
    assert all(other.construction > 10 * cost.construction for other in PUBLISHED)


@pytest.mark.slow
def test_the_example_runs_to_a_served_network() -> None:
    torch.manual_seed(0)
    splits = digits()
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    train = DataLoader(TensorDataset(*splits.train), batch_size=64)
    validation = DataLoader(TensorDataset(*splits.validation), batch_size=200)
    board, served = serve(model, train, validation, splits.validation[0][:4])
    try:
        assert served(splits.test[0][:1]).shape == (1, 10)
    finally:
        board.close()
        assert board.agent is not None
        board.agent.stop()
