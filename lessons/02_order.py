# %% [markdown]
# # Lesson 2: The order of the backward pass
#
# **You will be able to** walk back through any computation, however deep and
# however tangled, and visit each number once.
#
# **Time:** 40 minutes. **Builds on:** lesson 1 (`Scalar`, `backward`), lists
# and dictionaries in Python.
# **Source:** Kahn, "Topological sorting of large networks", *Communications
# of the ACM* 5 (1962). The program that trained AlexNet counted as you will.
#
# As before: `python -m lessons check 2 --watch` beside this file.

# %% [markdown]
# ## Twenty additions, two million visits
#
# Here is what lesson 1 has built, and a question it left open: why does its
# walk back take so long when a number is added to itself again and again?


# %%
class Scalar:
    """A number that remembers how it was made (see lesson 1)."""

    def __init__(self, value, inputs=(), slopes=()):
        self.value = float(value)
        self.inputs = inputs
        self.slopes = slopes
        self.grad = 0.0

    def __add__(self, other):
        other = as_scalar(other)
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = as_scalar(other)
        slopes = (other.value, self.value)
        return Scalar(self.value * other.value, (self, other), slopes)

    __radd__, __rmul__ = __add__, __mul__

    def __repr__(self):
        return f"Scalar({self.value:g}, grad={self.grad:g})"


def as_scalar(number):
    return number if isinstance(number, Scalar) else Scalar(number)


visits = 0


def along_every_way(node, arriving=1.0):
    """The `backward` of lesson 1; it counts how often it is called."""
    global visits
    visits += 1
    node.grad += arriving
    for source, local in zip(node.inputs, node.slopes):
        along_every_way(source, arriving * local)


def doubled(times):
    """x, and x added to itself so many times."""
    x = end = Scalar(1.0)
    for _ in range(times):
        end = end + end
    return x, end


for times in (4, 8, 12, 16):
    x, end = doubled(times)
    visits = 0
    along_every_way(end)
    print(f"{times:>2} additions: {visits:>7} visits, slope {x.grad:g}")

# %% [markdown]
#      4 additions:      31 visits, slope 16
#      8 additions:     511 visits, slope 256
#     12 additions:    8191 visits, slope 4096
#     16 additions:  131071 visits, slope 65536
#
# The slope is right. But every addition doubles the number of *ways* back to
# $x$, and each way is walked on its own. Sixty additions would be $2^{61}$
# visits; at two million a second that takes 36,000 years.
#
# This is not a strange case, it is what networks are. At the end of AlexNet
# each of 4,096 numbers feeds each of 4,096 others, and each of those feeds all
# of the 1,000 results. From one of the first to one result there are 4,096
# ways, and from a number one layer further down 16,777,216. Walking every way
# cannot be right.
#
# There is a second flaw. A function that calls itself for each input goes as
# deep as the computation is long, and Python gives up after 1,000 calls.

# %% [markdown]
# ## Wait until all has arrived
#
# The remedy: do not run on with each piece that arrives. Let a number collect
# in its `grad` whatever comes, and pass it on *once*, when nothing more will
# come. That is fine, because to multiply the sum is the same as to sum the
# products: $(3 + 1) * 5 = 3 * 5 + 1 * 5$.
#
# When will nothing more come? When all those who use the number have passed
# on theirs. So: **each number comes after everybody who uses it**. An order
# with this property is called a *topological order*. Here is one that is easy
# to get wrong:
#
#     x = 2
#     a = x * 3           6
#     b = a + 1           7
#     c = b * 2          14
#     end = a * c        84
#
# From `end` it is one step back to `a` and one to `c`. But `a` must wait: `c`
# was made from `b`, and `b` from `a`. Whoever visits the near ones first
# passes on from `a` before all of it has arrived.
#
# How can `a` know that something is still to come? By counting: `a` is used
# twice, in `end` and in `b`. When two pieces have arrived it is ready.
#
# ### First: count
#
# Find everything behind `result`, and count for each Scalar how many times it
# is used as an input. (In `a * a` it is used twice.) The function must not
# call itself. Keep a list, `todo`, of those that you have still to look at;
# take one out with `todo.pop()`, look at its inputs, put new ones in with
# `todo.append(...)`, until the list is empty. Each Scalar may get onto the
# list only once, or you are back to walking every way. The dictionary `uses`
# tells whether you know one already: `if source in uses`. (Scalars can be keys
# of a dictionary; two with the same value are still two keys.)


# %%
def count_uses(result):
    """{Scalar: how many times it is used} for all behind `result`, and it.

    `result` itself is used 0 times.
    """
    uses = {result: 0}
    todo = [result]
    ### BEGIN SOLUTION: until todo is empty, count the inputs of each
    while todo:
        node = todo.pop()
        for source in node.inputs:
            if source not in uses:
                uses[source] = 0
                todo.append(source)
            uses[source] += 1
    ### END SOLUTION
    return uses


x = Scalar(2.0)
a = x * 3
b = a + 1
c = b * 2
end = a * c
print("a is used", count_uses(end)[a], "times, x", count_uses(end)[x])

# %% [markdown]
# ### Then: who is ready?
#
# Now the order itself. At the beginning only `result` is ready: nobody uses
# it. Take one that is ready and put it into the order. For each of its inputs
# one use less is to come; when the last is gone, this input is ready too. Go
# on until nobody is left.


# %%
def order(result):
    """A list of all Scalars behind `result`, each after those who use it.

    `result` comes first. Nobody comes twice.
    """
    waiting = count_uses(result)  # for how many uses each one still waits
    ready = [result]
    found = []
    ### BEGIN SOLUTION: take one that is ready; who is ready through it?
    while ready:
        node = ready.pop()
        found.append(node)
        for source in node.inputs:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    ### END SOLUTION
    return found


names = {x: "x", a: "a", b: "b", c: "c", end: "end"}
print([names.get(node, f"{node.value:g}") for node in order(end)])

# %% [markdown]
# The names come out as `end`, `c`, `b`, `a`, `x`, with the plain numbers 3, 1
# and 2, which became Scalars too, somewhere between them. (Yours may have them
# elsewhere; there are many right orders.)
#
# ### At last: back
#
# With this order the walk back is a plain loop. All of `grad` starts at 0, for
# there may be something left from last time; the end starts at 1. Then each
# one, in order, gives to every input its share: what has arrived in its own
# `grad`, times the local slope.


# %%
def backward(result):
    """Leave in every .grad the slope of `result` with respect to it."""
    nodes = order(result)
    for node in nodes:
        node.grad = 0.0
    ### BEGIN SOLUTION: the end has slope 1; each one passes on its share
    result.grad = 1.0
    for node in nodes:
        for source, local in zip(node.inputs, node.slopes):
            source.grad += node.grad * local
    ### END SOLUTION


backward(end)
print("x:", x.grad, "  a:", a.grad, "  b:", b.grad, "  c:", c.grad)

# %% [markdown]
# $end = a c = a (a + 1) 2$, so its slope with respect to $a$ is
# $4 a + 2 = 26$, and $a$ moves 3 times as fast as $x$: 78.
#
# Now for the two flaws. Sixty additions, and a chain 20,000 operations deep:

# %%
import time

begin = time.perf_counter()
x, end = doubled(60)
backward(end)
seconds = time.perf_counter() - begin
print(f"60 additions: slope {x.grad:g} = 2^60, {1000 * seconds:.1f} ms")

begin = time.perf_counter()
x = end = Scalar(1.0)
for _ in range(10_000):
    end = end * 1.0001 + 0.5
backward(end)
seconds = time.perf_counter() - begin
print(f"20,000 operations: slope {x.grad:.6f}, {1000 * seconds:.0f} ms")
print(f"should be 1.0001^10000 = {1.0001**10_000:.6f}")

# %% [markdown]
# 36,000 years have become less than a millisecond, with nothing but a better
# order. In the picture: on the left the tangled example with its order, on the
# right the number of visits (note the scale: each line up means a thousand
# times as many).

# %%
import matplotlib.pyplot as plt

x = Scalar(2.0)
a = x * 3
b = a + 1
c = b * 2
end = a * c
places = {x: (0, 0), a: (1, 0), b: (2, 0.9), c: (3, 0.9), end: (4, 0)}
texts = {x: "x", a: "a = x * 3", b: "b = a + 1", c: "c = b * 2"}
texts[end] = "end = a * c"
backward(end)

figure = plt.figure(figsize=(11, 4), layout="constrained")
left, right = figure.subplots(1, 2)
turn = 0
for node in order(end):
    if node not in places:
        continue
    turn += 1
    across, up = places[node]
    for source in node.inputs:
        if source in places:
            arrow = {"arrowstyle": "-|>", "shrinkA": 30, "shrinkB": 30}
            left.annotate("", places[source], (across, up), arrowprops=arrow)
    box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": "tab:blue"}
    text = f"{turn}.\n{texts[node]}\ngrad {node.grad:g}"
    left.text(across, up, text, ha="center", va="center", bbox=box)
left.set(xlim=(-0.5, 4.6), ylim=(-0.5, 1.4), title="Who passes on when")
left.axis("off")

counts = range(1, 61)
every_way = [2.0 ** (n + 1) - 1 for n in counts]
once = [len(order(doubled(n)[1])) for n in counts]
right.semilogy(counts, every_way, color="tab:orange", label="along every way")
right.semilogy(counts, once, color="tab:blue", label="each number once")
right.axhline(2e6, color="lightgrey", zorder=0)
right.text(60, 3e6, "a second", color="grey", ha="right")
right.axhline(2e6 * 3.15e7, color="lightgrey", zorder=0)
right.text(1, 3e6 * 3.15e7, "a year", color="grey")
right.set(xlabel="additions", ylabel="visits", title="The same slopes")
right.set_yticks([1e0, 1e3, 1e6, 1e9, 1e12, 1e15, 1e18])
right.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.62))
right.spines[["top", "right"]].set_visible(False)
figure.savefig("02_order.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - say why a gradient must wait until all of it has arrived;
# - put any computation in an order in which it can, without recursion.
#
# The program that trained AlexNet did it in just this way, for layers instead
# of numbers. Each layer of cuda-convnet knows how many layers above it will
# send it a gradient (`_numGradProducersNext`), counts those that have
# (`_rcvdBInputs`), and begins its own backward step when the two are equal.
#
# Now read `minidl/autograd.py`; it is short, and you can read all of it.
# `operations_behind` is your `count_uses` and `order`, `backpropagate` your
# `backward`. It differs from yours: every operation gets a running number when
# it is made, and since it is always newer than its inputs, sorting by age is
# enough, and nothing needs counting. And it keeps what arrives in a
# dictionary, `totals`, where you used `grad`; the next lesson says why.
#
# **The next lesson** asks what should happen when `backward` is called twice.
# You have put all `grad` to 0 first. That is safe, but it throws away
# something useful.
