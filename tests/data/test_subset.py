"""Subsets and balanced splits."""

import numpy as np
import pytest

from minidl.data import ArrayDataset, Subset, split


def dataset_of(*counts):
    """Images that carry their own number; `counts` of each class, classes taking turns."""
    labels = np.concatenate([np.full(count, label) for label, count in enumerate(counts)])
    labels = np.random.default_rng(0).permutation(labels)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ArrayDataset(images, labels, [str(label) for label in range(len(counts))])


def numbers(dataset):
    return [int(dataset[i][0][0, 0, 0]) for i in range(len(dataset))]


def test_a_subset_has_the_chosen_images_in_the_chosen_order():
    whole = dataset_of(5, 5)
    part = Subset(whole, [7, 2, 2])
    assert len(part) == 3 and numbers(part) == [7, 2, 2]
    assert part.labels.tolist() == whole.labels[[7, 2, 2]].tolist() == [label for _, label in part]
    assert part.classes == whole.classes
    assert numbers(Subset(part, [1, 0])) == [2, 7]
    assert len(Subset(whole, [])) == 0


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 10], r"index 10 is outside of the data set; expected 0\.\.9"),
        ([-1], "index -1 is outside"),
        ([0.5], "indices are float64"),
        ([True] * 10, "bool.*np.flatnonzero"),
        ([[1]], r"shape \(1, 1\)"),
    ],
)
def test_other_indices_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        Subset(dataset_of(5, 5), indices)


def test_a_split_is_disjoint_complete_and_balanced():
    whole = dataset_of(50, 20, 10, 2, 1)
    first, second = split(whole, 0.2)
    assert sorted(numbers(first) + numbers(second)) == list(range(len(whole)))
    assert np.bincount(second.labels, minlength=5).tolist() == [10, 4, 2, 1, 0]
    assert numbers(first) == sorted(numbers(first)) and numbers(second) == sorted(numbers(second))


def test_every_class_keeps_an_image_in_the_first_part():
    first, second = split(dataset_of(3, 3), 0.99)
    assert np.bincount(first.labels).tolist() == [1, 1] and np.bincount(second.labels).tolist() == [2, 2]


def test_the_seed_decides_the_split():
    whole = dataset_of(50, 50)
    assert numbers(split(whole, 0.3, seed=1)[1]) == numbers(split(whole, 0.3, seed=1)[1])
    assert numbers(split(whole, 0.3, seed=1)[1]) != numbers(split(whole, 0.3, seed=2)[1])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 20])
def test_other_fractions_are_refused(fraction):
    with pytest.raises(ValueError, match=f"fraction is {fraction}; expected a share"):
        split(dataset_of(5), fraction)
