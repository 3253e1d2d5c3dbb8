"""Trained networks out of their folders: the errors, ten crops, averages of networks, similar images, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import minidl
import minidl.functional as F
from minidl import data, models, nn
from minidl.checkpoint import save_state, save_weights
from minidl.data.open import open_data
from minidl.evaluation import Photographs, average, features, load_run, most_similar, probabilities, read_config, top_k_error
from minidl.preparation import Statistics, statistics
from minidl.recipes import recipe_from
from minidl.training import evaluate

CLASSES = ["dark", "light"]
RECIPE = {
    "variant": "program", "width": 0.05, "image_size": 64, "stored_size": 73, "batch_size": 4, "milestones": [13],
}  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(0)
    for label, brightness in zip(CLASSES, (60, 180), strict=True):
        (tmp_path / "photographs" / label).mkdir(parents=True)
        for i in range(5):
            pixels = random.integers(brightness - 50, brightness + 50, (90 + i, 80, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photographs" / label / f"{i}.png")
    return tmp_path / "photographs"


def network(seed: int) -> models.AlexNet:
    minidl.manual_seed(seed)
    return models.AlexNet("program", 2, 0.05, 64)


def checkpoint(folder, name, seed, config, epoch=1, batch=0) -> nn.Module:
    """Write a checkpoint as a run does, with the weights of `network(seed)`."""
    model = network(seed)
    arrays = {f"model.{key}": value for key, value in model.state_dict().items()}
    description = {"config": config, "epoch": epoch, "batch": batch}
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_state(arrays | {"optimizer.0.velocity": np.ones(3)}, description, folder / "checkpoints" / name)
    return model


@pytest.fixture
def run(tmp_path, photographs):
    """The folder of a run with its configuration, and the configuration."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"recipe": RECIPE, "data": str(photographs), "seed": 0, "classes": CLASSES}
    train, _ = open_data(photographs, 73)
    statistics(recipe_from(RECIPE), train).save(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder, config


def same(model, other) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


# From the folder of a run


def test_the_best_checkpoint_comes_first_then_the_latest_then_the_weights(run):
    folder, config = run
    save_weights(network(5), folder / "weights.safetensors")
    assert same(load_run(folder).model, network(5))
    older = checkpoint(folder, "0001-000000.safetensors", 1, config)
    latest = checkpoint(folder, "0002-000007.safetensors", 2, config, epoch=2, batch=7)
    found = load_run(folder)
    assert same(found.model, latest) and found.moment == "epoch 2 and 7 steps" and found.classes == CLASSES
    assert found.recipe.milestones == (13,) and not found.model.training
    best = checkpoint(folder, "best.safetensors", 3, config)
    assert same(load_run(folder).model, best) and load_run(folder).moment == "epoch 1"
    assert same(load_run(folder / "checkpoints" / "0001-000000.safetensors").model, older), "one checkpoint by its name"


def test_class_names_of_runs_whose_configuration_has_none(run):
    folder, config = run
    del config["classes"]
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint(folder, "best.safetensors", 3, config)
    with pytest.raises(ValueError, match="does not name the classes"):
        load_run(folder)
    save_weights(network(5), folder / "weights.safetensors", classes=",".join(CLASSES))
    assert load_run(folder).classes == CLASSES == read_config(folder)["classes"]


def test_what_is_no_run_is_refused(run, tmp_path):
    folder, config = run
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such run"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no run in this folder"):
        load_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint yet"):
        load_run(folder)
    checkpoint(folder, "best.safetensors", 0, {**config, "recipe": {**RECIPE, "width": 0.1}})
    with pytest.raises(ValueError, match=r"best\.safetensors: load_state_dict: the state does not fit"):
        load_run(folder)
    checkpoint(folder, "best.safetensors", 0, {**config, "recipe": {"network": "80sec"}})
    with pytest.raises(ValueError, match="no recipe of an AlexNet that this version of minidl knows"):
        load_run(folder)
    path = folder / "checkpoints" / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_run(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: damaged"):
        load_run(folder)


def test_images_of_other_classes_or_another_shape(run, photographs):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    found, images = load_run(folder), data.ImageFolder(photographs, 73)
    assert found.fitting(images) is images
    with pytest.raises(
        ValueError, match=r"of \(73, 73, 3\); these are of \(72, 72, 3\).* stored_size of the run, 73, .*not packed images"
    ):
        found.fitting(data.ImageFolder(photographs, 72))
    packed = replace(found, statistics=Statistics((256, 256, 3), np.zeros(3)))
    with pytest.raises(ValueError, match=r"these are of \(73, 73, 3\).* give images packed with `--size 256`, as it had them"):
        packed.fitting(images)
    (photographs / "dark").rename(photographs / "dim")
    with pytest.raises(ValueError, match="knows the classes dark, light; these images have dim, light"):
        found.fitting(data.ImageFolder(photographs, 73))


def test_a_run_without_its_statistics(run):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    (folder / "statistics.safetensors").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"statistics\.safetensors, with the mean of the training images, is missing"):
        load_run(folder)


# Probabilities


def test_the_centre_is_what_training_tested_with(run, photographs):
    folder, config = run
    model = checkpoint(folder, "best.safetensors", 3, config)
    train, test = data.split(data.ImageFolder(photographs, 73), 0.2)
    found = load_run(folder)
    p, labels = probabilities(found.model, found.loader(test))
    model.eval()
    images = np.stack([test[i][0] for i in range(len(test))]) - data.mean_image(train)
    expected = F.softmax(model(minidl.Tensor(images[:, 4:68, 4:68]))).numpy()
    assert_allclose(p, expected, rtol=1e-5)
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("crops", [1, 10])
def test_damaged_images_are_not_tested(run, photographs, crops):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    found, whole = load_run(folder), data.ImageFolder(photographs, 73)
    expected, labels = probabilities(found.model, found.loader(whole, crops))
    (photographs / "dark" / "2.png").write_bytes(b"")
    batches = found.loader(whole, crops)
    p, said = probabilities(found.model, batches)
    kept = [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert batches.kept.tolist() == kept and said.tolist() == labels[kept].tolist()
    assert_allclose(p, expected[kept], rtol=1e-5)
    assert len(features(found.model, batches)) == 9 * crops
    counted, _ = evaluate(found.model, found.loader(whole))
    assert counted.accuracy == pytest.approx(1 - top_k_error(probabilities(found.model, found.loader(whole))[0], said, 1))


@pytest.mark.parametrize(
    "changes", [{}, {"mean": "colour"}, {"divide": "deviation"}, {"mean": "colour", "colour_noise": "eigenvalue"}]
)
def test_training_images_are_gone_through_once_for_their_statistics(photographs, changes):
    asked = []

    class Asked(data.ImageFolder):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    train, recipe = Asked(photographs, 73), recipe_from({**RECIPE, "colour_noise": "none", **changes})
    found = statistics(recipe, train)
    assert sorted(asked) == list(range(10)) and found.shape == (73, 73, 3)
    assert_array_equal(found.mean, data.mean_image(train) if recipe.mean == "image" else data.mean_colour(train))
    if changes in ({}, {"mean": "colour"}):
        assert found.covariance is None
    else:
        assert_array_equal(found.covariance, data.colour_covariance(train))


def test_ten_crops_are_averaged(run, photographs):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    found = load_run(folder)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64 * 3, 2))  # which sees the crops very differently
    model[1].weight.data = np.random.default_rng(0).normal(0, 3e-4, (64 * 64 * 3, 2)).astype(np.float32)
    whole = data.ImageFolder(photographs, 73)
    train, _ = data.split(whole, 0.2)
    batches = found.loader(whole, crops=10)
    assert batches.batch_size == 1, "about as many crops in memory as without"
    p, labels = probabilities(model, batches)

    mean, expected = data.mean_image(train), []
    for i in range(len(whole)):
        image = whole[i][0] - mean
        outputs = []
        for top, left in ((0, 0), (0, 9), (9, 0), (9, 9), (4, 4)):
            crop = image[top : top + 64, left : left + 64]
            outputs += [F.softmax(model(minidl.Tensor(c[None].copy()))).numpy()[0] for c in (crop, crop[:, ::-1])]
        expected.append(np.mean(outputs, axis=0))
        assert np.ptp(outputs, axis=0).max() > 0.01
    assert_allclose(p, expected, rtol=1e-4)
    assert_array_equal(labels, whole.labels)
    assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_several_networks_are_averaged(run, photographs):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    found = load_run(folder)
    train = data.ImageFolder(photographs, 73)
    networks = [network(seed) for seed in (1, 2, 3)]
    each = [probabilities(model, found.loader(train))[0] for model in networks]
    together, _ = probabilities(networks, found.loader(train))
    assert_allclose(together, (each[0] + each[1] + each[2]) / 3, rtol=1e-5)
    assert_allclose(average(each), together, rtol=1e-5)
    assert networks[0].training, "each is left in the mode in which it was"
    with pytest.raises(ValueError, match=r"average: probabilities of shapes \[\(2, 3\), \(2, 4\)\]"):
        average([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="crops is 5; expected 1"):
        found.loader(train, crops=5)


# Errors


def test_top_k_error_by_hand():
    p = np.array([[0.4, 0.3, 0.2, 0.06, 0.03, 0.01]] * 6)
    labels = np.arange(6)  # label i is in place i + 1
    assert [top_k_error(p, labels, k) for k in range(1, 7)] == [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    assert top_k_error(p, np.array([5] * 6), 5) == 1


def test_equal_probabilities_count_as_argmax_has_them():
    p = np.full((4, 10), 0.1)
    labels = np.array([0, 1, 4, 5])
    assert top_k_error(p, labels, 1) == 0.75 == (p.argmax(axis=1) != labels).mean()
    assert top_k_error(p, labels, 5) == 0.25


@pytest.mark.parametrize("shape, labels, k", [((3, 2), 2, 1), ((0, 2), 0, 1), ((3, 2), 3, 0), ((3,), 3, 1)])
def test_errors_of_what_does_not_fit(shape, labels, k):
    with pytest.raises(ValueError, match="top_k_error: probabilities of shape"):
        top_k_error(np.ones(shape), np.zeros(labels, int), k)


def test_nan_is_no_right_answer():
    with pytest.raises(ValueError, match="the network has diverged"):
        top_k_error(np.full((2, 3), np.nan), np.zeros(2, int), 1)


# Features


def test_features_and_similar_images(run, photographs):
    folder, config = run
    checkpoint(folder, "best.safetensors", 3, config)
    found = load_run(folder)
    paths = sorted(photographs.glob("*/*.png"))
    activations = features(found.model, found.loader(Photographs(paths, found.statistics.shape)))
    assert activations.shape == (10, 204) and (activations >= 0).all(), "fc7 of 4096 at width 0.05, after its ReLU"
    numbers, distances = most_similar(activations, activations[3], 10)
    plain = np.array([np.sqrt(((a - activations[3]).astype(float) ** 2).sum()) for a in activations])
    assert numbers[0] == 3 and distances[0] == 0
    assert_allclose(distances, np.sort(plain), rtol=1e-4)
    assert set(numbers[:5].tolist()) == set(range(5)), "the dark ones are similar to each other"


def test_photographs_as_the_training_images_are(tmp_path):
    pixels = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (colour, _), (grey, _) = (Photographs([tmp_path / "photo.png"], (28, 28, c))[0] for c in (3, 1))
    assert colour.shape == (28, 28, 3) and (colour == (200, 100, 50)).all()
    assert grey.shape == (28, 28, 1) and (grey == 124).all()  # 0.299 R + 0.587 G + 0.114 B
