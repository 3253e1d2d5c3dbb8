# %% [markdown]
# # Lesson 5: From scalars to arrays: broadcasting and its transpose
#
# **You will be able to** build numbers that remember out of whole arrays, and
# to carry gradients back through shapes that do not match.
#
# **Time:** 40 minutes. **Builds on:** lesson 3 (`backward`, leaves), lesson 4
# (random directions), arrays in NumPy.
# **Source:** Harris et al., "Array programming with NumPy", *Nature* 585
# (2020); the sizes of AlexNet's layers are in section 3.5 of its paper.
#
# As before: `python -m lessons check 5 --watch` beside this file.

# %% [markdown]
# ## One number, used 387,200 times
#
# The first layer of AlexNet makes 96 maps of 55 x 55 numbers for each of 128
# images. To every number of a map the same *bias* is added, one for each map.
# So there are 96 biases, and each is used 128 * 55 * 55 = 387,200 times. In
# NumPy that is `maps + bias`, with the shapes (128, 55, 55, 96) and (96,):

# %%
import numpy as np

maps = np.zeros((2, 3, 3, 4))  # 2 images, 3 x 3 places, 4 maps: a small one
bias = np.array([1.0, 2.0, 3.0, 4.0])
print((maps + bias).shape, "of", maps.shape, "and", bias.shape)

# %% [markdown]
# This is called *broadcasting*: the smaller array is repeated, without a word,
# until the shapes match. A wonderful thing; and a riddle for the way back. At
# the result a gradient of shape (128, 55, 55, 96) arrives. At the biases one
# of shape (96,) must. What has to be done to it in between?
#
# First our numbers that remember have to become arrays. Here is the `Scalar`
# of lesson 3, grown up. One thing is new: in place of local slopes, of which
# arrays would need a million, a Tensor has a function `back`, the `backward`
# of lesson 4. It gets what arrives at the Tensor, and returns what is to
# arrive at each of its inputs. The rest is as it was.


# %%
class Tensor:
    """An array that remembers how it was made.

    array:  the numbers
    inputs: the Tensors that it was computed from; none for a leaf
    back:   a function: from what arrives here, what arrives at each input
    grad:   what a leaf has collected, an array of the same shape
    """

    __array_ufunc__ = None  # array + tensor is for us to answer, not NumPy

    def __init__(self, array, inputs=(), back=None):
        self.array = np.asarray(array, dtype=np.float64)
        self.inputs = inputs
        self.back = back
        self.grad = np.zeros(self.array.shape)

    @property
    def shape(self):
        return self.array.shape

    def __add__(self, other):
        return add(self, as_tensor(other))

    def __mul__(self, other):
        return multiply(self, as_tensor(other))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + as_tensor(other) * -1.0


def as_tensor(value):
    return value if isinstance(value, Tensor) else Tensor(value)


def order(result):
    """All Tensors behind `result`, each after those who use it (lesson 2)."""
    waiting, todo = {result: 0}, [result]
    while todo:
        for source in todo.pop().inputs:
            if source not in waiting:
                waiting[source] = 0
                todo.append(source)
            waiting[source] += 1
    ready, found = [result], []
    while ready:
        found.append(ready.pop())
        for source in found[-1].inputs:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    return found


def backward(result, gradient):
    """Add to the grad of every leaf behind `result` what arrives there.

    gradient: what arrives at `result`, an array of its shape.
    """
    totals = {result: np.asarray(gradient, dtype=np.float64)}
    for node in order(result):
        if not node.inputs:
            node.grad = node.grad + totals[node]
            continue
        for source, share in zip(node.inputs, node.back(totals[node])):
            if np.shape(share) != source.shape:
                arrives = f"{np.shape(share)} arrives at {source.shape}"
                raise ValueError(f"{arrives}: does `back` sum it down?")
            totals[source] = totals.get(source, 0.0) + share


# %% [markdown]
# ## The rule
#
# When do two shapes match? Write them one below the other, so that they **end
# together**, on the right, and go through the axes. Two sizes match when they
# are equal or one of them is 1; a size of 1 is repeated. A shape that is too
# short gets ones in front.
#
#     maps      2  3  3  4        a        4  1        labels      5
#     bias               4        b           3        guesses  5  1
#     result    2  3  3  4        result   4  3        result   5  5
#
# So in `maps + bias` the bias is repeated along the axes 0, 1 and 2 of the
# result. In `a + b` both are repeated: `a` along axis 1, `b` along axis 0.
# (And look at the third. Someone wanted five differences and got twenty-five.
# We come back to it.)
#
# Which axes are the repeated ones? Two kinds: those in front, which the small
# shape does not have, and those where it has a 1 and the result has not. Write
# a function that says which, as a tuple of numbers, counted in the *result*.
# (Axis `i` of the small shape is axis `i + extra` of the result, if `extra`
# axes were put in front.)


# %%
def repeated_axes(shape, result_shape):
    """The axes of the result along which an array of `shape` is repeated.

    repeated_axes((3, 1), (2, 3, 4)) is (0, 2).
    """
    extra = len(result_shape) - len(shape)
    ### BEGIN SOLUTION: the axes in front, then those that grew from size 1
    axes = list(range(extra))
    for i, size in enumerate(shape):
        if size == 1 and result_shape[i + extra] != 1:
            axes.append(i + extra)
    return tuple(axes)
    ### END SOLUTION


print("bias: ", repeated_axes((4,), (2, 3, 3, 4)))
print("a + b:", repeated_axes((4, 1), (4, 3)), repeated_axes((3,), (4, 3)))

# %% [markdown]
# ## The way back
#
# Now the riddle. A bias that is used 387,200 times has 387,200 ways to the
# end, and "over several ways add" (lesson 1) answers it: whatever arrives at
# its 387,200 copies is summed up. **What was repeated on the way forward is
# summed on the way back**, along the same axes.
#
# Sum the gradient along the repeated axes, and see to it that the result has
# exactly the shape that was asked for. `gradient.sum(axis=(0, 2))` sums along
# two axes and removes them; a size of 1 that was repeated must come back as a
# 1 (`reshape`). With `axis=()`, none, `sum` leaves all as it is.


# %%
def sum_to(gradient, shape):
    """`gradient` summed down to `shape`: the way back of broadcasting."""
    ### BEGIN SOLUTION: sum along the repeated axes, then give it the shape
    axes = repeated_axes(shape, gradient.shape)
    return gradient.sum(axis=axes).reshape(shape)
    ### END SOLUTION


arrived = np.array([[1.0, 2.0, 0.0], [5.0, -1.0, 1.0], [0.0, 3.0, 4.0]])
print("to (3,):  ", sum_to(arrived, (3,)))
print("to (3, 1):", sum_to(arrived, (3, 1)).tolist())
print("to ():    ", sum_to(arrived, ()))

# %% [markdown]
#     to (3,):   [6. 4. 5.]
#     to (3, 1): [[3.0], [5.0], [7.0]]
#     to ():     15.0
#
# Why is this the *transpose*? Repeating an array makes every number of the
# result out of numbers of the input, each times 1 or 0. So it is a product
# with a matrix, of ones and zeros: a row for every number of the result, a
# column for every number of the input. Turn the matrix over, so that rows
# become columns, and you have the way back: each row now collects all places
# where one input was used. It is on the right of this picture. On the left
# and in the middle: `a` of shape (4, 1) and `b` of shape (3,), forward and
# back.

# %%
import matplotlib.pyplot as plt

a = np.array([[10.0], [20.0], [30.0], [40.0]])
b = np.array([1.0, 2.0, 3.0])
arrived = np.array([[1.0, 0, 2], [-1, 3, 0], [2, 2, -2], [0, 1, 4]])


def numbers(axes, table, left, top, colour):
    """Draw the numbers of a table, its upper left corner at (left, top)."""
    for (row, column), value in np.ndenumerate(np.atleast_2d(table)):
        x, y = left + column, top + row
        axes.add_patch(plt.Rectangle((x, y), 1, 1, fc=colour, ec="white"))
        axes.text(x + 0.5, y + 0.5, f"{value:g}", ha="center", va="center")


figure = plt.figure(figsize=(11, 4.4), layout="constrained")
first, second, third = figure.subplots(1, 3, width_ratios=(3, 3, 2))
numbers(first, a, 0, 1.5, "moccasin")
numbers(first, b, 1.5, 0, "lightblue")
numbers(first, a + b, 1.5, 1.5, "whitesmoke")
first.set(title="forward: a and b are repeated")
first.text(0.5, 1.2, "a", ha="center", va="center")
first.text(1.2, 0.5, "b", ha="center", va="center")
numbers(second, arrived, 1.5, 1.5, "whitesmoke")
numbers(second, sum_to(arrived, a.shape), 0, 1.5, "moccasin")
numbers(second, sum_to(arrived, b.shape), 1.5, 0, "lightblue")
second.text(0.5, 1.2, "at a", ha="center", va="center")
second.text(1.1, 0.5, "at b", ha="center", va="center")
second.set(title="back: sums of the rows, of the columns")
for axes in (first, second):
    axes.set(xlim=(-0.2, 4.7), ylim=(5.7, -0.2), aspect="equal")
    axes.axis("off")
columns = []
for unit in np.eye(3):  # a column of the matrix: what becomes of one number
    columns.append(np.broadcast_to(unit, (4, 3)).reshape(-1))
third.imshow(np.transpose(columns), cmap="Blues", vmin=0, vmax=1.6)
third.set(title="repeating b, as a matrix", xlabel="the 3 numbers of b")
third.set(ylabel="the 12 numbers of the result", xticks=[], yticks=[])
figure.savefig("05_broadcasting.png", dpi=120)
plt.show()

# %% [markdown]
# A check without any example follows from this. For every matrix, with $x$
# going in on one side and $g$ coming back on the other, the two sums
# $sum(repeated(x) * g)$ and $sum(x * sumto(g))$ are equal. (Both add up the
# same products, in another order.) Lesson 10 will live on it:

# %%
rng = np.random.default_rng(5)
x, g = rng.standard_normal((2, 1, 3)), rng.standard_normal((4, 2, 5, 3))
repeated = np.broadcast_to(x, g.shape)  # what adding to zeros would make of x
print(f"{(repeated * g).sum():.6f}  {(x * sum_to(g, x.shape)).sum():.6f}")

# %% [markdown]
# ## Add and multiply
#
# Now the two operations. Each computes its result, and defines the function
# `back`, which knows `a` and `b` and gets what has arrived at the result. It
# returns a pair: what is to arrive at `a`, and at `b`, each in its own shape.
#
# A sum moves as fast as its inputs: what arrives at the result arrives at
# both, but summed down. For a product multiply first by the local slopes of
# lesson 1, element by element, and then sum down.


# %%
def add(a, b):
    """a + b for two Tensors whose shapes match."""

    def back(arrived):
        """What is to arrive at a, and at b."""
        ### BEGIN SOLUTION: the same for both, summed down to their shapes
        return sum_to(arrived, a.shape), sum_to(arrived, b.shape)
        ### END SOLUTION

    return Tensor(a.array + b.array, (a, b), back)


def multiply(a, b):
    """a * b, element by element, for two Tensors whose shapes match."""

    def back(arrived):
        """What is to arrive at a, and at b."""
        ### BEGIN SOLUTION: times the other factor, then summed down
        at_a = sum_to(arrived * b.array, a.shape)
        at_b = sum_to(arrived * a.array, b.shape)
        return at_a, at_b
        ### END SOLUTION

    return Tensor(a.array * b.array, (a, b), back)


a, b = Tensor([[10.0], [20.0]]), Tensor([1.0, 2.0, 3.0])
backward(a * b + b, [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
print("a.grad", a.grad.tolist(), " b.grad", b.grad.tolist())

# %% [markdown]
#     a.grad [[1.0], [6.0]]  b.grad [11.0, 0.0, 42.0]
#
# Trust nothing (lesson 4): a matrix of shapes. For each pair of them both
# inputs are moved along a random direction, and what arrives is random too.


# %%
SHAPES = [(), (1,), (3,), (2, 1), (2, 3), (4, 1, 1), (4, 1, 3), (4, 2, 3)]


def right(operation, a_shape, b_shape, eps=1e-6):
    """Whether backward agrees with small steps, for these two shapes."""
    a, b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
    to_a, to_b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)

    def moved(step):
        return operation(Tensor(a + step * to_a), Tensor(b + step * to_b))

    here = moved(0.0)
    arrived = rng.standard_normal(here.shape)
    change = moved(eps).array - moved(-eps).array
    measured = (arrived * change).sum() / (2 * eps)
    backward(here, arrived)
    at_a, at_b = here.inputs
    says = (at_a.grad * to_a).sum() + (at_b.grad * to_b).sum()
    return abs(says - measured) <= 1e-8 + 1e-5 * min(abs(says), abs(measured))


print(" " * 10, *[f"{shape!s:9}" for shape in SHAPES])
for a_shape in SHAPES:
    row = []
    for b_shape in SHAPES:
        both = [right(f, a_shape, b_shape) for f in (add, multiply)]
        row.append(f"{'fine' if all(both) else 'WRONG':9}")
    print(f"{a_shape!s:10}", *row)

# %% [markdown]
# ## How was the photograph spoiled?
#
# Something to do with it. Here is one of the small photographs that come with
# minidl, and a spoiled copy. Somebody has multiplied each *row* by a number,
# each *colour* by a number, and added a fog to each colour. With broadcasting
# one line says it, and its three knobs have three different shapes:

# %%
from minidl.data import EmbeddedCIFAR10  # 32 x 32 pixels, three colours each


def photograph(number):
    return EmbeddedCIFAR10(train=False).images[number] / 255


photo = photograph(643)
shade = 0.65 + 0.35 * np.cos(np.arange(32) / 5).reshape(32, 1, 1)
spoiled = photo * shade * [0.8, 0.6, 0.4] + [0.1, 0.0, 0.3]


def spoil(rows, colours, fog):
    """(32, 32, 3) times (32, 1, 1) times (3,) plus (3,)."""
    return photo * rows * colours + fog


knobs = [Tensor(np.ones((32, 1, 1))), Tensor(np.ones(3)), Tensor(np.zeros(3))]
guesses, losses = {}, []
for step in range(401):
    guess = spoil(*knobs)
    distance = guess - spoiled
    loss = distance * distance
    losses.append(loss.array.mean())
    if step in (0, 10, 400):
        guesses[step] = guess.array
        print(f"step {step:3}: loss {losses[-1]:.6f}")
    for knob in knobs:
        knob.grad = np.zeros(knob.shape)
    backward(loss, np.ones(loss.shape))
    for knob in knobs:
        uses = photo.size / knob.grad.size
        knob.array = knob.array - 0.7 * knob.grad / uses

rows, colours, fog = (knob.array for knob in knobs)
print("colours, in units of the first:", (colours / colours[0]).round(2))
print("fog:", fog.round(2) + 0.0)

# %% [markdown]
#     step   0: loss 0.053352
#     step  10: loss 0.002882
#     step 400: loss 0.000000
#     colours, in units of the first: [1.   0.75 0.5 ]
#     fog: [0.1 0.  0.3]
#
# It has found out: 0.6 / 0.8 = 0.75 and 0.4 / 0.8 = 0.5. (Why only in units
# of the first? If all rows are twice as bright and all colours half as bright,
# the picture is the same. No photograph can tell.) The knob of a row is used
# 96 times and that of a colour 1,024 times, so what arrives is a sum of that
# many; dividing by it makes one rate fit all three.

# %%
figure = plt.figure(figsize=(11, 3.2), layout="constrained")
panels = figure.subplots(1, 5, width_ratios=(2, 2, 2, 2, 3))
pictures = {"the photograph": photo, "the spoiled copy": spoiled}
pictures |= {f"guess, step {n}": guesses[n] for n in (10, 400)}
for axes, (title, picture) in zip(panels, pictures.items()):
    axes.imshow(np.clip(picture, 0, 1))
    axes.set(title=title)
    axes.axis("off")
scale = shade.mean() / rows.mean()
panels[4].plot(shade.reshape(-1), "o", ms=4, color="grey", label="was done")
panels[4].plot(rows.reshape(-1) * scale, color="tab:blue", label="found out")
panels[4].set(xlabel="row", title="each row times ...", ylim=(0, 1.3))
panels[4].legend(frameon=False, ncols=2)
panels[4].spines[["top", "right"]].set_visible(False)
figure.savefig("05_photograph.png", dpi=120)
plt.show()

# %% [markdown]
# ## The most expensive broadcast
#
# Now to the third example of the rule. Five guesses, all of them right; they
# come out of a network as a column, and the labels are a plain row of five:

# %%
labels = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
guesses = labels.reshape(5, 1)
squares = (Tensor(labels) - Tensor(guesses)).array ** 2
print("shape", squares.shape, " mean", squares.mean())

# %% [markdown]
# All guesses are right, and the loss is 5.12! Every label was compared with
# every guess. Nothing stops, no message comes, and training even makes
# progress: it finds out that the best guess is the mean of all labels. When a
# loss refuses to fall, print the shapes first.
#
# ## What you can now do
#
# - say which axes broadcasting repeats, and why what arrives is summed along
#   them;
# - write an operation on arrays of any matching shapes, forward and back;
# - recognise a transpose when you see one, and check it without an example.
#
# Now read in `minidl/core/arithmetic.py` the classes `Add` and `Multiply`, and
# in `minidl/core/shape.py` `SumTo`. They differ from yours: an operation is a
# class with two methods, and its `backward` works on Tensors, not on arrays.
# So `SumTo` is an operation too, and its own way back is `BroadcastTo`: each
# is the transpose of the other.
#
# **The next lesson** asks for the slope of a slope. For that, what comes back
# must itself remember how it was made. With matrix products, sums and indices
# it completes the engine; from then on you use the one of minidl.
