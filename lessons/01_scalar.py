# %% [markdown]
# # Lesson 1: A scalar that remembers
#
# **You will be able to** compute the slopes of a result with respect to
# everything it was computed from, in one go and without a single small step.
#
# **Time:** 40 minutes. **Builds on:** lesson 0 (slopes), classes in Python.
# **Source:** Linnainmaa's master's thesis of 1970; made famous for networks by
# Rumelhart, Hinton and Williams, "Learning representations by back-propagating
# errors", *Nature* 323 (1986). The paper on AlexNet takes it for granted.
#
# As before: `python -m lessons check 1 --watch` beside this file.

# %% [markdown]
# ## All slopes at once?
#
# Lesson 0 measured a gradient by moving one knob at a time. For AlexNet that
# takes 121,930,448 evaluations, years for a single step. Yet AlexNet was
# trained in *five to six days*, and that took more than 800,000 such steps. So
# there must be a way to get all slopes for the price of two or three
# evaluations. There is, and it fits in about twenty lines.
#
# Begin with four numbers. From $x = 2$ and $y = 3$ we compute $p = x y$ and
# then $z = p + x$:

# %%
x, y = 2.0, 3.0
p = x * y
z = p + x
print("p =", p, " z =", z)

x = 2.001
p_moved = x * y
z_moved = p_moved + x
print(f"x up by 0.001: p up by {p_moved - p:.3f}, z up by {z_moved - z:.3f}")

# %% [markdown]
# It prints: p up by 0.003, z up by 0.004. The slope of $z$ with respect to $x$
# is 4, which is written $dz/dx = 4$: $z$ moves 4 times as fast as $x$. Where
# does the 4 come from? There are two ways from $x$ to $z$.
#
# - Through $p$. The product $p = x y$ moves 3 times as fast as $x$, because
#   $y$ is 3. And $z$ moves as fast as $p$. On this way: 3 times 1 is 3.
# - Straight into the sum. There $z$ moves as fast as $x$: 1.
#
# Together $3 + 1 = 4$. This is the *chain rule*, and it is all that we need:
#
# **along a way multiply, over several ways add.**
#
# It turns one hard question (how does the end depend on the beginning?) into
# many easy ones (how does each single operation depend on its inputs?). The
# answer to an easy one is called a *local slope*. Only someone has to remember
# which operation had which inputs. The numbers shall do it themselves:


# %%
class Scalar:
    """A number that remembers how it was made.

    value:   the number
    inputs:  the Scalars that it was computed from; none for a beginning
    slopes:  its local slopes: slopes[i] says how many times as fast as
             inputs[i] this number moves, while the other inputs stay
    grad:    the slope of the end result with respect to this number,
             0 until `backward` has been there
    """

    def __init__(self, value, inputs=(), slopes=()):
        self.value = float(value)
        self.inputs = inputs
        self.slopes = slopes
        self.grad = 0.0

    # Python calls these for a + b, a * b and so on; also for 3 * a.

    def __add__(self, other):
        return add(self, as_scalar(other))

    def __mul__(self, other):
        return multiply(self, as_scalar(other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -as_scalar(other)

    def __repr__(self):
        return f"Scalar({self.value:g}, grad={self.grad:g})"


def as_scalar(number):
    """A plain number as a Scalar; a Scalar as it is."""
    return number if isinstance(number, Scalar) else Scalar(number)


# %% [markdown]
# ## Two operations that remember
#
# The functions `add` and `multiply` are still missing. Each makes a new Scalar
# of three things: the value, the two inputs, and the two local slopes.
#
# For a sum $a + b$ both slopes are 1: as far as an input moves, the sum moves.
# Write `add`. The inputs and the slopes are pairs, in the same order.


# %%
def add(a, b):
    """a + b for two Scalars: a Scalar that knows its inputs and slopes."""
    ### BEGIN SOLUTION: the sum, its two inputs, its two local slopes
    return Scalar(a.value + b.value, (a, b), (1.0, 1.0))
    ### END SOLUTION


# %% [markdown]
# For a product, measure before you calculate: at $a = 2$, $b = 3$ move $a$.

# %%
print((2.001 * 3.0 - 2.0 * 3.0) / 0.001)

# %% [markdown]
# 3, give or take a rounding error: the product moves as fast as $a$, times
# $b$. In letters: $(a + eps) b - a b = eps b$. What is it, then, for $b$?


# %%
def multiply(a, b):
    """a * b for two Scalars: a Scalar that knows its inputs and slopes."""
    ### BEGIN SOLUTION: the product, its two inputs, its two local slopes
    return Scalar(a.value * b.value, (a, b), (b.value, a.value))
    ### END SOLUTION


x, y = Scalar(2.0), Scalar(3.0)
z = x * y + x
print(z, "was made of", z.inputs, "with the slopes", z.slopes)

# %% [markdown]
# ## Backwards
#
# The end of our computation is $z$, and $z$ moves as fast as itself:
# $dz/dz = 1$. From there walk back, against the direction of the computation.
# Whoever stands at a number and knows how fast the end moves when this number
# moves (call it what *arrives* here) can tell every input:
#
# what arrives at the input = what arrives here * the local slope
#
# That was "along a way multiply". "Over several ways add" happens in `grad`:
# something arrives there once for every way, and `grad` is the sum.
#
#     z          1 arrives
#     |- p       1 * 1 = 1 arrives
#     |  |- x    1 * 3 = 3 arrives
#     |  |- y    1 * 2 = 2 arrives
#     |- x       1 * 1 = 1 arrives      so x.grad is 3 + 1 = 4
#
# Write it as a function that does its part for one number and then calls
# itself for each input. The beginnings have no inputs; there it ends. (To go
# through two lists at once: `for source, local in zip(inputs, slopes)`.)


# %%
def backward(node, arriving=1.0):
    """Add `arriving` to node.grad, and go on with each of its inputs.

    node: a Scalar. arriving: how many times as fast as `node` the end result
    moves, along the way that was taken to get here.
    """
    ### BEGIN SOLUTION: add what arrives, then tell each input its share
    node.grad += arriving
    for source, local in zip(node.inputs, node.slopes):
        backward(source, arriving * local)
    ### END SOLUTION


backward(z)
print("dz/dx =", x.grad, "  dz/dy =", y.grad)

# %% [markdown]
# 4 and 2. And twice the same number in one operation? If $b$ moves, then both
# factors of $b b$ move; the slope at 3 is $2 b = 6$, as lesson 0 has measured.
# Nothing special has to be done for it, because both ways are walked:

# %%
a, b = Scalar(5.0), Scalar(3.0)
backward(a + a)
backward(b * b)
print("a + a:", a.grad, "  b * b:", b.grad)

# %% [markdown]
# ## Do not trust it: measure
#
# Lesson 0 gave us a way to check. A function of a dozen operations, with the
# slopes measured by central differences on the left, and on the right what
# `backward` says:


# %%
def wild(x, y):
    a = x * y - 3 * x
    b = a * a + y
    return b * a * x - 0.5 * b


def measured(f, x, y, eps=1e-6):
    along_x = (f(x + eps, y) - f(x - eps, y)) / (2 * eps)
    along_y = (f(x, y + eps) - f(x, y - eps)) / (2 * eps)
    return along_x, along_y


x, y = Scalar(0.7), Scalar(-1.3)
backward(wild(x, y))
along_x, along_y = measured(wild, 0.7, -1.3)
print(f"along x: {along_x:.8f}  {x.grad:.8f}")
print(f"along y: {along_y:.8f}  {y.grad:.8f}")

# %% [markdown]
# And the price? Here is a function of 200 knobs. Lesson 0 evaluates it 400
# times; now it is evaluated once and walked back once. (Nothing is made
# faster here than it need be; it is the ratio that counts.)

# %%
import time


def many(knobs):
    total = 0.0
    for i, knob in enumerate(knobs):
        total = knob * knob * (i % 7) + total
    return total


values = [0.01 * i for i in range(200)]
begin = time.perf_counter()
small_steps = []
for i in range(200):
    above, below = list(values), list(values)
    above[i] += 1e-6
    below[i] -= 1e-6
    small_steps.append((many(above) - many(below)) / 2e-6)
middle = time.perf_counter()
knobs = [Scalar(value) for value in values]
backward(many(knobs))
end = time.perf_counter()
print(f"small steps: {1000 * (middle - begin):.1f} ms")
print(f"backward:    {1000 * (end - middle):.1f} ms")
differences = [abs(k.grad - s) for k, s in zip(knobs, small_steps)]
print("largest difference:", max(differences))

# %% [markdown]
# With twice as many knobs the small steps take four times as long, and
# `backward` twice as long. That is the difference between years and seconds.
#
# The picture shows what your Scalars remember of $z = (x y + x)(y - 4)$: the
# value of each, its `grad`, and on the arrows the local slopes. Take a pencil
# and follow one way from the right to the left, multiplying; then add up.

# %%
import matplotlib.pyplot as plt

x, y, four = Scalar(2.0), Scalar(3.0), Scalar(-4.0)
p = x * y
q = p + x
r = y + four
z = q * r
backward(z)

places = {
    "x": (x, 0, 2),
    "y": (y, 0, 1),
    "-4": (four, 0, 0),
    "p = x y": (p, 1, 1.5),
    "q = p + x": (q, 2, 2),
    "r = y - 4": (r, 2, 0.5),
    "z = q r": (z, 3, 1.25),
}
where = {node: (left, up) for node, left, up in places.values()}
figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
for name, (node, left, up) in places.items():
    text = f"{name}\nvalue {node.value:g}\ngrad {node.grad:g}"
    box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": "tab:blue"}
    axes.text(left, up, text, ha="center", va="center", bbox=box, zorder=3)
    for source, local in zip(node.inputs, node.slopes):
        from_left, from_up = where[source]
        axes.plot([from_left, left], [from_up, up], color="grey", zorder=1)
        across, high = (from_left + left) / 2, (from_up + up) / 2
        style = {"ha": "center", "va": "center", "color": "tab:orange"}
        axes.text(across, high, f"{local:g}", **style, backgroundcolor="white")
axes.set(xlim=(-0.4, 3.4), ylim=(-0.4, 2.4))
axes.set_title("Computed from left to right; local slopes in orange")
axes.axis("off")
figure.savefig("01_scalar.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - say the chain rule in one line: along a way multiply, over several ways
#   add;
# - build numbers that record their own computation, and walk it backwards.
#
# In 2012 few had it so comfortable. Theano, from Montreal, could find
# gradients by itself; the program with which AlexNet was trained could not.
# Its author wrote the backward step of every kind of layer by hand, as you
# wrote the slopes of `add` and `multiply`, and a configuration file said which
# layer feeds which.
#
# Now read in `minidl/core/arithmetic.py` the classes `Add` and `Multiply`:
# your two functions, on whole arrays. They differ from yours in two ways. They
# do not keep the local slopes as numbers: for an array of a thousand numbers
# there would be a million slopes, nearly all of them 0. Instead they have a
# method `backward`, which multiplies what arrives by the slopes at once. And
# it multiplies Tensors, which remember too, so that slopes of slopes can be
# had.
#
# **The next lesson** begins with a flaw. Try this with your `backward`:
#
#     x = Scalar(1.0)
#     for _ in range(20):
#         x = x + x
#     backward(x)
#
# Twenty additions take a second. Thirty take a quarter of an hour, a hundred
# would outlast the sun. Why? Look at how often each number is visited.
