"""Inputs and outputs of every structure come and go as in the user's own network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tailorbird.errors import InputShapeError
from tailorbird.supernet import elastic


@dataclass(frozen=True)
class Answer:
    scores: Tensor
    hidden: tuple[Tensor, ...]
    loss: Tensor | None = None


class Pair(NamedTuple):
    first: Tensor
    second: dict[str, Any]


class Cache:
    """State that a network hands to its own next call."""

    def __init__(self, key: Tensor) -> None:
        self.key = key


class Tagger(nn.Module):
    def __init__(self, kind: str = "dict") -> None:
        super().__init__()
        self.kind = kind
        self.words = nn.Embedding(20, 32)
        self.up, self.out = nn.Linear(32, 64), nn.Linear(64, 5)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        extra: dict[str, list[Tensor]] | None = None,
        scale: float = 1.0,
    ) -> Any:
        x = self.words(tokens)
        if mask is not None:
            x = x * mask[..., None]
        if bias is not None:
            x = x + bias
        if extra is not None:
            x = x + extra["more"][0]
        hidden = torch.relu(self.up(x)) * scale
        scores = self.out(hidden)
        match self.kind:
            case "dataclass":
                return Answer(scores, (scores.mean(1), scores.amax(1)))
            case "namedtuple":
                return Pair(scores, {"mean": scores.mean(1), "none": None, "count": 3, "name": "tagger"})
            case "nested":
                return ((scores, (scores.mean(1),)), [scores.sum(1)], None)
            case "cache":
                return {"scores": scores, "cache": Cache(hidden)}
            case _:
                return {"scores": scores}


def tokens(batch: int) -> Tensor:
    return torch.randint(0, 20, (batch, 6))


def mask(batch: int) -> Tensor:
    return torch.rand(batch, 6) > 0.3


def leaves(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(leaves(left), leaves(right), strict=True)
    )


@pytest.mark.parametrize("kind", ["dict", "dataclass", "namedtuple", "nested"])
def test_outputs_have_the_users_own_structure(kind: str) -> None:
    torch.set_num_threads(1)
    model = Tagger(kind).eval()
    net = elastic(model, (tokens(1), mask(1)))
    assert net.elastic_fraction > 0.99
    x = (tokens(3), mask(3))
    config = net.space.smallest()
    with torch.no_grad():
        assert same(model(*x), net(*x))
        assert same(net.extract(config)(*x), net(*x, config=config))
        again = torch.export.export(net.extract(config), x, strict=False).module()
        assert same(again(*x), net(*x, config=config))


def test_keyword_inputs_are_given_as_to_the_model() -> None:
    model = Tagger().eval()
    for net in (
        elastic(model, (tokens(1),), {"mask": mask(1)}),
        elastic(model, {"tokens": tokens(1), "mask": mask(1)}),
        elastic(model, (), {"tokens": tokens(1), "mask": mask(1)}),
    ):
        t, m = tokens(4), mask(4)
        config = net.space.smallest()
        with torch.no_grad():
            expected = net(t, m, config=config)["scores"]
            assert torch.equal(net(t, m)["scores"], model(t, m)["scores"])
            assert torch.equal(net(t, mask=m, config=config)["scores"], expected)
            assert torch.equal(net(mask=m, tokens=t, config=config)["scores"], expected)
            assert torch.equal(net(mask=m, tokens=t, bias=None, config=config)["scores"], expected)
        with pytest.raises(InputShapeError, match="other inputs"):
            net(t)
        with pytest.raises(InputShapeError, match="other inputs"):
            net(t, m, bias=torch.zeros(32))
        with pytest.raises(InputShapeError, match="does not take"):
            net(t, m, unheard=1)


def test_an_extracted_subnet_takes_the_keywords_of_the_example() -> None:
    net = elastic(Tagger().eval(), {"tokens": tokens(1), "mask": mask(1)})
    config = net.space.smallest()
    sub, x = net.extract(config), {"mask": mask(2), "tokens": tokens(2)}
    with torch.no_grad():
        assert torch.equal(sub(**x)["scores"], net(**x, config=config)["scores"])


def test_inputs_may_be_nested_none_and_constant() -> None:
    model = Tagger().eval()
    more = {"more": [torch.randn(1, 6, 32)]}
    net = elastic(model, (tokens(1), None), {"extra": more, "scale": 0.5})
    x, extra = tokens(3), {"more": [torch.randn(3, 6, 32)]}
    config = net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(x, extra=extra, scale=0.5)["scores"], model(x, extra=extra, scale=0.5)["scores"])
        sub = net.extract(config)
        assert torch.equal(
            sub(x, None, extra=extra, scale=0.5)["scores"], net(x, extra=extra, scale=0.5, config=config)["scores"]
        )
    with pytest.raises(InputShapeError, match="does not fit"):
        net(x, extra=extra, scale=0.25)
    with pytest.raises(InputShapeError, match="does not fit"):
        net(x, mask(3), extra=extra, scale=0.5)
    with pytest.raises(InputShapeError, match="another structure"):
        net(x, extra={"less": extra["more"]}, scale=0.5)
    with pytest.raises(InputShapeError, match="does not fit"):
        net(x, extra={"more": [None]}, scale=0.5)


def test_example_inputs_that_hold_no_tensor_or_something_strange_are_refused() -> None:
    for example in ((), (3,), {"tokens": None}):
        with pytest.raises(InputShapeError, match="tuple of tensors"):
            elastic(Tagger(), example)
    with pytest.raises(InputShapeError) as caught:
        elastic(Tagger(), (tokens(1), object()))
    assert "object" in str(caught.value.why)


def test_state_objects_in_the_output_are_left_out_and_reported() -> None:
    model = Tagger("cache").eval()
    net = elastic(model, (tokens(1),))
    assert any("Cache" in note for note in net.report.notes)
    x = tokens(2)
    with torch.no_grad(), warnings.catch_warnings():
        assert torch.equal(net(x)["scores"], model(x)["scores"])
        assert net(x)["cache"] is None
        assert isinstance(model(x)["cache"], Cache)
    assert net.elastic_fraction > 0.99
