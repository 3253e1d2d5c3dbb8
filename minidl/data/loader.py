"""From a data set to batches of Tensors, made ahead of the training loop by a few threads."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from minidl.backend import canonical_device, get_array_module, get_default_device, on_device, staged, to_device
from minidl.data.dataset import Dataset
from minidl.data.decode import UndecodableImage
from minidl.data.failures import MAX_FAILURES, Failure, Failures
from minidl.data.transforms import Images, Transform
from minidl.dtypes import as_dtype
from minidl.tensor import Tensor, wrap

Arrays = tuple[Images, NDArray[np.int64]]


class DataLoader:
    """Iterate over (images, labels): Tensors (N, H, W, C) and (N,) int64. Every iteration is one epoch.

    batch_size: images in a batch; the last batch is shorter if they do not come out even, or left out with `drop_last`.
    shuffle: a new order in each epoch.
    transform: ``transform(images, rng)`` for a whole batch (N, H, W, C) of uint8, see `minidl.data.transforms`. `images` is an
        array of the device on which the batch will be: CuPy's for a GPU, so that only bytes have to move there.
    seed: decides order and transforms, together with the numbers of epoch and batch; threads, timing and device do not matter.
    device: where the Tensors are made, such as "gpu"; by default minidl's default device when the iteration begins.
    prefetch: batches made ahead, each by a thread of its own: transformed for the CPU, only read for a GPU, which transforms a
        batch when it is asked for. To decode large photographs for a fast GPU, ask for one batch for each processor core; each
        costs the memory of a batch.
    max_failures: the share of the data set that may be undecodable files. Each is named in a warning of Python's logger
        "minidl.data" and in `failures`. With `shuffle`, for training, the next image of the data set that can be decoded
        takes its place, and batches stay whole; without, for testing, it is left out, and the batch is shorter: see `kept`.
        One file is tolerated even in the smallest data set; with 0, for where every image counts, the first one is an error.
    dtype: what the images are converted to in the end, also "bfloat16" to compute with it; None leaves them as data set and
        transform give them, such as bytes, which take a quarter of the memory.

    Errors of data set and transform are raised when the batch is asked for. Raises ValueError for arguments that leave no
    batch, for images of different shapes in a batch, and for more undecodable files than `max_failures`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
        drop_last: bool = False,
        device: str | None = None,
        prefetch: int = 2,
        max_failures: float = MAX_FAILURES,
        dtype: str | None = "float32",
    ) -> None:
        if batch_size < 1 or prefetch < 1:
            raise ValueError(f"batch_size is {batch_size}, prefetch is {prefetch}; expected at least 1 of each")
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or more")
        if not len(dataset):
            raise ValueError("the data set is empty; there is nothing to load")
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"batch_size {batch_size} with drop_last leaves no batch of {len(dataset)} images; take a smaller one"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.transform = transform
        self.seed = seed
        self.drop_last = drop_last
        self.device = device
        self.prefetch = prefetch
        self.dtype = None if dtype is None else as_dtype(dtype)
        self.epoch = 0  # the number of the next epoch
        self.first_batch = 0  # the number of the batch at which it starts
        self._failures = Failures(len(dataset), max_failures)

    @property
    def failures(self) -> list[Failure]:
        """The images that could not be decoded so far, in the order of the data set."""
        return self._failures.in_order()

    @property
    def kept(self) -> NDArray[np.int64]:
        """The indices of the images that are not in `failures`: after an epoch without `shuffle`, of the images that it had."""
        return np.setdiff1d(np.arange(len(self.dataset)), [failure.index for failure in self.failures])

    def __len__(self) -> int:
        """The number of batches in an epoch; one without a single decodable image will be missing."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """The next iteration is epoch number `epoch`, from its batch number `batch` on (both from 0).

        It yields what an uninterrupted run would have yielded from there on; the epochs after it are whole. Raises
        ValueError for an epoch or a batch that does not exist; `batch` may be ``len(loader)``, with nothing left to do.
        """
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected 0 or more")
        if not 0 <= batch <= len(self):
            raise ValueError(f"batch is {batch}; expected 0..{len(self)}: an epoch of this loader has {len(self)} batches")
        self.epoch, self.first_batch = epoch, batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, first = self.epoch, self.first_batch
        self.epoch, self.first_batch = epoch + 1, 0
        return self._iterate(epoch, first)

    def _iterate(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order(epoch)
        device = canonical_device(self.device or get_default_device())
        ahead: deque[tuple[int, Future[Arrays | None]]] = deque()
        pool = ThreadPoolExecutor(min(self.prefetch, os.cpu_count() or 1), thread_name_prefix="minidl-data")
        try:
            for number in range(first, len(self)):
                ahead.append((number, pool.submit(self._make_batch, order, epoch, number, device)))
                if len(ahead) > self.prefetch:
                    yield from self._to_tensors(*ahead.popleft(), epoch, device)
            while ahead:
                yield from self._to_tensors(*ahead.popleft(), epoch, device)
        finally:  # also reached when the caller leaves its loop early
            pool.shutdown(wait=False, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        # NumPy pads seeds with zeros: without the spawn key, this would be the generator of batch 0.
        seed = np.random.SeedSequence([self.seed, epoch], spawn_key=(0,))
        return np.random.default_rng(seed).permutation(len(self.dataset))

    def _make_batch(self, order: NDArray[np.int64], epoch: int, number: int, device: str) -> Arrays | None:
        """In a thread: a batch on the host, ready for the CPU; for a GPU as it was read. None if there is no image in it."""
        indices = order[number * self.batch_size : (number + 1) * self.batch_size]
        batch = getattr(self.dataset, "batch", None) or self._one_by_one
        found = batch(indices)
        if found is None:
            return None
        images, labels = found
        if device == "cpu":
            images = self._transformed(images, epoch, number)
        else:
            images = staged(images, device)
        return images, np.asarray(labels, np.int64)

    def _transformed(self, images: Images, epoch: int, number: int) -> Images:
        if self.transform is not None:
            images = self.transform(images, np.random.default_rng([self.seed, epoch, number]))
        return get_array_module(images).ascontiguousarray(images, self.dtype)

    def _one_by_one(self, indices: NDArray[np.int64]) -> Arrays | None:
        found = (self._decodable(int(index)) for index in indices)
        items = [item for item in found if item is not None]
        if not items:
            return None
        shapes = {image.shape for image, _ in items}
        if len(shapes) > 1:
            raise ValueError(
                f"a batch has images of different shapes, such as {sorted(shapes)[:2]}; "
                "bring them to one with ImageFolder(..., size=...)"
            )
        return np.stack([image for image, _ in items]), np.array([label for _, label in items], np.int64)

    def _decodable(self, index: int) -> tuple[NDArray[np.uint8], int] | None:
        """The item at `index` or, where that cannot be decoded, None or the next that can: the same in every run."""
        while True:
            if index not in self._failures:
                try:
                    return self.dataset[index]
                except UndecodableImage as error:
                    self._failures.add(index, error)
            self._failures.check()  # so the search ends: at the latest when all have failed
            if not self.shuffle:
                return None
            index = (index + 1) % len(self.dataset)

    def _to_tensors(self, number: int, batch: Future[Arrays | None], epoch: int, device: str) -> list[tuple[Tensor, Tensor]]:
        """The batch, or nothing if there is no image in it."""
        found = batch.result()
        if found is None:
            return []
        images, labels = (to_device(array, device) for array in found)
        if device != "cpu":
            with on_device(device):  # not in a thread: the GPU works by itself anyway, and so all kernels are in one stream
                images = self._transformed(images, epoch, number)
        return [(wrap(images), wrap(labels))]  # nobody else has these: no copy
