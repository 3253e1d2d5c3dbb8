"""Check the gradients of one layer: the session at the beginning of the README, as a script.

python examples/gradcheck_layer.py
"""

from __future__ import annotations

import minidl
import minidl.functional as F
from minidl import gradcheck, nn

minidl.manual_seed(0)

print("A layer and the shape of its input are enough:\n")
print(gradcheck(nn.Conv2d(3, 8, 3), (2, 7, 7, 3)))

print("\nA function of several arrays, and its second derivatives:\n")
print(gradcheck(lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=2), (2, 5, 5, 4), (3, 3, 2, 6), order=2))

print("\nA layer with a mistake in it. The derivative of x ** 2 is 2 x, not x:\n")


class Square(minidl.Function):
    def forward(self, x):
        return x * x

    def backward(self, gradient):
        return gradient * self.inputs[0]


print(gradcheck(lambda x: Square()(x), (2, 3)))
