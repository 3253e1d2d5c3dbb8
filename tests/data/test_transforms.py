"""Transforms of whole batches, on every device, against the same thing done image by image with NumPy."""

import numpy as np
import pytest
import standin_cupy
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minidl import backend
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

# Made anew for each test: some keep arrays on a device.
ALL = {
    "RandomCrop": lambda: RandomCrop(6, padding=2), "CenterCrop": lambda: CenterCrop(6), "TenCrop": lambda: TenCrop(6),
    "Mirror": lambda: Mirror(), "Resize": lambda: Resize(9), "SubtractMean": lambda: SubtractMean(batch(1)[0]),
    "Scale": lambda: Scale([0.5, 1, 2]), "ColourNoise": lambda: ColourNoise(np.diag([900.0, 2500.0, 400.0])),
}  # fmt: skip


def rng():
    return np.random.default_rng(0)


def batch(count=50, height=8, width=10, channels=3):
    """Every pixel is different from every other (up to 256 x 256 of them)."""
    size = count * height * width * channels
    return rng().permutation(size).astype(np.float32).reshape(count, height, width, channels)


def transformed(transform, images, device, seed=0):
    """What becomes of `images` on `device`, brought back."""
    there = transform(backend.to_device(images, device), np.random.default_rng(seed))
    assert backend.device_of(there) == backend.canonical_device(device)
    return backend.to_device(there, "cpu")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_input_is_left_alone_and_the_rng_decides(device, name, dtype):
    transform, before = ALL[name](), batch().astype(dtype)
    images = backend.to_device(before.copy(), device)
    first, second = transformed(transform, images, device, seed=5), transformed(transform, images, device, seed=5)
    assert np.array_equal(backend.to_device(images, "cpu"), before)
    assert np.array_equal(first, second)
    expected = np.float32 if isinstance(transform, Resize | SubtractMean | Scale | ColourNoise) else dtype
    assert first.dtype == expected


# Image by image: the numbers are drawn for the batch, the rest happens to one image (H, W, C) at a time.


def plain_mirror(images, rng, p, together):
    flips = rng.random(-(-len(images) // together)) < p
    return [image[:, ::-1] if flips[number // together] else image for number, image in enumerate(images)]


def plain_random_crop(images, rng, size, padding, together):
    groups, (height, width) = -(-len(images) // together), images.shape[1:3]
    tops = rng.integers(height + 2 * padding - size + 1, size=groups)
    lefts = rng.integers(width + 2 * padding - size + 1, size=groups)
    crops = []
    for number, image in enumerate(images):
        framed = np.zeros((height + 2 * padding, width + 2 * padding, image.shape[2]), image.dtype)
        framed[padding : padding + height, padding : padding + width] = image
        top, left = tops[number // together], lefts[number // together]
        crops.append(framed[top : top + size, left : left + size])
    return crops


def plain_centre_crop(images, rng, size):
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    return [image[top : top + size, left : left + size] for image in images]


def plain_ten_crop(images, rng, size):
    crops = []
    for image, centre in zip(images, plain_centre_crop(images, rng, size), strict=True):
        five = [image[:size, :size], image[:size, -size:], image[-size:, :size], image[-size:, -size:], centre]
        crops += [*five, *[piece[:, ::-1] for piece in five]]
    return crops


def plain_colour_noise(images, rng, covariance):
    """The paper's formula; more of it in test_colour_noise.py."""
    alphas = rng.normal(0, 0.1, (len(images), len(covariance)))
    noisy = []
    for image, of_image in zip(images, alphas, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        colour = np.zeros(len(values))
        for alpha, value, vector in zip(of_image, values, vectors.T, strict=True):
            colour += vector * np.sign(vector[np.abs(vector).argmax()]) * alpha * value / 255
        noisy.append(image + colour)
    return noisy


@given(data=st.data())
def test_crops_and_mirroring_equal_a_plain_version_of_any_shape(device, data):
    count, channels = data.draw(st.integers(1, 7)), data.draw(st.sampled_from([1, 3, 4]))
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    images = batch(count, height, width, channels).astype(data.draw(st.sampled_from([np.uint8, np.float32])))
    padding, together = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 4))
    padded = data.draw(st.integers(1, min(height, width) + 2 * padding))
    size, p, seed = data.draw(st.integers(1, min(height, width))), data.draw(st.sampled_from([0.2, 0.5, 1])), padded

    for transform, plain, *arguments in (
        (Mirror(p, together), plain_mirror, p, together),
        (RandomCrop(padded, padding, together), plain_random_crop, padded, padding, together),
        (CenterCrop(size), plain_centre_crop, size),
        (TenCrop(size), plain_ten_crop, size),
    ):
        expected = np.stack(plain(images, np.random.default_rng(seed), *arguments))
        found = transformed(transform, images, device, seed)
        assert found.dtype == images.dtype
        np.testing.assert_array_equal(found, expected, err_msg=str(transform))


@given(data=st.data())
def test_arithmetic_equals_a_plain_version_of_any_shape(device, data):
    count, channels = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 3, 4]))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    generator = np.random.default_rng(height)
    images = generator.integers(0, 256, (count, height, width, channels)).astype(np.uint8)
    shape = data.draw(st.sampled_from([(), (channels,), (height, width, channels)]))
    values = generator.random(shape) * 200
    deviations = generator.random((20, channels)) * 255
    covariance = deviations.T @ deviations / 20

    for transform, expected in (
        (SubtractMean(values), [image - values for image in images]),
        (Scale(values), [image * values for image in images]),
        (ColourNoise(covariance), plain_colour_noise(images, np.random.default_rng(7), covariance)),
    ):
        found = transformed(transform, images, device, seed=7)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.stack(expected), rtol=1e-6, atol=1e-4)


def test_compose_goes_from_left_to_right_with_one_rng(device):
    images, generator = batch(), rng()
    expected = Mirror()(RandomCrop(6)(images, generator), generator) * np.float32(0.5)
    assert np.array_equal(transformed(Compose([RandomCrop(6), Mirror(), Scale(0.5)]), images, device), expected)


@pytest.mark.parametrize("name", ALL)
def test_a_second_gpu_keeps_its_images_though_the_first_is_current(name):
    with standin_cupy.install(), standin_cupy.pretend_devices(2):
        transform, expected = ALL[name](), transformed(ALL[name](), batch(), "cpu")
        for gpu in ("gpu:1", "gpu:0", "gpu:1"):  # constants too: those of the one are of no use to the other
            np.testing.assert_allclose(transformed(transform, batch(), gpu), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_gpu_gets_a_few_numbers_a_batch_and_gives_none_back(name):
    with standin_cupy.install():
        transform, images = ALL[name](), backend.to_device(batch(), "gpu")
        transform(images, rng())  # the first time, constants go along
        with standin_cupy.count_transfers() as count:
            transform(images, rng())
        numbers = {"RandomCrop": 1, "Mirror": 1, "ColourNoise": 1, "Resize": 2}
        assert (count.to_device, count.to_host) == (numbers.get(name, 0), 0)


@pytest.mark.parametrize("transform", [SubtractMean, Scale])
def test_constants_go_to_a_gpu_once(transform):
    with standin_cupy.install():
        images, constant = backend.to_device(batch(), "gpu"), transform(batch(1)[0])
        with standin_cupy.count_transfers() as count:
            constant(images, rng())
            constant(images, rng())
        assert count.to_device == 1


@pytest.mark.parametrize(("size", "padding"), [(5, 0), (8, 2), (1, 0), (8, 0)])
def test_random_crops_are_pieces_of_the_padded_image(device, size, padding):
    images = batch()
    crops = transformed(RandomCrop(size, padding), images, device)
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


def test_centre_crop(device):
    images = batch()
    assert np.array_equal(transformed(CenterCrop(4), images, device), images[:, 2:6, 3:7])
    assert np.array_equal(transformed(CenterCrop(5), images, device), images[:, 1:6, 2:7])  # the odd pixel goes below and right


def test_images_together_share_a_crop_and_a_mirroring(device):
    images = np.repeat(batch(1), 50, axis=0)  # equal images: what is done to them shows whether it is the same
    for transform in (RandomCrop(6, together=16), Mirror(together=16)):
        results = transformed(transform, images, device)
        groups = [results[start : start + 16] for start in (0, 16, 32, 48)]
        assert [len(group) for group in groups] == [16, 16, 16, 2]
        assert all((group == group[0]).all() for group in groups)
        assert len({group[0].tobytes() for group in groups}) > 1


def test_ten_crops_go_with_the_labels_of_their_images(device):
    dataset = EmbeddedCIFAR10(train=False)
    images, labels = next(iter(DataLoader(dataset, batch_size=4, transform=TenCrop(28))))
    assert images.shape == (40, 28, 28, 3) and labels.shape == (4,)
    assert np.array_equal(images.numpy().reshape(4, 10, 28, 28, 3)[2, 0], dataset.images[2, :28, :28])


@pytest.mark.parametrize("crop", [RandomCrop(9), CenterCrop(9), RandomCrop(0), CenterCrop(-1), TenCrop(9), TenCrop(0)])
def test_crops_that_do_not_fit_are_refused(device, crop):
    with pytest.raises(ValueError, match=f"cannot crop {crop.size} x {crop.size} from images of 8 x 10; use Resize"):
        transformed(crop, batch(), device)


@pytest.mark.parametrize("p", [0, 0.5, 0.9, 1])
def test_mirror_flips_left_and_right_with_probability_p(device, p):
    images = batch(1000, 2, 4, 1)
    flips = 0
    for image, result in zip(images, transformed(Mirror(p), images, device), strict=True):
        flipped = np.array_equal(result, np.stack([image[:, column] for column in (3, 2, 1, 0)], axis=1))
        assert flipped or np.array_equal(result, image)
        flips += flipped
    assert abs(flips - 1000 * p) < 4 * np.sqrt(1000 * p * (1 - p)) + 1


def naive_resize(image, size):
    """Pillow, one channel at a time in floating point."""
    channels = [Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR) for channel in image]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
def test_resize_equals_pillow(device, height, width, size, channels):
    images = rng().random((2, height, width, channels), np.float32) * 255
    expected = [naive_resize(image.transpose(2, 0, 1).copy(), size) for image in images]
    np.testing.assert_allclose(transformed(Resize(size), images, device), expected, atol=1e-3)


def test_resize_on_a_gpu_is_two_large_products(monkeypatch):
    """A batch of 2-D products has one for each row of each image, with 3 columns: next to nothing for a GPU to do at a time."""
    products = []

    def counted(a, b, axes):
        products.append((a.shape, b.shape))
        return tensordot(a, b, axes)

    def refused(a, b):
        raise AssertionError(f"a product for each of {a.shape} @ {b.shape}")

    tensordot = standin_cupy.tensordot
    monkeypatch.setattr(standin_cupy, "tensordot", counted, raising=False)
    monkeypatch.setattr(standin_cupy.ndarray, "__matmul__", refused)
    with standin_cupy.install():
        Resize(9)(backend.to_device(batch(), "gpu"), rng())
    assert products == [((50, 8, 10, 3), (9, 10)), ((50, 8, 3, 9), (9, 8))]


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


@pytest.mark.parametrize("transform", [SubtractMean, Scale])
@pytest.mark.parametrize("shape", [(4,), (9, 10, 3), (8, 10), (8, 10, 1), (1, 8, 10, 3)])
def test_values_that_do_not_fit_are_refused(device, transform, shape):
    with pytest.raises(ValueError, match=r"for images of shape \(8, 10, 3\); expected \(8, 10, 3\), \(3,\) or a number"):
        transformed(transform(np.zeros(shape)), batch(), device)


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
