"""From a data set to batches of Tensors, made ahead of the training loop by a few threads."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset
from minidl.data.transforms import Transform
from minidl.tensor import Tensor

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


class DataLoader:
    """Iterate over (images, labels): Tensors (N, H, W, C) float32 and (N,) int64. Every iteration is one epoch.

    batch_size: images a batch; the last one is shorter if they do not come out even, or left out with `drop_last`.
    shuffle: a new order each epoch.
    transform: ``transform(images, rng)`` for a whole batch (N, H, W, C) of uint8, see `minidl.data.transforms`.
    seed: decides order and transforms, together with the epoch's number and the batch's; threads and timing do not.
    device: where the Tensors are made, such as "gpu"; by default minidl's default device.
    prefetch: batches made ahead, each by a thread of its own. Decoding large photographs for a fast GPU, ask for one
        a processor core: each costs the memory of a batch.

    Errors of data set and transform are raised where the batch would have come. Raises ValueError for arguments that
    leave no batch, and for images of different shapes in a batch.
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
        self.epoch = 0  # the number of the next epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch number `epoch` (from 0): resumed training sees what it would have seen."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected 0 or more")
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._iterate(epoch)

    def _iterate(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order(epoch)
        ahead: deque[Future[Arrays]] = deque()
        pool = ThreadPoolExecutor(min(self.prefetch, os.cpu_count() or 1), thread_name_prefix="minidl-data")
        try:
            for number in range(len(self)):
                ahead.append(pool.submit(self._make_batch, order, epoch, number))
                if len(ahead) > self.prefetch:
                    yield self._to_tensors(ahead.popleft())
            while ahead:
                yield self._to_tensors(ahead.popleft())
        finally:  # also reached when the caller leaves its loop early
            pool.shutdown(wait=False, cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        # NumPy pads seeds with zeros: without the spawn key, this would be the generator of batch 0.
        seed = np.random.SeedSequence([self.seed, epoch], spawn_key=(0,))
        return np.random.default_rng(seed).permutation(len(self.dataset))

    def _make_batch(self, order: NDArray[np.int64], epoch: int, number: int) -> Arrays:
        indices = order[number * self.batch_size : (number + 1) * self.batch_size]
        items = [self.dataset[int(index)] for index in indices]
        shapes = {image.shape for image, _ in items}
        if len(shapes) > 1:
            raise ValueError(
                f"batch {number} has images of different shapes, such as {sorted(shapes)[:2]}; "
                "bring them to one with ImageFolder(..., size=...)"
            )
        images = np.stack([image for image, _ in items])
        if self.transform is not None:
            images = self.transform(images, np.random.default_rng([self.seed, epoch, number]))
        return images.astype(np.float32, copy=False), np.array([label for _, label in items], np.int64)

    def _to_tensors(self, batch: Future[Arrays]) -> tuple[Tensor, Tensor]:
        images, labels = batch.result()
        return Tensor(images, device=self.device), Tensor(labels, device=self.device)
