# %% [markdown]
# # Lesson 6: matmul, sum, reshape, indexing, and the slope of a slope
#
# **You will be able to** write any operation as two methods of a class, in
# such a way that its gradient can be differentiated once more.
#
# **Time:** 45 minutes. **Builds on:** lesson 5 (broadcasting, `sum_to`),
# lesson 4 (random directions), matrix products, classes in Python.
# **Source:** Pearlmutter, "Fast exact multiplication by the Hessian", *Neural
# Computation* 6 (1994). The paper on AlexNet needs first slopes only.
#
# As before: `python -m lessons check 6 --watch` beside this file.

# %% [markdown]
# ## Which way, and how far?
#
# The slope says which way is down. It does not say how far: in lesson 3 a
# learning rate of 0.1 was simply given. Someone walking down to a valley would
# look ahead: does it get flatter soon, or does the hill go on? That is a
# question about the slope itself. How fast does *it* change? It is the slope
# of the slope, and of $x^3$ at 2 we can measure it. The slope of $x^3$ is
# $3 x^2$:

# %%
print(f"{(3 * 2.001**2 - 3 * 1.999**2) / 0.002:.6f}")

# %% [markdown]
# It prints 12. Could our engine find that out by itself? In lesson 5 it could
# not. What `back` returned were plain arrays, and an array does not know how
# it was made. But if the way back were computed with *Tensors*, then every
# step of it would be recorded, as every step of the way forward is. And what
# is recorded can be walked back. That is the whole idea of this lesson.
#
# So an operation becomes a class with two methods: `forward` computes with
# arrays, since it must be fast and nobody looks inside; `backward` computes
# with Tensors. Here is the engine, that of minidl in small, with the same
# names. There is nothing to fill in. Read `Function` and `grad`, and run over
# the rest, which you know. (`operations_behind` is the order of lesson 2.)
# What is new:
#
# - `requires_grad` says of which Tensors somebody wants a gradient. Operations
#   on others are not recorded.
# - `grad` hands the gradients over, where lesson 5 left them in the leaves.
# - It walks back inside `no_grad()`, where nothing is recorded, to spare time
#   and memory; unless you say `create_graph=True`.

# %%
import itertools
from contextlib import contextmanager, nullcontext

import numpy as np

clock = itertools.count()  # 0, 1, 2, ...: operations are numbered by age
recording = True


@contextmanager
def no_grad():
    """Inside `with no_grad():` no operation is recorded."""
    global recording
    before, recording = recording, False
    try:
        yield
    finally:
        recording = before


class Function:
    """One operation, used once. A kind of operation defines

    forward(self, *arrays): the result, an array
    backward(self, gradient): from the Tensor that arrives at the result, the
        Tensors that are to arrive at the inputs: a tuple, or one alone. It
        finds the inputs, Tensors too, in self.inputs.
    """

    def __call__(self, *inputs):
        output = Tensor(self.forward(*[t.data for t in inputs]))
        if recording and any(t.requires_grad for t in inputs):
            self.inputs, self.number = inputs, next(clock)
            output.requires_grad, output.grad_fn = True, self
        return output


class Tensor:
    """An array that remembers the operation that made it.

    data: the array. grad_fn: the Function it is the result of, or None.
    requires_grad: whether anybody wants a gradient of it.
    """

    __array_ufunc__ = None  # array + tensor is for us to answer, not NumPy

    def __init__(self, data, requires_grad=False):
        self.data = np.array(data, dtype=np.float64)
        self.requires_grad = requires_grad
        self.grad_fn = None

    @property
    def shape(self):
        return self.data.shape

    @property
    def T(self):
        return Transpose()(self)

    def __add__(self, other):
        return Add()(self, as_tensor(other))

    def __mul__(self, other):
        return Multiply()(self, as_tensor(other))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + as_tensor(other) * -1.0

    def __matmul__(self, other):
        return MatMul()(self, as_tensor(other))

    def __getitem__(self, index):
        return GetItem(index)(self)

    def reshape(self, *shape):
        if shape and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        return Reshape(shape)(self)

    def sum(self, axis=None, keepdims=False):
        if axis is None:
            axis = range(self.data.ndim)
        axes = np.atleast_1d(axis).astype(int) % max(self.data.ndim, 1)
        return Sum(tuple(axes.tolist()), keepdims)(self)


def as_tensor(value):
    return value if isinstance(value, Tensor) else Tensor(value)


def operations_behind(output):
    """The newest first: nobody is older than what it was made of."""
    found, todo = set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in found:
            found.add(node)
            todo += [t.grad_fn for t in node.inputs]
    return sorted(found, key=lambda node: node.number, reverse=True)


def grad(output, inputs, create_graph=False):
    """The gradient of `output`, a single number, with respect to `inputs`.

    inputs: a Tensor, or a list of them; then the result is a list too.
    create_graph: record the way back as well, so that the gradients, which
    are Tensors, can be differentiated again.
    """
    if output.data.size != 1:
        raise ValueError(f"grad of shape {output.shape}: sum it up first")
    totals = {output.grad_fn or output: Tensor(np.ones(output.shape))}
    with nullcontext() if create_graph else no_grad():
        for node in operations_behind(output):
            gradients = node.backward(totals[node])
            if not isinstance(gradients, tuple):
                gradients = (gradients,)
            for source, share in zip(node.inputs, gradients):
                if share.shape != source.shape:
                    name = f"{type(node).__name__}.backward"
                    shapes = f"{share.shape} for an input of {source.shape}"
                    raise RuntimeError(f"{name} returned shape {shapes}")
                key = source.grad_fn or source
                totals[key] = totals[key] + share if key in totals else share
    if isinstance(inputs, Tensor):
        return totals.get(inputs.grad_fn or inputs, inputs * 0.0)
    return [totals.get(t.grad_fn or t, t * 0.0) for t in inputs]


# %% [markdown]
# And here are the operations of lesson 5 in their new form. `sum_to` and
# `broadcast_to` are operations too, because the way back uses them. Each is
# the other's way back.


# %%
class Add(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gradient):
        a, b = self.inputs
        return sum_to(gradient, a.shape), sum_to(gradient, b.shape)


class Multiply(Function):
    def forward(self, a, b):
        return a * b

    def backward(self, gradient):
        a, b = self.inputs
        return sum_to(gradient * b, a.shape), sum_to(gradient * a, b.shape)


class Transpose(Function):
    def forward(self, x):
        return x.T

    def backward(self, gradient):
        return gradient.T


class SumTo(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        extra = x.ndim - len(self.shape)
        ones = [i for i, n in enumerate(self.shape, extra) if n == 1]
        axes = (*range(extra), *ones)
        return x.sum(axis=axes, keepdims=True).reshape(self.shape)

    def backward(self, gradient):
        return broadcast_to(gradient, self.inputs[0].shape)


class BroadcastTo(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return np.broadcast_to(x, self.shape)

    def backward(self, gradient):
        return sum_to(gradient, self.inputs[0].shape)


def sum_to(x, shape):
    return x if x.shape == shape else SumTo(shape)(x)


def broadcast_to(x, shape):
    return x if x.shape == shape else BroadcastTo(shape)(x)


x = Tensor(2.0, requires_grad=True)
y = x * x * x
for name in ("slope", "slope of the slope", "and of that"):
    y = grad(y, x, create_graph=True)
    print(f"{name:18} {y.data}")

# %% [markdown]
#     slope              12.0
#     slope of the slope 12.0
#     and of that        6.0
#
# Look at `Multiply.backward`. It multiplies `gradient * b`, two Tensors, and
# that is recorded. If it said `gradient.data * b.data`, the first number would
# still be right, and all after it would be lost.
#
# ## The matrix product
#
# Most of the work of a network is one operation. Of $y = a @ b$ the element
# in row $i$ and column $j$ is
#
# $y_{ij} = sum_k a_{ik} b_{kj}$.
#
# The number $a_{ik}$ is used in all elements of row $i$; in $y_{ij}$ with the
# slope $b_{kj}$. So at $a_{ik}$ arrives the sum over all $j$ of what arrived
# at $y_{ij}$, times $b_{kj}$. That again is a matrix product! Which one? With
# $a$ of shape (n, k) and $b$ of shape (k, m), what arrives has the shape
# (n, m). There is only one way to make an (n, k) of that and of $b$. The same
# for $b$. (A matrix turned over is `b.T`, a Tensor again.)


# %%
class MatMul(Function):
    """a @ b, for shapes (n, k) and (k, m)."""

    def forward(self, a, b):
        return a @ b

    def backward(self, gradient):
        a, b = self.inputs
        ### BEGIN SOLUTION: what arrives at a and at b, by matrix products
        return gradient @ b.T, a.T @ gradient
        ### END SOLUTION


a = Tensor([[1.0, 2.0]], requires_grad=True)
b = Tensor([[3.0], [4.0]], requires_grad=True)
at_a, at_b = grad(a @ b, [a, b])
print("at a:", at_a.data.tolist(), " at b:", at_b.data.tolist())

# %% [markdown]
# 1 * 3 + 2 * 4: at `a` arrives `b`, and at `b` arrives `a`, each in its own
# shape.
#
# ## Reshape
#
# `reshape` changes no number and no order, only how the row of numbers is cut
# up. On the way back it is cut up as it was before. `self.shape` is the shape
# after; where do you find the one before?


# %%
class Reshape(Function):
    """The same numbers in the same order, in another shape."""

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return x.reshape(self.shape)

    def backward(self, gradient):
        ### BEGIN SOLUTION: back into the shape of the input
        return gradient.reshape(self.inputs[0].shape)
        ### END SOLUTION


# %% [markdown]
# ## Sum
#
# Lesson 5 had it the other way round: what broadcasting repeats, the way back
# sums. So what a sum adds up, the way back repeats: every number that went
# into a sum moves it as fast as itself, and gets what arrives there.
#
# Only the shape needs care. The sum of a (2, 3, 4) over axis 1 has the shape
# (2, 4), which does not match (2, 3, 4) to the right. First the lost axis must
# come back, as a 1: (2, 1, 4). Then `broadcast_to` can repeat it. (With
# `keepdims=True` the 1 is there already; a reshape does no harm then.)


# %%
class Sum(Function):
    """The sum along `axes`, a tuple of axes counted from 0."""

    def __init__(self, axes, keepdims):
        self.axes, self.keepdims = axes, keepdims

    def forward(self, x):
        return x.sum(axis=self.axes, keepdims=self.keepdims)

    def backward(self, gradient):
        shape = self.inputs[0].shape
        ### BEGIN SOLUTION: a 1 for each lost axis, then repeat
        kept = tuple(1 if i in self.axes else n for i, n in enumerate(shape))
        return broadcast_to(gradient.reshape(kept), shape)
        ### END SOLUTION


x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
means = x.sum(axis=1, keepdims=True) * (1 / 3)
distance = (x - means).reshape(6)
print(grad((distance * distance).sum(), x).data.round(9).tolist())

# %% [markdown]
#     [[-2.0, 0.0, 2.0], [-2.0, 0.0, 2.0]]
#
# ## Indexing
#
# `x[index]` picks elements. On the way back, what arrives goes to the places
# that were picked, and everywhere else arrives 0. Let `PutItem` do that: it
# makes an array of zeros, and puts the numbers in at `index`. And *its* way
# back is to pick again. They are a pair, like summing and repeating.
#
# One trap. An index may name a place twice: `x[[0, 2, 2]]`. Then this place
# has two ways to the end, and what arrives on both is added. NumPy's
# `zeros[index] += g` does not do that! It computes all sums first, `0 + g`,
# and then writes both to the same place; the last one stays. What adds every
# time is `np.add.at(zeros, index, g)`.


# %%
class GetItem(Function):
    def __init__(self, index):
        self.index = index

    def forward(self, x):
        return x[self.index]

    def backward(self, gradient):
        return PutItem(self.index, self.inputs[0].shape)(gradient)


class PutItem(Function):
    """Zeros of `shape`, with the numbers of the input added at `index`."""

    def __init__(self, index, shape):
        self.index, self.shape = index, shape

    def forward(self, x):
        zeros = np.zeros(self.shape)
        ### BEGIN SOLUTION: add x at the index, twice where it is named twice
        np.add.at(zeros, self.index, x)
        return zeros
        ### END SOLUTION

    def backward(self, gradient):
        return gradient[self.index]


x = Tensor([10.0, 20.0, 30.0], requires_grad=True)
print(grad((x[[0, 2, 2]] * [1.0, 5.0, 7.0]).sum(), x).data)

scores = Tensor([[0.1, 2.0, 0.3], [1.5, 0.2, 0.1]], requires_grad=True)
labels = [1, 0]
print(grad(scores[[0, 1], labels].sum(), scores).data.tolist())

# %% [markdown]
#     [ 1.  0. 12.]
#     [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
#
# The second one picks of each row the element that the label names. That is
# what the loss of lesson 9 looks at.
#
# ## Trust nothing, twice
#
# A random direction, as in lesson 4, checks whole gradients at once. For the
# second order nothing new is needed. The slope of the end along a fixed
# direction is itself a function of the inputs, with a single number as its
# result, made of Tensors. So check *that* function in the same way. (The code
# is lesson 4 once more; what it prints is what matters.)


# %%
def agrees(end, arrays, eps=1e-6):
    """Whether the gradients of `end`, one number, agree with small steps."""
    steps = [rng.standard_normal(a.shape) for a in arrays]
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    gradients = grad(end(*inputs), inputs)
    says = sum((g.data * d).sum() for g, d in zip(gradients, steps))
    up = [Tensor(a + eps * d, True) for a, d in zip(arrays, steps)]
    down = [Tensor(a - eps * d, True) for a, d in zip(arrays, steps)]
    measured = (end(*up).data - end(*down).data) / (2 * eps)
    return abs(says - measured) <= 1e-7 + 1e-5 * abs(measured)


def both_orders(f, arrays):
    """Whether the gradients of f are right, and those of its slopes."""
    weights = rng.standard_normal(f(*map(Tensor, arrays)).shape)
    fixed = [rng.standard_normal(a.shape) for a in arrays]

    def end(*inputs):
        return (f(*inputs) * weights).sum()

    def slope(*inputs):
        gradients = grad(end(*inputs), inputs, create_graph=True)
        return sum((g * d).sum() for g, d in zip(gradients, fixed))

    return agrees(end, arrays), agrees(slope, arrays)


rng = np.random.default_rng(6)
A, B = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
C = rng.standard_normal(4)
for name, f, *arrays in (
    ("add", lambda a, c: (a + c) * (a + c), A, C),
    ("multiply", lambda a, c: a * c * a, A, C),
    ("matmul", lambda a, b: (a @ b) * (a @ b), A, B),
    ("sum", lambda a: a.sum(axis=1) * a.sum(axis=(0, 1)), A),
    ("reshape", lambda a: a.reshape(4, 3) @ a, A),
    ("indexing", lambda a: a[[0, 2, 2], [1, 3, 3]] * a[2, 1:], A),
):
    answers = both_orders(f, arrays)
    print(f"{name:9}", *("fine " if each else "WRONG" for each in answers))

# %% [markdown]
# ## How far, then?
#
# Now to the question of the beginning. Take $f(x) = x^4 - 3 x^3 + 2$, whose
# valley lies at $x = 9/4$, and start at 4. If the slope falls by $f''$ (the
# slope of the slope) with every unit of the way, then it is 0 after $f' / f''$
# units. Go just so far, and look again. That is Newton's method.


# %%
def f(x):
    return x * x * x * x - 3.0 * x * x * x + 2.0


def slopes(values):
    """f' and f'' at each of the values, by walking back twice."""
    x = Tensor(values, requires_grad=True)
    first = grad(f(x).sum(), x, create_graph=True)
    second = grad(first.sum(), x)
    return first.data, second.data


newton = [4.0]
for _ in range(6):
    first, second = slopes(newton[-1])
    newton.append(newton[-1] - first / second)
print(np.round(newton, 6))

# %% [markdown]
#     [4.       3.066667 2.533806 2.301941 2.252243 2.250004 2.25    ]
#
# Near the valley each step doubles the number of right digits.
#
# Why is AlexNet not trained like that? It has 60,965,224 knobs, and each slope
# changes with each knob: 3,700,000,000,000,000 slopes of slopes. But what they
# say about a *single direction* $d$ costs no more than a second walk back: the
# gradient of $sum(g * d)$, where $g$ is the gradient. You have used that
# already: it is what the checker does at second order, and what Pearlmutter's
# paper is about.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
places = np.linspace(-0.6, 4.0, 200)
curves = f(Tensor(places)).data, *slopes(places)
for label, curve in zip(("f", "f '", "f ''"), curves):
    axes.plot(places, curve, label=label)
axes.plot(newton, f(Tensor(newton)).data, "ko", label="Newton's steps")
axes.axhline(0, color="lightgrey", zorder=0)
axes.set(ylim=(-20, 75), xlabel="x", title="A slope, and the slope of it")
axes.legend(frameon=False, loc="upper left")
figure.savefig("06_arrays.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - write an operation as a `Function`: `forward` on arrays, `backward` on
#   Tensors;
# - find the way back of a matrix product from the shapes, of a sum, of an
#   index that names a place twice;
# - differentiate a gradient, and check that.
#
# You have built an engine. From the next lesson on you use the one of minidl,
# and whatever you write for it has the form of today: a class with `forward`
# and `backward`.
#
# Now read `minidl/function.py`, then `minidl/tensor.py`, and in `minidl/core/`
# the classes `MatMul`, `Sum`, `GetItem` and `PutItem`, which you will
# recognise. What differs from yours is this. A Tensor may be float32 and live
# on a GPU, and a Python float becomes float32. Besides `grad` there is a
# method `backward`, which adds to the `.grad` of the leaves as in lesson 3.
# `grad` complains about an input on which the output does not depend, where
# yours says 0. And the numbers in a Tensor cannot be changed in place, since
# some `backward` may still need them.
#
# **The next lesson** takes the arrays to another machine. The same `forward`
# shall run on a CPU and on a GPU, and the trick is one line long.
