"""Learning rate schedules, epoch by epoch."""

import pytest

from minidl import nn, optim


def optimizer() -> optim.SGD:
    """Two groups: the second learns twice as fast."""
    return optim.SGD([{"params": nn.Parameter([1.0])}, {"params": nn.Parameter([1.0]), "lr": 2.0}], lr=1.0)


def rates(sgd: optim.SGD, schedule, steps) -> list[float]:
    """The first group's rate in every epoch, the first epoch included; the second's must be twice as high."""
    seen = []
    for step in [None, *steps]:
        if step is not None:
            schedule.step(*step)
        first, second = (group["lr"] for group in sgd.param_groups)
        assert second == pytest.approx(2 * first, rel=1e-12)
        seen.append(first)
    return seen


def epochs(count: int) -> list[tuple]:
    return [()] * count


def test_step_lr():
    sgd = optimizer()
    assert rates(sgd, optim.StepLR(sgd, 3), epochs(7)) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    sgd = optimizer()
    assert rates(sgd, optim.StepLR(sgd, 1, gamma=0.5), epochs(3)) == pytest.approx([1, 0.5, 0.25, 0.125])


def test_multi_step_lr():
    sgd = optimizer()
    assert rates(sgd, optim.MultiStepLR(sgd, [5, 2, 3], 0.5), epochs(6)) == pytest.approx([1, 1, 0.5, 0.25, 0.25, 0.125, 0.125])


def test_the_2012_program():
    sgd = optimizer()
    seen = rates(sgd, optim.MultiStepLR(sgd, (25, 51, 79)), epochs(90))
    assert [epoch for epoch in range(1, 91) if seen[epoch] != seen[epoch - 1]] == [25, 51, 79]
    assert [seen[0], seen[25], seen[51], seen[90]] == pytest.approx([1, 0.1, 0.01, 0.001])


def test_a_function_of_the_epoch():
    sgd = optimizer()
    assert rates(sgd, optim.LambdaLR(sgd, lambda epoch: 1 / (1 + epoch)), epochs(3)) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_a_function_for_each_group():
    sgd = optimizer()
    schedule = optim.LambdaLR(sgd, [lambda epoch: 0.5**epoch, lambda epoch: float(epoch < 2)])
    for expected in ([0.5, 2.0], [0.25, 0.0], [0.125, 0.0]):
        schedule.step()
        assert [group["lr"] for group in sgd.param_groups] == expected


def test_rounding_does_not_pile_up():
    sgd = optimizer()
    assert rates(sgd, optim.StepLR(sgd, 1, gamma=0.1), epochs(8))[-1] == pytest.approx(1e-8, rel=1e-14)


def test_reduce_on_plateau():
    sgd = optimizer()
    schedule = optim.ReduceLROnPlateau(sgd, factor=0.5, patience=2)
    #           best   bad 1  2      3: halve  best  bad 1  2     3: halve, count anew  4
    figures = [(5.0,), (5.0,), (6.0,), (5.0,), (4.0,), (4.1,), (4.0,), (9.0,), (9.0,)]
    assert rates(sgd, schedule, figures) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_reduce_on_plateau_of_an_accuracy():
    sgd = optimizer()
    schedule = optim.ReduceLROnPlateau(sgd, "max", factor=0.5, patience=0)
    assert rates(sgd, schedule, [(0.1,), (0.3,), (0.2,), (0.4,), (0.4,)]) == [1, 1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    "mode, best, too_little, enough", [("min", 10, 9.5, 8.9), ("max", 10, 10.5, 11.1), ("min", -10, -10.5, -11.1)]
)
def test_an_improvement_is_more_than_the_threshold(mode, best, too_little, enough):
    sgd = optimizer()
    schedule = optim.ReduceLROnPlateau(sgd, mode, factor=0.5, patience=0, threshold=0.1)
    assert rates(sgd, schedule, [(best,), (too_little,), (enough,)]) == [1, 1, 0.5, 0.5]


def test_a_rate_is_not_reduced_below_the_minimum():
    sgd = optimizer()
    schedule = optim.ReduceLROnPlateau(sgd, patience=0, min_lr=0.05)
    for _ in range(5):
        schedule.step(1.0)
    assert [group["lr"] for group in sgd.param_groups] == [0.05, 0.05]


def test_a_figure_that_is_no_number_is_no_improvement():
    sgd = optimizer()
    schedule = optim.ReduceLROnPlateau(sgd, factor=0.5, patience=0)
    nan = float("nan")
    assert rates(sgd, schedule, [(nan,), (5.0,), (4.0,), (nan,), (3.0,)]) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda sgd: optim.StepLR(sgd, 0), "StepLR: step_size is a number of epochs, at least 1; got 0"),
        (lambda sgd: optim.LambdaLR(sgd, [float]), "LambdaLR: 1 functions for 2 parameter groups"),
        (lambda sgd: optim.ReduceLROnPlateau(sgd, "best"), 'mode must be "min" or "max", got \'best\''),
        (lambda sgd: optim.ReduceLROnPlateau(sgd, factor=1.0), "factor must lie between 0 and 1, got 1.0"),
        (lambda sgd: optim.ReduceLROnPlateau(sgd, factor=0.0), "factor must lie between 0 and 1, got 0.0"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizer())
