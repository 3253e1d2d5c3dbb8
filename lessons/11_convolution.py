# %% [markdown]
# # Lesson 11: Convolution backwards; stride, padding, groups; 224 or 227?
#
# **You will be able to** send slopes back through a convolution, by hand and
# by the engine, to the filters and to the picture; and to build the
# convolution of AlexNet, with its border of zeros and its two towers.
#
# **Time:** 45 minutes. **Builds on:** lesson 10 (`im2col`, `col2im`), lesson 6
# (`Function`, the slopes of a matrix product), lesson 4 (`gradcheck`).
# **Source:** the paper on AlexNet, sections 3.2 and 3.5.
#
# As before: `python -m lessons check 11 --watch` beside this file.

# %% [markdown]
# ## Fifty-four and a quarter
#
# The paper's section 3.5: the first layer filters a picture of 224 x 224 with
# windows of 11 x 11 and a stride of 4, and by its figure 2 that gives 55 x 55.
# Lesson 10 has counted: $(224 - 11) / 4 + 1 = 54.25$, so 54 windows fit, and
# one column of pixels is left over. Where does the 55th come from?
#
# The program that trained the network was published years later. It divides
# and rounds *up*. Its 55th window begins at pixel 216 and ends at pixel 226,
# and the picture ends at 223. What lies outside is read as 0. (From every
# picture the mean picture has been subtracted, so 0 says: as on average.) That
# is the same as a border of zeros, three pixels wide, below and to the right,
# and none above or to the left. Such a border is called *padding*.
#
# How wide must such a border be in general? Count the pixels that are left
# over behind the last window. None: the windows fit as they are. Otherwise one
# more window is wanted, `stride` pixels further on. Some of these pixels are
# there, the ones left over; the others are missing.


# %%
def missing_pixels(size, kernel, stride):
    """How many zeros at the end make rounding up and rounding down agree."""
    ### BEGIN SOLUTION: how many are left over? how many more are needed?
    left_over = (size - kernel) % stride
    return (stride - left_over) % stride
    ### END SOLUTION


print("224 pixels:", missing_pixels(224, 11, 4), "missing")
print("227 pixels:", missing_pixels(227, 11, 4), "missing")

# %% [markdown]
#     224 pixels: 3 missing
#     227 pixels: 0 missing
#
# So 227 is another way out, and Caffe's AlexNet took it: its pictures are 227
# x 227. A third one, a border of 2 on all sides of 224, is in the one-tower
# AlexNet of 2014, the one that torchvision has. You will try them below.
#
# ## Backwards, by hand
#
# Here is lesson 10 as it was; go on below it. A convolution is $y = P W$: the
# patches as rows, the filters as columns.

# %%
import numpy as np

from minidl.backend import get_array_module


def places(size, kernel, stride):
    return (size - kernel) // stride + 1


def im2col(x, kernel, stride):
    """The patches of x (N, H, W, C): (N, OH, OW, kernel * kernel * C)."""
    xp = get_array_module(x)
    count, height, width, channels = x.shape
    rows = places(height, kernel, stride)
    across = places(width, kernel, stride)
    shape = (count, rows, across, kernel, kernel, channels)
    patches = xp.zeros(shape, x.dtype)
    for a in range(kernel):
        for b in range(kernel):
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            patches[:, :, :, a, b] = x[:, down, right]
    return patches.reshape(count, rows, across, kernel * kernel * channels)


def col2im(columns, shape, kernel, stride):
    """The transpose of im2col: patches added up to images of `shape`."""
    xp = get_array_module(columns)
    count, rows, across, _ = columns.shape
    patches = columns.reshape(count, rows, across, kernel, kernel, shape[3])
    image = xp.zeros(shape, columns.dtype)
    for a in range(kernel):
        for b in range(kernel):
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            image[:, down, right] += patches[:, :, :, a, b]
    return image


# %% [markdown]
# From above comes `dy`: for each number of the result $y$, the slope of the
# loss with respect to it. Take a picture of 3 x 3, a filter of 2 x 2, and a
# `dy` that is not 0 at two of the four places:
#
#     picture      filter     dy
#     0  1  2      1  2       1   0
#     3  4  5      3  4       0  10
#     6  7  8
#
# **The filter.** Its upper left weight met pixel 0 at the first place and
# pixel 4 at the last. The first place counts 1 and the last 10, so its slope
# is $1 * 0 + 10 * 4 = 40$. A weight that is shared by all places collects from
# all places: the filter receives the *windows*, each as strongly as `dy` says,
# summed over all places and all images.
#
# **The picture.** The middle pixel was in the first window, below right, where
# it met 4, and in the last one, above left, where it met 1. Its slope is
# $1 * 4 + 10 * 1 = 14$. The picture receives the *filter*, stamped onto it
# at each place as strongly as `dy` says there; where stamps overlap they add.
#
# As matrices this is lesson 6, for $y = P W$, with $dy$ as a matrix of one row
# for each place:
#
# $dW = P^T dy$ and $dP = dy W^T$,
#
# and from $dP$ back to the picture goes the transpose of `im2col`.


# %%
def weight_gradient(x, dy, kernel, stride):
    """The slopes of the filters, (kernel, kernel, C, O).

    x: the images (N, H, W, C); dy: the slopes of the result (N, OH, OW, O).
    """
    channels, filters = x.shape[3], dy.shape[3]
    ### BEGIN SOLUTION: the patches as a matrix, transposed, times dy
    patches = im2col(x, kernel, stride).reshape(-1, kernel**2 * channels)
    product = patches.T @ dy.reshape(-1, filters)
    return product.reshape(kernel, kernel, channels, filters)
    ### END SOLUTION


def input_gradient(dy, weight, shape, stride):
    """The slopes of the images, which have the shape `shape`."""
    kernel, _, _, filters = weight.shape
    ### BEGIN SOLUTION: the slopes of the patches, and back onto the images
    columns = dy @ weight.reshape(-1, filters).T
    return col2im(columns, shape, kernel, stride)
    ### END SOLUTION


picture = np.arange(9.0).reshape(1, 3, 3, 1)
stamp = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
dy = np.array([[1.0, 0.0], [0.0, 10.0]]).reshape(1, 2, 2, 1)
print(weight_gradient(picture, dy, 2, 1)[:, :, 0, 0].astype(int))
print(input_gradient(dy, stamp, picture.shape, 1)[0, :, :, 0].astype(int))

# %% [markdown]
#     [[40 51]
#      [73 84]]
#     [[ 1  2  0]
#      [ 3 14 20]
#      [ 0 30 40]]
#
# There are the two stamps, and the 14 where they overlap. So the way back is
# two matrix products of the size of the one forward, and a training step costs
# about three times what the way forward alone costs.
#
# ## Backwards, by the engine
#
# Now the same without thinking. The engine knows the slopes of matrix product
# and reshape, and all that it needs to be told is `im2col`. That makes two
# operations, and each is the way back of the other: the transpose of the
# transpose is the thing itself.
#
# Mind that `backward` gets and returns *Tensors*. Do not call the function
# `col2im` there, but the operation `Col2im`. Then what it does is recorded
# too, and can be differentiated once more.

# %%
from minidl import Function, Tensor, concatenate, grad, gradcheck, pad


class Im2col(Function):
    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        self.shape = x.shape
        return im2col(x, self.kernel, self.stride)

    def backward(self, gradient):
        ### BEGIN SOLUTION: the operation that is its transpose
        return Col2im(self.shape, self.kernel, self.stride)(gradient)
        ### END SOLUTION


class Col2im(Function):
    def __init__(self, shape, kernel, stride):
        self.shape, self.kernel, self.stride = shape, kernel, stride

    def forward(self, columns):
        return col2im(columns, self.shape, self.kernel, self.stride)

    def backward(self, gradient):
        return Im2col(self.kernel, self.stride)(gradient)


def convolve(x, weight, stride):
    """A convolution of Tensors, without border, bias and towers."""
    kernel, _, _, filters = weight.shape
    patches = Im2col(kernel, stride)(x)
    return patches @ weight.reshape(-1, filters)


rng = np.random.default_rng(0)
x = Tensor(rng.standard_normal((2, 8, 7, 3)), requires_grad=True)
weight = Tensor(rng.standard_normal((3, 3, 3, 4)), requires_grad=True)
y = convolve(x, weight, 2)
dy = rng.standard_normal(y.shape)
dx, dw = grad((y * Tensor(dy)).sum(), [x, weight])
print("images: ", np.allclose(dx, input_gradient(dy, weight.data, x.shape, 2)))
print("filters:", np.allclose(dw, weight_gradient(x.data, dy, 3, 2)))
report = gradcheck(lambda *both: convolve(*both, 2), x, weight, order=2)
print("second derivatives:", bool(report))

# %% [markdown]
#     images:  True
#     filters: True
#     second derivatives: True
#
# Two ways, one result; and small steps (lesson 4) say the same, even of the
# slopes of the slopes.
#
# ## The border, and two towers
#
# What is still missing is small. minidl has an operation that adds zeros,
# `pad(x, [(before, after), ...])` with a pair for each axis; its way back cuts
# them off again. And `concatenate([a, b], axis=3)` sets Tensors side by side;
# its way back cuts the gradient apart.
#
# And the *groups*, for the two *towers* of lesson 7: half of the filters of
# each layer lay on one card and half on the other (section 3.2), and in layers
# 2, 4 and 5 they see only what lies on their own. With `groups=2`, the first
# half of the filters reads the first half of the channels, and the second half
# the second. A filter then has half as many weights: `weight.shape[2]` is the
# number of channels in *one* tower.
#
# So it is done in three steps:
#
# 1. zeros around $x$, by the axes image, row, column, channel;
# 2. for each tower its channels of `x` and its filters of `weight` (their last
#    axis), convolved; `x[..., 3:6]` takes channels 3, 4 and 5;
# 3. the towers side by side, and the bias added.


# %%
def both_sides(padding):
    """An int, or ((top, bottom), (left, right)), as the latter."""
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    return padding


def conv2d(x, weight, bias, stride=1, padding=0, groups=1):
    """The convolution of AlexNet, of Tensors.

    x: (N, H, W, C); weight: (K, K, C / groups, O); bias: (O,).
    padding: zeros around it, an int or ((top, bottom), (left, right)).
    """
    rows, columns = both_sides(padding)  # (top, bottom) and (left, right)
    channels = weight.shape[2]  # that one tower reads
    filters = weight.shape[3] // groups  # that one tower has
    ### BEGIN SOLUTION: the border; each tower by itself; joined, with bias
    x = pad(x, [(0, 0), rows, columns, (0, 0)])
    towers = []
    for g in range(groups):
        seen = x[..., g * channels : (g + 1) * channels]
        own = weight[..., g * filters : (g + 1) * filters]
        towers.append(convolve(seen, own, stride))
    return concatenate(towers, axis=3) + bias
    ### END SOLUTION


filters = Tensor(rng.standard_normal((11, 11, 3, 96)).astype(np.float32))
bias = Tensor(np.zeros(96, np.float32))
for name, size, padding in (
    ("the paper's words", 224, 0),
    ("the program of 2012", 224, ((0, 3), (0, 3))),
    ("Caffe", 227, 0),
    ("torchvision", 224, 2),
):
    photo = Tensor(np.zeros((1, size, size, 3), np.float32))
    y = conv2d(photo, filters, bias, stride=4, padding=padding)
    print(f"{name:<20} {size} -> {y.shape[1]}")

# %% [markdown]
#     the paper's words    224 -> 54
#     the program of 2012  224 -> 55
#     Caffe                227 -> 55
#     torchvision          224 -> 55
#
# For the weights it makes no difference: a filter has 11 * 11 * 3, however
# large the picture is. Groups do make one. In the second layer a filter has
# 5 * 5 * 48 weights, which makes 307,200 for all 256; with one tower it would
# have 5 * 5 * 96, twice as many.
#
# ## From the edges back to the horse
#
# Your work is done. Here is an experiment to run and to look at. Lesson 10
# made edges out of a horse. Say we know the two filters and the edges, and
# nothing else: what was the picture? Begin with zeros and go downhill, with
# the squared distance of the edges as the loss. The *pixels* are the knobs
# here, and what takes the slopes to them is your `Im2col.backward`.

# %%
import matplotlib.pyplot as plt

from minidl.data import EmbeddedCIFAR10

horse = EmbeddedCIFAR10().images[68:69].mean(axis=3, keepdims=True) / 255
upright = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
pair = Tensor(np.stack([upright, upright.T], axis=-1).reshape(3, 3, 1, 2))
no_bias = Tensor(np.zeros(2))
edges = conv2d(Tensor(horse), pair, no_bias, padding=1)

canvas = Tensor(np.zeros_like(horse), requires_grad=True)
seen = {"what is known": edges.numpy()[0, :, :, 0]}
for step in range(1, 501):
    distance = conv2d(canvas, pair, no_bias, padding=1) - edges
    slope = grad((distance**2).sum(), canvas)
    canvas.data = canvas.data - 0.015 * slope.data
    if step in (1, 10, 30, 100, 500):
        seen[f"step {step}"] = canvas.numpy()[0, :, :, 0]

figure, panels = plt.subplots(1, 6, figsize=(11, 2.3), layout="constrained")
for axes, (title, picture) in zip(panels, seen.items()):
    axes.imshow(picture, cmap="gray")
    axes.set_title(title)
    axes.axis("off")
figure.savefig("11_learned.png", dpi=120)
plt.show()

# %% [markdown]
# On the left is one of the two edge pictures, and from them comes the horse.
# The stripes go last: both filters are blind to stripes that change from pixel
# to pixel, and only the border of zeros gives them away.
#
# ## What you can now do
#
# - derive both slopes of a convolution, and say what each one looks like;
# - make an operation whose way back can be differentiated again;
# - say why 224 pixels gave 55 places in 2012, and what two towers are.
#
# Now read `minidl/ops/conv.py`. It differs from yours: `Conv2d` is one
# operation instead of a chain, and so are its two ways back, `InputGradient`
# and `WeightGradient`; the slopes of each of the three are the other two. Then
# `conv2d_plain`, `weight_gradient_plain` and `input_gradient_plain` in
# `minidl/kernels/convolution.py`: your three lines, and below them the same in
# pieces that fit into a cache.
#
# **The next lesson** puts convolutions together with pooling, and LeNet reads
# digits.
