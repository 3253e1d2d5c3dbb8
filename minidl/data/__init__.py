"""Images on disk to batches: data sets, transforms, the loader."""

from minidl.data.cifar10 import CIFAR10
from minidl.data.dataset import ArrayDataset, Dataset
from minidl.data.embedded import EmbeddedCIFAR10
from minidl.data.folder import ImageFolder
from minidl.data.loader import DataLoader
from minidl.data.mnist import MNIST, FashionMNIST
from minidl.data.statistics import mean_colour, mean_image, std_colour
from minidl.data.subset import Subset, split
from minidl.data.transforms import CenterCrop, Compose, Mirror, RandomCrop, Resize, Scale, SubtractMean

__all__ = [
    "CIFAR10",
    "MNIST",
    "ArrayDataset",
    "CenterCrop",
    "Compose",
    "DataLoader",
    "Dataset",
    "EmbeddedCIFAR10",
    "FashionMNIST",
    "ImageFolder",
    "Mirror",
    "RandomCrop",
    "Resize",
    "Scale",
    "Subset",
    "SubtractMean",
    "mean_colour",
    "mean_image",
    "split",
    "std_colour",
]
