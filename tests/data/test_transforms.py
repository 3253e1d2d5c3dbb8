"""Transforms of whole batches against the same thing done image by image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minidl.data import (
    CenterCrop,
    ColourNoise,
    Compose,
    DataLoader,
    EmbeddedCIFAR10,
    Mirror,
    RandomCrop,
    Resize,
    Scale,
    SubtractMean,
    TenCrop,
)
from minidl.data.transforms import interpolation_matrix

ALL = [
    RandomCrop(6, padding=2), CenterCrop(6), TenCrop(6), Mirror(), Resize(9), SubtractMean([1, 2, 3]), Scale(0.5),
    ColourNoise(np.eye(3)),
]  # fmt: skip


def rng():
    return np.random.default_rng(0)


def batch(count=50, height=8, width=10, channels=3):
    """Every pixel is different from every other (up to 256 x 256 of them)."""
    size = count * height * width * channels
    return rng().permutation(size).astype(np.float32).reshape(count, height, width, channels)


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_input_is_left_alone_and_the_rng_decides(transform, dtype):
    images = batch().astype(dtype)
    before = images.copy()
    first, second = transform(images, np.random.default_rng(5)), transform(images, np.random.default_rng(5))
    assert np.array_equal(images, before)
    assert np.array_equal(first, second)
    expected = np.float32 if isinstance(transform, Resize | SubtractMean | Scale | ColourNoise) else dtype
    assert first.dtype == expected


def test_compose_goes_from_left_to_right_with_one_rng():
    images, generator = batch(), rng()
    expected = Mirror()(RandomCrop(6)(images, generator), generator) * np.float32(0.5)
    assert np.array_equal(Compose([RandomCrop(6), Mirror(), Scale(0.5)])(images, rng()), expected)


@pytest.mark.parametrize(("size", "padding"), [(5, 0), (8, 2), (1, 0), (8, 0)])
def test_random_crops_are_pieces_of_the_padded_image(size, padding):
    images = batch()
    crops = RandomCrop(size, padding)(images, rng())
    assert crops.shape == (50, size, size, 3)
    places = set()
    for image, crop in zip(images, crops, strict=True):
        framed = np.zeros((8 + 2 * padding, 10 + 2 * padding, 3), image.dtype)
        framed[padding : padding + 8, padding : padding + 10] = image
        found = [
            (top, left)
            for top in range(framed.shape[0] - size + 1)
            for left in range(framed.shape[1] - size + 1)
            if np.array_equal(framed[top : top + size, left : left + size], crop)
        ]
        assert found
        places.update(found)
    # Every image has a place of its own, and the outermost rows and columns take part.
    tops, lefts = {top for top, _ in places}, {left for _, left in places}
    assert tops == set(range(8 + 2 * padding - size + 1)) and lefts == set(range(10 + 2 * padding - size + 1))


def test_centre_crop():
    images = batch()
    assert np.array_equal(CenterCrop(4)(images, rng()), images[:, 2:6, 3:7])
    assert np.array_equal(CenterCrop(5)(images, rng()), images[:, 1:6, 2:7])  # the odd pixel goes below and right


def test_images_together_share_a_crop_and_a_mirroring():
    images = np.repeat(batch(1), 50, axis=0)  # equal images: what is done to them shows whether it is the same
    for transform in (RandomCrop(6, together=16), Mirror(together=16)):
        results = transform(images, rng())
        groups = [results[start : start + 16] for start in (0, 16, 32, 48)]
        assert [len(group) for group in groups] == [16, 16, 16, 2]
        assert all((group == group[0]).all() for group in groups)
        assert len({group[0].tobytes() for group in groups}) > 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_ten_crops_in_their_order(count, size):
    images = batch(count)
    top, left = (8 - size) // 2, (10 - size) // 2
    expected = []
    for image in images:
        corners = [image[:size, :size], image[:size, -size:], image[-size:, :size], image[-size:, -size:]]
        five = [*corners, image[top : top + size, left : left + size]]
        expected += [*five, *[piece[:, ::-1] for piece in five]]
    assert np.array_equal(TenCrop(size)(images, rng()), np.stack(expected))
    assert np.array_equal(TenCrop(size)(images, rng())[4::10], CenterCrop(size)(images, rng()))


def test_ten_crops_go_with_the_labels_of_their_images():
    dataset = EmbeddedCIFAR10(train=False)
    images, labels = next(iter(DataLoader(dataset, batch_size=4, transform=TenCrop(28))))
    assert images.shape == (40, 28, 28, 3) and labels.shape == (4,)
    assert np.array_equal(images.numpy().reshape(4, 10, 28, 28, 3)[2, 0], dataset.images[2, :28, :28])


@pytest.mark.parametrize("crop", [RandomCrop(9), CenterCrop(9), RandomCrop(0), CenterCrop(-1), TenCrop(9), TenCrop(0)])
def test_crops_that_do_not_fit_are_refused(crop):
    with pytest.raises(ValueError, match=f"cannot crop {crop.size} x {crop.size} from images of 8 x 10; use Resize"):
        crop(batch(), rng())


@pytest.mark.parametrize("p", [0, 0.5, 0.9, 1])
def test_mirror_flips_left_and_right_with_probability_p(p):
    images = batch(1000, 2, 4, 1)
    flips = 0
    for image, result in zip(images, Mirror(p)(images, rng()), strict=True):
        flipped = np.array_equal(result, np.stack([image[:, column] for column in (3, 2, 1, 0)], axis=1))
        assert flipped or np.array_equal(result, image)
        flips += flipped
    assert abs(flips - 1000 * p) < 4 * np.sqrt(1000 * p * (1 - p)) + 1


def naive_resize(image, size):
    """Pillow, one channel at a time in floating point."""
    channels = [Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR) for channel in image]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
def test_resize_equals_pillow(height, width, size, channels):
    images = rng().random((2, height, width, channels), np.float32) * 255
    expected = [naive_resize(image.transpose(2, 0, 1).copy(), size) for image in images]
    np.testing.assert_allclose(Resize(size)(images, rng()), expected, atol=1e-3)


def test_resize_equals_pillow_on_photographs_up_to_its_rounding():
    images = EmbeddedCIFAR10(train=False).images[:20]
    for size in (64, 20):
        expected = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)) for image in images]
        assert np.abs(Resize(size)(images, rng()) - np.stack(expected)).max() <= 1.01


def test_interpolation_matrix_by_hand():
    assert interpolation_matrix(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert interpolation_matrix(4, 2).tolist() == pytest.approx(
        np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
    )  # each new pixel reaches over two old ones to either side


def test_subtract_mean_and_scale_equal_a_loop_over_pixels():
    images = batch().astype(np.uint8)
    values = {"image": batch(1)[0], "colour": np.array([3.0, 5.0, 7.0]), "number": 3.5}
    for value in values.values():
        each = np.broadcast_to(value, images.shape[1:])
        subtracted, scaled = SubtractMean(value)(images, rng()), Scale(value)(images, rng())
        for index in np.ndindex(3, *images.shape[1:]):
            assert subtracted[index] == pytest.approx(float(images[index]) - each[index[1:]], rel=1e-6)
            assert scaled[index] == pytest.approx(float(images[index]) * each[index[1:]], rel=1e-6)


@pytest.mark.parametrize("transform", [SubtractMean, Scale])
@pytest.mark.parametrize("shape", [(4,), (9, 10, 3), (8, 10), (8, 10, 1), (1, 8, 10, 3)])
def test_values_that_do_not_fit_are_refused(transform, shape):
    with pytest.raises(ValueError, match=r"for images of shape \(8, 10, 3\); expected \(8, 10, 3\), \(3,\) or a number"):
        transform(np.zeros(shape))(batch(), rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(0), "size is 0; expected at least 1"),
        (lambda: RandomCrop(4, padding=-1), "padding is -1, together is 1; expected at least 0 pixels"),
        (lambda: Mirror(1.5), "p is 1.5, together is 1; expected a probability"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
