"""Training and evaluation on models small enough to follow by hand."""

import json
from math import log

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minidl import Tensor, data, nn, optim
from minidl.run import Run
from minidl.training import Totals, evaluate, first_not_finite, train_epoch


def linear(weight) -> nn.Linear:
    """(N, 2) -> (N, 2), without bias."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = weight
    return layer


def identity() -> nn.Linear:
    return linear([[1.0, 0.0], [0.0, 1.0]])


def batch(x, labels) -> tuple[Tensor, Tensor]:
    return Tensor(np.array(x, np.float32)), Tensor(np.array(labels))


def two_batches() -> list[tuple[Tensor, Tensor]]:
    """Of different sizes. With the identity, the right class has probability 3/4, 1/4 and 1/2; only the first guess is right."""
    return [batch([[log(3), 0], [0, log(3)]], [0, 0]), batch([[0, 0]], [1])]


LOSS = (log(4 / 3) + log(4) + log(2)) / 3


# Evaluation


def test_figures_are_means_over_images_not_over_batches(device):
    figures, probabilities = evaluate(identity(), two_batches())
    assert figures.loss == pytest.approx(LOSS, rel=1e-6)
    assert figures.accuracy == pytest.approx(1 / 3)
    assert figures.images_per_second > 0
    assert np.allclose(probabilities, [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]) and isinstance(probabilities, np.ndarray)


def test_evaluation_is_in_evaluation_mode_and_restores_every_flag(device):
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5), identity()))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    figures, _ = evaluate(model, two_batches())
    assert figures.loss == pytest.approx(LOSS, rel=1e-6), "dropout was on"
    assert [module.training for module in model.modules()] == modes == [True, True, False, False, False]


def test_flags_are_restored_after_an_error(device):
    model = nn.Sequential(nn.Dropout(), identity())
    with pytest.raises(ValueError):
        evaluate(model, [batch([[1, 2, 3]], [0])])
    assert all(module.training for module in model.modules())


def test_evaluation_records_no_graph(device):
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(x.grad_fn)
            return x

    evaluate(nn.Sequential(identity(), Watch()), two_batches())
    assert seen == [None, None]


def test_nothing_to_evaluate_or_to_learn_from():
    model = identity()
    with pytest.raises(ValueError, match="there was no batch"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="there was no batch"):
        train_epoch(model, [], optim.SGD(model.parameters(), 0.1))


# Training


def test_an_epoch_with_a_rate_of_zero_only_measures(device):
    model = identity().eval()
    figures = train_epoch(model, two_batches(), optim.SGD(model.parameters(), 0.0))
    assert (figures.loss, figures.accuracy) == pytest.approx((LOSS, 1 / 3), rel=1e-6)
    assert model.training


def test_one_step_a_batch_each_from_its_own_gradient(device):
    """Probabilities are 1/2, so the gradient is x.T (1/2 - target): the two batches change different rows."""
    model = linear([[0.0, 0.0], [0.0, 0.0]])
    model.weight.grad = Tensor(np.full((2, 2), 100.0, np.float32))  # left over from something else
    train_epoch(model, [batch([[1, 0]], [0]), batch([[0, 2]], [1])], optim.SGD(model.parameters(), 1.0))
    assert np.allclose(model.weight.numpy(), [[0.5, -0.5], [-1, 1]])


def test_an_epoch_in_two_parts_has_the_figures_of_the_whole(device):
    model, totals = identity(), Totals()
    first, second = two_batches()
    train_epoch(model, [first], optim.SGD(model.parameters(), 0.0), totals=totals)
    assert totals.images == 2
    figures = train_epoch(model, [second], optim.SGD(model.parameters(), 0.0), totals=totals)
    assert (figures.loss, figures.accuracy) == pytest.approx((LOSS, 1 / 3), rel=1e-6)


def test_the_bar_counts_images(device):
    class Bar:
        images, text = 0, ""

        def update(self, count):
            self.images += count

        def set_postfix_str(self, text, refresh):
            self.text = text

    bar, model = Bar(), identity()
    train_epoch(model, two_batches(), optim.SGD(model.parameters(), 0.0), bar)
    assert bar.images == 3 and bar.text == f"loss {LOSS:.3f}, top-1 33.3 %"


# What is not finite


def stops(model, x, message) -> None:
    """Training stops with `message` before the weights take anything up."""
    before = model.state_dict()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=f"diverged after 1 images .*{message}.*smaller"):
        train_epoch(model, [batch([[0, 0]], [0]), batch([x], [0])], optim.SGD(model.parameters(), 0.0))
    for name, array in model.state_dict().items():
        assert_array_equal(array, before[name])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite_stop_the_training(device, bad):
    stops(nn.Sequential(nn.Linear(2, 2)), [bad, 0.0], "there is NaN or infinity among the images")


def test_the_first_layer_that_overflows_is_named(device):
    model = nn.Sequential({"good": identity(), "bad": linear([[1e38, 0.0], [0.0, 1.0]]), "after": identity()})
    stops(model, [1000.0, 0.0], "layer bad was the first")
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_parameter_that_is_not_finite_is_named(device):
    model = nn.Sequential({"good": identity(), "bad": linear([[1.0, 0.0], [0.0, np.inf]])})
    assert first_not_finite(model, Tensor([[0.0, 0.0]])) == "bad.weight holds NaN or infinity"


# A whole run. How it is interrupted and resumed: test_run.py


def two_colours(count: int) -> data.ArrayDataset:
    """Dark images are class 0, light ones class 1."""
    labels = np.arange(count) % 2
    images = np.broadcast_to((50 + 150 * labels)[:, None, None, None], (count, 2, 2, 1)).astype(np.uint8)
    return data.ArrayDataset(images, labels, ["dark", "light"])


def test_two_epochs(device, tmp_path, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    scaled = data.Compose([data.SubtractMean(125), data.Scale(0.01)])
    train = data.DataLoader(two_colours(10), 4, shuffle=True, transform=scaled)
    test = data.DataLoader(two_colours(6), 4, transform=scaled)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    schedule = optim.StepLR(optimizer, 1, gamma=0.5)
    probabilities: list[np.ndarray] = []
    run = Run(tmp_path / "run", {"lr": 0.5}, model, optimizer, schedule, train, test, after_epoch=probabilities.append)
    run.fit(2)

    assert [p.shape for p in probabilities] == [(6, 2), (6, 2)]
    assert (probabilities[-1].argmax(1) == two_colours(6).labels).all()
    assert [m["epoch"] for m in run.metrics] == [1, 2]
    assert [m["lr"] for m in run.metrics] == [0.5, 0.25], "the rate with which the epoch was learnt"
    assert optimizer.param_groups[0]["lr"] == 0.125
    assert run.metrics[1]["train_loss"] < run.metrics[0]["train_loss"] and run.metrics[1]["test_accuracy"] == 1
    assert run.metrics[1]["test_loss"] == pytest.approx(evaluate(model, test)[0].loss)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.metrics
    assert set(run.metrics[0]) == {
        "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_second", "seconds",
    }  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[1].startswith("epoch   2   train: loss 0.") and "test: loss" in printed[1]


def test_a_run_needs_an_epoch(tmp_path):
    model = identity()
    loader = data.DataLoader(two_colours(2), 2)
    optimizer = optim.SGD(model.parameters(), 0.1)
    run = Run(tmp_path / "run", {}, model, optimizer, optim.StepLR(optimizer, 1), loader, loader)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        run.fit(0)
