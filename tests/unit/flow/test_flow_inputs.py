"""Example inputs are read from words, made the same each time, and handed to forward() in its own order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tailorbird.errors import UsageError
from tailorbird.flow.inputs import InputSpec, arranged, examples


class TwoInputs(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor, extra: Tensor | None = None) -> Tensor:
        return ids * mask if extra is None else ids * mask + extra


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1,3,32,32", InputSpec((1, 3, 32, 32))),
        ("x=1,3", InputSpec((1, 3), name="x")),
        ("ids=1,16:int64[0..30521]", InputSpec((1, 16), "int64", "ids", 0, 30521)),
        ("4:float16[-1..0.5]", InputSpec((4,), "float16", "", -1, 0.5)),
        ("1,16:bool", InputSpec((1, 16), "bool")),
    ],
)
def test_an_input_is_read_from_words(text: str, spec: InputSpec) -> None:
    assert InputSpec.parse(text) == spec


@pytest.mark.parametrize(
    "text", ["", "1;3", "1,0,4", "-1,3", "x=", "1,3:float12", "1,3:int64[0..]", "1,3[0..4]", "1,4:int64[5..2]", "=1,3"]
)
def test_words_that_are_no_input_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        InputSpec.parse(text)
    assert caught.value.fix


def test_examples_are_the_same_each_time_and_within_their_range() -> None:
    specs = [InputSpec.parse(t) for t in ("2,8", "2,8:int64[3..5]", "2,8:float64[-2..-1]", "2,8:bool", "2,8:int32")]
    (first, names), (second, _) = examples(specs), examples(specs)
    assert names == {}
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [x.dtype for x in first] == [torch.float32, torch.int64, torch.float64, torch.bool, torch.int32]
    assert set(first[1].flatten().tolist()) == {3, 4, 5}
    assert -2 <= first[2].min() <= first[2].max() <= -1
    assert set(first[4].flatten().tolist()) == {0, 1}


def test_one_input_keeps_the_values_it_always_had() -> None:
    expected = torch.randn((1, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(examples([InputSpec((1, 3, 4, 4))])[0][0], expected)


def test_named_inputs_take_the_order_of_forward() -> None:
    mask, ids = InputSpec((1, 4), name="mask"), InputSpec((1, 4), name="ids")
    assert arranged([mask, ids], TwoInputs()) == (ids, mask)
    plain = InputSpec((1, 4))
    assert arranged([mask, plain], TwoInputs()) == (plain, mask)


def test_what_has_no_place_is_passed_by_name() -> None:
    ids, extra = InputSpec((1, 4), name="ids"), InputSpec((1, 4), name="extra")
    found = arranged([extra, ids], TwoInputs())
    assert [(spec.name, spec.keyword) for spec in found] == [("ids", False), ("extra", True)]
    args, kwargs = examples(found)
    assert len(args) == 1
    assert set(kwargs) == {"extra"}


@pytest.mark.parametrize(
    ("names", "words"), [(["token"], "takes no 'token'"), (["ids", "ids"], "twice"), (["", "ids"], "twice")]
)
def test_names_that_do_not_fit_forward_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        arranged([InputSpec((1, 4), name=name) for name in names], TwoInputs())
