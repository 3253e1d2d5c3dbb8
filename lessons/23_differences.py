# %% [markdown]
# # Lesson 23: Paper against program, the eight differences
#
# **You will be able to** take two descriptions of a network apart into their
# differences, try each one alone, and say of which you have seen an effect and
# of which you have not.
#
# **Time:** 45 minutes. **Builds on:** lessons 14 (normalisation), 16 (SGD), 17
# (first weights), 18 (images), 19 (the network).
# **Source:** the paper on AlexNet, sections 3 to 5, and the program of 2012
# (computerhistory/AlexNet-Source-Code: `layers/layers-145.cfg` is the network,
# `layers/layer-params-145.cfg` how it learns).
#
# As before: `python -m lessons check 23 --watch` beside this file.

# %% [markdown]
# ## Two people build AlexNet
#
# One has the paper, the other has the program that won in 2012. Do they build
# the same network? Shown photographs before it has learned anything, one of
# the two gives nearly the same answer to all of them; its answers vary by less
# than half a per cent. The other's vary by seven per cent. And when they begin
# to learn, the first sits still, while the second learns. Which is which, and
# why?
#
# Here are both, each in a dictionary. You have met every line in some lesson.

# %%
PAPER = {
    "order": "relu norm pool",  # of what comes after conv1
    "norm": (1e-4, 1),  # alpha, which multiplies the sum; towers
    "within": "no",  # a second normalisation, after conv2
    "deep weights": 0.01,  # the first weights of conv3, conv4, conv5
    "other weights": 0.01,
    "biases": (1, 1),  # their rate and decay, times those of the weights
    "momentum": 0.9,
    "decay": 0.0005,
    "dropout": 0.5,
    "colour noise": "eigenvalue",
    "images a crop": 1,  # so many share the place of their crop
    "border": "none",  # zeros round the image
}
PROGRAM = {
    "order": "norm pool relu",
    "norm": (1e-4 / 5, 2),
    "within": "yes",
    "deep weights": 0.03,
    "other weights": 0.01,
    "biases": (2, 0),
    "momentum": 0.9,
    "decay": 0.0005,
    "dropout": 0.5,
    "colour noise": "deviation",
    "images a crop": 4,  # of our 16 in a batch; in 2012, 32 of 128
    "border": "end",
}

# %% [markdown]
# The first question to ask about two configurations is always the same: in
# what do they differ? Let a function answer it; eyes skip lines. A name may be
# in one of them only; then the other has None (`b.get(name)` gives that).


# %%
def differences(a, b):
    """{name: (a's value, b's value)} for all that is not the same in both.

    In the order of a; then what only b has, in the order of b.
    """
    ### BEGIN SOLUTION: the names of both, and those whose values differ
    names = list(a) + [name for name in b if name not in a]
    pairs = {name: (a.get(name), b.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    ### END SOLUTION


for name, (paper, program) in differences(PAPER, PROGRAM).items():
    print(f"{name:<14} {paper!s:<15} {program}")

# %% [markdown]
#     order          relu norm pool  norm pool relu
#     norm           (0.0001, 1)     (2e-05, 2)
#     within         no              yes
#     deep weights   0.01            0.03
#     biases         (1, 1)          (2, 0)
#     colour noise   eigenvalue      deviation
#     images a crop  1               4
#     border         none            end
#
# Eight. In words, the program against the paper's text:
#
# - **order**: after conv1 it normalises and pools first; ReLU comes last.
# - **norm**: its alpha is 1e-4 *divided by the 5 maps* of the window, and the
#   window does not cross from one tower to the other (lesson 14).
# - **within**: after conv2 there is a second normalisation, over 5 x 5 pixels
#   within each map. It was never published.
# - **deep weights**: conv3, conv4 and conv5 begin with a standard deviation of
#   0.03. The paper says 0.01 for all.
# - **biases**: they learn at twice the rate, and do not decay. (Nor was their
#   rate lowered later on.)
# - **colour noise**: times the standard deviation, not the eigenvalue, and
#   then everything is divided by 1.1 (lesson 18).
# - **images a crop**: 32 images of a batch, one after the other, share one
#   crop and one mirroring. In the paper each has its own.
# - **border**: sizes are rounded up, which is the same as 3 zeros at the
#   bottom and the right. By the paper's text 224 pixels give 54, not 55
#   (lesson 11).
#
# Who counts finer finds more: the program ran on a fixed schedule, the paper
# describes one by the validation error; conv1 was frozen towards the end. Such
# things need 90 epochs, and we have seconds.
#
# ## One at a time
#
# If you change eight things at once and the result is another, you have
# learned nothing about the eight. So make configurations that differ from a
# base in one thing each.


# %%
def one_by_one(base, other):
    """{name: base, but with other's value of this name}; base stays as it is.

    One configuration for each of the differences.
    """
    ### BEGIN SOLUTION: a new dictionary each, with one value replaced
    names = differences(base, other)
    return {name: {**base, name: other[name]} for name in names}
    ### END SOLUTION


for name, config in one_by_one(PAPER, PROGRAM).items():
    print(f"{name:<14} changes", *differences(PAPER, config))

# %% [markdown]
# Each line should name the same thing twice.
#
# ## A small network that begins like the large one
#
# We need a network that learns in seconds: an eighth of the maps, and images
# of 56 pixels, cut from 64. (A quarter of 224 and of 256. It even lacks 3
# pixels at the end, as 224 does.) But would it tell us anything about the
# large one? Lesson 17: weights with standard deviation $s$ and $n$ inputs to
# each filter make a signal of mean square $n s^2$ times what comes in. A
# narrow layer has a smaller $n$; with the same $s$ its signal would die away
# much faster. Choose its $s$ so that $n s^2$ is what it is in the full
# network.


# %%
def scale_model(std, full, here):
    """The std for a layer with `here` inputs instead of `full` to a filter."""
    ### BEGIN SOLUTION: here * (new std)^2 = full * std^2
    return std * (full / here) ** 0.5
    ### END SOLUTION


print("conv3: 0.01 becomes", round(scale_model(0.01, 2304, 288), 4))

# %% [markdown]
# (0.0283: 8 times fewer inputs, so sqrt(8) times the standard deviation.) Here
# is the network, with everything that a configuration says of it.

# %%
import math

import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, data, nn, no_grad, optim
from minidl.nn import init

FULL = {"conv1": 363, "conv2": 1200, "conv3": 2304, "conv4": 1728}
FULL |= {"conv5": 1728, "fc6": 9216, "fc7": 4096, "fc8": 4096}  # inputs
DEEP = ("conv3", "conv4", "conv5")
BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")


def network(config, classes=2):
    """AlexNet with an eighth of its maps, for images of 56 pixels."""
    alpha, towers = config["norm"]
    drop = config["dropout"]
    border = (0, 3) if config["border"] == "end" else (0, 0)

    def norm():
        return nn.LocalResponseNorm(5, alpha, 0.75, 2.0, towers)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)  # sizes rounded up

    made = {"conv1": nn.Conv2d(3, 12, 11, 4, (border, border))}
    kinds = {"relu": nn.ReLU, "norm": norm, "pool": pool}
    made |= {f"{k}1": kinds[k]() for k in config["order"].split()}
    made["conv2"] = nn.Conv2d(12, 32, 5, padding=2, groups=2)
    made |= {"relu2": nn.ReLU(), "norm2": norm()}
    if config["within"] == "yes":
        # its alpha, 1e-3, is divided by the 25 pixels of the window
        made["within2"] = nn.LocalResponseNormWithin(5, 1e-3 / 25, 0.75, 1.0)
    made |= {"pool2": pool(), "conv3": nn.Conv2d(32, 48, 3, padding=1)}
    made |= {"relu3": nn.ReLU()}
    made |= {"conv4": nn.Conv2d(48, 48, 3, padding=1, groups=2)}
    made |= {"relu4": nn.ReLU()}
    made |= {"conv5": nn.Conv2d(48, 32, 3, padding=1, groups=2)}
    made |= {"relu5": nn.ReLU(), "pool5": pool(), "flatten": nn.Flatten()}
    for name, inputs in (("fc6", 32), ("fc7", 512)):
        made |= {name: nn.Linear(inputs, 512), f"relu{name}": nn.ReLU()}
        made[f"drop{name}"] = nn.Dropout(drop, inverted=False)
    made["fc8"] = nn.Linear(512, classes)
    for name, full in FULL.items():
        layer = made[name]
        std = config["deep weights" if name in DEEP else "other weights"]
        here = math.prod(layer.weight.shape[:-1])
        init.normal_(layer.weight, std=scale_model(std, full, here))
        init.constant_(layer.bias, 1.0 if name in BIAS_ONE else 0.0)
    return nn.Sequential(made)


# %% [markdown]
# ## How much does the answer depend on the image?
#
# Lesson 17 has measured that: take away the mean over the images, and compare
# the size of what is left with the size of the whole. There it was called the
# share of the images. Here it is taken of the logits, the network's answers,
# and we call it the *signal*. 0 means blind.


# %%
def signal(logits):
    """How much logits (N, K) vary from image to image, from 0 to 1."""
    left = logits - logits.mean(axis=0)
    return float(((left * left).mean() / (logits * logits).mean()) ** 0.5)


def photographs(train):
    """Aeroplanes and frogs in 64 x 64 pixels, mean subtracted; 0 or 1."""
    learn = data.EmbeddedCIFAR10()
    mean = learn.images.mean(axis=0)
    found = learn if train else data.EmbeddedCIFAR10(train=False)
    of_two = (found.labels == 0) | (found.labels == 6)
    images = found.images[of_two] - mean
    images = data.Resize(64)(images, np.random.default_rng(0))
    return images, (found.labels[of_two] == 6).astype(np.int64)


IMAGES, LABELS = photographs(train=True)
NEW, NEW_LABELS = photographs(train=False)
NEW = NEW[:, 4:60, 4:60]  # the centre
print(len(IMAGES), "images to learn from,", len(NEW), "others")


def first_signal(config, seeds=range(3)):
    """The signal before the first step: the mean over several networks."""
    found = []
    for seed in seeds:
        minidl.manual_seed(seed)
        model = network(config, classes=10).eval()
        with no_grad():
            found.append(signal(model(Tensor(NEW[::4])).numpy()))
    return float(np.mean(found))


print(f"paper:   {first_signal(PAPER):.1%}")
print(f"program: {first_signal(PROGRAM):.1%}")

# %% [markdown]
# So the blind one is the paper's. Measured in the full network, on photographs
# of 227 pixels, it was 1.6 % for the paper's text and 15 % for the program's
# 0.03 and its order of layers. Ours is a model of it, and shows the same.
#
# Which of the eight does it? Two questions, and they are not the same: what
# does each one *add to the paper*, and what is missing when it is *taken out*
# of the program?

# %%
ADDED = one_by_one(PAPER, PROGRAM)
TAKEN = one_by_one(PROGRAM, PAPER)
added = {name: first_signal(config) for name, config in ADDED.items()}
taken = {name: first_signal(config) for name, config in TAKEN.items()}
print("               paper with it  program without it")
for name in ADDED:
    print(f"{name:<14}  {added[name]:12.1%} {taken[name]:19.1%}")

# %% [markdown]
# One line stands out, in both columns: the first weights of three layers. 0.03
# instead of 0.01 makes what comes from the image 3 x 3 x 3 = 27 times as
# large. (The signal grows by less, for what is the same in all images grows
# too.) Everything else changes it by a few parts in a hundred of itself, or,
# as rates, crops and noise, cannot change it, since no step has been made.
#
# ## And when it learns?
#
# Twenty-four steps of 16 images, aeroplanes against frogs; then the loss on
# 200 images that it has not seen. Guessing has ln(2) = 0.693.


# %%
def batch(config, seed, step, size=16):
    """Images and labels of a step; the same ones for all configurations."""
    rng = np.random.default_rng([seed, step])
    chosen = rng.integers(len(IMAGES), size=size)
    together = config["images a crop"]
    kind = config["colour noise"]
    images = data.RandomCrop(56, together=together)(IMAGES[chosen], rng)
    images = data.Mirror(together=together)(images, rng)
    rng = np.random.default_rng([seed, step, 1])
    images = data.ColourNoise(COVARIANCE, kind)(images, rng)
    if kind == "deviation":
        images = images / np.float32(1.1)
    return Tensor(images), LABELS[chosen]


def loss_after(config, seed, steps=24, rate=0.003):
    """The loss on the other images after so many steps."""
    minidl.manual_seed(seed)
    model = network(config)
    faster, slower = config["biases"]  # their rate and decay
    decay = config["decay"]
    named = list(model.named_parameters())
    weights = {"params": [p for n, p in named if n.endswith("weight")]}
    biases = {"params": [p for n, p in named if n.endswith("bias")]}
    biases |= {"lr": faster * rate, "weight_decay": slower * decay}
    groups = [weights, biases]
    optimizer = optim.SGD(groups, rate, config["momentum"], decay)
    for step in range(steps):
        images, labels = batch(config, seed, step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with no_grad():
        return F.cross_entropy(model(Tensor(NEW)), NEW_LABELS).item()


COVARIANCE = np.cov(IMAGES.reshape(-1, 3).T)
SEEDS = range(3)
losses = {
    "paper": [loss_after(PAPER, seed) for seed in SEEDS],
    "program": [loss_after(PROGRAM, seed) for seed in SEEDS],
}
for name, found in losses.items():
    print(f"{name:<8}", *(f"{loss:.2f}" for loss in found))

# %% [markdown]
# Three numbers each, for three seeds: other first weights, other images, other
# crops. The paper's network is at about 0.7 each time: guessing. The program's
# is clearly below it each time, but by how much, depends on the seed. If
# we now take one thing out of the program and the loss changes by 0.02, was it
# that thing, or chance?
#
# First remedy: **compare in pairs**. With the same seed, both networks get the
# same first weights, images and crops, so what the seed does is the same in
# both and drops out of the difference. Second: **ask the differences how much
# they vary**. Of $n$ differences $d_1, ..., d_n$ with the mean $D$,
#
# $$s = sqrt( ((d_1 - D)^2 + ... + (d_n - D)^2) / (n - 1) )$$
#
# says how far a single one lies from the mean, and $s / sqrt(n)$, the
# *standard error*, how far the mean lies from the one that infinitely many
# seeds would give. (Why $n - 1$? Because $D$ was made from the same numbers,
# they lie a little closer to it than to the truth.)


# %%
def effect(base, changed):
    """(mean difference, its standard error); losses of the same seeds.

    A negative mean: the change has made the losses lower.
    """
    base, changed = np.array(base), np.array(changed)
    ### BEGIN SOLUTION: the differences; their mean; s / sqrt(n)
    found = changed - base
    error = found.std(ddof=1) / math.sqrt(len(found))
    return float(found.mean()), float(error)
    ### END SOLUTION


for name, config in TAKEN.items():
    losses[name] = [loss_after(config, seed) for seed in SEEDS]
with_003 = ADDED["deep weights"]
losses["paper with 0.03"] = [loss_after(with_003, seed) for seed in SEEDS]

print("the loss changes when the program goes without its ...")
for name in TAKEN:
    mean, error = effect(losses["program"], losses[name])
    print(f"{name:<14} {mean:+.3f} +- {error:.3f}")
mean, error = effect(losses["paper"], losses["paper with 0.03"])
print(f"and when the paper gets 0.03: {mean:+.3f} +- {error:.3f}")

# %% [markdown]
# The last digits depend on the computer. Here it was:
#
# - Without **0.03** the loss is higher by about 0.30, twelve times the
#   standard error: the program then guesses, like the paper. And the paper
#   with 0.03, and nothing else of the program, is as good as the program:
#   lower by 0.30.
# - The seven others: between -0.02 and +0.02. One stood out a little,
#   **order** with +0.011 +- 0.004.
#
# What can be said? Of the first: it is there, beyond doubt. Of the seven: **we
# have not seen an effect.** That is not the same as "there is none". It means
# that in these 24 steps it is too small for three seeds.
#
# But was order not at more than twice its standard error? With three seeds
# chance alone gives more than twice in 18 of 100 comparisons; that at least
# one of seven does so is more likely than not. Whoever compares many things
# and reports the best one reports chance. The remedy: repeat that one alone,
# with *new* seeds. Five of them gave -0.001 +- 0.010: nothing is left of it.
# (In those five, the colour noise stood out, with -0.031 +- 0.009. It would be
# the next one to repeat.)
#
# And it matters where one stands. Add one of the seven to the *paper*, and the
# loss changes by a thousandth or less (try it: `loss_after(ADDED["border"],
# 0)`), for a network that sees no difference between two photographs is not
# helped by a better crop. That is why we have taken things out of the program.
#
# ## What these seconds cannot show
#
# Crops and colour noise are to keep a network from learning its images by
# heart. That takes many passes over the same images, and we made less than
# one: of 1000 images, 384 were drawn.
#
# The rates and the decay of the biases, and a normalisation that hardly bites
# while the numbers are small (lesson 14), also need thousands of steps. The
# paper found that normalisation lowers the error by 1.4 in a hundred images,
# and the colour noise by more than 1: each against having none. It does not
# compare the variants that we have compared. Nor can a small network with two
# classes stand for a large one with a thousand in everything; it was built to
# agree in one thing, the signal at the beginning.
#
# In the picture: what can be seen, and what cannot. (The code only draws.)

# %%
import matplotlib.pyplot as plt

figure = plt.figure(figsize=(11, 4.2), layout="constrained")
left, right = figure.subplots(1, 2, sharey=True)
names = list(ADDED)
rows = range(len(names))
left.axvline(first_signal(PAPER), color="tab:orange", lw=0.8, ls=":")
left.axvline(first_signal(PROGRAM), color="tab:blue", lw=0.8, ls=":")
for found, colour, label in (
    (added, "tab:orange", "paper with it"),
    (taken, "tab:blue", "program without it"),
):
    values = [found[name] for name in names]
    left.plot(values, rows, "o", color=colour, label=label)
left.set(xscale="log", xlim=(0.001, 0.3), title="Signal before the first step")
left.set_xticks([0.001, 0.01, 0.1], ["0.1 %", "1 %", "10 %"])
left.set_yticks(rows, names)
left.invert_yaxis()
left.legend(frameon=False, loc="lower center")
for row, name in enumerate(names):
    mean, error = effect(losses["program"], losses[name])
    style = {"fmt": "o", "color": "tab:blue", "capsize": 3}
    right.errorbar(mean, row, xerr=2 * error, **style)
right.axvline(0, color="grey", lw=0.8)
right.set(xlabel="change of the loss, and two standard errors")
right.set_title("Program without it, after 24 steps")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("23_differences.png", dpi=120)
plt.show()

# %% [markdown]
# At last, ask your function about the recipes that minidl trains with. (They
# are not the same eight: layers and first weights are in another file, and
# the schedule is in these.)

# %%
from minidl import recipes

pairs = differences(vars(recipes.PAPER), vars(recipes.PROGRAM))
for name, (paper, program) in pairs.items():
    print(f"{name:<20} {paper!s:<12} {program}")

# %% [markdown]
# ## What you can now do
#
# - list in what two configurations differ, and change one thing at a time;
# - build a small model of a large network that agrees with it in what you want
#   to measure, and say in what it does not;
# - tell an effect from chance: pairs, standard error, and the number of
#   comparisons;
# - and, from slopes measured with two numbers to here, write all that it takes
#   to train AlexNet.
#
# Now read `minidl/recipes.py`, where `PAPER` and `PROGRAM` stand with every
# field, and `minidl/models/alexnet.py` with the layers of both. It differs
# from yours: what a recipe says of layers and first weights is in the second
# file, as rows of a table; the rest (rates, decay, schedule, crops, noise) is
# in the first. `small` brings a recipe down to images of 64 pixels.
#
# ## Where to go from here
#
# - `python -m lessons assemble` puts AlexNet together from your own parts and
#   trains it.
# - `python examples/train_alexnet.py` trains minidl's on the 5,000 images in
#   the package, in a few minutes. Every field of the recipe is an option: with
#   `--variant paper` you can watch it sit at ln(10).
# - With `--recipe program` (or `paper`, `caffe`, `torchvision`) it trains at
#   full size, as it was done then: for this you need photographs (`--data`)
#   and, for a million of them, a GPU (`--device gpu`).
#
# **The next lesson** is not in this course. You have a question about training
# that no book answers as exactly as you would like; you have a base, a change,
# seeds, and a standard error. Measure it.
