# %% [markdown]
# # Lesson 21: Making it fast: chunks, caches, and one kernel on the GPU
#
# **You will be able to** find out where the time of a layer goes, keep its
# work in the cache, give every core a share, and write a program for a GPU.
#
# **Time:** 45 minutes. **Builds on:** lessons 10 (`im2col`) and 7 (GPUs).
# **Source:** the paper on AlexNet, sections 1 and 5 (the convolution written
# for the GPU; five to six days of training).
#
# As before: `python -m lessons check 21 --watch` beside this file.

# %% [markdown]
# ## How long would AlexNet take here?
#
# It took five to six days in 2012: 90 passes over 1.2 million images, on two
# graphics cards. One image needs 724.4 million multiply-accumulates forward
# (lesson 19), and about twice as many backward, for the gradients of the input
# and of the weights. Ask this machine how many it can do, and calculate.

# %%
import mmap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import minidl  # noqa: F401  (it tells BLAS to use one thread)


def seconds(call, *arguments, times=5):
    """How long call(*arguments) takes: the shortest of several tries.

    Other programs on the machine can only ever make it longer.
    """
    tries = []
    for _ in range(times):
        begin = time.perf_counter()
        call(*arguments)
        tries.append(time.perf_counter() - begin)
    return min(tries)


rng = np.random.default_rng(0)
left, right = rng.random((2, 1024, 1024), np.float32)
speed = 1024**3 / seconds(np.matmul, left, right)
days = 90 * 1.2e6 * 3 * 724.4e6 / speed / (24 * 3600)
print(f"{speed / 1e9:.0f} billion multiply-accumulates a second on one core")
print(f"AlexNet in {days:.0f} days, if nothing else had to be done")

# %% [markdown]
# One core of the machine on which this was written said 49 billion, and 56
# days. (NumPy leaves products to a library, BLAS, which has threads of its
# own; importing minidl tells it to use one. You will see why.)
#
# "If nothing else had to be done": that is the trouble. Lesson 10 made a
# convolution out of a product, but the patches have to be laid out first. Take
# a layer of 5 x 5 filters, 32 channels in and 32 out, on 128 images of 16 x 16
# (20 x 20 with their padding).


# %%
def windows(x, kernel):
    """All patches of x (N, H, W, C), as (N, OH, OW, kernel, kernel, C).

    It is a view: a way of looking at x, in which nothing has been copied.
    """
    look = np.lib.stride_tricks.sliding_window_view
    view = look(x, (kernel, kernel), axis=(1, 2))
    return view.transpose(0, 1, 2, 4, 5, 3)


def convolve_plain(x, weight):
    """As in lesson 10. x: (N, H, W, C), weight: (K, K, C, O)."""
    view = windows(x, weight.shape[0])
    matrix = weight.reshape(-1, weight.shape[3])
    patches = view.reshape(-1, len(matrix))  # no view any more: it copies
    return (patches @ matrix).reshape(*view.shape[:3], -1)


x = rng.standard_normal((128, 20, 20, 32), np.float32)
weight = rng.standard_normal((5, 5, 32, 32), np.float32)
view = windows(x, 5)
print(f"the images: {x.nbytes / 1e6:.1f} MB")
print(f"their patches: {view.size * 4 / 1e6:.1f} MB")

# %% [markdown]
#     the images: 6.6 MB
#     their patches: 104.9 MB
#
# (In the second layer of AlexNet it is 896 MB.) What does it cost to copy the
# patches into memory that is *new* to the program? Into memory that it has
# used before? And the product itself?

# %%
new = mmap.mmap(-1, view.size * 4)  # asks the system for untouched memory
memory = np.frombuffer(new, np.float32)
patches = memory.reshape(view.shape)
rows = patches.reshape(-1, 5 * 5 * 32)
matrix = weight.reshape(-1, 32)
first = seconds(np.copyto, patches, view, times=1)
used = seconds(np.copyto, patches, view)
product = seconds(np.matmul, rows, matrix)
print(f"patches into new memory  {1000 * first:4.0f} ms")
print(f"the same once more       {1000 * used:4.0f} ms")
print(f"the product              {1000 * product:4.0f} ms")

# %% [markdown]
# About 100, 7 and 30 ms there: making the matrix takes longer than using it!
#
# **New memory is slow.** The operating system hands it out in pages, mostly of
# 4 kB, and clears each one when it is first touched; 105 MB are 25,600 of
# them. The remedy: take a *buffer* once, and use it again and again.
#
# **Far memory is slow.** A core calculates with what lies in its *caches*,
# memories that are small, about 1 MB, and close. The rest is far away. Of 105
# MB the beginning has been pushed out long before the end is written, and the
# product fetches all of it again. The remedy: small pieces. Copy 1 MB of
# patches, multiply them while they are close, and copy the next 1 MB *over
# them*.
#
# ## Pieces
#
# A piece is a number of images and a number of output rows. If the patches of
# an image fit into `chunk_bytes`, take as many whole images as fit. If not,
# take one image at a time, and of it as many rows as fit, but at least one.
# `slice(2, 5)` is what Python makes of the `2:5` in `x[2:5]`.


# %%
def cut(total, step):
    """0 ... total in slices of `step`; the last one may be shorter."""
    starts = range(0, total, step)
    return [slice(start, min(start + step, total)) for start in starts]


def pieces(images, rows, row_bytes, chunk_bytes):
    """A list of (slice of the images, slice of the output rows).

    row_bytes: what the patches of one row of the output take.
    """
    image_bytes = rows * row_bytes
    ### BEGIN SOLUTION: whole images if one fits, else rows of one image
    if image_bytes <= chunk_bytes:
        whole = slice(0, rows)
        some = cut(images, chunk_bytes // image_bytes)
        return [(several, whole) for several in some]
    bands = cut(rows, max(1, chunk_bytes // row_bytes))
    return [(one, band) for one in cut(images, 1) for band in bands]
    ### END SOLUTION


found = pieces(128, 16, 16 * 5 * 5 * 32 * 4, 200_000)
print("200 kB:", len(found), "pieces, the first", *found[0])

# %% [markdown]
#     200 kB: 768 pieces, the first slice(0, 1, None) slice(0, 3, None)
#
# Now the work on one piece. `view[piece]` is a view of its patches. Copy them
# into the beginning of `buffer`, a flat array that is at least as large (the
# last piece may be smaller than the others), and have the product written
# straight into its place: `np.matmul(a, b, out=c)`.
#
# There is a trap. `.reshape` of an array that lies in memory without gaps is a
# view. Of any other, such as `view[piece]`, it is a *copy*, in new memory, and
# NumPy does not say so. So reshape the buffer, and not the view.


# %%
def convolve_piece(view, matrix, y, piece, buffer):
    """Write the output of `piece` into y (N, OH, OW, O).

    view: of all patches, (N, OH, OW, K, K, C). matrix: (K * K * C, O).
    """
    patches = view[piece]
    target = y[piece].reshape(-1, y.shape[3])  # no gaps: a view
    ### BEGIN SOLUTION: copy the patches into the buffer, multiply into target
    copied = buffer[: patches.size].reshape(patches.shape)
    copied[...] = patches
    np.matmul(copied.reshape(-1, len(matrix)), matrix, out=target)
    ### END SOLUTION


def convolve(x, weight, chunk_bytes=1 << 20, for_each=None, workers=1):
    """`convolve_plain` in pieces. for_each: who goes through them."""
    view = windows(x, weight.shape[0])
    matrix = weight.reshape(-1, weight.shape[3])
    y = np.empty((*view.shape[:3], weight.shape[3]), x.dtype)
    row_bytes = view[0, 0].size * x.itemsize
    found = pieces(len(x), view.shape[1], row_bytes, chunk_bytes)
    size = max(view[piece].size for piece in found)
    buffers = [np.empty(size, x.dtype) for _ in range(workers)]

    def task(worker, piece):
        convolve_piece(view, matrix, y, piece, buffers[worker])

    if for_each:
        for_each(task, found, workers)
    else:
        for piece in found:
            task(0, piece)
    return y


equal = np.allclose(convolve(x, weight), convolve_plain(x, weight), 0, 1e-3)
print("the same as before:", equal)
alone = seconds(convolve, x, weight)
print(f"in pieces of 1 MB: {1000 * alone:.0f} ms")

# %% [markdown]
# It is the same (but for rounding: with other shapes BLAS adds in another
# order), and all of it takes no longer than the product alone took: 22 ms
# there. The patches need 1 MB, however many images there are.
#
# ## Every core a share
#
# Only one thread of a Python program runs at a time: the one that holds the
# *interpreter lock*. But NumPy gives the lock back while it works on an array,
# so threads that mostly wait for NumPy do work at the same time. The pieces
# are independent; with two workers, each takes every second one, in a thread
# of its own. What they must not share is the buffer: so `task(worker, piece)`
# is told which worker it is.
#
# `pool.submit(f, a)` has a thread of the pool call `f(a)`, and returns at once
# with a *future*, a promise of the result. `future.result()` waits for it. If
# `f` has failed, it raises what `f` raised; who does not ask never hears of
# it.


# %%
def in_pool(task, found, workers=2):
    """task(worker, piece) for every piece; worker is 0 ... workers - 1.

    The workers are at it at the same time. A piece that fails is heard of.
    """

    def share(worker):
        for piece in found[worker::workers]:
            task(worker, piece)

    with ThreadPoolExecutor(workers) as pool:
        ### BEGIN SOLUTION: have the pool call share(worker) for every worker
        futures = [pool.submit(share, worker) for worker in range(workers)]
        for future in futures:
            future.result()
        ### END SOLUTION


def in_pieces(size=1 << 20):
    return convolve(x, weight, size)


def by_two(size=1 << 20):
    return convolve(x, weight, size, in_pool, workers=2)


print("the same to the last bit:", np.array_equal(in_pieces(), by_two()))
alone, both = seconds(in_pieces), seconds(by_two)
print(f"one core {1000 * alone:.0f} ms, two {1000 * both:.0f} ms")

# %% [markdown]
# What do you get? Where this was written 22 ms became 13. On another day, when
# other programs kept the second core busy, nothing was gained: 30 ms and 31. A
# pool makes no cores, it uses those that are idle. And now you see why BLAS is
# to use one thread: two workers with two threads each would fight for two
# cores.
#
# How large should a chunk be? Measure:

# %%
import matplotlib.pyplot as plt

sizes = [2.0**k for k in range(-5, 8)]  # MB
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for run, text in ((in_pieces, "one thread"), (by_two, "two threads")):
    times = [1000 * seconds(run, int(size * 2**20)) for size in sizes]
    axes.semilogx(sizes, times, "o-", base=2, label=text)
axes.set(title="The same convolution", xlabel="size of a chunk, MB")
axes.set(ylabel="ms", ylim=(0, None))
axes.legend(frameon=False, loc="lower right")
figure.savefig("21_speed.png", dpi=120)
plt.show()

# %% [markdown]
# Where this was written, the time rises by about a half between 8 and 16 MB,
# where the caches end. With tiny pieces it is slow for another reason: each
# call costs Python some microseconds, whatever it does. Between the two it
# hardly matters; minidl takes 1 MB.
#
# ## One kernel on the GPU
#
# A graphics card has thousands of threads where you have two, and no Python.
# Its programs are called *kernels*, as filters are in the paper, but they have
# nothing to do with those. They are written in a dialect of C, and say what
# *one* thread does. Threads come in *blocks* of equal size, and each can ask
# for the number of its block, and its own number in it. As Python:


# %%
def relu_thread(block, thread, threads, x, y, size):
    """What one thread does for y = relu(x). threads: how many in a block."""
    i = block * threads + thread
    if i < size:
        y[i] = x[i] if x[i] > 0 else 0.0


def launch(program, blocks, threads, *arguments):
    """A GPU does all of this at the same time, and in no order."""
    for block in range(blocks):
        for thread in range(threads):
            program(block, thread, threads, *arguments)


RELU = """
extern "C" __global__ void relu(const float* x, float* y, long long size)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) {
        y[i] = x[i] > 0 ? x[i] : 0;
    }
}
"""

# %% [markdown]
# The string is the same program in C. Read it beside the Python:
#
# - `extern "C" __global__ void relu(...)`: a kernel named `relu`, which
#   returns nothing. Braces do what indentation does in Python, statements end
#   with a semicolon, and a variable is introduced with its type.
# - `const float* x`: an array of float32 that is only read. C knows where it
#   begins, not how long it is; so `size` comes along, a `long long`: Python's
#   integer in 64 bits. Nothing stops you from writing to `y[size]`, which
#   belongs to somebody else.
# - `blockIdx.x`, `blockDim.x`, `threadIdx.x`: the number of the block, the
#   threads in a block, the number of the thread in its block.
# - `a ? b : c` is Python's `b if a else c`; `%` is `%`.
#
# Why `if (i < size)`? There are blocks times threads, which is seldom just
# what is needed: as many blocks as give every element a thread, rounded up.


# %%
def blocks_for(size, threads=256):
    """The least number of blocks that have `size` threads together."""
    return (size + threads - 1) // threads


x = np.array([-1, 2, -3, 4, 5], np.float32)
y = np.empty_like(x)
launch(relu_thread, blocks_for(5, threads=4), 4, x, y, 5)
print("blocks:", blocks_for(5, threads=4), " relu:", y)

# %% [markdown]
#     blocks: 2  relu: [0. 2. 0. 4. 5.]
#
# Now one that is worth it. After every convolution comes `y += bias` and then
# `maximum(y, 0)`. Each reads all of $y$ from memory and writes it back: four
# journeys. A kernel that does both needs two. Write it: `y[i]` becomes
# `y[i] + bias[channel]`, or 0 if that is less. The array is N, H, W, C, with
# the channels side by side: so which channel is element `i`?
#
# And let it be honest: a sum that is NaN ("not a number": neither above nor
# below 0) must stay NaN. `relu` above makes 0 of it, and so hides that a
# training run has gone wrong.


# %%
def bias_relu_source():
    """y <- max(y + bias, 0) in CUDA C. y: size elements, bias: channels."""
    head = """
extern "C" __global__ void add_bias_relu(
    const float* bias, float* y, long long size, long long channels)
{
"""
    ### BEGIN SOLUTION: body = what one thread does, in C, as a string
    body = """
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) {
        float sum = y[i] + bias[i % channels];
        y[i] = sum <= 0 ? 0 : sum;
    }
"""
    ### END SOLUTION
    return head + body + "}\n"


def on_gpu():
    """Two steps against one kernel, where there is a GPU."""
    try:
        import cupy

        y = cupy.ones((128, 55, 55, 96), np.float32)
    except Exception:
        return "no GPU here; the check runs your kernel without one"
    bias = cupy.ones(96, np.float32)
    kernel = cupy.RawKernel(bias_relu_source(), "add_bias_relu")
    wait = cupy.cuda.Device().synchronize  # until all is done

    def two_steps():
        cupy.maximum(cupy.add(y, bias, out=y), 0, out=y)
        wait()

    def one_kernel():
        kernel((blocks_for(y.size),), (256,), (bias, y, y.size, len(bias)))
        wait()

    slow, fast = 1e6 * seconds(two_steps), 1e6 * seconds(one_kernel)
    return f"two steps {slow:.0f} us, one kernel {fast:.0f} us"


print(on_gpu())

# %% [markdown]
# The check translates your C into Python and runs it thread by thread, as
# `launch` does. It watches what a GPU does not: whether a thread leaves its
# array, and whether two of them write to the same place. Where there is a GPU,
# `python -m lessons check 21 --device both` runs it there as well.
#
# ## What you can now do
#
# - measure which part of a layer takes the time, before you change anything;
# - cut work into pieces that stay in the cache, and reuse buffers;
# - give every core a share of it, without sharing a buffer;
# - read and write a CUDA kernel of one thread an element.
#
# Now read `minidl/kernels/convolution.py` and `minidl/kernels/parallel.py`.
# There are your `pieces` as `_pieces`, your buffers as `scratch`, your
# `in_pool` as `share`. It differs from yours: the pool is made once and stays;
# each worker takes a run of neighbouring pieces; and some layers go another
# way, which needs fewer multiplications (`winograd`). Your kernel is `finish`
# in `minidl/kernels/elementwise.cu`, behind products of matrices; there a
# thread takes four elements, 16 bytes: the most that one instruction can move.
# A convolution's own kernel, in `implicit_gemm.cu`, ends with the same.
#
# **The next lesson** is a real run: hours long, if you like, with a rate that
# falls, and a checkpoint from which it goes on when somebody pulls the plug.
