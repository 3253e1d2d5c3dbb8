"""Every operation under one name: `import minidl.functional as F`."""

from minidl.ops.activation import log_softmax, relu, sigmoid, softmax, tanh
from minidl.ops.array import concatenate, flatten, pad, stack, where
from minidl.ops.conv import col2im, conv2d, im2col
from minidl.ops.dropout import dropout
from minidl.ops.linear import linear
from minidl.ops.loss import cross_entropy, mse_loss, nll_loss
from minidl.ops.normalization import batch_norm, local_response_norm, local_response_norm_within
from minidl.ops.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "col2im",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "im2col",
    "linear",
    "local_response_norm",
    "local_response_norm_within",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "sigmoid",
    "softmax",
    "stack",
    "tanh",
    "where",
]
