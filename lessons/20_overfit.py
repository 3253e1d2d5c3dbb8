# %% [markdown]
# # Lesson 20: Overfit 32 images
#
# **You will be able to** test a whole training program in a few seconds, and
# to name the fault when it fails.
#
# **Time:** 45 minutes. **Builds on:** lesson 3 (the training step), lesson 9
# (cross-entropy), lesson 15 (dropout), lesson 17 (first weights), lesson 19
# (AlexNet).
# **Source:** the paper on AlexNet, section 5 (the training); the test itself
# is old craft, from no paper.
#
# As before: `python -m lessons check 20 --watch` beside this file.

# %% [markdown]
# ## Is it the network, or is it me?
#
# A training run has gone on for two days, and the loss stands at 2.1. Are the
# images too hard? The network too small? The rate wrong? Or is there a mistake
# in the program? Most training programs with a mistake do *not* stop. They
# learn, only worse. The gradient check of lesson 4 finds wrong derivatives. It
# does not find labels that belong to other images.
#
# There is a test for the whole program at once. Take 32 images, always the
# same, and train on nothing else. A network with some 100,000 weights can
# learn 32 labels by heart: the loss *must* go from ln(classes) to nearly 0. If
# it does not, there is a mistake, and you have lost seconds and not days.
#
# Dropout is there to make learning by heart hard, so it is switched off for
# this test: `model.eval()`. The first weights are He's, of lesson 17.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, nn, optim
from minidl.data import EmbeddedCIFAR10, Resize
from minidl.models import AlexNet
from minidl.nn import init

data = EmbeddedCIFAR10(train=False)
by_class = np.argsort(data.labels, kind="stable").reshape(10, 100)
chosen = by_class[:, :4].T.ravel()[:32]  # 3 of each class, 4 of two
MEAN = data.images.mean(axis=0)
PIXELS = (data.images[chosen] - MEAN).astype(np.float32)
IMAGES = PIXELS / PIXELS.std()
LABELS = data.labels[chosen]


def he(model):
    """He's weights, biases 0 (lesson 17)."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            init.kaiming_normal_(parameter)
        else:
            init.constant_(parameter, 0)
    return model


def overfit(model, images, labels, optimizer, steps, goal=0.01):
    """Train on these images alone until the loss is below `goal`.

    Returns the loss of each step, measured before the step, as plain numbers.
    """
    x = Tensor(images)
    losses = []
    for _ in range(steps):
        ### BEGIN SOLUTION: the parts of a step (lesson 3); note the loss
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        ### END SOLUTION
        if losses[-1] < goal:
            break
    return losses


minidl.manual_seed(0)
model = he(AlexNet("paper", num_classes=10, width=0.125, image_size=64))
model.eval()
optimizer = optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
large = Resize(64)(IMAGES, np.random.default_rng(0))
alexnet_losses = overfit(model, large, LABELS, optimizer, steps=200)
print("parameters:", sum(p.size for p in model.parameters()))
for step in range(0, len(alexnet_losses), 20):
    print(f"step {step:>3}: loss {alexnet_losses[step]:.3f}")
print(f"step {len(alexnet_losses) - 1:>3}: loss {alexnet_losses[-1]:.3f}")

# %% [markdown]
# From about 2.3 to 0.01, in some hundred steps and a few seconds: AlexNet with
# an eighth of its channels passes. (`.item()` makes a plain number of the
# loss. Keep the Tensor, and you keep the whole computation behind it, for
# every step.)
#
# What the test does *not* show should be said too. It does not show that the
# network will recognise anything new. And if your labels are wrong, but the
# same wrong ones each time, they are learnt by heart just as well.
#
# ## The clinic
#
# Here are eight runs of a smaller network, one convolution and two matrices,
# on the same 32 images. One is sound. In each of the others there is one
# planted fault, of the kind that everybody makes once. Look for `fault` in the
# class: a line or two each, and none of them looks like much.

# %%
CLASSES = 10
FAULTS = [
    "labels shuffled", "dropout left on", "softmax twice",
    "gradient not zeroed", "images not scaled", "rate too large",
    "rate too small", "none",
]  # fmt: skip


class Run:
    """A training run on the 32 images, with a fault or without."""

    def __init__(self, fault="none", seed=0):
        minidl.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.fault = fault
        layers = {
            "conv1": nn.Conv2d(3, 16, 5, stride=2), "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(3, 2), "flatten": nn.Flatten(),
            "fc2": nn.Linear(576, 64), "relu2": nn.ReLU(),
            "drop2": nn.Dropout(0.5), "fc3": nn.Linear(64, CLASSES),
        }  # fmt: skip
        self.model = he(nn.Sequential(layers))
        init.normal_(layers["fc3"].weight, std=0.01)  # first loss: ln(10)
        self.model.train(fault == "dropout left on")
        rates = {"rate too large": 0.15, "rate too small": 0.00001}
        rate = rates.get(fault, 0.01)
        self.optimizer = optim.SGD(self.model.parameters(), rate, 0.9)

    def batch(self):
        """The images in another order each time, and their labels."""
        order = self.rng.permutation(len(LABELS))
        raw = self.fault == "images not scaled"
        images = (PIXELS if raw else IMAGES)[order]
        labels = LABELS[order]
        if self.fault == "labels shuffled":
            labels = LABELS  # in the old order
        return images, labels

    def logits(self, images):
        scores = self.model(Tensor(images))
        return F.softmax(scores) if self.fault == "softmax twice" else scores

    def step(self):
        """One training step; the loss before it."""
        images, labels = self.batch()
        if self.fault != "gradient not zeroed":
            self.optimizer.zero_grad()
        loss = F.cross_entropy(self.logits(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def curve(fault, steps=200):
    run = Run(fault)
    return [run.step() for _ in range(steps)]


curves = {fault: curve(fault) for fault in FAULTS}

# %% [markdown]
# The picture has the curves without their names, A to H. The grey line is
# ln(10). Guess before you read on: which is the sound one? Which is which?

# %%
hidden = [4, 7, 2, 0, 3, 6, 1, 5]  # the places of A to H in FAULTS
figure = plt.figure(figsize=(11, 5), layout="constrained")
for axes, letter, i in zip(figure.subplots(2, 4).ravel(), "ABCDEFGH", hidden):
    axes.plot(curves[FAULTS[i]], color="tab:blue")
    axes.axhline(np.log(CLASSES), color="lightgrey", zorder=0)
    axes.set(ylim=(0, 6), xlabel="step", ylabel="loss")
    axes.set_title(letter, loc="left", fontweight="bold")
    axes.label_outer()
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("20_overfit.png", dpi=120)
plt.show()

# %% [markdown]
# B is the sound one. E, which flies away, is the forgotten zero of lesson 3.
# G goes down, but trembles: dropout draws another network each time. But A, D,
# F and H lie flat, in the end or always, and C is on its way somewhere, as if
# it were only slow. A curve says *that* something is wrong. To learn *what*,
# one has to measure. Three measurements are yours.
#
# ### A floor under the loss
#
# Softmax makes probabilities of scores. `cross_entropy` does that itself, on
# logits. If your network ends in a softmax too, the "logits" are numbers
# between 0 and 1 that sum to 1. Then the surest answer that it can give is 1
# for the right class and 0 for the $K - 1$ others. Softmax makes of it, once
# more, $e^1 / (e^1 + (K - 1) e^0)$ for the right class, and the loss is minus
# the logarithm of this: a floor through which it cannot fall.


# %%
def softmax_floor(classes):
    """The lowest loss there is when softmax is applied twice."""
    ### BEGIN SOLUTION: the loss for the logits 1, 0, 0, ..., 0
    return float(np.log(1 + (classes - 1) / np.e))
    ### END SOLUTION


print(f"the floor for 10 classes:    {softmax_floor(10):.3f}")
print(f"the lowest loss of C:        {min(curves['softmax twice']):.2f}")
print(f"the floor for 1,000 classes: {softmax_floor(1000):.3f}")

# %% [markdown]
# So C is not slow, it comes to an end at 1.461. With 1,000 classes the floor
# is at 5.909, one below ln(1000), and looks like a network that learns nearly
# nothing.
#
# ### Does the gradient start from zero?
#
# `backward` adds (lesson 3). So make two steps at the rate 0, so that nothing
# moves: the same weights, the same 32 images, the same gradient. After the
# second step the gradient in `.grad` must be as large as after the first. If
# it is twice as large, nobody has put it to zero.


# %%
def gradient_size(model):
    """The root of the sum of squares of all gradients, after a step."""
    squares = [(p.grad.numpy() ** 2).sum() for p in model.parameters()]
    return float(np.sqrt(sum(squares)))


def gradient_growth(run):
    """Size of the gradient after a second step / after the first."""
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    ### BEGIN SOLUTION: step, measure, step, measure
    run.step()
    first = gradient_size(run.model)
    run.step()
    return gradient_size(run.model) / first
    ### END SOLUTION


# %% [markdown]
# ### How far does one step go?
#
# Whether a rate is too large or too small cannot be seen from the rate: it
# depends on the gradients. What counts is how far the weights move, compared
# with how large they are. As a rule of thumb the first step should change them
# by something between 1/100,000 and 1/100 of their size.


# %%
def all_weights(model):
    """A copy of all parameters, one after the other: one long array."""
    return np.concatenate([p.numpy().ravel() for p in model.parameters()])


def size(x):
    """The root of the mean square (lesson 17)."""
    return float(np.sqrt((x * x).mean()))


def relative_step(run):
    """Size of the change that one step makes / size of the weights."""
    ### BEGIN SOLUTION: weights before and after a step; compare
    before = all_weights(run.model)
    run.step()
    after = all_weights(run.model)
    return size(after - before) / size(before)
    ### END SOLUTION


# %% [markdown]
# Three more are simple enough to be given: does an image have the same label
# in two batches? Does the network give the same answer twice? Do its answers
# sum to 1? Together with the first loss they make the chart of a patient.


# %%
def labels_agree(run):
    """Whether each image has the same label in two batches."""
    labels = {}
    for _ in range(2):
        for image, label in zip(*run.batch()):
            if labels.setdefault(image.tobytes(), label) != label:
                return False
    return True


def examine(fault):
    """What one can measure before, and at, the first steps."""
    images, _ = Run(fault).batch()
    run = Run(fault)
    once, again = run.logits(images).numpy(), run.logits(images).numpy()
    return {
        "labels agree": labels_agree(Run(fault)),
        "answers differ": bool((once != again).any()),
        "rows sum to 1": bool(np.allclose(once.sum(axis=1), 1, atol=1e-4)),
        "gradient growth": gradient_growth(Run(fault)),
        "first loss": Run(fault).step(),
        "relative step": relative_step(Run(fault)),
        "classes": CLASSES,
    }


charts = {fault: examine(fault) for fault in FAULTS}
print("  labels  answers  rows    gradient  first  relative")
print("  agree   differ   sum 1   growth    loss   step")
for letter, i in zip("ABCDEFGH", hidden):
    chart = list(charts[FAULTS[i]].values())
    flags = "".join(f"{'yes' if flag else 'no':8}" for flag in chart[:3])
    growth, first, step = chart[3:6]
    print(f"{letter} {flags}{growth:6.2f}  {first:8.2f}   {step:.0e}")

# %% [markdown]
# Every fault shows. But some of them show in *several* columns. A, whose
# images are not scaled, makes the largest step of all, larger than H with the
# rate that is too large. D, with the shuffled labels, has a gradient that
# grows a little, since the second batch is another one. So the order of the
# questions matters: first what stands at the beginning of the chain, and what
# is certain. Ask in this order:
#
# 1. Do labels belong to images? No: "labels shuffled".
# 2. Does it give two answers to one question? "dropout left on".
# 3. Do the answers sum to 1? "softmax twice".
# 4. Has the gradient doubled? "gradient not zeroed". (It need not be 2.00 to
#    the last digit; the middle between 1 and 2 is a good border.)
# 5. Is the first loss more than twice ln(classes)? "images not scaled".
# 6. Is the step larger than 1/100? "rate too large".
# 7. Is it smaller than 1/100,000? "rate too small".
#
# Else nothing has been found: "none".


# %%
def name_fault(chart):
    """One of FAULTS. chart: as `examine` gives it."""
    ### BEGIN SOLUTION: seven questions, in this order
    if not chart["labels agree"]:
        return "labels shuffled"
    if chart["answers differ"]:
        return "dropout left on"
    if chart["rows sum to 1"]:
        return "softmax twice"
    if chart["gradient growth"] > 1.5:
        return "gradient not zeroed"
    if chart["first loss"] > 2 * np.log(chart["classes"]):
        return "images not scaled"
    if chart["relative step"] > 1e-2:
        return "rate too large"
    if chart["relative step"] < 1e-5:
        return "rate too small"
    return "none"
    ### END SOLUTION


for letter, i in zip("ABCDEFGH", hidden):
    named = name_fault(charts[FAULTS[i]])
    print(f"{letter}: {named:20} {'right' if named == FAULTS[i] else 'WRONG'}")

# %% [markdown]
#     A: images not scaled    right
#     B: none                 right
#     C: softmax twice        right
#     D: labels shuffled      right
#     E: gradient not zeroed  right
#     F: rate too small       right
#     G: dropout left on      right
#     H: rate too large       right
#
# Eight of eight, and none of the charts took more than two steps of training.
# A and H lie flat for the same reason, by the way. Wild steps have pushed
# nearly all of the 64 units of fc2 so far that they give 0 for every image.
# Their ReLU lets nothing through any more, forwards or backwards, and a
# smaller rate afterwards does not wake them.
#
# What to do when *your* program fails, then? Try 32 images. Look at the first
# loss: it should be near ln(classes). Look at the batch, with your eyes: print
# the labels below the pictures. Then ask the seven questions.
#
# ## What you can now do
#
# - test a whole training program with 32 images, before a long run;
# - read from a curve that something is wrong, and find out by measuring what;
# - say which faults this test cannot find.
#
# Now read `minidl/training.py`. `_step` is the middle of your `overfit`. It
# differs from yours: it looks whether the loss is a finite number before it
# makes the step, and if it is not, `first_not_finite` goes through the network
# again and names the layer that was the first to give NaN or infinity.
#
# **The next lesson** makes it fast, without changing a result. It needs what
# you have now: a test that tells you, after each change, whether all of it
# still works.
