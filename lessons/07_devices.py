# %% [markdown]
# # Lesson 7: One program, two devices: xp
#
# **You will be able to** write array code that runs on a CPU and on a GPU
# without a word about either, and to say what it costs to carry numbers from
# one to the other.
#
# **Time:** 40 minutes. **Builds on:** lesson 6 (`Tensor`, `Function`).
# **Source:** the paper on AlexNet, section 3.2, "Training on Multiple GPUs".
#
# minidl's Tensor and Function from here on: you have written them. As before:
# `python -m lessons check 7 --watch` beside this file. From this lesson on
# `--device gpu` checks your code on a GPU too, if you have one. You need none.

# %% [markdown]
# ## Two memories
#
# AlexNet was too big for one GPU: a GTX 580 has 3 GB of memory. So the paper
# cut the network into two towers and put each on a GPU of its own. Three of
# its eight layers look at their own tower only. In four others each GPU needs
# the numbers of the other, and they must be carried over. **Where numbers
# lie** has shaped this network.
#
# A GPU has a memory of its own and computes with what lies there. Python holds
# no more than a name for an array over there. A library, CuPy, passes on the
# orders; its functions have NumPy's names, so that `np.tanh(x)` and
# `cupy.tanh(x)` do the same in the two memories.
#
# You may not have a GPU. So here is a far memory for any machine, a library
# called `far`. Its arrays are NumPy arrays behind a fence. One can compute
# with them as long as everything lies behind the fence; NumPy is not let in;
# and each time something crosses the fence, `far` writes it down. How it is
# made does not matter here, so you need not read it. Go on at the last lines
# of the cell, after `far.__getattr__`: they say what it does.

# %%
import types

import numpy as np

from minidl import Function, Tensor, default_device, gradcheck

crossings = []  # ("there" or "back", how many bytes)


def over_there(function, name):
    """A function of NumPy's, behind the fence: far arrays in, and out."""

    def call(*args, **options):
        if any(isinstance(x, np.ndarray) for x in args):
            raise TypeError(f"far.{name}: a NumPy array among far arrays")
        inside = [x.inside if isinstance(x, FarArray) else x for x in args]
        return FarArray(function(*inside, **options))

    return call


def brought_back(kind):
    """What int(x), float(x) and `if x` ask of an array: its number, here."""
    return lambda x: kind(x.get())


class FarArray:
    """An array in the far memory. We hold its name, not its numbers."""

    __module__ = "far"  # Python keeps here which library a class is from

    def __init__(self, inside):
        self.inside = np.asarray(inside)  # behind the fence: hands off!

    def __getattr__(self, name):  # x.shape, x.sum() and so on
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self.inside, name)
        if isinstance(found, np.ndarray):
            return FarArray(found)
        return over_there(found, name) if callable(found) else found

    __add__ = __radd__ = over_there(np.add, "add")
    __mul__ = __rmul__ = over_there(np.multiply, "multiply")
    __sub__ = over_there(np.subtract, "subtract")
    __rsub__ = over_there(lambda x, y: y - x, "subtract")
    __neg__ = over_there(np.negative, "negative")
    __truediv__ = over_there(np.divide, "divide")
    __matmul__ = over_there(np.matmul, "matmul")
    __eq__ = over_there(np.equal, "equal")

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        return over_there(lambda x, *i: x[i], "getitem")(self, *parts)

    def __setitem__(self, index, value):
        parts = index if isinstance(index, tuple) else (index,)
        put = over_there(lambda x, v, *i: x.__setitem__(i, v), "setitem")
        put(self, value, *parts)

    def __len__(self):
        return len(self.inside)

    def __repr__(self):
        return f"<far array: shape {self.shape}, {self.dtype}>"

    def __array__(self, *args, **options):  # what np.asarray(x) looks for
        raise TypeError("NumPy cannot reach into the far memory")

    def __array_ufunc__(self, function, *args, **options):  # np.exp(x)
        name = f"numpy.{function.__name__}"
        raise TypeError(f"{name} cannot reach into the far memory")

    __array_function__ = __array_ufunc__  # np.where(x, ...)

    def get(self):
        """The numbers as a NumPy array: they cross the fence."""
        crossings.append(("back", self.inside.nbytes))
        return self.inside.copy()

    __int__, __float__, __bool__ = map(brought_back, (int, float, bool))
    item, tolist = map(brought_back, (np.ndarray.item, np.ndarray.tolist))


def carry_there(array):
    """A far array with these numbers: they cross the fence."""
    array = np.array(array)
    crossings.append(("there", array.nbytes))
    return FarArray(array)


def any_other(name):
    """far.tanh, far.zeros, far.arange ...; types like float32 are shared."""
    found = getattr(np, name)
    return found if isinstance(found, type) else over_there(found, name)


far = types.ModuleType("far")  # what `import far` would give
far.asarray, far.asnumpy = carry_there, FarArray.get
far.__getattr__ = any_other

x = far.asarray([0.5, 1.0, 2.0])
y = far.tanh(x) * 2
print(y)
print(y.get())
print(crossings)

# %% [markdown]
#     <far array: shape (3,), float64>
#     [0.92423431 1.52318831 1.92805516]
#     [('there', 24), ('back', 24)]
#
# Three numbers went there and three came back, of 8 bytes each; tanh and the
# product were computed over there. (The 2 is a plain number, it may travel
# with the order.)
#
# ## The stray np.
#
# Now some lines as one writes them for NumPy alone:


# %%
def attempt(what, call):
    """Try it, and show the result, or what Python says."""
    try:
        print(f"{what}: {call()}")
    except TypeError as error:
        print(f"{what}: TypeError: {error}")


attempt("x + x.max()", lambda: x + x.max())
attempt("np.tanh(x)", lambda: np.tanh(x))
attempt("x + np.arange(3)", lambda: x + np.arange(3))

# %% [markdown]
#     x + x.max(): <far array: shape (3,), float64>
#     np.tanh(x): TypeError: numpy.tanh cannot reach into the far memory
#     x + np.arange(3): TypeError: far.add: a NumPy array among far arrays
#
# Operators and methods (`+`, `x.max()`) belong to the array and run where it
# lies. Trouble comes from functions that are called **by the name of a
# library**, and there are two kinds:
#
# - Functions *of* an array, as `np.tanh(x)`. CuPy is kinder than `far` here:
#   it sees NumPy called with one of its arrays and does the work itself.
# - Functions that *make* an array: `np.arange`, `np.zeros`, `np.eye`. They
#   cannot know where you want it, and put it into the near memory. CuPy
#   refuses to mix the two, just as `far` does.
#
# On a CPU you would notice neither. That makes a stray `np.` a nasty mistake:
# all is well until somebody has a GPU. With `far` it is found today.
#
# ## One name for both libraries
#
# The remedy is one line at the top of a function: ask the array which library
# it comes from, call this library `xp`, and write `xp.` where you would have
# written `np.`. How does one ask? Every class knows the module that it was
# made in, and for arrays it begins with the library's name:

# %%
for thing in (np.zeros(2), x, 3.0, np.float32(3)):
    print(f"{type(thing).__name__:<9} comes from {type(thing).__module__}")

# %% [markdown]
#     ndarray   comes from numpy
#     FarArray  comes from far
#     float     comes from builtins
#     float32   comes from numpy
#
# For an array of CuPy it is `cupy`, in some versions with a point and more
# behind it; so look at the part before the first point only. There are three
# libraries, then. What comes from none of them, a plain number for instance,
# is NumPy's business. And import CuPy only where you need it: when one of its
# arrays has come, it is there; at the top of the file the import would stop
# everybody who has no GPU.


# %%
def get_array_module(x):
    """The library that made the array x: numpy, far or cupy.

    Plain numbers, Python's or NumPy's, belong to numpy.
    """
    library = type(x).__module__.partition(".")[0]
    ### BEGIN SOLUTION: far, cupy (imported here), or numpy for all the rest
    if library == "far":
        return far
    if library == "cupy":
        import cupy

        return cupy
    return np
    ### END SOLUTION


print(get_array_module(np.zeros(2)).__name__, get_array_module(x).__name__)

# %% [markdown]
# ## An operation for both
#
# tanh is the S-shaped curve that networks used before ReLU: -1 far on the
# left, 1 far on the right. The next lesson needs it. As an operation of the
# engine it has a `forward`, from array to array, and a `backward`, in Tensors.
# Only `forward` touches arrays. `backward` is made of operations that work on
# both devices already. (The slope of tanh is $1 - tanh^2$. minidl's gradcheck,
# below, gets a function and the shape of an `x`, which it draws itself.)


# %%
class Tanh(Function):
    """The hyperbolic tangent, element by element."""

    def forward(self, x):
        ### BEGIN SOLUTION: tanh, of the library that made x
        xp = get_array_module(x)
        return xp.tanh(x)
        ### END SOLUTION

    def backward(self, gradient):
        (x,) = self.inputs
        y = Tanh()(x)
        return gradient * (1.0 - y * y)


print(Tanh().forward(np.array([0.5, 1.0, 2.0])))
print(Tanh().forward(x))
report = gradcheck(lambda t: Tanh()(t), (2, 3))
print("gradcheck:", "passes" if report else "fails")

# %% [markdown]
#     [0.46211716 0.76159416 0.96402758]
#     <far array: shape (3,), float64>
#     gradcheck: passes
#
# ## An array out of nothing
#
# Now the kind that CuPy does not forgive. Labels are numbers, say 2, 0, 1: the
# first image shows class 2, and so on. For a loss we want a row for each
# image, with a 1 at its class and 0 elsewhere. This is called *one-hot*:
#
#     2         0  0  1
#     0   ->    1  0  0
#     1         0  1  0
#
# One way: compare the labels as a column, `labels[:, None]`, with all classes
# as a row, 0, 1, 2 and so on, which the library's `arange` makes. Broadcasting
# (lesson 5) turns the two into a matrix of True and False, and
# `.astype(xp.float32)` into 1 and 0. No loop: on a far array it would bring
# back one number after the other.


# %%
def one_hot(labels, classes):
    """Labels (N,), integers, as an array (N, classes) of 0 and 1, float32.

    The result lies where the labels lie.
    """
    ### BEGIN SOLUTION: compare the column of labels with a row of classes
    xp = get_array_module(labels)
    return (labels[:, None] == xp.arange(classes)).astype(xp.float32)
    ### END SOLUTION


print(one_hot(np.array([2, 0, 1]), 3))
print(one_hot(far.asarray([2, 0, 1]), 3))

# %% [markdown]
# ## What it costs
#
# At some point numbers must cross: the images go there, the results come back.
# CuPy has the same two functions for it as `far`, `asarray` and `asnumpy`.
#
# An H100, a GPU of today, reads its own memory at 3,350 GB a second, and what
# comes from the computer at 64 GB a second at most: one fiftieth. (Both are
# makers' figures.) And every crossing, even of one number, has a cost apart
# from its size: the GPU works through a list of orders while Python writes new
# ones at its end. Whoever asks for a number waits until the list is done, and
# meanwhile nobody writes new orders.
#
# So one innocent line can slow down a program. Here a classifier is tested,
# and each batch asks for its number:


# %%
def accuracy_asking(batches, scores_of):
    """The share of right answers; each batch brings its count back."""
    right = seen = 0
    for images, labels in batches:
        best = scores_of(images).argmax(axis=1)
        right += int((best == labels).sum())
        seen += len(labels)
    return right / seen


rng = np.random.default_rng(0)
weight = rng.standard_normal((16, 10))
images = rng.standard_normal((1000, 16))
noise = rng.standard_normal((1000, 10))
labels = (images @ weight + 3 * noise).argmax(axis=1)
far_weight = far.asarray(weight)
far_batches = []
for i in range(0, 1000, 64):  # the last batch has only 40
    part = slice(i, i + 64)
    pair = far.asarray(images[part]), far.asarray(labels[part])
    far_batches.append(pair)

crossings.clear()
share = accuracy_asking(far_batches, lambda batch: batch @ far_weight)
print(f"{share:.1%} right, {len(crossings)} crossings")

# %% [markdown]
#     48.2% right, 16 crossings
#
# `int(...)` is the innocent line: 16 batches, 16 crossings. `.item()`,
# `float(...)`, `print(...)` and `if x > 0` ask as well. But nobody needs the
# count before the end! A sum that lies over there can go on growing there: let
# `right` be a far array with a single number in it.


# %%
def accuracy(batches, scores_of):
    """The share of right answers, a Python float; it crosses over once.

    batches: pairs (images, labels). scores_of: images -> scores (N, classes);
    the class with the highest score is the answer.
    """
    right = seen = 0
    for images, labels in batches:
        ### BEGIN SOLUTION: add to right and seen; right stays over there
        best = scores_of(images).argmax(axis=1)
        right = right + (best == labels).sum()
        seen += len(labels)
        ### END SOLUTION
    return float(right) / seen


crossings.clear()
share = accuracy(far_batches, lambda batch: batch @ far_weight)
print(f"{share:.1%} right, {len(crossings)} crossing")

# %% [markdown]
#     48.2% right, 1 crossing
#
# (Why not take the mean of 16 shares? The last batch is smaller; each of its
# images would count for more.)
#
# In minidl all operations are written with `xp`, as yours are. Only one thing
# is chosen, the *default device*, on which new Tensors are made:

# %%
t = Tensor([0.5, 1.0, 2.0])
try:
    with default_device("gpu"):
        t = Tensor([0.5, 1.0, 2.0])
except RuntimeError:
    print("There is no GPU here.")
print("tanh on", t.device, "gives", Tanh()(t).numpy())

# %% [markdown]
# ## When is it worth the way?
#
# To multiply two matrices of $n$ rows and $n$ columns takes $2 n^3$ operations
# on $3 n^2$ numbers, two matrices to carry there and one back. Work grows
# faster than baggage. In the picture is the time of one product. The dots are
# measured here, on your CPU. The lines are not measured: they are the best an
# H100 can do by makers' figures, which are the two above and 494.7 million
# million operations a second (in a mode, TF32, that keeps about three digits
# of each factor). Real programs do not come so close.

# %%
import time

import matplotlib.pyplot as plt


def seconds_here(n):
    """How long NumPy takes for one product of n x n matrices; best of 3."""
    matrix = np.ones((n, n), np.float32)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begin)
    return min(times)


figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
sizes = [64, 128, 256, 512, 1024]
measured = [seconds_here(n) for n in sizes]
axes.loglog(sizes, measured, "o", color="tab:blue", label="measured here")
n = 2.0 ** np.arange(6, 14)
baggage = 3 * n**2 * 4  # bytes
computing = np.maximum(2 * n**3 / 494.7e12, baggage / 3350e9)
carrying = baggage / 64e9
with_carrying = computing + carrying
axes.loglog(n, with_carrying, color="tab:orange", label="H100, carrying")
axes.loglog(n, computing, "--", color="tab:green", label="H100, at home")
axes.set(xlabel="rows and columns n", ylabel="seconds")
axes.set(title="One product of two n x n matrices")
axes.legend(frameon=False, loc="upper left")
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("07_devices.png", dpi=120)
plt.show()

print(f"n = {n[6]:g}: compute {computing[6] * 1000:.2f} ms,", end=" ")
print(f"carry {carrying[6] * 1000:.2f} ms")

# %% [markdown]
#     n = 4096: compute 0.28 ms, carry 3.15 ms
#
# Even for matrices as large as these, more than nine tenths of the time go
# into carrying. So: **carry once, then stay**. The weights of a network live
# on the GPU from the first step to the last. A batch of images goes there, and
# a loss comes back when somebody wants to see it.
#
# ## What you can now do
#
# - write array code for two libraries, with `xp` from the array itself;
# - find a stray `np.` on a machine that has no GPU;
# - see where a program carries numbers, and let them stay where they are.
#
# Now read `minidl/backend.py`, the only file of minidl that knows of two
# libraries. `get_array_module` is yours, without the far one. It differs from
# yours in what stands around it: a computer may have several GPUs, so there a
# *device* is named ("cpu", "gpu:1"); `to_device` carries an array to it, if it
# is not there already; `on_device` and `beside` see to it that new arrays are
# made on the right one. And whoever asks for a GPU without having CuPy is told
# what to install.
#
# **The next lesson** goes back to 1943, to a neuron that can only say yes or
# no, and from there to layers. It needs your Tanh.
