"""Training and evaluation on models small enough to follow by hand, and the folder that a run leaves behind."""

import json
from math import log

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minidl import Tensor, data, nn, optim
from minidl.training import RunFolder, evaluate, fit, train_epoch


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_weights_take_it_up(device, bad):
    model = nn.Sequential(nn.Linear(2, 2))
    before = model.state_dict()
    batches = [batch([[bad, 0.0]], [0])]
    with np.errstate(all="ignore"), pytest.raises((FloatingPointError, ValueError), match="smaller learning rate"):
        train_epoch(model, batches, optim.SGD(model.parameters(), 0.1))
    for name, array in model.state_dict().items():
        assert_array_equal(array, before[name])


def test_an_infinite_loss_is_a_floating_point_error():
    model = linear([[0.0, -3e38], [0.0, 0.0]])
    good, bad = batch([[0, 1]], [0]), batch(4 * [[1, 0]], 4 * [1])  # four times 3e38 is too much
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"the loss became inf after 1 images of this epoch"):
        train_epoch(model, [good, bad], optim.SGD(model.parameters(), 0.0))


# A whole run


def two_colours(count: int) -> data.ArrayDataset:
    """Dark images are class 0, light ones class 1."""
    labels = np.arange(count) % 2
    images = np.broadcast_to((50 + 150 * labels)[:, None, None, None], (count, 2, 2, 1)).astype(np.uint8)
    return data.ArrayDataset(images, labels, ["dark", "light"])


def test_fit_two_epochs(device, tmp_path, capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    scaled = data.Compose([data.SubtractMean(125), data.Scale(0.01)])
    train = data.DataLoader(two_colours(10), 4, shuffle=True, transform=scaled)
    test = data.DataLoader(two_colours(6), 4, transform=scaled)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    run = RunFolder(tmp_path / "run", {"lr": 0.5})
    probabilities = fit(model, train, test, optimizer, optim.StepLR(optimizer, 1, gamma=0.5), 2, run)

    assert probabilities.shape == (6, 2) and (probabilities.argmax(1) == two_colours(6).labels).all()
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


def test_fit_needs_an_epoch(tmp_path):
    model = identity()
    loader = data.DataLoader(two_colours(2), 2)
    optimizer = optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        fit(model, loader, loader, optimizer, optim.StepLR(optimizer, 1), 0, RunFolder(tmp_path / "run", {}))


def test_run_folder(tmp_path):
    run = RunFolder(tmp_path / "runs" / "one", {"width": 0.5, "data": None})
    assert json.loads((run.path / "config.json").read_text()) == {"width": 0.5, "data": None}
    run.log(epoch=1, loss=2.5)
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch": 1, "loss": 2.5}\n', "each line is written at once"
    run.log(epoch=2, loss=1.5)
    assert (run.path / "metrics.jsonl").read_text().splitlines()[1] == '{"epoch": 2, "loss": 1.5}'
    assert run.metrics == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5}]


def test_run_folder_refuses_an_occupied_place(tmp_path):
    RunFolder(tmp_path / "one", {"seed": 1})
    (tmp_path / "file").touch()
    for name in ("one", "file"):
        with pytest.raises(FileExistsError, match=f"{tmp_path / name} already holds something.*--out"):
            RunFolder(tmp_path / name, {"seed": 2})
    assert json.loads((tmp_path / "one" / "config.json").read_text()) == {"seed": 1}
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty", {})
