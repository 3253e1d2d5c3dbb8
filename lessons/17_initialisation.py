# %% [markdown]
# # Lesson 17: Where training starts
#
# **You will be able to** choose the first weights of any network, measure how
# a signal fares on its way through it, and say why AlexNet can sit at
# ln(classes) for a long time.
#
# **Time:** 45 minutes. **Builds on:** lesson 8 (layers), lesson 9
# (cross-entropy), lesson 13 (ReLU), lesson 16 (momentum).
# **Source:** the paper on AlexNet, section 5 (the first weights, the biases
# of 1); Glorot and Bengio, "Understanding the difficulty of training deep
# feedforward neural networks" (2010); He and others, "Delving deep into
# rectifiers" (2015).
#
# As before: `python -m lessons check 17 --watch` beside this file.

# %% [markdown]
# ## A network that answers nothing
#
# Section 5 of the paper: the weights start at random, normally distributed
# around 0 with standard deviation 0.01. That takes one line. Let us do it, and
# have a small AlexNet learn 30 photographs by heart.
#
# `AlexNet` is the network of 2012, which you will put together in lesson 19;
# "paper" means: with the first weights of the paper. Here it gets an eighth of
# the channels, and images of 64 pixels. `Resize(64)` scales images to this
# size. `model.eval()` switches dropout off (lesson 15), so that nothing random
# stands between us and the loss.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, no_grad, optim
from minidl.backend import get_array_module
from minidl.data import EmbeddedCIFAR10, Resize
from minidl.models import AlexNet


def photographs(size, each=3):
    """So many images of each class, minus the mean image; their labels."""
    data = EmbeddedCIFAR10(train=False)
    by_class = np.argsort(data.labels, kind="stable").reshape(10, 100)
    chosen = by_class[:, :each].T.ravel()
    images = data.images[chosen] - data.images.mean(axis=0)
    images = Resize(size)(images, np.random.default_rng(0))
    return images, data.labels[chosen]


def train(model, images, labels, steps=100):
    """Learn these images by heart; the loss before each step."""
    model.eval()
    optimizer = optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(Tensor(images)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


IMAGES, LABELS = photographs(64)
minidl.manual_seed(0)
model = AlexNet("paper", num_classes=10, width=0.125, image_size=64)
paper_losses = train(model, IMAGES, LABELS)
for step in (0, 25, 50, 75, 99):
    print(f"step {step:>2}: loss {paper_losses[step]:.2f}")
print(f"ln(10)  = {np.log(10):.2f}")

# %% [markdown]
#     step  0: loss 2.31
#     step 25: loss 2.30
#     step 50: loss 2.30
#     step 75: loss 2.30
#     step 99: loss 2.30
#     ln(10)  = 2.30
#
# That the loss *begins* at ln(10) is right: a network that knows nothing gives
# each of ten classes the probability 1/10, and minus the logarithm of that is
# 2.30. But it should not stay there. After 300 steps it is at 2.3026 still,
# which is ln(10) to the last digit. The rate is not too small, the gradients
# are right (lesson 4 would say so), and no weight is 0. What is wrong?
#
# ## Ten layers in a row
#
# Something simpler: 256 numbers go through ten layers of 256 units, each
# a matrix and a ReLU. As the *size* of a signal we take the root of the mean
# of its squares. Three standard deviations $s$ for the weights:


# %%
def size(x):
    """The root of the mean square: how large the numbers of x are."""
    xp = get_array_module(x)
    return float(xp.sqrt((x * x).mean()))


def ten_layers(s, width=256):
    """The size of the signal before, and behind each of ten layers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, width))
    sizes = [size(x)]
    for _ in range(10):
        weight = s * rng.standard_normal((width, width))
        x = np.maximum(x @ weight, 0)
        sizes.append(size(x))
    return sizes


for s in (0.01, 0.1, 0.2):
    sizes = ten_layers(s)
    print(f"s = {s:<4}: {sizes[1]:6.3f} behind layer 1,", end=" ")
    print(f"{sizes[10]:8.2g} behind layer 10")

# %% [markdown]
#     s = 0.01:  0.112 behind layer 1,    4e-10 behind layer 10
#     s = 0.1 :  1.119 behind layer 1,        4 behind layer 10
#     s = 0.2 :  2.238 behind layer 1,  4.1e+03 behind layer 10
#
# Each layer multiplies the size by about the same number: 0.11 with 0.01, 1.1
# with 0.1, 2.3 with 0.2. Ten layers make the tenth power of it. So there is
# one right value, and it must be a little below 0.1. Which?
#
# ### Three lines of statistics
#
# One unit computes $y = w_1 x_1 + ... + w_n x_n$. The weights are drawn
# independently, with mean 0 and standard deviation $s$. Write $E[...]$ for the
# mean over such draws. In $y^2$ stand products $w_i x_i w_j x_j$. Where $i$
# and $j$ differ, the mean is 0: the sign of $w_i$ knows nothing of that of
# $w_j$. What remains is $E[w_i^2] x_i^2 = s^2 x_i^2$, $n$ times:
#
# - sum:  $E[y^2] = n s^2 * mean(x^2)$;
# - ReLU: $y$ is as often negative as positive, so half of the squares become
#   0, and the mean square is $n s^2 / 2$ times that of $x$;
# - equal size before and behind: $n s^2 / 2 = 1$, so $s = sqrt(2 / n)$.
#
# That is He's rule, of 2015. For 256 inputs it gives 0.088. And 0.01 instead
# multiplies the size by $0.01 sqrt(256 / 2) = 0.113$, as we saw.
#
# On the way back the same holds with another number. The gradient at one
# *input* is a sum over all outputs that this input goes to, $m$ of them. To
# keep the size of gradients, $m$ should stand where $n$ stands. Glorot and
# Bengio wrote that down in 2010, for units like tanh, which hardly change
# small numbers (no half is lost): $s^2 = 1 / n$ forwards, $s^2 = 1 / m$
# backwards, and as a compromise $s^2 = 2 / (n + m)$.
#
# ### Counting
#
# $n$ is called *fan-in*, $m$ *fan-out*. For a matrix of shape (in, out), they
# are its two numbers. One number of a convolution is a sum over a whole patch,
# kernel x kernel x channels. Our weights have the shape (KH, KW, C_in, C_out),
# where C_in is what one unit sees, half of the channels with two towers. And
# one input is used KH x KW times (at each place of the window that covers it)
# for each of C_out channels. (With a larger stride or two towers it is used
# less often; the rule is applied all the same.)


# %%
def fans(shape):
    """(fan_in, fan_out) of weights (in, out) or (KH, KW, C_in, C_out)."""
    ### BEGIN SOLUTION: the axes before the last two are the window's
    window = int(np.prod(shape[:-2]))
    return window * shape[-2], window * shape[-1]
    ### END SOLUTION


def he_std(shape):
    """The standard deviation that keeps a signal's size through ReLU."""
    ### BEGIN SOLUTION: the rule from above
    return (2 / fans(shape)[0]) ** 0.5
    ### END SOLUTION


def glorot_std(shape):
    """The compromise between forwards and backwards, for tanh."""
    return (2 / sum(fans(shape))) ** 0.5


ALEXNET = {  # what one unit of each layer sees, and the units
    "conv1": (11, 11, 3, 96), "conv2": (5, 5, 48, 256),
    "conv3": (3, 3, 256, 384), "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256), "fc6": (9216, 4096),
    "fc7": (4096, 4096), "fc8": (4096, 1000),
}  # fmt: skip
left = 1.0
print("       fan-in     He  Glorot  0.01 multiplies by")
for name, shape in ALEXNET.items():
    n, he, glorot = fans(shape)[0], he_std(shape), glorot_std(shape)
    factor = 0.01 * (n / 2) ** 0.5
    left *= factor
    print(f"{name:5}  {n:>6}  {he:.3f}   {glorot:.3f}  {factor:.2f}")
print(f"all eight together: {left:.5f}")

# %% [markdown]
#            fan-in     He  Glorot  0.01 multiplies by
#     conv1     363  0.074   0.013  0.13
#     conv2    1200  0.041   0.016  0.24
#     conv3    2304  0.029   0.019  0.34
#     conv4    1728  0.034   0.020  0.29
#     conv5    1728  0.034   0.022  0.29
#     fc6      9216  0.015   0.012  0.68
#     fc7      4096  0.022   0.016  0.45
#     fc8      4096  0.022   0.020  0.45
#     all eight together: 0.00013
#
# Now look at the column of He, at conv3, conv4 and conv5. The *program* that
# won in 2012 did not use what the paper says. It had 0.01 in five layers, and
# 0.03 in these three: what He's rule would give, three years before it was
# published. (In conv1 0.01 is less of a loss: its input is not of size 1, but
# pixels from 0 to 255 minus the mean image, of size 62 here.)
#
# ## Size is not all
#
# So the signal dies, and that is it? Not quite. The biases of conv2, conv4,
# conv5, fc6 and fc7 start at 1. Behind such a layer the numbers are of size 1
# whatever comes in. But a bias is the same for *every image*. What the network
# can learn from is the part that differs from image to image. So measure it:
# take from the signal its mean over the images, and compare the size of what
# is left with the size of the whole. Call this the *share* of the images. If
# all images look alike it is 0; if they have nothing in common, 1.


# %%
def image_share(signal):
    """How much of `signal` (N, ...) differs between the N images, 0 to 1."""
    ### BEGIN SOLUTION: size without the mean over images / size of all
    return size(signal - signal.mean(axis=0)) / size(signal)
    ### END SOLUTION


print(f"pixels minus the mean image: {image_share(IMAGES):.2f}")
print(f"the same, 1000 added:        {image_share(IMAGES + 1000):.2f}")

# %% [markdown]
# The first is near 1, the second about 0.06. Now through a whole network.
# `model.layers` is a dictionary {name: layer} in the order in which they
# compute. Send the images through one layer after the other, and note for each
# what comes *out*. Layers take and give Tensors; `size` wants an array, and
# `x.data` is the one in the Tensor `x`. (`no_grad` because nobody will walk
# back here.)


# %%
def signal_through(model, images):
    """[(name, size, share of the images)] behind each layer of `model`."""
    model.eval()
    found = []
    with no_grad():
        x = Tensor(images)
        for name, layer in model.layers.items():
            ### BEGIN SOLUTION: one layer further; note what came out
            x = layer(x)
            found.append((name, size(x.data), image_share(x.data)))
            ### END SOLUTION
    return found


def initialise(model, std_of, rng):
    """Draw all weights anew from N(0, std_of(their shape)); biases 0.

    std_of: he_std, or any function from a shape to a number.
    """
    for parameter in model.parameters():
        ### BEGIN SOLUTION: weights have two axes or more, biases one
        if parameter.ndim > 1:
            numbers = rng.standard_normal(parameter.shape, np.float32)
            parameter.data = numbers * std_of(parameter.shape)
        else:
            parameter.data = np.zeros(parameter.shape)
        ### END SOLUTION


# %% [markdown]
# (A new value is *assigned* to `parameter.data`. That is the one door: the
# array behind it is read-only, because a change behind the back of the
# computation would make gradients wrong.)
#
# And now AlexNet itself, in full size, with all its 60 million weights, on ten
# of our photographs blown up to 224 pixels: with the weights of the paper,
# with 0.03 in three layers, and with He's rule on images of size 1.

# %%
big_images, _ = photographs(224, each=1)
big = AlexNet("paper")
starts = {"paper": signal_through(big, big_images)}
for layer in (big["conv3"], big["conv4"], big["conv5"]):
    layer.weight.data = layer.weight.data * 3  # N(0, 0.03)
starts["0.03"] = signal_through(big, big_images)
initialise(big, he_std, np.random.default_rng(0))
starts["He"] = signal_through(big, big_images / big_images.std())
del big

print("             paper             0.03               He")
print("         size    share     size    share     size    share")
for rows in zip(*starts.values()):
    name = rows[0][0]
    if name.startswith(("conv", "fc")):
        cells = [f"{s:8.2f} {100 * share:6.1f} %" for _, s, share in rows]
        print(f"{name:5}", " ".join(cells))

# %% [markdown]
# There it is. With the paper's weights the size looks perfectly healthy: about
# 1 in the upper layers. But of what arrives at fc8, less than one part in a
# hundred differs from image to image. The network says nearly the same about
# every picture. With 0.03 in three layers it is more than ten times as much,
# and with He's rule nearly fifty times. (On 64 photographs of food the logits
# varied by 1.6 % of their size with the paper's text, and by 15 % with the
# program's weights and its order of layers.)
#
# ### Why this means ln(classes)
#
# Let $h$ be what goes into the last layer, $p$ the probabilities, $t$ the
# target (1 for the right class, else 0). The gradient of a weight from unit
# $j$ to class $k$ is the mean over the images of $h_j (p_k - t_k)$: lesson 9.
# If $h_j$ is the same for all images, it can be taken out of the mean:
# $h_j mean(p_k - t_k)$. Once each class gets as much probability as it has
# images, that mean is 0. The network has then learnt all that it can see, how
# frequent the classes are, and the loss of that is ln(10), or ln(1000) = 6.9
# for ImageNet. Only the share of the images can lead any further, and of this
# small share the layers below get what is left after all small weights between
# have been multiplied in. In the network from the beginning of this lesson the
# gradients of conv1 to conv4 are about 0.00001 of the size of their weights.
# Times the rate of 0.005, and tenfold through momentum, it would take two
# million steps to make other weights of them. With He's rule they are a few
# hundredths. (Try it: after `backward`, compare `size(layer.weight.grad.data)`
# with `size(layer.weight.data)`.)
#
# ## The same network, started well
#
# Nothing else is changed: network, images, rate, steps. Just the weights and
# biases, and the scale of the images, which has to fit them. (He's rule keeps
# the size of what comes in. Give it pixels of size 62 and it keeps 62: the
# first loss is about 11, a network that is sure and wrong. The weights of 2012
# were made for such pixels, He's for inputs of size 1.)

# %%
model = AlexNet("paper", num_classes=10, width=0.125, image_size=64)
initialise(model, he_std, np.random.default_rng(0))
he_losses = train(model, IMAGES / IMAGES.std(), LABELS)
for step in (0, 25, 50, 75, 99):
    print(f"step {step:>2}: {paper_losses[step]:.2f} {he_losses[step]:.2f}")

# %% [markdown]
# It ends near 0: the 30 photographs are known by heart. In the picture: on the
# left the share of the images on its way through the full network, on the
# right the two trainings.

# %%
figure = plt.figure(figsize=(11, 4), layout="constrained")
left_axes, right_axes = figure.subplots(1, 2)
colours = {"paper": "tab:orange", "0.03": "tab:green", "He": "tab:blue"}
labels = {"paper": "paper: 0.01 everywhere", "0.03": "0.03 in conv3 to conv5"}
for start, rows in starts.items():
    rows = [row for row in rows if row[0].startswith(("conv", "fc"))]
    names = [row[0] for row in rows]
    shares = [100 * row[2] for row in rows]
    label = labels.get(start, "He's rule")
    left_axes.semilogy(names, shares, "o-", color=colours[start], label=label)
marks = [1, 3, 10, 30, 100]
left_axes.set_yticks(marks, [f"{mark} %" for mark in marks])
left_axes.minorticks_off()
left_axes.set(title="What differs from image to image", xlabel="behind")
left_axes.legend(frameon=False, loc="lower left")
right_axes.plot(paper_losses, color="tab:orange", label="paper's weights")
right_axes.plot(he_losses, color="tab:blue", label="He's rule")
right_axes.axhline(np.log(10), color="lightgrey", zorder=0)
right_axes.text(99, np.log(10) + 0.05, "ln(10)", color="grey", ha="right")
right_axes.set(xlabel="step", ylabel="loss", title="Thirty photographs")
right_axes.set_ylim(0, 2.6)
right_axes.legend(frameon=False, loc="lower left")
for axes in (left_axes, right_axes):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("17_initialisation.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - derive the standard deviation for a layer from its fan-in, and say what
#   ReLU has to do with the 2 in it;
# - measure the size of a signal and the share of it that tells images apart,
#   layer by layer, before a single step;
# - recognise a loss that sits at ln(classes), and know where to look first.
#
# How, then, could AlexNet learn in 2012? Its program had 0.03 in the three
# layers where it counts, as you saw, 1.2 million images, and five to six days.
# With the text of the paper alone people have waited long.
#
# Now read `minidl/nn/init.py`: `kaiming_normal_` is your `he_std` (Kaiming is
# He's first name), `xavier_normal_` is Glorot's (that is Xavier), and
# `_fans` your `fans`. It differs from yours: there are uniform versions of
# both, and `default_`, what a layer gets when nobody says anything: uniform
# between plus and minus 1 / sqrt(fan-in). The column `std` in
# `minidl/models/alexnet.py` has the first weights of four different AlexNets.
#
# **The next lesson** needs no network at all. 30 photographs are quickly known
# by heart, and even 1.2 million are too few for 60 million weights: it makes
# more of them.
