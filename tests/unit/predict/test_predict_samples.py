"""Which subnets to calibrate on."""

from __future__ import annotations

import pytest

from tailorbird.predict import choose_samples
from tailorbird.supernet import Dimension, SearchSpace
from tailorbird.types import Config, KernelSpec


def _nothing_dead(_: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(), frozenset()


SPACE = SearchSpace(tuple(Dimension(f"d{i}", "width", 32, (8, 16, 32)) for i in range(4)), _nothing_dead)


def kernels(config: Config) -> tuple[KernelSpec, ...]:
    """One convolution per dimension, each in a family of its own."""
    sizes = dict(config.sizes)
    return tuple(KernelSpec("conv2d", 8, sizes.get(f"d{i}", 32), 8 << i, 8 << i) for i in range(4))


def test_the_ends_come_first_and_nothing_twice():
    chosen = choose_samples(SPACE, kernels, 8)
    assert chosen[:2] == (SPACE.full(), SPACE.smallest())
    assert len(set(chosen)) == 8


def test_chosen_subnets_differ_more_than_random_ones():
    def closest(configs) -> float:
        """Cosine of the two most alike."""
        import numpy as np

        rows = np.array([[spec.macs for spec in kernels(config)] for config in configs], float) ** 0.5
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return float(max((rows[i] @ rows[j]) for i in range(len(rows)) for j in range(i)))

    chosen = choose_samples(SPACE, kernels, 6)[2:]
    random = [SPACE.sample(seed) for seed in range(4)]
    assert closest(chosen) < closest(random)


def test_a_small_space_gives_all_it_has():
    space = SearchSpace((Dimension("d0", "width", 32, (16, 32)),), _nothing_dead)
    assert set(choose_samples(space, kernels, 10)) == {Config(), Config.of({"d0": 16})}


@pytest.mark.parametrize("count", [0, -1])
def test_no_samples_are_refused(count: int):
    with pytest.raises(ValueError, match="cannot calibrate"):
        choose_samples(SPACE, kernels, count)
