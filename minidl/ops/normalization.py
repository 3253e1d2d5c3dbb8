"""Normalisation: local response normalisation of two kinds, and batch normalisation."""

from __future__ import annotations

from minidl import backend
from minidl.autograd import is_grad_enabled
from minidl.dtypes import is_bfloat16
from minidl.function import Function
from minidl.kernels import lrn
from minidl.kernels.window import Window
from minidl.ops.arguments import check_floating, check_images, check_tensor, in_float32
from minidl.ops.pooling import sum_pool2d
from minidl.tensor import Tensor


def local_response_norm(
    x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1
) -> Tensor:
    """Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3):

        b_c = a_c / (k + alpha * sum of a_j ** 2 for j = c - size // 2 ... c + size // 2) ** beta

    x: (..., C). size: neighbouring channels in the window, odd; it is cut off at the first and last channel.
    groups: the window stays inside its tower of C / groups channels, as in the two-tower program of 2012.
    Returns the shape of x. Raises ValueError for an even size, channels that do not divide into groups, a k that is not positive, a
    negative alpha.

    `alpha` multiplies the sum, as in the paper. PyTorch, Caffe, ONNX and the 2012 program divide theirs by the size of the
    window: their alpha is size times ours, `local_response_norm(x, 5, alpha / 5)` here is `alpha` there.
    """
    check_floating("local_response_norm", x)
    check_response_constants("local_response_norm", size, alpha, k)
    if not isinstance(groups, int) or groups < 1 or x.ndim == 0 or x.shape[-1] % groups:
        raise ValueError(f"local_response_norm: the last axis of x, shape {x.shape}, does not divide into groups={groups!r}")
    return LocalResponseNorm(size, alpha, beta, k, groups)(x)


class LocalResponseNorm(Function):
    def __init__(self, size: int, alpha: float, beta: float, k: float, groups: int) -> None:
        self.size, self.alpha, self.beta, self.k, self.groups = size, alpha, beta, k, groups

    def forward(self, x):
        return lrn.lrn(x, self.size, self.alpha, self.beta, self.k, self.groups)

    def backward(self, gradient):
        (x,) = self.inputs
        if is_grad_enabled():  # to be differentiated again: the same formula as the kernel's, in operations that can be
            s = self.k + self.alpha * window_sum(x * x, self.size, self.groups)
            cross = window_sum(gradient * x * s ** -(self.beta + 1), self.size, self.groups)
            return gradient * s**-self.beta - 2 * self.alpha * self.beta * x * cross
        return LocalResponseNormBackward(self.size, self.alpha, self.beta, self.k, self.groups)(x, gradient)


class LocalResponseNormBackward(Function):
    """The gradient in one pass. `LocalResponseNorm.backward` never records it, so it needs no derivative itself."""

    def __init__(self, *constants) -> None:
        self.constants = constants

    def forward(self, x, gradient):
        return lrn.lrn_backward(x, gradient, *self.constants)


def window_sum(x: Tensor, size: int, groups: int = 1) -> Tensor:
    """Each channel becomes the sum of its window of `size` (odd) neighbours inside its group. x: (..., C)."""
    return WindowSum(size, groups)(x)


class WindowSum(Function):
    """A centred window is its own transpose, and so is this operation."""

    keeps_inputs = False

    def __init__(self, size: int, groups: int) -> None:
        self.size, self.groups = size, groups

    def forward(self, x):
        return lrn.window_sum(x, self.size, self.groups)

    def backward(self, gradient):
        return window_sum(gradient, self.size, self.groups)


def local_response_norm_within(x: Tensor, size: int = 5, alpha: float = 1e-3 / 25, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Local response normalisation within each map: a / (k + alpha * sum of a ** 2 over size x size pixels) ** beta.

    x: (N, H, W, C); the window, of odd `size`, is centred and cut off at the edges of the map. Returns the shape of x.
    The 2012 program (not the paper) applies it after conv2. Its "scale" of 1e-3 is divided by the 25 pixels of the window, which
    gives the default here, where `alpha` again multiplies the plain sum. Errors are those of `local_response_norm`.
    """
    check_images("local_response_norm_within", x)
    check_response_constants("local_response_norm_within", size, alpha, k)
    images, half = in_float32(x), size // 2
    # The sum over a square is the sum over a row of sums over columns: 2 size additions instead of size ** 2.
    columns = sum_pool2d(images * images, Window((size, 1), padding=((half, half), (0, 0))))
    squares = sum_pool2d(columns, Window((1, size), padding=((0, 0), (half, half))))
    return (images * (k + alpha * squares) ** -beta).astype(x.dtype)


def check_response_constants(operation: str, size: int, alpha: float, k: float) -> None:
    """Raise ValueError for constants with which response normalisation has no value."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"{operation}: size must be an odd int, so that the window has a centre; got {size!r}")
    if not k > 0 or not alpha >= 0:
        raise ValueError(
            f"{operation}: k must be positive and alpha at least 0, or the root has no value; got k={k}, alpha={alpha}"
        )


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015) of the last axis: (x - mean) / sqrt(var + eps) * weight + bias.

    x: (..., C); the others: (C,). In training mean and variance are those of the batch over all other axes, and the running
    ones become (1 - momentum) * running + momentum * batch; the batch's variance is here divided by count - 1, as in PyTorch.
    Raises ValueError for shapes that do not fit, in training for a single value in each channel, which has no variance, for a
    momentum that is not between 0 and 1, and for a negative eps.
    """
    check_floating("batch_norm", x)
    check_batch_constants("batch_norm", momentum, eps)
    given = [("running_mean", running_mean), ("running_var", running_var)]
    given += [(name, t) for name, t in (("weight", weight), ("bias", bias)) if t is not None]
    for name, t in given:
        check_tensor("batch_norm", name, t)
        if x.ndim < 2 or t.shape != x.shape[-1:]:
            raise ValueError(f"batch_norm: {name} of shape {t.shape} does not fit the channels of x, shape {x.shape}")
    dtype, x = x.dtype, in_float32(x)
    if training:
        others = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        if count < 2:
            raise ValueError(f"batch_norm: x of shape {x.shape} has one value a channel: no variance to train with; use eval()")
        mean = x.mean(others)
        centred = x - mean
        var = (centred * centred).mean(others)
        with backend.beside(x._array):
            running_mean.data = (1 - momentum) * running_mean._array + momentum * mean._array
            running_var.data = (1 - momentum) * running_var._array + momentum * count / (count - 1) * var._array
    else:
        # Their values of now: a graph of the running Tensors themselves would meet what later batches write into them.
        mean, var = running_mean.detach(), running_var.detach()
        centred = x - mean
    y = centred / (var + eps).sqrt()
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.astype(dtype) if is_bfloat16(dtype) else y


def check_batch_constants(operation: str, momentum: float, eps: float) -> None:
    """Raise ValueError for constants with which batch normalisation has no value."""
    if not 0 <= momentum <= 1:
        raise ValueError(f"{operation}: momentum is the share of the batch in the running statistics, 0 to 1; got {momentum!r}")
    if not eps >= 0:
        raise ValueError(f"{operation}: eps is added to the variance and must be at least 0, got {eps!r}")
