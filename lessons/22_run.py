# %% [markdown]
# # Lesson 22: A real run: schedule, checkpoint, resume, ten crops
#
# **You will be able to** train for as long as it takes, on a machine that may
# stop at any moment, and lose nothing; and to test as the paper did.
#
# **Time:** 45 minutes. **Builds on:** lessons 16 (`SGD`), 18 (crops, mirror
# images), 15 (dropout), 9 (softmax).
# **Source:** the paper on AlexNet, sections 5 (the learning rate), 4.1 (ten
# crops), 6.1 (figure 3, the first-layer kernels).
#
# As before: `python -m lessons check 22 --watch` beside this file.

# %% [markdown]
# ## On the fifth day
#
# AlexNet was trained for five to six days. Say yours is in its fifth, and
# somebody pulls the plug. What would you have to find on the disk, so that you
# can go on? The weights, of course. But go on with the weights *alone*, and
# you get another network than if nothing had happened. Here is the smallest
# example: one weight $w$ that goes down to the minimum of $w^2$, with the
# momentum of lesson 16. After ten of twenty steps the plug is pulled.

# %%
import json
import os
from pathlib import Path

import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, data, nn, no_grad, optim


def descend(steps, forget_after=None):
    """Down the parabola w^2 from w = 1, with momentum. Returns w."""
    w, v = 1.0, 0.0
    for step in range(steps):
        if step == forget_after:
            v = 0.0  # a new process: it knows the weight only
        v = 0.9 * v - 0.01 * 2 * w
        w = w + v
    return w


print(f"not interrupted:     w = {descend(20):.4f}")
print(f"the weight restored: w = {descend(20, forget_after=10):.4f}")

# %% [markdown]
#     not interrupted:     w = -0.2707
#     the weight restored: w = 0.0943
#
# The velocity was lost. No error was raised, and the curve of a real run would
# hardly show it: what is missing in a checkpoint is not noticed. So the test
# must be strict. A run that was stopped and resumed must end **the same to the
# last bit** as one that was not.
#
# ## The file
#
# First the file itself. Two things can go wrong with it.
#
# **The plug is pulled while it is written.** Then the new checkpoint is half a
# file, and the old one, which had the same name, is gone. The remedy: write
# under another name *in the same folder*, and when all of it is on the disk,
# rename. `os.replace(a, b)` gives file `a` the name `b`, in one step: whoever
# opens `b` finds the old file or the new one, and never a half.
#
# "On the disk" takes two calls more. `file.flush()` hands over what Python
# still holds back, and `os.fsync(file.fileno())` has the operating system
# really write it.
#
# **The file does something when it is read.** Python's `pickle` stores any
# object; but reading a pickle runs whatever program is in it, and NumPy uses
# it without a word for arrays of objects. So we store arrays of numbers, and
# everything else as text, in JSON: `json.dumps({"epoch": 3})` is a string, and
# `np.savez(file, name=array, ...)` takes strings too.
#
# (Give `np.savez` the open file. Given a name, it may add ".npz" to it.)


# %%
def write_checkpoint(path, arrays, facts):
    """Store {name: array}, and `facts`, anything that JSON can say.

    Whatever happens meanwhile, at `path` there is a whole file, or none.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    text = json.dumps(facts)
    ### BEGIN SOLUTION: savez(file, facts=text, ...), flush, fsync, rename
    with open(temporary, "wb") as file:
        np.savez(file, facts=text, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    ### END SOLUTION


def read_checkpoint(path):
    """(arrays, facts) as they were written. A pickle is refused."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads(arrays.pop("facts").item())


write_checkpoint("22_try.npz", {"weight": np.eye(3)}, {"epoch": 3})
arrays, facts = read_checkpoint("22_try.npz")
print(facts, list(arrays), arrays["weight"].shape)
os.remove("22_try.npz")

# %% [markdown]
#     {'epoch': 3} ['weight'] (3, 3)
#
# ## What is in it
#
# Here is a training run as an object. Read `advance`, one step of it, with one
# question in mind: *what does the next step depend on?*
#
# - `self.model`: its weights. `model.state_dict()` gives copies of them, as
#   NumPy arrays by name; `model.load_state_dict(...)` takes them back.
# - `self.optimizer`: the velocities. It has the same two methods.
# - `self.epoch`, `self.step`: where we are. (A step is one batch, and `step`
#   counts from the beginning of the epoch.)
# - `self.order`: in which order this epoch goes through the images. It was
#   drawn when the epoch began, and cannot be drawn again.
# - `self.rng`: the random numbers to come, for orders, crops and mirror images
#   (lesson 18). `rng.bit_generator.state` is a dictionary of integers; assign
#   it to `rng.bit_generator.state` of another one, and both go on alike.
#
# Dropout draws from a generator that minidl keeps. A hidden one, easy to
# forget! So `advance` seeds it anew at each step, with a number from ours.
#
# The learning rate is not on the list: it follows from the epoch. The paper
# divided it by 10 "when the validation error rate stopped improving", three
# times; the notebook of the program says at epochs 25, 51 and 79 of 91.
#
# `restore` is there already. It says under which names it expects what; your
# `state` is to give it just that.


# %%
def rate_at(epoch, rate, drops):
    """The learning rate of an epoch: divided by 10 at each of `drops`."""
    return rate * 0.1 ** sum(epoch >= drop for drop in drops)


def under(prefix, arrays):
    """{"model.x": a, "y": b} -> {"x": a}, for the prefix "model."."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name[len(prefix) :]: arrays[name] for name in names}


class Run:
    """A training run that can be stopped after any step.

    images: (N, H, W, C), float32, the mean subtracted; labels: (N,).
    """

    def __init__(self, images, labels, model, size=28, batch=64, seed=0):
        self.images, self.labels, self.model = images, labels, model
        self.rate, self.drops, self.batch = 0.015, (5, 7), batch
        settings = {"momentum": 0.9, "weight_decay": 0.0005}
        self.optimizer = optim.SGD(model.parameters(), self.rate, **settings)
        self.change = data.Compose([data.RandomCrop(size), data.Mirror()])
        self.epoch = self.step = 0
        self.order = np.arange(len(images))
        self.rng = np.random.default_rng(seed)

    def advance(self):
        """One step. Returns the loss before it."""
        if self.step == 0:
            self.order = self.rng.permutation(len(self.images))
        chosen = self.order[self.step * self.batch :][: self.batch]
        x = self.change(self.images[chosen], self.rng)
        minidl.manual_seed(int(self.rng.integers(2**32)))  # for dropout
        rate = rate_at(self.epoch, self.rate, self.drops)
        self.optimizer.param_groups[0]["lr"] = rate
        self.model.train()
        loss = F.cross_entropy(self.model(Tensor(x)), self.labels[chosen])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        if self.step == len(self.images) // self.batch:
            self.epoch, self.step = self.epoch + 1, 0
        return float(loss.numpy())

    def restore(self, arrays, facts):
        """Go on from where `state()` was taken, perhaps by another Run.

        arrays: "model." + name, "optimizer." + name, "order".
        facts: "epoch", "step", "random".
        """
        self.model.load_state_dict(under("model.", arrays))
        self.optimizer.load_state_dict(under("optimizer.", arrays))
        self.order = arrays["order"]
        self.epoch, self.step = facts["epoch"], facts["step"]
        self.rng.bit_generator.state = facts["random"]

    def state(self):
        """All that decides the future: (arrays, facts) for `restore`."""
        arrays, facts = {}, {}
        ### BEGIN SOLUTION: fill both with what `restore` takes out
        for name, array in self.model.state_dict().items():
            arrays["model." + name] = array
        for name, array in self.optimizer.state_dict().items():
            arrays["optimizer." + name] = array
        arrays["order"] = self.order
        facts["epoch"], facts["step"] = self.epoch, self.step
        facts["random"] = self.rng.bit_generator.state
        ### END SOLUTION
        return arrays, facts


# %% [markdown]
# Now the plug, on the images that come with minidl: 5,000 of CIFAR-10, and
# 1,000 for the test. The network is a small one, with kernels of 7 x 7 in the
# first layer, that begin as the paper's: normally distributed, 0.01.


# %%
def network():
    """Images of 28 x 28 to 10 logits."""
    model = nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=2),  # 28 x 28 -> 11 x 11
        nn.ReLU(),
        nn.MaxPool2d(3, 2),  # -> 5 x 5
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(5 * 5 * 64, 10),
    )
    nn.init.normal_(model[0].weight, std=0.01)
    return model


def load():
    """Training images and labels, test images and labels."""
    train = data.EmbeddedCIFAR10(train=True)
    test = data.EmbeddedCIFAR10(train=False)
    mean = train.images.mean(axis=0).astype(np.float32)  # the mean image
    scaled = [(part.images - mean) / np.float32(64) for part in (train, test)]
    return scaled[0], train.labels, scaled[1], test.labels


images, labels, test_images, test_labels = load()
minidl.manual_seed(1)
first = Run(images, labels, network())
for _ in range(10):
    first.advance()
write_checkpoint("22_run.npz", *first.state())
size = os.path.getsize("22_run.npz")

minidl.manual_seed(2)  # a new process: other weights, other random numbers
second = Run(images, labels, network(), seed=99)
second.restore(*read_checkpoint("22_run.npz"))
for _ in range(10):
    first.advance()
    second.advance()
weights = [run.model[0].weight.numpy() for run in (first, second)]
print(f"a checkpoint of {size / 1e6:.1f} MB")
print("the same to the last bit:", np.array_equal(*weights))

# %% [markdown]
#     a checkpoint of 0.4 MB
#     the same to the last bit: True
#
# ## Ten crops
#
# In training every image is seen as a random piece of 28 x 28, perhaps
# mirrored. And in the test? The paper took *ten* pieces of each image: the
# four corners, the centre, and the mirror images of these five. The network
# says what it sees in each of the ten, as probabilities (softmax), and these
# are averaged. It brought the error from 39.0 % for the centre alone to 37.5 %
# for all ten.


# %%
def ten_crops(images, size):
    """(N, H, W, C) -> (N, 10, size, size, C).

    Top left, top right, bottom left, bottom right, centre (if it cannot be
    exact: the pixel nearer to the top left); then their mirror images, left
    and right exchanged, in the same order.
    """
    down, along = images.shape[1] - size, images.shape[2] - size
    corners = [(0, 0), (0, along), (down, 0), (down, along)]
    places = [*corners, (down // 2, along // 2)]
    ### BEGIN SOLUTION: cut the five pieces; put the mirrored ones behind them
    five = [images[:, y : y + size, x : x + size] for y, x in places]
    return np.stack(five + [piece[:, :, ::-1] for piece in five], axis=1)
    ### END SOLUTION


def averaged(logits, crops=10):
    """Probabilities (N, classes), from logits (N * crops, classes).

    The crops of an image lie one after the other.
    """
    ### BEGIN SOLUTION: probabilities of every crop, then the mean over crops
    probabilities = F.softmax(Tensor(logits)).numpy()
    return probabilities.reshape(-1, crops, logits.shape[1]).mean(axis=1)
    ### END SOLUTION


@no_grad()
def test_error(model, images, labels, crops, size=28):
    """The share of the images whose most probable class is not their own."""
    model.eval()
    wrong = 0
    for start in range(0, len(images), 250):
        ten = ten_crops(images[start : start + 250], size)
        pieces = ten if crops == 10 else ten[:, 4:5]  # the centre
        x = np.ascontiguousarray(pieces.reshape(-1, *pieces.shape[2:]))
        found = averaged(model(Tensor(x)).numpy(), crops)
        wrong += (found.argmax(axis=1) != labels[start : start + 250]).sum()
    return wrong / len(images)


# %% [markdown]
# Now the run: eight epochs, in which the rate falls after the fifth and the
# seventh, with a checkpoint after each. It takes some ten seconds.

# %%
minidl.manual_seed(1)
run = Run(images, labels, network())
before = run.model[0].weight.numpy()
losses, errors = [], []
while run.epoch < 8:
    losses.append(run.advance())
    if run.step == 0:
        write_checkpoint("22_run.npz", *run.state())
        errors.append(test_error(run.model, test_images, test_labels, 1))
        mean = np.mean(losses[-78:])  # 78 steps an epoch
        print(f"epoch {run.epoch:2}: loss {mean:.2f}, error {errors[-1]:.1%}")
os.remove("22_run.npz")
ten = test_error(run.model, test_images, test_labels, crops=10)
print(f"centre {errors[-1]:.1%}, ten crops {ten:.1%}")

# %% [markdown]
# The error is about 50 %; guessing would have 90 %. Ten crops take off a
# little more.
#
# Now figure 3 of the paper: the kernels of the first layer, drawn as little
# images. Grey is 0.

# %%
import matplotlib.pyplot as plt


def sheet(weight, columns=4):
    """Kernels (K, K, 3, O) side by side, each with its own contrast."""
    kernels = weight.transpose(3, 0, 1, 2)
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    edge = ((0, 0), (0, 1), (0, 1), (0, 0))
    shown = np.pad(0.5 + 0.5 * kernels / largest, edge, constant_values=1.0)
    n, h, w, _ = shown.shape
    grid = shown.reshape(n // columns, columns, h, w, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, columns * w, 3)


figure = plt.figure(figsize=(12, 4.5), layout="constrained")
left, middle, right = figure.subplots(1, 3, width_ratios=[2.2, 1, 1])
smooth = np.convolve(losses, np.ones(30) / 30, mode="valid")
left.plot(np.arange(29, len(losses)) / 78, smooth)
left.set(xlabel="epoch", title="Loss (mean of 30 steps)", xticks=range(9))
middle.imshow(sheet(before))
middle.set_title("The kernels before")
right.imshow(sheet(run.model[0].weight.numpy()))
right.set_title("and after eight epochs")
for axes in (middle, right):
    axes.axis("off")
figure.savefig("22_run.png", dpi=110)
plt.show()

# %% [markdown]
# Nobody has told the network what an edge is. It began with noise, and has
# found edges in several directions, stripes, and patches of colour. In figure
# 3 the kernels of the first tower have found directions and frequencies, those
# of the second colours. With one tower they are mixed.
#
# And did you expect the hump? Just after the first drop of the rate, at 5, the
# loss *rises*. It is lesson 16 at work. As the paper writes it, the rate is
# inside the velocity: so the velocity goes on with the long steps of before,
# while the gradients, which would turn it in time, now count a tenth. A run of
# 90 epochs has time to forget it.
#
# ## What you can now do
#
# - name all that decides the future of a run, and prove that nothing is
#   missing;
# - write a file that is whole at every moment, and runs nothing when read;
# - test with ten crops, and see what the first layer has learnt.
#
# Now read `minidl/checkpoint.py`, `minidl/files.py` and `minidl/run.py`. Your
# `write_checkpoint` is there as `save_state` and `replacing`. It differs from
# yours: the format is `safetensors`, with a checksum; and no random state is
# stored, for the numbers of each step are drawn from the seed, the epoch and
# the number of the batch. What cannot get lost need not be saved. For the test
# see `TenCrop` in `minidl/data/crops.py` and `probabilities` in
# `minidl/evaluation.py`; for the schedule `MultiStepLR` in
# `minidl/optim/schedules.py`.
#
# **The next lesson**, the last, lays the paper beside the program. They differ
# in eight places, which you will switch one by one.
