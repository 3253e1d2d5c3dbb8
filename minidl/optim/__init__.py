"""Optimisers and learning rate schedules."""

from minidl.optim.adam import Adam
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedules import LambdaLR, MultiStepLR, ReduceLROnPlateau, StepLR
from minidl.optim.sgd import SGD

__all__ = ["SGD", "Adam", "LambdaLR", "MultiStepLR", "Optimizer", "ReduceLROnPlateau", "StepLR"]
