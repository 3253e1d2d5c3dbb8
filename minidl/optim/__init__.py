"""Optimisers and learning rate schedules."""

from minidl.optim.adam import Adam
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedules import MultiStepLR, ReduceLROnPlateau, StepLR
from minidl.optim.sgd import SGD

__all__ = ["SGD", "Adam", "MultiStepLR", "Optimizer", "ReduceLROnPlateau", "StepLR"]
