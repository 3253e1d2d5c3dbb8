"""Lesson 21: pieces, one buffer, two workers, and a CUDA kernel, which runs thread by thread in Python before it may run on a GPU."""

import threading
import time
import tracemalloc
from collections import Counter
from functools import partial

import numpy as np

from lessons import cuda
from lessons.checking import Mutant, Wrong, at_most, is_a, same
from minidl.backend import get_array_module, to_device

# pieces


def _tidy(what, got, images, rows):
    """The pieces as ((first image, end), (first row, end)); each place of the output must be in one of them, once."""
    is_a(what, got, (list, tuple))
    found = []
    covered = np.zeros((images, rows), int)
    for piece in got:
        is_a(f"{what}: a piece", piece, tuple)
        if len(piece) != 2 or not all(isinstance(part, slice) for part in piece):
            raise Wrong(f"{what}: a piece is {piece!r}, but it should be (slice of the images, slice of the rows).")
        some, band = piece
        found.append((some.indices(images)[:2], band.indices(rows)[:2]))
        covered[piece] += 1
    if not (covered == 1).all():
        image, row = (int(n) for n in np.argwhere(covered != 1)[0])
        times = int(covered[image, row])
        how = "is in no piece. Are the last ones lost?" if not times else f"is in {times} pieces."
        raise Wrong(f"{what}: output row {row} of image {image} {how}")
    return found


def check_whole_images(lesson):
    """pieces: as many whole images as fit"""
    what = "pieces(5, 4, 100, 850), where an image takes 400 bytes"
    found = _tidy(what, lesson.pieces(5, 4, 100, 850), 5, 4)
    if any(end - start > 2 for (start, end), _ in found):
        raise Wrong(f"{what}: a piece has more than 2 images; these take more than 850 bytes.")
    if len(found) != 3:
        raise Wrong(f"{what}: {len(found)} pieces instead of 3. Two images fit into a piece: 0 and 1, 2 and 3, and 4 alone.")


def check_bands(lesson):
    """pieces: rows of one image, where a whole one does not fit"""
    what = "pieces(2, 5, 100, 250), where an image takes 500 bytes"
    found = _tidy(what, lesson.pieces(2, 5, 100, 250), 2, 5)
    if any(end - start > 1 for (start, end), _ in found):
        raise Wrong(f"{what}: a piece has rows of several images. These do not lie side by side in memory: one image at a time.")
    if any(end - start > 2 for _, (start, end) in found):
        raise Wrong(f"{what}: a piece has more than 2 rows; these take more than 250 bytes.")
    if len(found) != 6:
        raise Wrong(
            f"{what}: {len(found)} pieces instead of 6. Two rows fit into a piece, so an image is cut into 2, 2 and 1 rows."
        )


def check_at_least_one(lesson):
    """pieces: at least one row, however small the chunk"""
    what = "pieces(2, 3, 100, 60), where one row takes more than a chunk"
    try:
        found = lesson.pieces(2, 3, 100, 60)
    except (ValueError, ZeroDivisionError) as error:
        raise Wrong(
            f"{what}: {type(error).__name__}: {error}. No row fits, and a step of 0 gets nowhere: take at least 1."
        ) from None
    same(f"{what}: how many", len(_tidy(what, found, 2, 3)), 6)


# convolve_piece


def _layer(seed=0, images=4, side=9, kernel=3, channels=4, outputs=5):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, side, side, channels), np.float32)
    return x, rng.standard_normal((kernel, kernel, channels, outputs), np.float32)


def _convolved(x, weight):
    """By loops over the window."""
    kernel = len(weight)
    rows, columns = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    return sum(x[:, i : i + rows, j : j + columns] @ weight[i, j] for i in range(kernel) for j in range(kernel))


def check_one_piece(lesson):
    """convolve_piece: writes its piece, and nothing else"""
    x, weight = _layer()
    view, matrix = lesson.windows(x, 3), weight.reshape(-1, 5)
    want = _convolved(x, weight)
    for piece in ((slice(1, 3), slice(0, 7)), (slice(2, 3), slice(4, 7))):
        y = np.full(want.shape, 77, np.float32)
        buffer = np.full(view[piece].size, np.nan, np.float32)
        lesson.convolve_piece(view, matrix, y, piece, buffer)
        expected = np.full(want.shape, 77, np.float32)
        expected[piece] = want[piece]
        mistakes = {"nothing has been written into y. Is the result of the product put into `target`?": np.full_like(y, 77)}
        about = f"y after convolve_piece(..., piece={piece}) where y was 77 everywhere"
        same(about, y, expected, 1e-4, 1e-4, mistakes=mistakes)
        used = np.isfinite(buffer).mean()
        if not used:
            raise Wrong(
                "convolve_piece: the result is right, but `buffer` was not touched.\n"
                "Likely cause: `.reshape` of the view has copied the patches into new memory. Reshape the buffer: it has no gaps."
            )
        wanted, got = np.sort(view[piece], axis=None), np.sort(buffer)
        same("the numbers in the buffer after convolve_piece, sorted", got, wanted)


def check_larger_buffer(lesson):
    """convolve_piece: the last piece is smaller than the buffer"""
    x, weight = _layer(1)
    view, matrix = lesson.windows(x, 3), weight.reshape(-1, 5)
    want = _convolved(x, weight)
    y = np.zeros(want.shape, np.float32)
    piece = slice(3, 4), slice(0, 7)
    buffer = np.full(2 * view[piece].size + 11, np.nan, np.float32)
    try:
        lesson.convolve_piece(view, matrix, y, piece, buffer)
    except ValueError as error:
        raise Wrong(
            f"convolve_piece, with a buffer of {buffer.size} numbers for {view[piece].size} patch entries: {error}.\n"
            "Likely cause: the whole buffer is taken; the last piece needs only its beginning, buffer[: patches.size]."
        ) from None
    same("y of the last piece", y[piece], want[piece], 1e-4, 1e-4)
    if not np.isfinite(buffer[: view[piece].size]).all():
        raise Wrong("convolve_piece: the patches do not lie in the beginning of the buffer.")


def check_memory(lesson):
    """convolve_piece: the memory stays small"""
    x, weight = _layer(2, images=2, side=40, channels=16, outputs=4)
    view, matrix = lesson.windows(x, 3), weight.reshape(-1, 4)
    piece = slice(0, 2), slice(0, 38)
    y, buffer = np.zeros((2, 38, 38, 4), np.float32), np.empty(view[piece].size, np.float32)
    tracemalloc.start()
    try:
        lesson.convolve_piece(view, matrix, y, piece, buffer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    why = "The patches are copied into new memory besides the buffer: a `.reshape` of something with gaps, or an operation without `out`?"
    at_most("the bytes that convolve_piece allocates (its patches take 1.66 MB)", peak, buffer.nbytes / 2, why)


# in_pool


def check_each_once(lesson):
    """in_pool: every piece once"""
    for count, workers in ((7, 2), (5, 3), (1, 2)):
        done, lock = Counter(), threading.Lock()

        def task(worker, piece, done=done, lock=lock):
            with lock:
                done[piece] += 1

        lesson.in_pool(task, list(range(count)), workers)
        what = f"in_pool(task, {count} pieces, workers={workers}): how many times each piece is done"
        mistakes = {
            "only one of the workers is sent to work.": [1 if i % workers == w else 0 for i in range(count) for w in [0]],
            "no worker is sent to work: pool.submit(share, worker).": [0] * count,
            "all of them are told that they are worker 0.": [0 if i % workers else workers for i in range(count)],
            "the workers are counted from 1; they are 0 ... workers - 1.": [int(i > 0) for i in range(count)],
            "each worker does everything: share(worker) takes only the pieces of one.": [workers] * count,
        }
        same(what, [done[i] for i in range(count)], [1] * count, mistakes=mistakes)


def check_at_the_same_time(lesson):
    """in_pool: the workers are at it at the same time"""
    meeting = threading.Barrier(2)
    alone = []

    def task(worker, piece):
        if piece < 2:
            try:
                meeting.wait(timeout=1.5)
            except threading.BrokenBarrierError:
                alone.append(worker)

    lesson.in_pool(task, list(range(6)), 2)
    if alone:
        raise Wrong(
            "in_pool: the first piece of each worker waited for the other one's, and nobody came: they run one after the other.\n"
            "Likely cause: `.result()` waits, so first submit all, keep the futures in a list, and then ask each for its result. (Or "
            "`share(worker)` is called on the spot: submit takes the function and its argument apart, submit(share, worker).)"
        )


def check_own_buffers(lesson):
    """in_pool: a worker does one piece at a time"""
    busy, clashes, strangers, lock = set(), [], set(), threading.Lock()

    def task(worker, piece):
        with lock:
            if worker in busy:
                clashes.append(worker)
            if worker not in (0, 1):
                strangers.add(worker)
            busy.add(worker)
        time.sleep(0.005)
        with lock:
            busy.discard(worker)

    lesson.in_pool(task, list(range(8)), 2)
    if strangers:
        raise Wrong(f"in_pool(task, 8 pieces, workers=2): there is a worker {min(strangers)}; they are 0 and 1.")
    if clashes:
        raise Wrong(
            f"in_pool: two threads worked at the same time, and both said that they are worker {clashes[0]}: they share a buffer, and "
            "each spoils the patches of the other.\nLikely cause: the same number is submitted twice; it should be 0, 1, ..."
        )


def check_failures(lesson):
    """in_pool: a piece that fails is heard of"""

    class Planted(Exception):
        pass

    def task(worker, piece):
        if piece == 3:
            raise Planted

    try:
        lesson.in_pool(task, list(range(6)), 2)
    except Planted:
        return
    raise Wrong(
        "in_pool: piece 3 failed, and nobody heard of it; y would have had a hole.\n"
        "Likely cause: the exception lies in a future that nobody asks. Call `.result()` of each."
    )


def check_whole_convolution(lesson):
    """in_pool: the whole convolution, equal to the plain one"""
    x, weight = _layer(3, images=7)
    want = _convolved(x, weight)
    row_bytes = 7 * 3 * 3 * 4 * 4
    for chunk in (1, 3 * row_bytes, 7 * row_bytes, 15 * row_bytes, 1 << 24):
        alone = lesson.convolve(x, weight, chunk)
        same(f"convolve(x, weight, {chunk})", alone, want, 1e-4, 1e-4)
        several = lesson.convolve(x, weight, chunk, lesson.in_pool, 3)
        if not np.array_equal(alone, several):
            raise Wrong(f"convolve(x, weight, {chunk}) with 3 workers is not, to the last bit, what one makes of it.")


# The GPU


def _run_kernel(lesson, y, bias, device, blocks=None, threads=8):
    """y after the learner's kernel: thread by thread, and then on the GPU. A kernel that leaves its array never gets there."""
    source = lesson.bias_relu_source()
    if not isinstance(source, str):
        raise Wrong(f"bias_relu_source() returns {type(source).__name__} instead of a string.")
    blocks = blocks or -(-y.size // threads)
    by_hand = y.copy()
    outside = {"y": "Is `if (i < size)` missing or not right?", "bias": "There is one bias for each channel."}
    cuda.launch(source, "add_bias_relu", blocks, threads, [bias, by_hand, y.size, bias.size], outside)
    if device == "cpu":
        return by_hand
    y, bias = to_device(y, device), to_device(bias, device)
    xp = get_array_module(y)
    try:
        kernel = xp.RawKernel(source, "add_bias_relu")
        kernel((blocks,), (threads,), (bias, y, y.size, bias.size))
    except Exception as error:  # CuPy has exceptions of its own for what the compiler says
        raise Wrong("The compiler says:\n" + "\n".join(str(error).strip().splitlines()[:6])) from None
    return to_device(y, "cpu")


def _readings(y, bias):
    """What one gets by making a mistake."""
    channels = bias.size
    flat = y.reshape(-1)
    i = np.arange(flat.size)
    relu = partial(np.maximum, 0)
    return {
        "the bias is not added.": relu(y),
        "the bias is added, but what is below 0 stays below 0.": y + bias,
        "first max(y, 0), then the bias: it belongs inside.": relu(y) + bias,
        "it is min where it should be max.": np.minimum(0, y + bias),
        "`i / channels` is the number of the pixel; the channel is what remains, `i % channels`.": relu(
            flat + bias[np.minimum(i // channels, channels - 1)]
        ).reshape(y.shape),
        "every element gets the bias of channel 0.": relu(y + bias[0]),
        "nothing has been written: `y[i] = ...`.": y,
    }


def check_kernel(lesson, device):
    """bias_relu_source: one element each, in several blocks"""
    rng = np.random.default_rng(5)
    y = rng.standard_normal((2, 4, 3), np.float32)
    bias = np.array([0.5, -0.75, 1.5], np.float32)
    got = _run_kernel(lesson, y, bias, device)
    mistakes = _readings(y, bias)
    first_block = y.copy()
    first_block.reshape(-1)[:8] = np.maximum(0, y + bias).reshape(-1)[:8]
    mistakes["only the first block has done anything: i = blockIdx.x * blockDim.x + threadIdx.x."] = first_block
    one_each = y.copy()
    one_each.reshape(-1)[:3] = np.maximum(0, y + bias).reshape(-1)[:3]
    mistakes["each block has done one element: `threadIdx.x` is missing."] = one_each
    same("y (2, 4, 3) after the kernel, 3 blocks of 8 threads", got, np.maximum(0, y + bias), mistakes=mistakes)


def check_kernel_guard(lesson, device):
    """bias_relu_source: more threads than elements"""
    rng = np.random.default_rng(6)
    y = rng.standard_normal((1, 7, 5), np.float32)
    bias = rng.standard_normal(5).astype(np.float32)
    got = _run_kernel(lesson, y, bias, device, blocks=5)
    same("y (1, 7, 5) after the kernel, blocks of 8 threads", got, np.maximum(0, y + bias), mistakes=_readings(y, bias))


def check_kernel_nan(lesson, device):
    """bias_relu_source: NaN stays NaN, infinity stays infinity"""
    y = np.array([[np.nan, -1.0], [np.inf, -np.inf], [1.0, np.nan]], np.float32)
    got = np.asarray(_run_kernel(lesson, y, np.array([0.5, 0.25], np.float32), device))
    want = np.array([[np.nan, 0], [np.inf, 0], [1.5, np.nan]], np.float32)
    hidden = np.isnan(want) & ~np.isnan(got)
    if hidden.any():
        raise Wrong(
            f"Where y + bias is NaN, the kernel gives {got[hidden][0]:g}: it hides that something has gone wrong.\n"
            "Likely cause: `sum > 0 ? sum : 0` asks whether it is above, and NaN is not; so is max(sum, 0). Ask whether it is below."
        )
    same("y after the kernel, with NaN and infinity in it", np.nan_to_num(got), np.nan_to_num(want))


HINTS = {
    "pieces": (
        "There are two cases, and each needs `cut` once or twice. In both, `//` says how many fit.",
        "One fits: cut(images, chunk_bytes // image_bytes), each with all rows. None fits: cut(images, 1), each with every slice of "
        "cut(rows, the larger of 1 and chunk_bytes // row_bytes).",
        "    if image_bytes <= chunk_bytes:\n"
        "        return [(several, slice(0, rows)) for several in cut(images, ...)]\n"
        "    bands = cut(rows, max(1, ...))\n"
        "    return [(one, band) for one in ... for band in bands]",
    ),
    "convolve_piece": (
        "The beginning of the buffer, in the shape of the patches, is a view of the buffer: what you assign to it lands there.",
        "copied = the first patches.size numbers of the buffer, in the shape of patches; copied[...] = patches; then "
        "(copied with K * K * C columns) @ matrix, written into target.",
        "    copied = buffer[: ...].reshape(...)\n"
        "    copied[...] = patches\n"
        "    np.matmul(copied.reshape(-1, len(matrix)), ..., out=...)",
    ),
    "in_pool": (
        "Two loops: in the first all workers start, in the second you wait for them.",
        "futures = pool.submit(share, worker) for worker = 0 ... workers - 1; then .result() of each.",
        "        futures = [pool.submit(...) for worker in range(...)]\n        for future in futures:\n            ...",
    ),
    "bias_relu_source": (
        "Begin with the body of `relu` above. Only the line with `y[i] =` changes; keep the sum in a variable of type float.",
        "The channels lie side by side, so the channel of element i is the remainder i % channels. NaN <= 0 is false: so ask `<= 0`.",
        '    body = """\n'
        "    long long i = ...;\n"
        "    if (i < size) {\n"
        "        float sum = y[i] + bias[...];\n"
        "        y[i] = sum <= 0 ? ... : ...;\n"
        "    }\n"
        '"""',
    ),
}

WHOLE = "some = cut(images, chunk_bytes // image_bytes)"
COPY = """\
    copied = buffer[: patches.size].reshape(patches.shape)
    copied[...] = patches
    np.matmul(copied.reshape(-1, len(matrix)), matrix, out=target)
"""
FUTURES = """\
        futures = [pool.submit(share, worker) for worker in range(workers)]
        for future in futures:
            future.result()
"""
INDEX = """\
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) {
        float sum"""
RECTIFY = "y[i] = sum <= 0 ? 0 : sum;"

MUTANTS = [
    Mutant("one image at a time", WHOLE, "some = cut(images, 1)", "Two images fit into a piece"),
    Mutant("no row fits", "max(1, chunk_bytes // row_bytes)", "chunk_bytes // row_bytes", "take at least 1"),
    Mutant(
        "the last rows lost",
        "bands = cut(rows, max(1, chunk_bytes // row_bytes))",
        "step = max(1, chunk_bytes // row_bytes)\n    bands = [slice(k * step, (k + 1) * step) for k in range(rows // step)]",
        "Are the last ones lost",
    ),
    Mutant(
        "bands of all images",
        "for one in cut(images, 1) for band",
        "for one in [slice(0, images)] for band",
        "one image at a time",
    ),
    Mutant(
        "the view reshaped",
        COPY,
        "    np.matmul(patches.reshape(-1, len(matrix)), matrix, out=target)\n",
        "copied the patches into new memory",
    ),
    Mutant("the whole buffer", "buffer[: patches.size].reshape", "buffer.reshape", "only its beginning"),
    Mutant("copied twice", "copied[...] = patches", "copied[...] = patches.copy()", "into new memory besides the buffer"),
    Mutant(
        "target given a new name",
        "np.matmul(copied.reshape(-1, len(matrix)), matrix, out=target)",
        "target = copied.reshape(-1, len(matrix)) @ matrix",
        "nothing has been written into y",
    ),
    Mutant(
        "waits too early",
        FUTURES,
        "        for worker in range(workers):\n            pool.submit(share, worker).result()\n",
        "one after the other",
    ),
    Mutant(
        "never asks",
        FUTURES,
        "        for worker in range(workers):\n            pool.submit(share, worker)\n",
        "nobody heard of it",
    ),
    Mutant("one worker", FUTURES, FUTURES.replace("range(workers)", "range(1)"), "only one of the workers"),
    Mutant("no guard", "    if (i < size) {\n        float sum", "    {\n        float sum", "Is `if \\(i < size\\)` missing"),
    Mutant(
        "one element too far",
        "    if (i < size) {\n        float sum",
        "    if (i <= size) {\n        float sum",
        "y\\[35\\], but y has 35",
    ),
    Mutant("without the block", INDEX, INDEX.replace("(long long)blockIdx.x * blockDim.x + ", ""), "is written by thread"),
    Mutant("the pixel, not the channel", "bias[i % channels]", "bias[i / channels]", "There is one bias for each channel"),
    Mutant("the bias of the element", "bias[i % channels]", "bias[i]", "There is one bias for each channel"),
    Mutant("NaN hidden", RECTIFY, "y[i] = sum > 0 ? sum : 0;", "it hides that something has gone wrong"),
    Mutant("NaN hidden by max", RECTIFY, "y[i] = fmaxf(sum, 0.0f);", "it hides that something has gone wrong"),
    Mutant("ReLU forgotten", RECTIFY, "y[i] = sum;", "what is below 0 stays below 0"),
    Mutant("the semicolon", RECTIFY, "y[i] = sum <= 0 ? 0 : sum", "expected `;`"),
]
