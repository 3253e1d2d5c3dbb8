# %% [markdown]
# # Lesson 19: AlexNet, 60,965,224 parameters in two towers
#
# **You will be able to** turn a description in a paper into a table, the table
# into a network, and to say of every layer what it makes, what it has to
# learn, and what it costs.
#
# **Time:** 45 minutes. **Builds on:** lessons 10 to 15 (the layers), 8
# (`nn.Sequential`), 11 (padding, groups).
# **Source:** the paper on AlexNet, section 3.5 and figure 2; section 3.2 for
# the two towers.
#
# As before: `python -m lessons check 19 --watch` beside this file.

# %% [markdown]
# ## Where do sixty million numbers sit?
#
# The network of 2012 learns 60,965,224 numbers, and to look at one photograph
# it multiplies 724.4 million times. It has eight layers that learn: five
# convolutions, then three in which everything is connected to everything.
# Guess before you read on: which of the eight holds most of the numbers? Which
# one does most of the work? At the end you will have counted both, and they
# are not the same.
#
# You have written every kind of layer. What is missing is the plan, and this
# is what the paper says of it (in short; "kernel" is its word for a filter):
#
# - The image has 224 x 224 pixels, 3 colours. The **first** convolution has 96
#   kernels of 11 x 11 x 3, in steps of 4 pixels.
# - The **second** takes the normalised and pooled output of the first, and has
#   256 kernels of 5 x 5 x 48.
# - The **third** takes the normalised and pooled output of the second, and has
#   384 kernels of 3 x 3 x 256.
# - The **fourth** has 384 kernels of 3 x 3 x 192, the **fifth** 256 kernels of
#   3 x 3 x 192. Between the third, fourth and fifth there is no pooling and no
#   normalisation. The fifth is pooled.
# - Then come two layers of 4096 units with dropout, and one of 1000.
# - All pooling takes the maximum of 3 x 3 pixels, in steps of 2. There is a
#   ReLU after every layer that learns, but the last.
# - In figure 2 the maps have sides of 55 after the first convolution, 27 after
#   the second, 13 after the third, fourth and fifth.
#
# Two things are missing. **How many zeros** are laid round the maps before
# each convolution? The paper does not say. And **who sees whom**? The paper
# says it, but you do not need to be told: both follow from the numbers.

# %% [markdown]
# ## How large is what comes out?
#
# A window of `kernel` pixels moves along a line of `size` pixels in steps of
# `stride`. In how many places does it stand? You have counted them in lesson
# 10. New are `before`, the zeros in front of the line, and `after`, those
# behind it; they make the line longer.


# %%
def output_size(size, kernel, stride=1, before=0, after=0):
    """The number of places at which a window stands along one side."""
    return (size + before + after - kernel) // stride + 1


print("224 pixels, kernel 11, stride 4:", output_size(224, 11, 4))
print("and 3 zeros at the end:         ", output_size(224, 11, 4, 0, 3))
print("pooled:                         ", output_size(55, 3, 2))
for zeros in range(4):
    made = output_size(27, 5, 1, zeros, zeros)
    print(f"27 pixels, kernel 5, {zeros} zeros on each side: {made}")

# %% [markdown]
#     224 pixels, kernel 11, stride 4: 54
#     and 3 zeros at the end:          55
#     pooled:                          27
#     27 pixels, kernel 5, 0 zeros on each side: 23
#     27 pixels, kernel 5, 1 zeros on each side: 25
#     27 pixels, kernel 5, 2 zeros on each side: 27
#     27 pixels, kernel 5, 3 zeros on each side: 29
#
# The first two lines you know from lesson 11: 224 pixels cannot give the 55 of
# the figure, unless something is added. The program of 2012 let the last
# window hang over, and read 0 outside: the same as 3 zeros at the bottom and 3
# at the right. We call this kind of padding `"end"`: as many zeros at the end
# as the last window lacks.
#
# The last four lines answer the first question for the second convolution: 27
# come in, 27 come out, so there must be 2 zeros on each side. The third to
# fifth go from 13 to 13, with a kernel of 3.
#
# ## Who sees whom?
#
# Now the second question. The first convolution makes 96 maps. But a kernel of
# the second is 5 x 5 x **48**: it is only 48 maps deep. It sees half of them!
#
# The reason was memory. A graphics card had 3 GB, and the network with all it
# needs for training did not fit. So it was cut in two halves, called *towers*,
# one on each of two cards. Each has half of the maps of every layer. A kernel
# that is as deep as *half* of what comes in sees the maps of its own tower; a
# kernel that is as deep as *all* of what comes in sees both, and for that the
# cards must exchange their maps. With `groups=2` (lesson 11) a convolution
# does the former: it computes two halves apart.
#
# So the depth of the kernels betrays everything. The third convolution gets
# 256 maps, and its kernels are 3 x 3 x 256. The fourth gets 384 maps ... Fill
# in the four rows. `filters` counts those of both towers together, as the
# paper does. (A `namedtuple` is a tuple whose places have names:
# `row.kernel`.)

# %%
from collections import namedtuple

Conv = namedtuple("Conv", "filters kernel stride padding towers")
Full = namedtuple("Full", "units")  # everything connected to everything


def convolutions():
    """The five convolutions, {name: Conv}.

    padding: zeros on each of the four sides; "end": what the last window
    lacks, at the bottom and the right. towers: 2 if a kernel sees the maps of
    its own tower only, 1 if it sees all.
    """
    rows = {"conv1": Conv(96, 11, stride=4, padding="end", towers=1)}
    ### BEGIN SOLUTION: rows["conv2"] = Conv(...), and so on to conv5
    rows["conv2"] = Conv(256, 5, stride=1, padding=2, towers=2)
    rows["conv3"] = Conv(384, 3, stride=1, padding=1, towers=1)
    rows["conv4"] = Conv(384, 3, stride=1, padding=1, towers=2)
    rows["conv5"] = Conv(256, 3, stride=1, padding=1, towers=2)
    ### END SOLUTION
    return rows


# %% [markdown]
# Here is the whole table, from the image to the 1000 results, and a walk along
# it that notes for every row what comes in and what goes out. `width` makes
# the network narrower: at 0.25 every layer has a quarter of its maps, which is
# what we need for a computer without a graphics card. `image_size` makes it
# smaller. `"flatten"` lays all maps in one line; from there on there is one
# "pixel" with many "channels", so the same bookkeeping goes on.


# %%
ORDER = """conv1 relu1 norm1 pool1  conv2 relu2 norm2 pool2  conv3 relu3
conv4 relu4  conv5 relu5 pool5  flatten  fc6 relu6 drop6  fc7 relu7 drop7
fc8"""


def table():
    """AlexNet, a list of (name, row), in the order of the paper.

    A row without weights is only a word: "relu", "norm", "pool", "drop".
    """
    rows = convolutions()
    rows |= {"fc6": Full(4096), "fc7": Full(4096), "fc8": Full("classes")}
    digits = "12345678"
    return [(n, rows.get(n, n.rstrip(digits))) for n in ORDER.split()]


names = "name row size channels before after new_size new_channels"
Step = namedtuple("Step", names)


def scaled(channels, width):
    """An even number, so that two towers can share it."""
    return max(2, 2 * round(channels * width / 2))


def walk(classes=1000, width=1.0, image_size=224):
    """A Step for every row: what comes in, the zeros, what goes out.

    size x size pixels with so many channels come in; before and after are
    the zeros in front of and behind each line; new_size and new_channels go
    out.
    """
    steps, size, channels = [], image_size, 3
    for name, row in table():
        before = after = 0
        new_size, new_channels = size, channels
        if isinstance(row, Conv):
            before = after = row.padding
            if row.padding == "end":
                before, after = 0, (row.kernel - size) % row.stride
            new_size = output_size(size, row.kernel, row.stride, before, after)
            new_channels = scaled(row.filters, width)
        elif row == "pool":
            new_size = output_size(size, 3, 2)
        elif row == "flatten":
            new_size, new_channels = 1, size * size * channels
        elif row == Full("classes"):
            new_channels = classes
        elif isinstance(row, Full):
            new_channels = scaled(row.units, width)
        step = (name, row, size, channels, before, after)
        steps.append(Step(*step, new_size, new_channels))
        size, channels = new_size, new_channels
    return steps


for step in walk():
    if step.row not in ("relu", "norm", "drop"):
        coming = f"{step.size:>3} x {step.size:>3} x {step.channels:<4}"
        going = f"{step.new_size:>2} x {step.new_size:>2} x"
        print(f"{step.name:<8}{coming} -> {going} {step.new_channels}")

# %% [markdown]
#     conv1   224 x 224 x 3    -> 55 x 55 x 96
#     pool1    55 x  55 x 96   -> 27 x 27 x 96
#     conv2    27 x  27 x 96   -> 27 x 27 x 256
#     pool2    27 x  27 x 256  -> 13 x 13 x 256
#     conv3    13 x  13 x 256  -> 13 x 13 x 384
#     conv4    13 x  13 x 384  -> 13 x 13 x 384
#     conv5    13 x  13 x 384  -> 13 x 13 x 256
#     pool5    13 x  13 x 256  ->  6 x  6 x 256
#     flatten   6 x   6 x 256  ->  1 x  1 x 9216
#     fc6       1 x   1 x 9216 ->  1 x  1 x 4096
#     fc7       1 x   1 x 4096 ->  1 x  1 x 4096
#     fc8       1 x   1 x 4096 ->  1 x  1 x 1000
#
# 55, 27, 13, 13, 13: the sides of figure 2.
#
# (Two remarks. The order ReLU, normalise, pool is that of the paper's text;
# the program did it differently after conv1, and lesson 23 is about that. And
# the normalisation looks at neighbouring maps. The paper's formula counts
# through all kernels of a layer, but the program could not look across to the
# other card, and we do as it did: `groups=2`, as in lesson 14.)
#
# ## What has to be learned?
#
# The first convolution has 96 filters of 11 x 11 x 3 weights, and each filter
# has one bias: $96 * 11 * 11 * 3 + 96 = 34944$ numbers. They are shared by all
# 55 x 55 places, so the size of the image does not come into it. In a
# convolution with towers a filter is less deep. And a fully connected layer is
# a convolution whose kernel has 1 x 1 "pixels".


# %%
def parameters(kernel, channels, filters, towers=1):
    """How many numbers a layer learns: its weights and its biases.

    channels: those that come in, of all towers. filters: of all towers.
    """
    ### BEGIN SOLUTION: weights of all filters, and a bias for each
    return kernel * kernel * (channels // towers) * filters + filters
    ### END SOLUTION


print("conv1:", parameters(11, 3, 96))
print("conv2:", parameters(5, 96, 256, towers=2))
print("fc6:  ", parameters(1, 9216, 4096))

# %% [markdown]
# You should see 34944, 307456, and for the sixth layer alone 37752832: more
# than half of the network.
#
# ## What does it cost?
#
# To multiply two numbers and to add the product to a sum is one
# *multiply-accumulate*. For one number of the output a filter does one for
# every weight that it has. It does so at every place of the output. (Adding
# the bias takes no multiplication, and is not counted.)


# %%
def multiply_accumulates(new_size, kernel, channels, filters, towers=1):
    """How many a layer does for one image, to make new_size x new_size."""
    ### BEGIN SOLUTION: the weights, at every place of the output
    weights = kernel * kernel * (channels // towers) * filters
    return new_size * new_size * weights
    ### END SOLUTION


def costs(step):
    """(parameters, multiply-accumulates) of a Step; (0, 0) if none."""
    if isinstance(step.row, Conv):
        kernel, towers = step.row.kernel, step.row.towers
    elif isinstance(step.row, Full):
        kernel, towers = 1, 1
    else:
        return 0, 0
    shape = (kernel, step.channels, step.new_channels, towers)
    return parameters(*shape), multiply_accumulates(step.new_size, *shape)


total = [0, 0]
for step in walk():
    learned, work = costs(step)
    total = [total[0] + learned, total[1] + work]
    if learned:
        print(f"{step.name:<6}{learned:>12,}{work:>14,}")
print(f"{'total':<6}{total[0]:>12,}{total[1]:>14,}")

# %% [markdown]
#     conv1       34,944   105,415,200
#     conv2      307,456   223,948,800
#     conv3      885,120   149,520,384
#     conv4      663,936   112,140,288
#     conv5      442,624    74,760,192
#     fc6     37,752,832    37,748,736
#     fc7     16,781,312    16,777,216
#     fc8      4,097,000     4,096,000
#     total   60,965,224   724,406,816
#
# There it is. And there is the answer to the question from the beginning: the
# three fully connected layers hold 96 % of the numbers, and do 8 % of the
# work. In a convolution each weight is used at many places, in a fully
# connected layer once. (So it is no chance that dropout, which is to keep the
# network from learning its images by heart, stands behind fc6 and fc7.)
#
# What have the towers saved? With every kernel seeing all maps it would be
# 62,378,344 numbers and 1,135,256,096 multiply-accumulates: hardly more
# numbers, but more than half as much work again. The paper compares the towers
# with something else, a network with half as many kernels on one card: its
# errors were higher by 1.7 in a hundred images (1.2 with five guesses).
#
# ## The network
#
# Now build it. `layers` is where the layers come from. Here it is `nn`, so
# they are minidl's; `python -m lessons assemble` will hand in those that you
# have written. So do not write `nn.Conv2d` in the function but
# `layers.Conv2d`. These are there:
#
#     layers.Conv2d(channels, filters, kernel, stride=...,
#                   padding=((top, bottom), (left, right)), groups=...)
#     layers.Linear(channels, units)
#     layers.ReLU(), layers.Flatten(), layers.Dropout(p)
#     layers.LocalResponseNorm(size, alpha, beta, k, groups)
#     layers.MaxPool2d(kernel, stride)
#
# Those without weights are done. Everything that you need for the two others
# is in `step`. Mind that `step.row.filters` is the number in the full network;
# the one in this network, of this `width`, is `step.new_channels`.

# %%
import numpy as np

import minidl
from minidl import Tensor, nn, no_grad


def plain_layer(layers, row):
    """The layer of a row that has no weights."""
    if row == "norm":
        return layers.LocalResponseNorm(5, 1e-4, 0.75, 2.0, 2)
    if row == "pool":
        return layers.MaxPool2d(3, 2)
    if row == "drop":
        return layers.Dropout(0.5)
    return layers.ReLU() if row == "relu" else layers.Flatten()


def alexnet(layers=nn, classes=1000, width=1.0, image_size=224):
    """AlexNet with two towers, an nn.Sequential with the table's names.

    It takes N x image_size x image_size x 3 (at least 64 pixels a side), and
    makes N x classes.
    """
    made = {}
    for step in walk(classes, width, image_size):
        row = step.row
        if isinstance(row, str):
            made[step.name] = plain_layer(layers, row)
            continue
        ### BEGIN SOLUTION: made[step.name] = a convolution or a Linear
        if isinstance(row, Conv):
            shape = (step.channels, step.new_channels, row.kernel)
            side = (step.before, step.after)
            more = {"stride": row.stride, "groups": row.towers}
            layer = layers.Conv2d(*shape, padding=(side, side), **more)
            made[step.name] = layer
        else:
            made[step.name] = layers.Linear(step.channels, step.new_channels)
        ### END SOLUTION
    return nn.Sequential(made)


minidl.manual_seed(0)
model = alexnet().eval()
print(f"{sum(p.size for p in model.parameters()):,} parameters")
noise = np.random.default_rng(0).normal(0, 50, (1, 224, 224, 3))
with no_grad():
    print("the answer:", model(Tensor(noise.astype(np.float32))).shape)
del model

# %% [markdown]
#     60,965,224 parameters
#     the answer: (1, 1000)
#
# That was AlexNet, looking at one image. (At noise, with weights that have
# learned nothing.)
#
# ## Does it really keep the towers apart?
#
# The number of parameters says how deep the filters are, not which maps they
# look at. So ask the network itself, a narrow one. Add 1 to one map of the
# first tower, right after conv1, and count in every layer the maps of either
# tower that come out differently.

# %%
small = alexnet(classes=10, width=0.25, image_size=64).eval()
images = np.random.default_rng(1).normal(0, 50, (2, 64, 64, 3))
with no_grad():
    before = small[:"conv1"](Tensor(images)).numpy()
    after = before.copy()
    after[..., 11] += 1.0  # the last map of tower 1; 12 is in tower 2
    before, after = Tensor(before), Tensor(after)
    for name, layer in list(zip(small.layers, small))[1:]:
        before, after = layer(before), layer(after)
        if name in ("relu1", "norm1", "conv2", "pool2", "conv3"):
            differ = np.abs(after.numpy() - before.numpy()).max((0, 1, 2)) > 0
            ours, theirs = differ.reshape(2, -1).sum(axis=1)
            count = f"{ours:>2} maps of tower 1, {theirs:>2} of tower 2"
            print(f"{name:<5}  {count}, of {len(differ) // 2} each")

# %% [markdown]
#     relu1   1 maps of tower 1,  0 of tower 2, of 12 each
#     norm1   3 maps of tower 1,  0 of tower 2, of 12 each
#     conv2  32 maps of tower 1,  0 of tower 2, of 32 each
#     pool2  32 maps of tower 1,  0 of tower 2, of 32 each
#     conv3  48 maps of tower 1, 48 of tower 2, of 48 each
#
# The normalisation carries the change to the two neighbours in the tower, and
# stops at its edge. All of conv2 in tower 1 learns of it, nobody in tower 2,
# until the towers talk to each other in conv3. They do so again in fc6, fc7
# and fc8, and nowhere else.
#
# In the picture: the paper's figure 2, drawn from your table. Blue arrows stay
# in a tower, orange ones carry maps from one card to the other. Below it is
# what you have counted. (The code only draws; nothing in it is needed again.)

# %%
import matplotlib.pyplot as plt


def draw_box(axes, left, middle, side, depth, colour):
    """A stack of maps, drawn in perspective; returns where it ends."""
    low, slant = middle - side / 2, 0.3 * side
    far = depth + slant
    x = left + np.array([0, depth, far, far, slant, 0, 0])
    y = low + np.array([0, 0, slant, side + slant, side + slant, side, 0])
    axes.fill(x, y, color=colour, alpha=0.3, lw=0)
    axes.plot(x, y, color=colour, lw=0.8)
    near = (left + depth, low + side)
    for corner in ((left, low + side), (left + depth, low), (x[3], y[3])):
        axes.plot(*zip(corner, near), color=colour, lw=0.8)
    return left + far


def draw_arrow(axes, start, end):
    colour = "tab:blue" if start[1] * end[1] >= 0 else "tab:orange"
    style = {"arrowstyle": "-|>", "color": colour, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


figure = plt.figure(figsize=(12, 7.6), layout="constrained")
grid = figure.add_gridspec(2, 2, height_ratios=(1.9, 1))
above = figure.add_subplot(grid[0, :])
learning = [step for step in walk() if not isinstance(step.row, str)]
end = draw_box(above, -0.1, 0, 224**0.5 / 5, 0.15, "grey")
above.text(0.4, -3.3, "image\n3\n224 x 224", ha="center", va="top")
before = [(end + 0.05, 0)]  # where arrows begin: right of each tower
for number, step in enumerate(learning):
    flat, last = step.new_size == 1, step is learning[-1]
    left, here = 2.0 + 1.75 * number, []
    side = 1.6 if flat else step.new_size**0.5 / 5
    depth = 0.12 if flat else step.new_channels / 2 / 250
    sees_all = isinstance(step.row, Full) or step.row.towers == 1
    for middle in (0,) if last else (1.8, -1.8):
        end = draw_box(above, left, middle, side, depth, "tab:blue")
        here.append((end + 0.05, middle))
        for start in before:
            if sees_all or start[1] == middle:
                draw_arrow(above, start, (left - 0.05, middle))
    before = here
    maps = f"{step.new_channels}" if last else f"2 x {step.new_channels // 2}"
    text = f"{step.name}\n{maps}"
    text += "" if flat else f"\n{step.new_size} x {step.new_size}"
    above.text((left + end) / 2, -3.3, text, ha="center", va="top")
above.text(2.0, 3.15, "tower 1: the first card", color="tab:blue")
above.text(2.0, -2.9, "tower 2: the second card", color="tab:blue")
above.set(xlim=(-0.3, 15.2), ylim=(-4.6, 3.4))
above.set_title("AlexNet (sides drawn as their square roots)")
above.axis("off")
labels = [step.name for step in learning]
for which, what in enumerate(("parameters", "multiply-accumulates")):
    axes = figure.add_subplot(grid[1, which])
    numbers = [costs(step)[which] / 1e6 for step in learning]
    bars = axes.bar(labels, numbers, color="tab:blue")
    axes.bar_label(bars, fmt="%.3g", padding=2)
    axes.set(title=f"{what}, millions", yticks=[])
    axes.margins(y=0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
figure.savefig("19_alexnet.png", dpi=110)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - read a network off a paper, and find what the paper leaves out;
# - compute the size, the parameters and the work of any layer by hand;
# - build AlexNet in any width, for any image of at least 64 pixels a side, and
#   show that its towers are apart.
#
# Now read `minidl/models/alexnet.py`: `PAPER` is your table, and the loop in
# `AlexNet` is your walk. It differs from yours: three more networks that go by
# this name stand beside it; each row has a `std` and a `bias`, the initial
# values of 2012 (yours begins with those that `nn` gives to any layer; lesson
# 17 says what that means); `PAPER` normalises across the towers, as the
# formula says, and `PROGRAM` inside them; and pooling rounds sizes up, which
# is the same at 224 and at 64 pixels. `minidl/nn/summary.py` prints what you
# have counted for any network: `nn.summary(model, (224, 224, 3))`.
#
# **The next lesson** gives AlexNet 32 photographs and demands that it learn
# them by heart. If it cannot do that, something is wrong somewhere, and you
# will need to know what to look at.
