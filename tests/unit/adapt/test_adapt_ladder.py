import math

import pytest

from tailorbird_agent.adapt import RungProfile, make_ladder


def test_a_ladder_is_sorted_from_the_fastest_rung():
    ladder = make_ladder([RungProfile("big", 0.9, 4000.0), RungProfile("small", 0.7, 500.0)])
    assert [rung.name for rung in ladder] == ["small", "big"]


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ([], "at least one rung"),
        ([RungProfile("a", 0.7, 1.0), RungProfile("a", 0.8, 2.0)], "not unique"),
        ([RungProfile("a", 70.0, 1.0)], "not a fraction"),
        ([RungProfile("a", 0.7, 0.0)], "not positive"),
        ([RungProfile("a", 0.7, math.nan)], "not positive"),
    ],
)
def test_a_ladder_that_cannot_be_used_is_refused(rungs, message):
    with pytest.raises(ValueError, match=message):
        make_ladder(rungs)
