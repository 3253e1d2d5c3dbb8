# %% [markdown]
# # Lesson 15: Dropout, both scalings
#
# **You will be able to** write dropout as the paper has it and as everybody
# has it today, and to say what it averages, and where that is exact.
#
# **Time:** 45 minutes. **Builds on:** lesson 6 (`Function`), lesson 7
# (devices), lesson 8 (`Module`), lesson 9 (softmax).
# **Source:** the paper on AlexNet, section 4.2, "Dropout".
#
# As before: `python -m lessons check 15 --watch` beside this file.

# %% [markdown]
# ## How many networks can you afford?
#
# Ask several networks, average their answers, and the average is often better
# than each of them. In 2012 one network had a top-5 error of 18.2 % on the
# validation images, five together 16.4 %. But training one took five to six
# days of two GPUs. Could there be a way to average more of them for less?
#
# Here is one: take *one* network, and each time an image is shown, switch off
# half of its units, drawn at random. What remains is a smaller network, a
# different one every time. AlexNet does this in its two large layers of 4,096
# units, called fc6 and fc7: its sixth and seventh layer, *fully connected*,
# as a `Linear` is. How many smaller networks are there in it?

# %%
import numpy as np

print("a number with", len(str(2 ** (4096 + 4096))), "digits")

# %% [markdown]
#     a number with 2467 digits
#
# They share their weights, so training one of them trains the others a little.
# And no unit can rely on the presence of another one; each has to be of use in
# whatever company it finds itself.
#
# ## Forwards: drawing a mask
#
# To switch off is to multiply by 0. A *mask* is an array of the shape of $x$
# with a 0 where a unit is dropped, and a 1 where it is kept. $p$ is the
# probability of being *dropped*, for each element by itself: for each unit of
# each image.
#
# Random numbers must come from the device on which $x$ is, and be repeatable.
# minidl has one generator for each device; `minidl.manual_seed` starts them
# anew. `generator(device_of(x)).random(x.shape)` is an array of numbers from 0
# to 1, evenly spread. Such a number is less than $p$ with probability $p$.
#
# ## Backwards: the same mask
#
# The gradient of $x * mask$ with respect to $x$ is the mask, times what comes
# from above. It must be *the* mask, the one that was used forwards: a unit
# that was switched off had no part in the result, and has no share in the
# blame. So `forward` keeps it, in `self.mask`.


# %%
from minidl import Function, Tensor, grad, manual_seed
from minidl.backend import device_of, generator


class Drop(Function):
    """Each element becomes 0 with probability p; the others stay."""

    def __init__(self, p):
        self.p = p

    def forward(self, x):
        """x: an array of either library."""
        ### BEGIN SOLUTION: draw self.mask, with the dtype of x; apply it
        random = generator(device_of(x)).random(x.shape)
        self.mask = (random >= self.p).astype(x.dtype)
        return x * self.mask
        ### END SOLUTION

    def backward(self, gradient):
        """gradient: a Tensor."""
        ### BEGIN SOLUTION: who was dropped gets nothing
        return gradient * self.mask
        ### END SOLUTION


manual_seed(3)
x = Tensor(np.arange(1.0, 9.0), requires_grad=True)
y = Drop(0.5)(x)
print(y.numpy())
print(grad((y * y).sum(), x).numpy())

# %% [markdown]
#     [0. 0. 3. 4. 0. 0. 0. 0.]
#     [0. 0. 6. 8. 0. 0. 0. 0.]
#
# Here two of eight are left. (If yours has its zeros in other places, but both
# lines in the same, all is well.)
#
# ## The difficulty of the next layer
#
# A unit of fc7 adds up what 4,096 units of fc6 send it. Let each of them send
# a 1, and look at the sum while training, in three draws, and then at the
# test, when nobody is dropped any more:

# %%
ones = Tensor(np.ones(4096, np.float32))
training = [f"{Drop(0.5)(ones).sum().item():.0f}" for _ in range(3)]
print("training:", *training, "  test:", f"{ones.sum().item():.0f}")

# %% [markdown]
# While training it is near 2,048, give or take 32. At the test it is 4,096,
# twice as much as the unit has ever seen. Its weights and its bias have been
# learned for the smaller sum.
#
# The paper's remedy: **at the test, multiply all outputs by 0.5**, in general
# by $1 - p$, the probability of being there. Then the sum at the test is what
# it was on average while training. Such an average is called the
# *expectation*. For one element $x$ it is $(1 - p) * x + p * 0 = (1 - p) x$.


# %%
def dropout(x, p=0.5, training=True):
    """Dropout as the paper has it. x: a Tensor.

    While training each element is dropped with probability p. Otherwise
    nothing is random, and each has the value it had on average.
    """
    ### BEGIN SOLUTION: training and test
    if training:
        return Drop(p)(x)
    return x * (1 - p)
    ### END SOLUTION


# %% [markdown]
# Today it is done the other way round, and called *inverted* dropout: make the
# survivors larger *while training*, so that the expectation is $x$ itself, and
# do nothing at the test. It has an advantage: a network that is only used, and
# no longer trained, need not know that there ever was a dropout. Which factor
# makes the expectation of what survives equal to $x$?


# %%
def inverted_dropout(x, p=0.5, training=True):
    """Dropout that leaves x alone when not training. x: a Tensor."""
    ### BEGIN SOLUTION: the survivors are scaled while training
    if training:
        return Drop(p)(x) * (1 / (1 - p))
    return x
    ### END SOLUTION


many = Tensor(np.ones(400_000, np.float32))
for form in (dropout, inverted_dropout):
    training = form(many, 0.2).numpy().mean()
    test = form(many, 0.2, training=False).numpy().mean()
    print(f"{form.__name__:<17} training {training:.2f}, test {test:.2f}")

# %% [markdown]
#     dropout           training 0.80, test 0.80
#     inverted_dropout  training 1.00, test 1.00
#
# Both are right. To train weights with one form and use them with the other is
# wrong, and a file of weights does not say which it was. (Paper and program
# have the first form, Caffe and PyTorch the second.)
#
# ## What is averaged?
#
# Is multiplying by 0.5 the same as asking all $2^n$ networks and averaging?
# For ten units there are 1,024, few enough to ask them all. Each network has a
# probability: a factor $p$ for each unit that it lacks and $1 - p$ for each
# that it has. `product((0, 1), repeat=3)` gives all masks for 3 units: (0, 0,
# 0), (0, 0, 1) and so on to (1, 1, 1).


# %%
from itertools import product


def mean_over_all(f, x, p):
    """The expectation of f(x * mask) over all masks, without any chance.

    f: a function of an array like x. x: a NumPy array (n,), n small.
    """
    mean = 0.0
    for mask in product((0, 1), repeat=len(x)):
        ### BEGIN SOLUTION: the probability of this mask, times its result
        kept = sum(mask)
        probability = p ** (len(x) - kept) * (1 - p) ** kept
        mean = mean + probability * f(x * np.array(mask))
        ### END SOLUTION
    return mean


random = np.random.default_rng(1)
UNITS = random.random(10)  # the responses of ten units
WEIGHTS = random.standard_normal((10, 3))  # from them to three classes
LAST = random.standard_normal((3, 1))


def layer(units):
    return units @ WEIGHTS


def two_layers(units):
    return np.maximum(layer(units), 0) @ LAST


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def show(name, all_of_them, halved):
    print(f"{name:<24}", all_of_them.round(3), halved.round(3))


half = UNITS * 0.5
logs = mean_over_all(lambda u: np.log(softmax(layer(u))), UNITS, 0.5)
odds = mean_over_all(lambda u: softmax(layer(u)), UNITS, 0.5)
show("one layer", mean_over_all(layer, UNITS, 0.5), layer(half))
show("softmax, geometric mean", softmax(logs), softmax(layer(half)))
show("softmax, plain mean", odds, softmax(layer(half)))
show("two layers", mean_over_all(two_layers, UNITS, 0.5), two_layers(half))

# %% [markdown]
#     one layer                [-0.371  0.211  0.552] [-0.371  0.211  0.552]
#     softmax, geometric mean  [0.188 0.337 0.474] [0.188 0.337 0.474]
#     softmax, plain mean      [0.192 0.332 0.476] [0.188 0.337 0.474]
#     two layers               [-0.358] [-0.184]
#
# First is the average of 1,024 networks, then one network with halved outputs.
#
# - For **one layer** they are equal. Every unit is there in half of the
#   networks, so in the average of the sums it counts half.
# - With a **softmax** behind it they are equal too, if probabilities are
#   averaged by *geometric* means: multiply all 1,024, take the 1,024th root,
#   and scale the results to the sum 1. (The code takes the mean of the
#   logarithms, which is the same.) The plain mean comes out differently.
# - With a **ReLU and another layer** behind it they are not equal. The mean of
#   ReLUs is not the ReLU of the mean.
#
# AlexNet drops in two layers, with ReLUs between. What it does at the test is
# an estimate of the average, for the price of one network. How good is it?
#
# ## A trial
#
# Take 1,000 images of the CIFAR-10 in minidl, shrunk to 8 x 8 pixels so that
# it is quick, and two hidden layers of 256 units, each with a ReLU and then
# dropout, as fc6 and fc7 have it. A layer knows from `self.training` whether
# it is being trained: `net.train()` and `net.eval()` set it in all of them.
# (`F.softmax` is the softmax of lesson 9, as a function of minidl's.)

# %%
import minidl.functional as F
from minidl import nn, no_grad, optim
from minidl.data import EmbeddedCIFAR10


class Dropout(nn.Module):
    def __init__(self, p):
        self.p = p

    def forward(self, x):
        return dropout(x, self.p, self.training)


def network(p):
    parts = [nn.Linear(192, 256), nn.ReLU(), Dropout(p)]
    parts += [nn.Linear(256, 256), nn.ReLU(), Dropout(p)]
    return nn.Sequential(*parts, nn.Linear(256, 10))


def shrunk(data):
    """1,000 images of all classes, 192 numbers each, and their labels."""
    chosen = np.random.default_rng(0).permutation(len(data.images))[:1000]
    images = data.images[chosen].reshape(1000, 8, 4, 8, 4, 3).mean((2, 4))
    return images.reshape(1000, 192).astype(np.float32), data.labels[chosen]


x_train, y_train = shrunk(EmbeddedCIFAR10(train=True))
x_test, y_test = shrunk(EmbeddedCIFAR10(train=False))
mean, deviation = x_train.mean(axis=0), x_train.std()
x_train, x_test = (x_train - mean) / deviation, (x_test - mean) / deviation


def probabilities(net, x):
    with no_grad():
        return F.softmax(net(Tensor(x))).numpy()


def error(found, labels):
    return f"{100 * np.mean(found.argmax(axis=1) != labels):.1f} %"


def trained(p, passes=50):
    """A network, and its test loss after every pass."""
    manual_seed(0)
    net, losses = network(p), []
    optimizer = optim.SGD(net.parameters(), lr=0.2)
    order = np.random.default_rng(0)
    for _ in range(passes):
        net.train()
        for batch in order.permutation(1000).reshape(-1, 100):
            optimizer.zero_grad()
            logits = net(Tensor(x_train[batch]))
            F.cross_entropy(logits, y_train[batch]).backward()
            optimizer.step()
        net.eval()
        right = probabilities(net, x_test)[np.arange(1000), y_test]
        losses.append(-np.log(right).mean())
    return net, losses


histories = {}
for p in (0.0, 0.5):
    net, histories[p] = trained(p)
    print(f"p = {p}: error of the images it was trained with", end=" ")
    print(error(probabilities(net, x_train), y_train), end=", of others ")
    print(error(probabilities(net, x_test), y_test))

halved = probabilities(net, x_test)
net.train()
crowd = np.array([probabilities(net, x_test) for _ in range(50)])
net.eval()
print("eval() forgotten, three times:", *[error(c, y_test) for c in crowd[:3]])
print("the mean of 50 networks:", error(crowd.mean(axis=0), y_test))

# %% [markdown]
# Without dropout the network knows its 1,000 images by heart, and gets about
# two thirds of others wrong. With dropout it gets nearly half of its own
# wrong, and of others two or three in a hundred fewer. The loss shows more,
# on the right of the picture: the network without dropout becomes ever more
# certain, also where it is wrong. (To be fair: stopped after ten passes, its
# loss would be nearly as low. Dropout does no wonders for 1,000 images.)
#
# Who forgets `net.eval()` gets another answer each time, and a worse one, for
# it is that of a single small network. The mean of 50 of them has about the
# error of the one with halved outputs. On the left: what these 50 say to one
# image of the test, their mean, and the halved one.

# %%
import matplotlib.pyplot as plt

from minidl.data.embedded import CLASSES

chosen = int(np.argmax(crowd.std(axis=0).sum(axis=1)))  # much disagreement

figure = plt.figure(figsize=(11, 4.2), layout="constrained")
left, right = figure.subplots(1, 2)
places = np.arange(10)
scatter = np.random.default_rng(0).uniform(-0.25, 0.25, (50, 10))
left.plot(places + scatter, crowd[:, chosen], ".", color="silver")
left.plot([], [], ".", color="silver", label="50 of the networks")
left.plot(crowd[:, chosen].mean(axis=0), "k_", ms=22, label="their mean")
left.plot(halved[chosen], "D", color="tab:blue", label="outputs halved")
left.set_xticks(places, CLASSES, rotation=45, ha="right")
left.set(ylabel="probability", title="One image, many opinions")
left.legend(frameon=False)

passes = range(1, 51)
right.plot(passes, histories[0.0], color="tab:orange", label="without dropout")
right.plot(passes, histories[0.5], color="tab:blue", label="dropout, p = 0.5")
right.set(xlabel="passes over the 1,000 images", ylim=(0, None))
right.set(ylabel="loss on 1,000 others", title="By heart, or not")
right.legend(frameon=False, loc="lower left")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("15_dropout.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - write both forms of dropout, with one mask for both directions;
# - say what the factor at the test is for, and recognise a network that lacks
#   it, or whose `eval()` was forgotten;
# - say for which network the halved one is exactly the average of all.
#
# In the AlexNet of 2012 dropout stands behind the ReLUs of fc6 and fc7, with
# $p = 0.5$. In the single tower of 2014 it stands in front of fc6 and fc7.
#
# Now read `minidl/ops/dropout.py`, which is short. It differs from yours: one
# function has both forms, `inverted` chooses. It draws numbers of 32 bits,
# which cost half as much. And on a GPU it keeps no mask at all: the `Dropout`
# there keeps a `seed`, draws the same numbers once more on the way back, and
# saves the memory. `minidl/kernels/dropout.py` says how numbers can be random
# and yet the same twice.
#
# **The next lesson** is about the step after `backward`: the velocity from the
# end of lesson 3, and how the paper slows it down.
