from __future__ import annotations

import torch
from torch import nn
from zoo.small_models import EXAMPLES, DenseNet, Perceptron, ShuffleNet

from tailorbird.graph import ElasticGraph, importance, trace


def compiled(model: nn.Module, *inputs: torch.Tensor) -> ElasticGraph:
    return trace(model.eval(), inputs)


def test_a_group_lists_every_tensor_that_stores_it() -> None:
    graph = compiled(Perceptron(), torch.randn(1, 20))
    first = graph.groups[0]
    assert first.name == "layers.0"
    assert set(first.uses) == {
        *(("layers.0.weight", 0), ("layers.0.bias", 0), ("layers.3.weight", 1)),
        *((f"layers.2.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")),
    }


def test_concatenated_layers_keep_groups_of_their_own() -> None:
    graph = compiled(DenseNet(), *EXAMPLES["densenet"].inputs(1))
    assert [group.name for group in graph.groups] == ["stem", "convs.0", "convs.1", "convs.2", "transition"]
    growth = next(group for group in graph.groups if group.name == "convs.0")
    assert ("transition.weight", 1) in growth.uses


def test_several_groups_born_in_one_layer_have_distinct_names() -> None:
    graph = compiled(ShuffleNet(2), *EXAMPLES["shufflenet"].inputs(1))
    names = [group.name for group in graph.groups]
    assert len(set(names)) == len(names)
    assert all(name.split(":")[0] in dict(ShuffleNet(2).named_modules()) for name in names)


def test_importance_ranks_by_the_weights_on_both_sides() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[2].weight.fill_(1.0)
        model[0].weight[3] = 5.0
        model[2].weight[:, 6] = 3.0
        model[0].bias[1] = 100.0
    graph = compiled(model, torch.randn(1, 4))
    scores = importance(graph.groups[0], graph.tensors, graph.stored)
    assert scores.argsort(descending=True, stable=True).tolist()[:3] == [3, 6, 0]


def test_groups_of_vectors_alone_are_ranked_by_them() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(torch.tensor([1.0, 3.0, 2.0, 0.5])), nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.left * self.right).sum() + x

    graph = compiled(Scaled(), torch.randn(2, 3))
    scores = importance(graph.groups[0], graph.tensors, graph.stored)
    assert scores.argsort(descending=True).tolist() == [1, 2, 0, 3]
