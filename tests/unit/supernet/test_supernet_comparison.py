from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.supernet.accuracy.comparison import Comparison, compare

fractions = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def test_figures_agree_with_those_computed_by_hand() -> None:
    # Pairs: (a,b) (a,c) (a,d) (b,d) (c,d) agree, (b,c) does not: tau (5 - 1) / 6. Rank differences 0 1 1 0.
    found = compare([0.9, 0.7, 0.8, 0.2], [0.8, 0.7, 0.6, 0.1])
    assert found.kendall_tau == pytest.approx(4 / 6)
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.mae_points == pytest.approx(100 * (0.1 + 0 + 0.2 + 0.1) / 4)
    assert found.bias_points == pytest.approx(10)
    assert found.regret_points == 0
    assert (found.subnets, found.limited_regret_points) == (4, None)


def test_tau_b_corrects_for_ties() -> None:
    # 5 of 6 pairs are not tied in the predictions, all 6 differ in the measurements, and all 5 agree.
    assert compare([0.9, 0.5, 0.5, 0.1], [0.9, 0.6, 0.5, 0.1]).kendall_tau == pytest.approx(5 / math.sqrt(5 * 6))


def test_regret_is_the_accuracy_lost_by_taking_the_subnet_with_the_best_prediction() -> None:
    assert compare([0.3, 0.9, 0.1], [0.8, 0.7, 0.2]).regret_points == pytest.approx(10)
    # Two predictions are equal: either subnet may be taken.
    assert compare([0.9, 0.9, 0.1], [0.8, 0.7, 0.2]).regret_points == pytest.approx(5)


def test_regret_within_limits_of_cost_is_the_mean_over_the_quartiles() -> None:
    # Limits 1, 2 and 3. Within 1 there is one subnet; within 2 the worse is taken, and within 3 too: 0, 10 and 30.
    found = compare([0.5, 0.4, 0.3, 0.2], [0.6, 0.7, 0.9, 0.95], costs=[1.0, 2.0, 3.0, 4.0])
    assert found.limited_regret_points == pytest.approx((0 + 10 + 30) / 3)
    assert found.regret_points == pytest.approx(35)


def test_scores_rank_and_predictions_are_judged_by_their_error() -> None:
    found = compare([0.5, 0.5, 0.5], [0.4, 0.5, 0.6], scores=[1.0, 2.0, 3.0])
    assert found.kendall_tau == pytest.approx(1)
    assert found.regret_points == 0
    assert found.mae_points == pytest.approx(20 / 3)


def test_what_only_ranks_has_no_error_in_points() -> None:
    found = compare([10.0, 20.0, math.inf], [0.4, 0.5, 0.6], calibrated=False)
    assert (found.mae_points, found.bias_points) == (None, None)
    assert found.kendall_tau == pytest.approx(1)
    assert compare([0.1, math.inf], [0.4, 0.5]).mae_points is None


def test_ranks_of_constant_values_are_not_defined() -> None:
    for predicted, measured in (([0.5, 0.5], [0.4, 0.6]), ([0.4, 0.6], [0.5, 0.5]), ([0.5], [0.5])):
        found = compare(predicted, measured)
        assert (found.kendall_tau, found.spearman) == (None, None)
        assert found.mae_points is not None
        assert found.regret_points is not None


def test_a_prediction_that_is_not_a_number_leaves_no_figure() -> None:
    nothing = Comparison(2, None, None, None, None, None, None)
    assert compare([math.nan, 0.5], [0.4, 0.6], costs=[1, 2]) == nothing
    assert compare([0.4, 0.5], [0.4, 0.6], scores=[math.nan, 1]) == nothing


@pytest.mark.parametrize(
    ("predicted", "measured", "costs"),
    [([], [], None), ([0.5], [0.5, 0.6], None), ([0.5], [math.nan], None), ([0.5], [0.5], [1.0, 2.0])],
)
def test_pairs_that_cannot_be_compared_are_refused(
    predicted: list[float], measured: list[float], costs: list[float] | None
) -> None:
    with pytest.raises(ValueError, match=r"length|finite"):
        compare(predicted, measured, costs=costs)


@given(fractions, st.randoms(use_true_random=False))
def test_figures_stay_in_their_ranges_and_do_not_depend_on_the_order_of_subnets(
    measured: list[float], random: object
) -> None:
    predicted = [random.random() for _ in measured]  # type: ignore[attr-defined]
    costs = [random.random() for _ in measured]  # type: ignore[attr-defined]
    found = compare(predicted, measured, costs=costs)
    assert found.kendall_tau is None or -1 <= found.kendall_tau <= 1
    assert found.regret_points is not None
    assert found.limited_regret_points is not None
    assert 0 <= found.regret_points <= 100
    assert 0 <= found.limited_regret_points <= 100
    order = list(range(len(measured)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = compare(*([values[place] for place in order] for values in (predicted, measured)))
    for name in ("kendall_tau", "spearman", "mae_points", "bias_points", "regret_points"):
        first = getattr(found, name)
        assert getattr(again, name) == (first if first is None else pytest.approx(first, abs=1e-9))


@given(fractions)
def test_perfect_predictions_have_no_error_and_no_regret(measured: list[float]) -> None:
    found = compare(measured, measured, costs=[float(place) for place, _ in enumerate(measured)])
    assert (found.mae_points, found.bias_points, found.regret_points, found.limited_regret_points) == (0, 0, 0, 0)
    if found.kendall_tau is not None:
        assert found.kendall_tau == pytest.approx(1)
