# %% [markdown]
# # Lesson 18: More data from the same data
#
# **You will be able to** make many training images out of one, with chances
# that can be repeated to the last bit, and keep your pixels from wrapping
# round at 255.
#
# **Time:** 45 minutes. **Builds on:** lesson 7 (`xp`), arrays and indexing.
# **Source:** the paper on AlexNet, section 2 (the mean) and section 4.1
# (crops, reflections, colours).
#
# As before: `python -m lessons check 18 --watch` beside this file.

# %% [markdown]
# ## 18 images more
#
# Here is a classifier without a single weight. It stores 5,000 photographs
# (the tenth of CIFAR-10 that comes with minidl). Shown a new one, it looks for
# the stored one with the smallest sum of squared differences of pixels, and
# says what that was. And here is the cheapest way to make it better: store
# each photograph a second time, turned round left to right.

# %%
import matplotlib.pyplot as plt
import numpy as np

from minidl.backend import get_array_module
from minidl.data import EmbeddedCIFAR10

train, test = EmbeddedCIFAR10(train=True), EmbeddedCIFAR10(train=False)


def number_right(images, labels):
    """How many test images have the class of the most similar image."""
    stored = images.reshape(len(images), -1).astype(np.float64)
    shown = test.images.reshape(len(test), -1).astype(np.float64)
    # |shown - stored|^2, without |shown|^2, which is the same for all stored
    distance = (stored**2).sum(axis=1) - 2 * shown @ stored.T
    return int((labels[distance.argmin(axis=1)] == test.labels).sum())


mirrored = train.images[:, :, ::-1]
twice = np.concatenate([train.images, mirrored])
print("5,000 images:      ", number_right(train.images, train.labels))
print("and their mirrors: ", number_right(twice, np.tile(train.labels, 2)))

# %% [markdown]
#     5,000 images:       272
#     and their mirrors:  290
#
# 18 more of 1,000 are right, and nobody has taken a photograph. (It is a poor
# classifier all the same. Guessing gets 100 right.) What we have put in is
# *knowledge*: a cat that looks to the left is still a cat. So is a cat three
# pixels further down, and one in the evening light. AlexNet was trained with
# all three. It happens on the way to the network, batch by batch, and no
# *epoch* (one pass over all the images) is like another.
#
# An image here is an array (H, W, C) of `uint8`: whole numbers from 0 to 255,
# a byte each. A batch is (N, H, W, C).
#
# ## The byte that wraps round
#
# Let us make a photograph brighter:

# %%
photograph = train.images[8]
brighter = photograph + np.uint8(100)
print("mean before:", round(float(photograph.mean())))
print("mean after: ", round(float(brighter.mean())))
print("250 + 10 =", (np.array([250], np.uint8) + np.uint8(10))[0])

# %% [markdown]
#     mean before: 151
#     mean after:  116
#     250 + 10 = 4
#
# It got darker! A byte holds 256 values, and after 255 comes 0. No error, no
# warning: the bright places have become dark, and the network will be somewhat
# worse than it might be. Two rules keep you safe: **sum bytes in something
# larger** (`int64`), and **subtract and add in `float32`**.
#
# ### The mean image
#
# Section 2 of the paper: from each pixel subtract the mean of this pixel over
# the training set. (So the numbers lie around 0. Lesson 17 showed how much
# harm a large common part does.) The result is an image itself, the *mean
# image*. 1.2 million photographs do not fit into memory at once, so they come
# in pieces, and the last piece is smaller than the others. Each image must
# count the same.


# %%
def mean_image(pieces):
    """The mean over all images (H, W, C), as float32.

    pieces: arrays (n, H, W, C) of uint8, n differs; they come only once.
    """
    ### BEGIN SOLUTION: sum and count all images, without overflow; divide
    total, count = 0, 0
    for piece in pieces:
        total = total + piece.sum(axis=0, dtype=np.int64)
        count += len(piece)
    return (total / count).astype(np.float32)
    ### END SOLUTION


mean = mean_image(train.images[i : i + 1024] for i in range(0, 5000, 1024))
print("mean image:", mean.shape, mean.dtype, f"{mean.mean():.1f}")

# %% [markdown]
#     mean image: (32, 32, 3) float32 120.4
#
# ## Chances that can be repeated
#
# What follows is random. Still, a run must be repeatable: when something goes
# wrong in step 40,000, you want to have the same step again. So nothing here
# draws from a generator that everybody shares. Each function gets its own,
# `rng`, and draws from it alone. The same seed makes the same batch:
#
#     rng = np.random.default_rng(0)
#     rng.integers(5, size=3)      three whole numbers from 0 to 4: not 5!
#     rng.random(3)                three numbers from 0 to 1
#     rng.normal(0, 0.1, size=3)   three from N(0, 0.1)
#
# On a GPU nothing changes: `rng` is NumPy's and draws on the CPU, since it
# is only a few numbers an image. The images stay where they are. What you do
# to *them* goes through `xp = get_array_module(images)`, and what you have
# drawn gets to them with `xp.asarray(...)`.
#
# ### A piece of it
#
# The paper's images have 256 x 256 pixels, and the network sees a piece of
# 224 x 224, each time from another place. How many places are there? For 5
# pixels and pieces of 3: from 0, from 1, from 2. So 5 - 3 + 1, and 33 along
# each side for the paper. Each image of the batch gets a place of its own.
# `xp.stack` makes one array of a list of arrays.


# %%
def random_crop(images, size, rng):
    """A piece (size, size) of each image, from a random place of its own.

    images: (N, H, W, C). All places are equally probable.
    """
    xp = get_array_module(images)
    count, height, width, _ = images.shape
    ### BEGIN SOLUTION: draw N rows and N columns, cut there, stack
    tops = rng.integers(height - size + 1, size=count)
    lefts = rng.integers(width - size + 1, size=count)
    pieces = []
    for image, top, left in zip(images, tops, lefts):
        pieces.append(image[top : top + size, left : left + size])
    return xp.stack(pieces)
    ### END SOLUTION


rng = np.random.default_rng(0)
print("crops:", random_crop(train.images[:6], 28, rng).shape)
print("of 32, pieces of 28, and mirrored:", 5 * 5 * 2, "images")
print("of 256, pieces of 224, and mirrored:", 33 * 33 * 2, "images")

# %% [markdown]
#     crops: (6, 28, 28, 3)
#     of 32, pieces of 28, and mirrored: 50 images
#     of 256, pieces of 224, and mirrored: 2178 images
#
# They are not 2178 *new* images, of course: they resemble each other a lot.
# But each keeps the network from relying on where exactly something is.
#
# ### Left and right
#
# Each image of the batch is turned round with probability 1/2. Which axis?
# The four are N, H, W, C, counted from 0. (And why not upside down? Because
# the photographs that it will have to recognise do not stand on their heads.
# For pictures through a microscope you would do both. What may be changed is
# what does not change the answer: a mirrored 2 is no 2.) There is a tool for
# "this or that, image by image": `xp.where(choice, this, that)`, with `choice`
# of shape (N, 1, 1, 1), true or false.


# %%
def random_mirror(images, rng):
    """Each image turned round left to right, with probability 1/2."""
    xp = get_array_module(images)
    ### BEGIN SOLUTION: a decision for each image; which axis is turned?
    flips = xp.asarray(rng.random(len(images)) < 0.5)
    choice = flips[:, None, None, None]
    return xp.where(choice, images[:, :, ::-1], images)
    ### END SOLUTION


# %% [markdown]
# Both leave the pixels as they are, so the images can remain bytes until here:
# four times less to move than `float32`.
#
# ## Other light
#
# In the evening light all of a photograph changes at once: a bit less of
# everything, and still less blue. How *do* colours vary in photographs? Take
# all pixels of all images, five million triples (red, green, blue), as a cloud
# of points. It is not a ball. It is long in some direction, and flat in
# another. *Principal components analysis* (PCA) finds these directions: they
# are the *eigenvectors* (what a matrix only makes longer or shorter, by a
# factor called the *eigenvalue*) of the *covariance matrix*, 3 x 3,
#
# $S_ij = mean((c_i - m_i)(c_j - m_j))$,
#
# where $c$ is the colour of a pixel, $m$ the mean colour, and the mean is over
# all pixels of all images. The eigenvalue that belongs to a direction is the
# *variance* of the cloud along it: the square of how far it extends.
# `np.linalg.eigh(S)` gives both: the values (3,), the smallest first, and a
# matrix (3, 3) in which the eigenvectors stand as **columns**. This is done
# once, on the CPU; no `xp` here.


# %%
def colour_axes(images):
    """(eigenvalues (3,), eigenvectors (3, 3) as columns) of the colours.

    images: (N, H, W, 3) of uint8. Of the covariance of all their pixels.
    """
    ### BEGIN SOLUTION: all pixels minus the mean colour; S; eigh
    pixels = images.reshape(-1, 3).astype(np.float64)
    pixels = pixels - pixels.mean(axis=0)
    covariance = pixels.T @ pixels / len(pixels)
    return np.linalg.eigh(covariance)
    ### END SOLUTION


values, vectors = colour_axes(train.images)
print("eigenvalue  share   direction (red, green, blue)")
for i in (2, 1, 0):
    direction = vectors[:, i] * np.sign(vectors[1, i])
    numbers = "  ".join(f"{number:5.2f}" for number in direction)
    share = values[i] / values.sum()
    print(f"{values[i]:10.0f}  {100 * share:4.1f} %  {numbers}")

# %% [markdown]
#     eigenvalue  share   direction (red, green, blue)
#          11321  91.2 %   0.56   0.58   0.60
#            902   7.3 %   0.71   0.04  -0.70
#            192   1.5 %  -0.43   0.82  -0.39
#
# Nobody has told it what light is, and still: the first direction is "all
# three together", brighter or darker. The second is red against blue: evening
# sun against blue sky. The third, green against both, hardly occurs.
#
# Section 4.1: to all pixels of an image add the same colour
#
# $p_1 a_1 l_1 + p_2 a_2 l_2 + p_3 a_3 l_3$,
#
# where $p_i$ are the eigenvectors, $l_i$ the eigenvalues, and $a_i$ are drawn
# from N(0, 0.1), three for each image. The same in other words: the vector
# with the entries $a_i l_i$, multiplied by the matrix of columns $p_i$. For a
# batch there is one row $a l$ an image, and rows times a matrix give
# $(a l) @ P.T$.


# %%
def add_colour(images, vectors, lengths, rng):
    """To all pixels of each image one colour is added; float32.

    images: (N, H, W, 3). vectors: (3, 3), columns p; lengths: (3,), the l.
    """
    xp = get_array_module(images)
    a = rng.normal(0, 0.1, size=(len(images), 3))
    ### BEGIN SOLUTION: one colour an image, added to all of its pixels
    colours = (a * lengths) @ vectors.T
    colours = xp.asarray(colours.astype(np.float32))
    return images.astype(np.float32) + colours[:, None, None, :]
    ### END SOLUTION


# %% [markdown]
# ### Paper against program
#
# How large is $l$? The paper says: the eigenvalue. But that is a variance, a
# *squared* colour, so it depends on the unit. With pixels of 0 to 255 it is
# 255 times as much as with pixels of 0 to 1. The program of 2012 did something
# else: it took the standard deviation, the root of the eigenvalue. That is a
# colour itself, in whatever unit. Here are the three, as the size of a typical
# shift along the first direction ($a$ = 0.1), in grey levels of 0 to 255:

# %%
readings = {
    "paper, pixels 0 to 255": values,
    "paper, pixels 0 to 1": values / 255,
    "program": np.sqrt(values),
}
for name, lengths in readings.items():
    print(f"{name:23} {0.1 * lengths[2]:7.1f} grey levels")

# %% [markdown]
#     paper, pixels 0 to 255   1132.1 grey levels
#     paper, pixels 0 to 1        4.4 grey levels
#     program                    10.6 grey levels
#
# 1,100 grey levels of 255 cannot be meant. So the paper is best read with
# pixels of 0 to 1, and what was done is more than twice as much. The
# program differs in other places too. It divides everything by 1.1 after
# that; it switches the noise off at epoch 67; and 32 images, one after the
# other, share one crop and one mirroring, where the paper's text would have
# you think that each has its own. According to the paper the noise takes more
# than 1 % off the top-1 error.
#
# Now all of it, in order, as a function of (batch, seed):


# %%
def batch(indices, seed):
    """Training images on their way to the network: (N, 28, 28, 3)."""
    rng = np.random.default_rng(seed)
    images = train.images[indices].astype(np.float32) - mean
    images = random_mirror(random_crop(images, 28, rng), rng)
    return add_colour(images, vectors, np.sqrt(values), rng)


indices = np.arange(8)
first, again, other = batch(indices, 1), batch(indices, 1), batch(indices, 2)
print("seed 1 twice:", "equal" if (first == again).all() else "different")
print("seed 1 and 2:", "equal" if (first == other).all() else "different")

# %% [markdown]
#     seed 1 twice: equal
#     seed 1 and 2: different
#
# (The mean image has 32 x 32 pixels, so it must be subtracted *before* the
# crop, or be cropped at the same place.) At test time nothing is random: the
# network sees the piece in the centre, or ten fixed pieces: lesson 22.
#
# In the picture: the mean image, one photograph, what the wrapped bytes make
# of it, and what becomes of it when all is well.

# %%
figure = plt.figure(figsize=(11, 5.7), layout="constrained")
grid = figure.subplots(4, 9)
eight = np.repeat(photograph[None], 8, axis=0)
rng = np.random.default_rng(3)
rows = {
    "crops": random_crop(eight, 24, rng),
    "mirror": random_mirror(eight, rng),
    "colour\n(paper)": add_colour(eight, vectors, values / 255, rng),
    "colour\n(program)": add_colour(eight, vectors, np.sqrt(values), rng),
}
starts = {"mean image": mean, "original": photograph, "+ 100": brighter}
for i, (axes, (name, images)) in enumerate(zip(grid, rows.items())):
    for place, image in zip(axes[1:], images):
        place.imshow(np.clip(image, 0, 255).astype(np.uint8))
    axes[1].set_ylabel(name)
    if i < 3:
        title, image = list(starts.items())[i]
        axes[0].imshow(image.astype(np.uint8))
        axes[0].set_title(title, fontsize="medium")
    else:
        axes[0].set_visible(False)
for place in grid.ravel():
    place.set(xticks=[], yticks=[])
figure.savefig("18_augmentation.png", dpi=120)
plt.show()

# %% [markdown]
# (`np.clip` cuts off what lies outside 0 to 255. That is for our eyes: the
# network takes negative numbers, and numbers over 255, as they are.)
#
# ## What you can now do
#
# - cut, mirror and colour a batch, image by image, repeatable from a seed;
# - say where the paper and the program that won differ here, and by how much;
# - see a wrapped byte coming.
#
# Now read `minidl/data/transforms.py`, `minidl/data/crops.py` and
# `minidl/data/colour_noise.py`: each step is a small object that is called
# with (images, rng), `Compose` makes one of several. `RandomCrop` differs from
# yours in `padding`, with which images of 32 pixels stay at 32, and in
# `together`, for the 32 images of the program. `ColourNoise` has both readings
# of $l$, and it fixes the sign of each eigenvector, which `eigh` may choose as
# it likes: else a seed would mean other colours on another machine. The mean
# and the covariance are in `minidl/data/statistics.py`, summed in whole
# numbers, in several threads, image by image.
#
# **The next lesson** puts all parts together: AlexNet, with its two towers and
# its 60,965,224 parameters. It needs the layers of lessons 8 to 15.
