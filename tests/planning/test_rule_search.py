"""The search on made-up costs whose best choices are plain to see."""

from autofocus_jax.planning.rule_search import Point, best_per_budget, grids, per_budget, short, within_drop
from autofocus_jax.structures import ChipRule, Scale, ValidRange

CHEAP, DEAR, BAD = ChipRule(0.9, 1, 16), ChipRule(0.1, 1, 16), ChipRule(0.5, 3, 64)
# What a rule leaves of the pixels and of the AP of the scale that it feeds; BAD costs more than DEAR and finds less.
COST = {None: (1.0, 1.0), CHEAP: (0.1, 0.8), DEAR: (0.5, 0.99), BAD: (0.6, 0.9)}


def made_up(calls):
    def run(rules):
        calls.append(rules)
        middle, fine = (COST[rule] for rule in rules)
        pixels = 1 + 4 * middle[0] + 95 * fine[0] * middle[0]
        return Point(rules, 60 * middle[1] * fine[1], 0.0, pixels)

    return run


def test_last_scale_first_then_the_one_before_with_those_fixed():
    calls = []
    chosen, tried = per_budget(made_up(calls), 2, [[CHEAP, DEAR, BAD]] * 2, [1.5, 5, 40])
    grid = [CHEAP, DEAR, BAD]
    assert calls[:4] == [(None, None), (None, CHEAP), (None, DEAR), (None, BAD)]
    # Kept at the last scale: the pyramid, DEAR for 1.5 times fewer pixels, CHEAP for 5; nothing reaches 40.
    assert calls[4:] == [(rule, fine) for fine in (None, DEAR, CHEAP) for rule in grid]
    assert [point.rules for point in tried] == calls
    # Of equal AP the cheaper: DEAR and CHEAP alone save more at the middle scale. Only both CHEAP save 40 times.
    assert [point.rules for point in chosen] == [(None, None), (DEAR, None), (CHEAP, None), (CHEAP, CHEAP)]
    assert [point.pixels for point in chosen] == sorted((point.pixels for point in chosen), reverse=True)


def test_the_cheapest_within_a_drop():
    """Each scale may lose an equal share: CHEAP loses 12 points, DEAR 0.6, BAD 6."""
    grid = [CHEAP, DEAR, BAD]
    assert within_drop(made_up([]), 2, [grid] * 2, 2.0).rules == (DEAR, DEAR)
    assert within_drop(made_up([]), 2, [grid] * 2, 24.0).rules == (CHEAP, CHEAP)
    assert within_drop(made_up([]), 2, [grid] * 2, 0.1).rules == (DEAR, DEAR)  # none keeps to it: the highest AP


def test_best_per_budget():
    points = [Point((None,), ap, 0, pixels) for ap, pixels in ((50, 100), (50, 90), (49, 60), (49.5, 50), (40, 10))]
    best = best_per_budget(points, 100, [1.25, 2, 4])
    assert [(point.ap, point.pixels) for point in best] == [(50, 90), (49.5, 50), (40, 10)]
    assert [(p.ap, p.pixels) for p in best_per_budget(points, 100, [20])] == [(50, 90)]  # a budget that nothing keeps


def test_short():
    assert short((ChipRule(0.05, 3, 64), None)) == "(0.05, 3, 64) whole"


def test_context_is_in_pixels_of_the_next_level():
    """Levels of 256, 768 and 1536 px: 192 px of the next one are 64 and 96 of the one that predicts."""
    scales = [Scale(side, side, ValidRange(0, 9), None) for side in (256, 768, 1536)]
    first, second = grids(scales, (1000, 1000), [0.2], [1], [32], [192])
    assert first == [ChipRule(0.2, 1, 32), ChipRule(0.2, 1, 64)]
    assert second == [ChipRule(0.2, 1, 32), ChipRule(0.2, 1, 96)]
