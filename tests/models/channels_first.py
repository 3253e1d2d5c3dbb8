"""The four AlexNets once more, in plain NumPy, N, C, H, W and PyTorch's weights: written from the facts, not from minidl.

`forward(variant, state, x)`: logits in evaluation mode. state: `to_channels_first(model)`; x: (N, 3, H, W).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv(x, weight, bias, stride=1, padding=((0, 0), (0, 0)), groups=1):
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), *padding)), weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    towers = zip(np.split(windows, groups, axis=1), np.split(weight, groups, axis=0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", t, w) for t, w in towers], axis=1) + bias[:, None, None]


def relu(x):
    return np.where(x > 0, x, 0)


def pool(x, ceil):
    """3 x 3, stride 2; rounded up, the last window may hang over the edge."""
    over = x.shape[2] % 2 == 0 and ceil
    padded = np.pad(x, ((0, 0), (0, 0), (0, over), (0, over)), constant_values=-np.inf)
    return sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2].max(axis=(4, 5))


def normalise(x, alpha, k, towers):
    """The formula of section 3.3: the sum runs over the five maps next to each other, in one tower."""
    result, width = np.empty_like(x), x.shape[1] // towers
    for i in range(x.shape[1]):
        first = i // width * width
        near = x[:, max(first, i - 2) : min(first + width, i + 3)]
        result[:, i] = x[:, i] / (k + alpha * (near**2).sum(axis=1)) ** 0.75
    return result


def normalise_within(x):
    squares = np.pad(x**2, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return x / (1 + 0.001 / 25 * sliding_window_view(squares, (5, 5), (2, 3)).sum(axis=(4, 5))) ** 0.75


def average(x, size):
    """To size x size: cell i averages the rows from floor(i H / size) to ceil((i + 1) H / size)."""
    h = x.shape[2]
    cells = [slice(i * h // size, -(-(i + 1) * h // size)) for i in range(size)]
    return np.stack([np.stack([x[:, :, r, c].mean(axis=(2, 3)) for c in cells], -1) for r in cells], -2)


def forward(variant, state, x):
    def convolution(name, x, **options):
        return conv(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def fully_connected(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def around(p):
        return ((p, p), (p, p))

    towers, ceil, halve = 2, True, 1.0
    if variant in ("paper", "program"):
        missing = -(x.shape[2] - 11) % 4  # what the last window needs beyond the image
        x = convolution("conv1", x, stride=4, padding=((0, missing), (0, missing)))
        halve = 0.5
    elif variant == "caffe":
        x = convolution("conv1", x, stride=4)
    else:
        x = convolution("conv1", x, stride=4, padding=around(2))
        towers, ceil = 1, False

    if variant == "paper":
        x = pool(normalise(relu(x), 1e-4, 2, 1), ceil)
        x = pool(normalise(relu(convolution("conv2", x, padding=around(2), groups=2)), 1e-4, 2, 1), ceil)
    elif variant == "program":
        x = relu(pool(normalise(x, 1e-4 / 5, 2, 2), ceil))
        x = relu(convolution("conv2", x, padding=around(2), groups=2))
        x = pool(normalise_within(normalise(x, 1e-4 / 5, 2, 2)), ceil)
    elif variant == "caffe":
        x = pool(normalise(relu(x), 1e-4 / 5, 1, 1), ceil)
        x = pool(normalise(relu(convolution("conv2", x, padding=around(2), groups=2)), 1e-4 / 5, 1, 1), ceil)
    else:
        x = pool(relu(convolution("conv2", pool(relu(x), ceil), padding=around(2))), ceil)

    x = relu(convolution("conv3", x, padding=around(1)))
    x = relu(convolution("conv4", x, padding=around(1), groups=towers))
    x = pool(relu(convolution("conv5", x, padding=around(1), groups=towers)), ceil)
    if variant == "torchvision":
        x = average(x, 6)
    x = x.reshape(len(x), -1)
    x = halve * relu(fully_connected("fc6", x))
    x = halve * relu(fully_connected("fc7", x))
    return fully_connected("fc8", x)
