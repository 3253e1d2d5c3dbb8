"""The operations as their definitions read: nested loops over NumPy arrays, slow and hard to get wrong.

Fast code is compared with this. Images are N, H, W, C, weights KH, KW, C / groups, O, padding ((top, bottom), (left, right)).
The gradients are the same loops, each product handed back to the two factors it came from.
"""

from itertools import product

import numpy as np

NO_PADDING = ((0, 0), (0, 0))


def output_size(size, kernel, stride, padding, dilation=1, ceil_mode=False):
    """How many windows fit along one axis, counted one by one."""
    before, after = padding
    extent = dilation * (kernel - 1) + 1
    places = 0
    while places * stride + extent <= before + size + after:
        places += 1
    if ceil_mode:
        # One more when something is left over, but it must begin in the image or in the padding before it.
        start = places * stride
        left_over = (places - 1) * stride + extent < before + size + after
        places += left_over and start < before + size
    return places


def windows(x, kernel, stride, padding, dilation=(1, 1), ceil_mode=False):
    """((n, i, j), [(a, b, row, column), ...]) for every place (i, j) of the window on every image.

    (a, b) is a position in the window, (row, column) the pixel it meets: outside the image for padding.
    """
    sizes = [output_size(x.shape[1 + k], kernel[k], stride[k], padding[k], dilation[k], ceil_mode) for k in (0, 1)]
    for n, i, j in product(range(x.shape[0]), *map(range, sizes)):
        top, left = i * stride[0] - padding[0][0], j * stride[1] - padding[1][0]
        yield (n, i, j), [(a, b, top + a * dilation[0], left + b * dilation[1]) for a, b in np.ndindex(*kernel)]


def inside(x, row, column):
    return 0 <= row < x.shape[1] and 0 <= column < x.shape[2]


def result(x, channels, kernel, stride, padding, dilation=(1, 1), ceil_mode=False):
    """An empty result with one element for each place of the window and channel."""
    sizes = [output_size(x.shape[1 + k], kernel[k], stride[k], padding[k], dilation[k], ceil_mode) for k in (0, 1)]
    return np.zeros((x.shape[0], *sizes, channels))


def conv2d(x, weight, bias=None, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1):
    kh, kw, c, channels = weight.shape
    y = result(x, channels, (kh, kw), stride, padding, dilation)
    for place, positions in windows(x, (kh, kw), stride, padding, dilation):
        for o in range(channels):
            first = o // (channels // groups) * c  # of the channels that this output's group reads
            for a, b, row, column in positions:
                if inside(x, row, column):
                    for i in range(c):
                        y[(*place, o)] += x[place[0], row, column, first + i] * weight[a, b, i, o]
            if bias is not None:
                y[(*place, o)] += bias[o]
    return y


def conv2d_gradients(x, weight, dy, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1):
    """The gradients of sum(dy * conv2d(x, weight, bias)): of x, weight and bias."""
    kh, kw, c, channels = weight.shape
    dx, dw, db = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(channels)
    for place, positions in windows(x, (kh, kw), stride, padding, dilation):
        for o in range(channels):
            first = o // (channels // groups) * c
            for a, b, row, column in positions:
                if inside(x, row, column):
                    for i in range(c):
                        dx[place[0], row, column, first + i] += dy[(*place, o)] * weight[a, b, i, o]
                        dw[a, b, i, o] += dy[(*place, o)] * x[place[0], row, column, first + i]
            db[o] += dy[(*place, o)]
    return dx, dw, db


def im2col(x, kernel, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1)):
    cols = result(x, kernel[0] * kernel[1] * x.shape[3], kernel, stride, padding, dilation)
    for place, positions in windows(x, kernel, stride, padding, dilation):
        pixels = [x[place[0], r, c] if inside(x, r, c) else np.zeros(x.shape[3]) for _, _, r, c in positions]
        cols[place] = np.concatenate(pixels)
    return cols


def col2im(cols, shape, kernel, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1)):
    image = np.zeros(shape)
    for place, positions in windows(image, kernel, stride, padding, dilation):
        for pixel, (_, _, row, column) in zip(cols[place].reshape(len(positions), -1), positions, strict=True):
            if inside(image, row, column):
                image[place[0], row, column] += pixel
    return image


def max_pool2d(x, kernel, stride, padding=NO_PADDING, ceil_mode=False, dy=None):
    """The maxima, or with `dy` the gradient of sum(dy * maxima): each to the first of equal maxima, row by row."""
    y, dx = result(x, x.shape[3], kernel, stride, padding, ceil_mode=ceil_mode), np.zeros(x.shape)
    for place, positions in windows(x, kernel, stride, padding, ceil_mode=ceil_mode):
        for c in range(x.shape[3]):
            best, where = -np.inf, None
            for _, _, row, column in positions:
                if inside(x, row, column) and (where is None or x[place[0], row, column, c] > best):
                    best, where = x[place[0], row, column, c], (place[0], row, column, c)
            y[(*place, c)] = best
            if dy is not None:
                dx[where] += dy[(*place, c)]
    return y if dy is None else dx


def avg_pool2d(x, kernel, stride, padding=NO_PADDING, ceil_mode=False, count_include_pad=True, dy=None):
    """The means, or with `dy` the gradient of sum(dy * means).

    Padding that was asked for counts (or not); what ceil_mode lets hang over beyond it never does.
    """
    (top, bottom), (left, right) = padding if count_include_pad else NO_PADDING
    y, dx = result(x, x.shape[3], kernel, stride, padding, ceil_mode=ceil_mode), np.zeros(x.shape)
    for place, positions in windows(x, kernel, stride, padding, ceil_mode=ceil_mode):
        count = sum(-top <= r < x.shape[1] + bottom and -left <= c < x.shape[2] + right for _, _, r, c in positions)
        for _, _, row, column in positions:
            if inside(x, row, column):
                y[place] += x[place[0], row, column] / count
                if dy is not None:
                    dx[place[0], row, column] += dy[place] / count
    return y if dy is None else dx


def adaptive_avg_pool2d(x, output_size):
    n, height, width, c = x.shape
    y = np.zeros((n, *output_size, c))
    for i, j in np.ndindex(*output_size):
        rows = range(int(np.floor(i * height / output_size[0])), int(np.ceil((i + 1) * height / output_size[0])))
        columns = range(int(np.floor(j * width / output_size[1])), int(np.ceil((j + 1) * width / output_size[1])))
        for row, column in product(rows, columns):
            y[:, i, j] += x[:, row, column] / (len(rows) * len(columns))
    return y


def neighbours(c, channels, size, groups):
    """The channels in the window around channel `c` that belong to its group."""
    tower = channels // groups
    return [j for j in range(c - size // 2, c + size // 2 + 1) if 0 <= j < channels and j // tower == c // tower]


def local_response_norm(x, size, alpha, beta, k, groups=1, dy=None):
    """The paper's formula for every number by itself, or with `dy` the gradient of the sum of dy times it."""
    channels, y, dx = x.shape[-1], np.zeros(x.shape), np.zeros(x.shape)
    for *place, c in np.ndindex(*x.shape):
        a, window = x[tuple(place)], neighbours(c, channels, size, groups)
        s = k + alpha * sum(a[j] ** 2 for j in window)
        y[(*place, c)] = a[c] / s**beta
        if dy is not None:
            for j in window:
                slope = -beta * s ** (-beta - 1) * 2 * alpha * a[j] * a[c] + (j == c) * s**-beta
                dx[(*place, j)] += dy[(*place, c)] * slope
    return y if dy is None else dx


def local_response_norm_within(x, size, alpha, beta, k):
    y, half = np.zeros(x.shape), size // 2
    for n, row, column, c in np.ndindex(*x.shape):
        window = x[n, max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1, c]
        y[n, row, column, c] = x[n, row, column, c] / (k + alpha * (window**2).sum()) ** beta
    return y


def softmax(x):
    """Of one row of numbers that are not too large."""
    return np.exp(x) / np.exp(x).sum()


def cross_entropy(logits, labels, smoothing=0.0):
    """The loss of every row: minus the sum of target times log-probability."""
    losses = []
    for row, label in zip(logits, labels, strict=True):
        target = [(1 - smoothing) * (k == label) + smoothing / len(row) for k in range(len(row))]
        losses.append(-sum(t * np.log(p) for t, p in zip(target, softmax(row), strict=True)))
    return np.array(losses)


def batch_norm(x, eps=1e-5):
    y = np.zeros(x.shape)
    for c in range(x.shape[-1]):
        values = x[..., c]
        mean = values.mean()
        y[..., c] = (values - mean) / np.sqrt(((values - mean) ** 2).mean() + eps)
    return y
