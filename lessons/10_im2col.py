# %% [markdown]
# # Lesson 10: Convolution by loops, then as one matrix product: im2col
#
# **You will be able to** write a convolution, say what it costs, turn it into
# one matrix product, and write the exact transpose of that turning.
#
# **Time:** 45 minutes. **Builds on:** lesson 5 (the transpose of
# broadcasting), lesson 6 (matrix products, repeated indices), lesson 7
# (`get_array_module`).
# **Source:** the paper on AlexNet, section 3.5; Chellapilla, Puri and Simard,
# "High performance convolutional neural networks for document processing"
# (2006), for the matrix product.
#
# As before: `python -m lessons check 10 --watch` beside this file.

# %% [markdown]
# ## 43 billion weights, or 34,944
#
# AlexNet takes a photograph of 224 x 224 pixels in three colours. Its first
# layer answers with 55 x 55 x 96 numbers. What if that layer were a `Linear`
# of lesson 8, in which every output has a weight for every input?
#
#     150,528 inputs * 290,400 outputs      43,713,331,200 weights
#     a window of 11 x 11 x 3, 96 times             34,848 weights
#
# The first number is beyond any computer of 2012. The second is what the
# paper has (with 96 biases it makes 34,944). Between the two are two ideas:
#
# - an output sees only a small *window* of the picture, 11 x 11 pixels;
# - the outputs at all 55 x 55 places share their weights. An edge is an edge,
#   wherever in the picture it lies.
#
# A set of such shared weights is called a *filter* (the paper says kernel).
# This is one of 2 x 2, over a picture of 4 x 6 with something bright in it:
#
#     filter        picture              in the window, times filter
#     -1  1         0 0 9 9 9 0          -1*0 + 1*9
#     -1  1         0 0 9 9 9 0          -1*0 + 1*9  = 18
#                   0 0 9 9 9 0
#                   0 0 0 0 0 0          (the window begins in column 1)
#
# The window slides on to the right: 18, then 0, 0, then -18. This filter finds
# the left edges of bright things, and, with a minus, the right ones.
#
# ### How many places are there?
#
# The window moves on by `stride` pixels at a time. It must stay inside, so
# pixels that are left over at the end are not looked at. For 6 pixels, a
# window of 2 and stride 1 there are 5 places: it begins at 0, 1, 2, 3, 4. With
# stride 3 there are 2: it begins at 0 and 3.


# %%
import numpy as np

from minidl.backend import get_array_module


def places(size, kernel, stride):
    """How many places a window of `kernel` pixels has along `size` pixels."""
    ### BEGIN SOLUTION: the first place, and one for every whole step after it
    return (size - kernel) // stride + 1
    ### END SOLUTION


print(places(6, 2, 1), places(6, 2, 3), places(7, 2, 3))
print("the paper's first layer:", places(224, 11, 4), "or", places(227, 11, 4))

# %% [markdown]
#     5 2 2
#     the paper's first layer: 54 or 55
#
# The paper says 224 pixels, stride 4 and 55 places, and that does not fit
# together! How it came about is a story for lesson 11.
#
# ### By loops
#
# As everywhere in this course, a batch of images `x` has the shape
# $(N, H, W, C)$: image, row, column, colour (called *channel*). The filters
# `weight` have the shape $(K, K, C, O)$: row and column in the window,
# channel, and which of the $O$ filters. The result is
#
# $y[n, i, j, o] = sum of x[n, i s + a, j s + b, c] * weight[a, b, c, o]$
#
# over $a$, $b$ and $c$, with $s$ the stride. Each place of the window, each
# filter: cut out the window, multiply, sum. (Mathematicians turn the filter by
# 180 degrees first. Where it is learned, that makes no difference.)


# %%
def convolve_by_loops(x, weight, stride):
    """x (N, H, W, C), weight (K, K, C, O): the result is (N, OH, OW, O)."""
    xp = get_array_module(x)
    count, height, width, _ = x.shape
    kernel, _, _, filters = weight.shape
    rows = places(height, kernel, stride)
    across = places(width, kernel, stride)
    y = xp.zeros((count, rows, across, filters), x.dtype)
    for n, i, j, o in np.ndindex(y.shape):  # four loops in one
        ### BEGIN SOLUTION: cut out the window of image n at (i, j); set y
        top, left = i * stride, j * stride
        window = x[n, top : top + kernel, left : left + kernel]
        y[n, i, j, o] = (window * weight[..., o]).sum()
        ### END SOLUTION
    return y


square = np.zeros((4, 6))
square[:3, 2:5] = 9
square = square.reshape(1, 4, 6, 1)
left_edges = np.array([[-1.0, 1.0], [-1.0, 1.0]]).reshape(2, 2, 1, 1)
found = convolve_by_loops(square, left_edges, 1)
print(found[0, :, :, 0].astype(int))

# %% [markdown]
#     [[  0  18   0   0 -18]
#      [  0  18   0   0 -18]
#      [  0   9   0   0  -9]]
#
# Now a photograph: a horse, one of the 6,000 images that come with minidl.
# (They are a tenth of CIFAR-10, small photographs of ten classes.) A filter of
# 3 x 3 for edges that run up and down, and the same, turned, for those that
# run across; each takes the mean of the three colours. Bright in the result
# means: it gets brighter to the right (or downwards). Dark: it gets darker.

# %%
import matplotlib.pyplot as plt

from minidl.data import EmbeddedCIFAR10


def photograph(number):
    """(1, 32, 32, 3): one of the training images, pixels from 0 to 1."""
    return EmbeddedCIFAR10().images[number : number + 1] / 255.0


horse = photograph(68)
upright = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
pair = np.stack([upright, upright.T], axis=-1)  # (3, 3, 2): two filters
pair = np.stack([pair, pair, pair], axis=2) / 3  # (3, 3, 3, 2): three colours
edges = convolve_by_loops(horse, pair, 1)
print("from", horse.shape, "to", edges.shape)

figure, panels = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
panels[0].imshow(horse[0])
panels[1].imshow(edges[0, :, :, 0], cmap="gray")
panels[2].imshow(edges[0, :, :, 1], cmap="gray")
for panel, title in zip(panels, ("32 x 32 pixels", "up and down", "across")):
    panel.set_title(title)
    panel.axis("off")
figure.savefig("10_edges.png", dpi=120)
plt.show()

# %% [markdown]
# Nobody told these two filters what a horse is, and yet its outline is there.
# (Nobody chose the filters of AlexNet: they are learned.)
#
# ## How long does it take?
#
# The first layer of AlexNet has 96 filters of 11 x 11 x 3, with stride 4. To
# save time we take only a strip of the picture, 27 rows of 227, which gives 5
# of the 55 rows of the result.

# %%
import time

rng = np.random.default_rng(0)
picture = rng.standard_normal((1, 227, 227, 3)).astype(np.float32)
filters = rng.standard_normal((11, 11, 3, 96)).astype(np.float32)
strip = picture[:, :27]

begin = time.perf_counter()
strip_by_loops = convolve_by_loops(strip, filters, 4)
loops = time.perf_counter() - begin
print(f"strip: {loops:.2f} s, so the whole picture: {11 * loops:.1f} s")

# %% [markdown]
# More than a second for one picture, where this was written. The training of
# 2012 showed 1.2 million pictures 90 times: at one second each that is well
# over three years, for the first layer alone and without its way back.
#
# ## The same numbers, put in another order
#
# Where does the time go? Not into the 105 million multiplications, but into
# 290,400 turns of a Python loop, each with a little work. The matrix product
# does much work in one go. And look at what a window does: it multiplies 363
# pixels with 363 weights and sums. That is the product of a row with a column.
#
# So write each window as one row, all rows below each other: the *patch
# matrix* $P$. Write each filter as a column: the matrix $W$. Then all windows
# meet all filters in $P W$. Here is $P$ for a picture of 3 x 4 pixels and a
# window of 2 x 2:
#
#      picture             P: six places, one row each
#      0  1  2  3          0  1  4  5        place (0, 0)
#      4  5  6  7          1  2  5  6        place (0, 1)
#      8  9 10 11          2  3  6  7
#                          4  5  8  9        place (1, 0)
#                          5  6  9 10
#                          6  7 10 11
#
# This is called *im2col*, image to columns. (Here the patches are rows,
# because our weights multiply from the right.) The order inside a row is: row
# in the window, column in the window, channel. It is the order in which the
# numbers of `weight[..., o]` lie.
#
# $P$ can be filled place by place, or column by column. Look at the first
# *column* of $P$: it holds 0 1 2 4 5 6, what the upper left corner of the
# window meets on its way. That is the picture itself, without its last row and
# column! In general the position $(a, b)$ of the window meets the rows $a$,
# $a + s$, $a + 2 s$ ... and the columns $b$, $b + s$, $b + 2 s$ ..., as many
# as there are places, and no more: one slice,
# `x[:, start:stop:stride, start:stop:stride]`, for all places and all images
# at once. (`slice(2, 10, 4)` is what Python makes of `2:10:4`; it can have a
# name.)


# %%
def im2col(x, kernel, stride):
    """The patches of x (N, H, W, C): (N, OH, OW, kernel * kernel * C).

    The numbers of a patch are in the order row, column, channel.
    """
    xp = get_array_module(x)
    count, height, width, channels = x.shape
    rows = places(height, kernel, stride)
    across = places(width, kernel, stride)
    shape = (count, rows, across, kernel, kernel, channels)
    patches = xp.zeros(shape, x.dtype)
    ### BEGIN SOLUTION: fill patches[:, :, :, a, b] for every a and b
    for a in range(kernel):
        for b in range(kernel):
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            patches[:, :, :, a, b] = x[:, down, right]
    ### END SOLUTION
    return patches.reshape(count, rows, across, kernel * kernel * channels)


numbers = np.arange(12).reshape(1, 3, 4, 1)
print(im2col(numbers, 2, 1).reshape(6, 4))

# %% [markdown]
# Now the convolution. For *one* large product, make $P$ a plain matrix first:
# all images, all places, one below the other.


# %%
def convolve(x, weight, stride):
    """The same as convolve_by_loops, as one matrix product."""
    kernel, _, _, filters = weight.shape
    columns = im2col(x, kernel, stride)
    ### BEGIN SOLUTION: P times W, and the shape (N, OH, OW, O)
    patches = columns.reshape(-1, columns.shape[-1])
    product = patches @ weight.reshape(-1, filters)
    return product.reshape(*columns.shape[:3], filters)
    ### END SOLUTION


begin = time.perf_counter()
strip_at_once = convolve(strip, filters, 4)
at_once = time.perf_counter() - begin
print("the same:", np.allclose(strip_by_loops, strip_at_once, atol=1e-3))
print(f"in {at_once:.4f} s, {loops / at_once:.0f} times as fast")

# %% [markdown]
# Where this was written, it was some hundred times as fast. Nothing was left
# out: it is the same multiplications, in an order that suits the machine.
#
# ### The price
#
# A pixel stands in as many rows of $P$ as there are windows that cover it. In
# the first layer $P$ has 55 * 55 * 363 numbers, 7.1 times as many as the
# picture; in the second it is 0.9 GB for 128 images, and the two cards of 2012
# had 3 GB each, for everything. minidl makes $P$ in pieces, a few images at a
# time, and forgets each one when it is multiplied (lesson 21).
#
# ## The way back
#
# Something will come back from above: for every number in $P$ its slope, in an
# array `columns` of the shape of $P$. What are the slopes of the pixels?
#
# `im2col` only copies. A pixel that was copied into four rows has four ways
# to the result, and the slopes of all four add up, as `sum_to` adds up what
# was broadcast (lesson 5). So
# **every patch is added back to where it was cut out**. This is *col2im*.
#
# Put differently, `im2col` is a matrix of zeros and ones: $P = M x$, with the
# pixels in a long column $x$, and all of $P$ in another. Each row of $M$ has a
# single 1, at the pixel that is copied. The slopes go back through its
# transpose, $M^T$. (Nobody stores $M$. The last picture shows a small one.)
#
# Now write `col2im`. It is your `im2col` read from right to left: the same
# slices, but the picture receives.


# %%
def col2im(columns, shape, kernel, stride):
    """The transpose of im2col: patches added up to images of `shape`.

    columns: (N, OH, OW, kernel * kernel * C); shape: (N, H, W, C).
    """
    xp = get_array_module(columns)
    count, rows, across, _ = columns.shape
    patches = columns.reshape(count, rows, across, kernel, kernel, shape[3])
    image = xp.zeros(shape, columns.dtype)
    ### BEGIN SOLUTION: add patches[:, :, :, a, b] to where it came from
    for a in range(kernel):
        for b in range(kernel):
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            image[:, down, right] += patches[:, :, :, a, b]
    ### END SOLUTION
    return image


ones = np.ones((1, 2, 2, 4))
print(col2im(ones, (1, 3, 3, 1), 2, 1)[0, :, :, 0].astype(int))

# %% [markdown]
#     [[1 2 1]
#      [2 4 2]
#      [1 2 1]]
#
# A 1 for every place in the windows: the corner pixel stands in one window,
# the middle one in all four. So `col2im` does *not* undo `im2col`. It is the
# transpose, not the inverse, and slopes want the transpose.
#
# ### A test that leaves no way out
#
# How can one know that `col2im` is the exact transpose? There is a test for
# this, and it is used for every pair of this kind. Write $<u, v>$ for the sum
# of the products of all elements of two arrays. Then, for any images $x$ and
# any $c$ in the shape of the patches,
#
# $<im2col(x), c> = <x, col2im(c)>$,
#
# since the left side is $(M x)^T c$ and the right one $x^T (M^T c)$. It is
# called the *adjoint identity*. With random $x$ and $c$ every pixel and every
# place in $P$ takes part with a weight of its own; an error anywhere shows.

# %%
x = rng.standard_normal((2, 12, 9, 3))
for kernel, stride in ((2, 1), (3, 2), (5, 3)):
    patches = im2col(x, kernel, stride)
    c = rng.standard_normal(patches.shape)
    here = (patches * c).sum()
    there = (x * col2im(c, x.shape, kernel, stride)).sum()
    print(f"window {kernel}, stride {stride}: {here:.6f} = {there:.6f}")

# %% [markdown]
# And this is what it looks like: windows of 8 x 8 pixels, stride 6, on the
# horse. Each of the 25 windows is one row of the patch matrix, 64 pixels long.
# Beside them $M$, for a picture of 3 x 3 and a window of 2 x 2.

# %%
kernel, stride = 8, 6
patches = im2col(horse, kernel, stride)  # (1, 5, 5, 192)
units = np.eye(9).reshape(9, 3, 3, 1)  # nine pictures with a single 1

figure = plt.figure(figsize=(12, 3.8), layout="constrained")
photo, rows, small = figure.subplots(1, 3, width_ratios=(1, 1.8, 0.7))
photo.imshow(horse[0])
photo.set_title("three of the 25 windows")
rows.imshow(patches.reshape(25, 64, 3), aspect="auto")
rows.set(title="the patch matrix P", xlabel="position in the window")
rows.set(ylabel="place of the window", yticks=(0, 12, 24))
for place, colour in ((7, "tab:red"), (12, "gold"), (21, "cyan")):
    i, j = divmod(place, 5)
    look = {"fill": False, "edgecolor": colour, "linewidth": 2}
    corner = (j * stride - 0.5, i * stride - 0.5)
    photo.add_patch(plt.Rectangle(corner, kernel, kernel, **look))
    rows.add_patch(plt.Rectangle((-0.4, place - 0.5), 63.8, 1, **look))
small.imshow(im2col(units, 2, 1).reshape(9, 16).T, cmap="gray_r")
small.set(title="M", xlabel="pixel", ylabel="element of P", xticks=(0, 4, 8))
figure.savefig("10_im2col.png", dpi=120)
plt.show()

# %% [markdown]
# The red and the yellow window share two rows of pixels: the last 16 in the
# red row of $P$ are the first 16 in the yellow one.
#
# ## What you can now do
#
# - say why a convolution needs so few weights, and count its places;
# - turn it into one matrix product, and say what that costs in memory;
# - write the transpose of a copying operation, and put it to the test with the
#   adjoint identity.
#
# Now read `minidl/kernels/im2col.py`, and `output_size`, `view` and `taps` in
# `minidl/kernels/window.py`. It differs from yours: windows need not be
# square, and may meet a border of zeros. `im2col` has no loop over positions:
# `view` makes NumPy believe that all windows lie in memory already, by giving
# it other distances between elements, and a single copy makes it true.
# `col2im` is yours; `taps` are your slices. On a GPU both are kernels of their
# own.
#
# **The next lesson** sends slopes back through the whole convolution, to the
# filters and to the picture. You have all the parts: two matrix products and
# `col2im`. And it finds out how 224 pixels became 55 places.
