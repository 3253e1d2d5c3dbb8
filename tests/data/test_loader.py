"""The loader: the right images in the right order, the same whatever the threads do, and nothing left behind."""

import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import standin_cupy
from PIL import Image

from minidl import backend
from minidl.data import (
    ArrayDataset,
    CenterCrop,
    ColourNoise,
    Compose,
    DataLoader,
    ImageFolder,
    Mirror,
    RandomCrop,
    Resize,
    Scale,
    Subset,
    SubtractMean,
    TenCrop,
)


def numbered(count=10):
    """A data set of images that carry their own number, labelled number % 3."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 1))
    return ArrayDataset(images, np.arange(count) % 3, ["a", "b", "c"])


def noise(count=20, size=16):
    """A data set of images in which every pixel differs from its neighbours."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ArrayDataset(images, np.arange(count) % 3, ["a", "b", "c"])


class Slow:
    """A data set whose first image takes longest, so that batches are ready in the wrong order."""

    def __init__(self, whole):
        self.whole, self.labels, self.classes = whole, whole.labels, whole.classes

    def __len__(self):
        return len(self.whole)

    def __getitem__(self, index):
        time.sleep(0.02 if index < 2 else 0)
        return self.whole[index]


class Broken(Slow):
    def __getitem__(self, index):
        if index == 5:
            raise ZeroDivisionError("image 5 is broken")
        return self.whole[index]


def epoch(loader):
    """Every batch of the next epoch as arrays."""
    return [(images.numpy(), labels.numpy()) for images, labels in loader]


def numbers(loader):
    return [images[:, 0, 0, 0].astype(int).tolist() for images, _ in epoch(loader)]


def order(loader):
    return [number for batch in numbers(loader) for number in batch]


def assert_same(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert np.array_equal(images, other_images) and np.array_equal(labels, other_labels)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("minidl-data")]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def assert_no_threads_left():
    gc.collect()
    wait_until(lambda: not loader_threads())


def test_batches_are_in_order_with_the_types_of_a_network(device):
    loader = DataLoader(numbered(), batch_size=4)
    assert len(loader) == 3
    batches = epoch(loader)
    assert [images.shape for images, _ in batches] == [(4, 2, 2, 1), (4, 2, 2, 1), (2, 2, 2, 1)]
    assert all(images.dtype == np.float32 and labels.dtype == np.int64 for images, labels in batches)
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0]]
    assert numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_drop_last_leaves_out_the_short_batch():
    loader = DataLoader(numbered(), batch_size=4, drop_last=True)
    assert len(loader) == 2 and numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    even = DataLoader(numbered(), batch_size=5, drop_last=True)
    assert len(even) == 2 == len(numbers(even))
    assert len(DataLoader(numbered(), batch_size=10, drop_last=True)) == 1


def test_every_epoch_is_a_new_shuffle_of_every_image():
    loader = DataLoader(numbered(100), batch_size=7, shuffle=True, seed=3)
    orders = [order(loader) for _ in range(3)]
    assert all(sorted(numbers) == list(range(100)) for numbers in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(100))
    assert all(batch != sorted(batch) for batch in numbers(loader)[:-1])
    assert order(DataLoader(numbered(100), batch_size=7, shuffle=True, seed=4)) != orders[0]
    assert all(label == image[0, 0, 0] % 3 for batch in epoch(loader) for image, label in zip(*batch, strict=True))


def test_seed_and_epoch_decide_everything(device):
    def loader(seed=3):
        images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
        dataset = ArrayDataset(images, np.zeros(100, int), ["only"])
        transform = Compose([RandomCrop(6), Mirror()])
        return DataLoader(dataset, batch_size=30, shuffle=True, transform=transform, seed=seed)

    continued = loader()
    first, second, third = epoch(continued), epoch(continued), epoch(continued)
    resumed = loader()
    resumed.set_epoch(2)
    assert resumed.epoch == 2
    assert_same(third, epoch(resumed))
    assert resumed.epoch == 3
    resumed.set_epoch(0)
    assert_same(first, epoch(resumed))
    assert_same(second, epoch(resumed))
    assert not np.array_equal(epoch(loader(seed=4))[0][0], first[0][0])


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4])
def test_an_epoch_goes_on_from_any_batch(device, batch):
    def loader():
        transform = Compose([RandomCrop(2, padding=2), Mirror()])
        return DataLoader(numbered(20), batch_size=6, shuffle=True, transform=transform, seed=3)

    whole, resumed = loader(), loader()
    first, second = epoch(whole), epoch(whole)
    resumed.set_epoch(0, batch)
    assert len(resumed) == 4  # an epoch has as many batches as ever
    assert_same(first[batch:], epoch(resumed))
    assert_same(second, epoch(resumed))
    resumed.set_epoch(1, batch)
    assert_same(second[batch:], epoch(resumed))
    assert resumed.epoch == 2


def test_results_do_not_depend_on_threads_or_timing(device):
    transform = Compose([RandomCrop(2, padding=2), Mirror()])

    def batches(dataset, prefetch):
        return epoch(DataLoader(dataset, batch_size=2, shuffle=True, transform=transform, prefetch=prefetch))

    expected = batches(numbered(20), 1)
    assert_same(expected, batches(numbered(20), 4))
    assert_same(expected, batches(Slow(numbered(20)), 4))


def test_each_batch_has_the_generator_of_its_seed_epoch_and_number(device):
    drawn = []

    def transform(images, rng):
        drawn.append(rng.random())
        return images

    loader = DataLoader(numbered(), batch_size=5, shuffle=True, transform=transform, seed=7, prefetch=1)
    epoch(loader)
    epoch(loader)
    assert drawn == [np.random.default_rng([7, number, batch]).random() for number in (0, 1) for batch in (0, 1)]


def test_the_shuffle_is_independent_of_the_first_batch():
    """NumPy takes the seeds [7, 0] and [7, 0, 0] for the same: batch 0 would draw the numbers of the shuffle again."""
    shuffled = order(DataLoader(numbered(100), batch_size=100, shuffle=True, seed=7))
    assert shuffled != np.random.default_rng([7, 0, 0]).permutation(100).tolist()


def test_two_iterations_at_once_do_not_disturb_each_other():
    loader = DataLoader(numbered(), batch_size=4)
    pairs = list(zip(loader, loader, strict=True))
    assert all(np.array_equal(first[0].data, second[0].data) for first, second in pairs) and len(pairs) == 3


def test_no_more_than_prefetch_batches_are_made_ahead():
    made = []

    def transform(images, rng):
        made.append(len(images))
        return images

    batches = iter(DataLoader(numbered(100), batch_size=1, transform=transform, prefetch=3))
    assert made == []  # nothing starts before it is wanted
    for taken in range(1, 5):
        next(batches)
        wait_until(lambda taken=taken: len(made) >= taken + 3)
        time.sleep(0.02)
        assert len(made) == taken + 3


def test_errors_surface_with_type_and_message_where_the_batch_would_have_come(device):
    batches = iter(DataLoader(Broken(numbered()), batch_size=2))
    next(batches)
    next(batches)
    with pytest.raises(ZeroDivisionError, match="image 5 is broken"):
        next(batches)
    assert_no_threads_left()


def test_errors_of_a_transform_surface(device):
    def transform(images, rng):
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        epoch(DataLoader(numbered(), batch_size=2, transform=transform))


def test_leaving_a_loop_leaves_no_thread():
    for _ in DataLoader(numbered(), batch_size=1, prefetch=3):
        break
    assert_no_threads_left()
    epoch(DataLoader(numbered(), batch_size=1, prefetch=3))
    assert_no_threads_left()


def test_leaving_a_loop_cancels_what_is_not_begun(monkeypatch):
    made = []

    def transform(images, rng):
        made.append(len(images))
        time.sleep(0.1)
        return images

    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one thread, so the others of the 9 batches are waiting
    for _ in DataLoader(numbered(), batch_size=1, transform=transform, prefetch=8):
        break
    assert_no_threads_left()
    assert len(made) < 9


def test_a_program_that_leaves_an_iteration_open_ends():
    program = """
import time
import numpy as np
from minidl.data import ArrayDataset, DataLoader
dataset = ArrayDataset(np.zeros((1000, 2, 2, 1), np.uint8), np.zeros(1000, int), ["only"])
batches = iter(DataLoader(dataset, 1, transform=lambda images, rng: (time.sleep(0.05), images)[1]))
next(batches)
print("end")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout == "end\n" and result.stderr == ""


def test_a_folder_of_images_is_loaded(tmp_path):
    for number in range(6):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.new("RGB", (8 + number, 9), (number, 0, 0)).save(tmp_path / str(number % 2) / f"{number}.png")
    loader = DataLoader(ImageFolder(tmp_path, size=8), batch_size=4)
    (images, labels), (rest, _) = epoch(loader)
    assert images.shape == (4, 8, 8, 3) and rest.shape == (2, 8, 8, 3)
    assert images[:, 0, 0, 0].tolist() == [0, 2, 4, 1] and labels.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"a batch has images of different shapes.*\(9, 8, 3\).*ImageFolder.*size="):
        epoch(DataLoader(ImageFolder(tmp_path), batch_size=4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2, "prefetch": 0}, "prefetch is 0"),
        ({"batch_size": 2, "seed": -1}, "seed is -1"),
        ({"batch_size": 11, "drop_last": True}, "batch_size 11 with drop_last leaves no batch of 10 images"),
        ({"batch_size": 2, "dataset": Subset(numbered(), [])}, "the data set is empty"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(**{"dataset": numbered(), **arguments})


def test_set_epoch_is_checked():
    with pytest.raises(ValueError, match="epoch is -1"):
        DataLoader(numbered(), batch_size=2).set_epoch(-1)
    for batch in (-1, 6):
        with pytest.raises(ValueError, match=rf"batch is {batch}; expected 0\.\.5: an epoch of this loader has 5 batches"):
            DataLoader(numbered(), batch_size=2).set_epoch(0, batch)


def test_bfloat16(device):
    """The same images, rounded after the last transform."""
    wide, narrow = (
        DataLoader(numbered(), batch_size=4, transform=Scale(1 / 3), dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    for (images, labels), (rounded, same) in zip(wide, narrow, strict=True):
        assert rounded.dtype.name == "bfloat16" and rounded.device == images.device
        assert rounded.numpy().tolist() == images.astype("bfloat16").numpy().tolist() != images.numpy().tolist()
        assert labels.numpy().tolist() == same.numpy().tolist()


def test_the_dtype_can_be_left_as_it_is(device):
    (images, _), *_ = epoch(DataLoader(numbered(), batch_size=4, transform=CenterCrop(1), dtype=None))
    assert images.dtype == np.uint8 and images.tolist() == np.arange(4).reshape(4, 1, 1, 1).tolist()
    (images, _), *_ = epoch(DataLoader(numbered(), batch_size=4, transform=Scale(0.5), dtype=None))
    assert images.dtype == np.float32


def test_a_data_set_may_hand_out_whole_batches():
    class Whole(Slow):
        def __getitem__(self, index):
            raise AssertionError("image by image")

        def batch(self, indices):
            return self.whole.batch(indices)

    def batches(dataset):
        return epoch(DataLoader(dataset, batch_size=3, shuffle=True, seed=2))

    assert_same(batches(Whole(numbered())), batches(Slow(numbered())))
    chosen = [7, 2, 2, 9, 0]
    assert_same(batches(Subset(Whole(numbered()), chosen)), batches(Subset(Slow(numbered()), chosen)))
    assert Subset(Slow(numbered()), chosen).batch is None


def test_a_batch_is_a_copy():
    dataset = numbered()
    images, _ = next(iter(DataLoader(dataset, batch_size=10, dtype=None)))
    assert not np.shares_memory(images.data, dataset.images)


# Batches for a GPU: read by the threads, transformed on the GPU

MEAN = np.random.default_rng(1).random((16, 16, 3)) * 255
PIPELINES = {  # made anew for each test: the mean stays on a device
    "nothing": lambda: None,
    "places": lambda: Compose([RandomCrop(12, padding=2), Mirror()]),
    "places together": lambda: Compose([RandomCrop(12, together=3), Mirror(together=3)]),
    "ten crops": lambda: TenCrop(12),
    "everything": lambda: Compose(
        [SubtractMean(MEAN), RandomCrop(12), Mirror(), ColourNoise(np.diag([900.0, 2500.0, 400.0])), Resize(9), Scale(1 / 60)]
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dtype", ["float32", None])
def test_a_seed_means_the_same_images_on_every_device(device, name, dtype):
    def batches(where):
        return epoch(DataLoader(noise(), 6, shuffle=True, transform=PIPELINES[name](), seed=4, device=where, dtype=dtype))

    for (images, labels), (expected, expected_labels) in zip(batches(device), batches("cpu"), strict=True):
        assert images.dtype == expected.dtype and np.array_equal(labels, expected_labels)
        if name == "everything":
            np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-5)
        else:
            assert np.array_equal(images, expected)


def test_only_bytes_travel_to_a_gpu(monkeypatch):
    moved = []
    original = standin_cupy.functions.array

    def array(obj, *arguments, **named):
        if isinstance(obj, np.ndarray) and obj.ndim:
            moved.append(obj)
        return original(obj, *arguments, **named)

    monkeypatch.setattr(standin_cupy.functions, "array", array)
    with standin_cupy.install(), standin_cupy.count_transfers() as count:
        loader = DataLoader(noise(), 5, transform=PIPELINES["everything"](), device="gpu")
        batches = list(loader)
    assert len(moved) == count.to_device  # none was overlooked
    assert count.to_host == 0
    assert [images.shape for images, _ in batches] == [(5, 9, 9, 3)] * 4 and batches[0][0].dtype == np.float32
    whole = [array for array in moved if array.shape == (5, 16, 16, 3)]
    assert len(whole) == 4 and all(array.dtype == np.uint8 for array in whole)
    (mean,) = [array for array in moved if array.shape == MEAN.shape]
    rest = sum(array.nbytes for array in moved) - sum(array.nbytes for array in whole) - mean.nbytes
    assert rest < 4 * 1500  # places, colours, the matrices of Resize, labels


def test_threads_put_images_where_a_gpu_fetches_them_itself(monkeypatch):
    found = []
    with standin_cupy.install() as cupy:
        pinned = cupy.cuda.alloc_pinned_memory

        def alloc(size):
            found.append((size, threading.current_thread().name.rstrip("0123456789")))
            return pinned(size)

        monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", alloc)
        (images, _), *_ = DataLoader(numbered(), 4, device="gpu")
        assert found[0] == (images.size, "minidl-data_")


@pytest.mark.parametrize("gpu", ["cpu", "gpu:0", "gpu:1"])
def test_the_transform_gets_arrays_of_the_device_of_the_batch(gpu):
    """In a thread for the CPU; for a GPU where the batch is asked for, with that GPU the current one."""
    found = []

    def transform(images, rng):
        xp = backend.get_array_module(images)
        found.append((backend.device_of(images), images.dtype, threading.current_thread() is threading.main_thread()))
        return images + xp.ones((1, 1, 1, 1), xp.uint8)  # fails on any other GPU than the current one

    with standin_cupy.install(), standin_cupy.pretend_devices(2):
        loader = DataLoader(numbered(), 4, transform=transform, device=gpu)
        batches = list(loader)
        assert {tensor.device for pair in batches for tensor in pair} == {gpu}
        assert [images.numpy()[:, 0, 0, 0].tolist() for images, _ in batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert found == [(gpu, np.uint8, gpu != "cpu")] * 3


def test_a_second_gpu_gets_the_same_images():
    def batches(where):
        return epoch(DataLoader(noise(), 6, transform=PIPELINES["everything"](), device=where))

    with standin_cupy.install(), standin_cupy.pretend_devices(2):
        for (images, _), (expected, _) in zip(batches("gpu:1"), batches("cpu"), strict=True):
            np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-5)
