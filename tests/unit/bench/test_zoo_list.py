"""The list of the zoo benchmark is what it says it is."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from tests.zoo import catalogue


def test_the_list_is_long_enough_and_names_every_network_once() -> None:
    listed = [entry.name for origin in catalogue.ORIGINS for entry in catalogue.of_origin(origin).values()]
    assert len(listed) == len(set(listed)) >= 140
    assert tuple(listed) == catalogue.names()
    assert len(catalogue.of_origin("transformers")) >= 22
    assert all(name.startswith(f"{origin}/") for origin in catalogue.ORIGINS for name in catalogue.of_origin(origin))


def test_every_module_of_timm_has_a_network() -> None:
    import timm

    from tests.zoo.timm_models import BY_MODULE

    assert set(timm.list_modules()) == set(BY_MODULE)
    for module, entry in BY_MODULE.items():
        assert entry.name.removeprefix("timm/") in timm.list_models(module=module)


def test_the_quick_part_is_in_the_list_and_covers_every_origin() -> None:
    assert set(catalogue.QUICK) <= set(catalogue.names())
    assert {name.partition("/")[0] for name in catalogue.QUICK} == set(catalogue.ORIGINS)


def test_a_network_is_the_same_each_time_and_hides_nothing_behind_constants() -> None:
    for name in ("written/yolo", "torchvision/squeezenet1_1", "timm/convnext_zepto_rms"):
        (one, x), (two, y) = catalogue.entry(name).build(), catalogue.entry(name).build()
        assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
        assert not any(p.numel() > 1 and bool((p == p.flatten()[0]).all()) for p in one.parameters())
        with torch.no_grad():
            assert all(leaf.isfinite().all() for leaf in pytree.tree_leaves(one(*x)))
