"""Images on disk to batches: data sets, transforms, the loader. `minidl.data.pack` packs large data sets."""

from minidl.data.cifar10 import CIFAR10
from minidl.data.colour_noise import ColourNoise
from minidl.data.crops import CenterCrop, RandomCrop, TenCrop
from minidl.data.dataset import ArrayDataset, Dataset
from minidl.data.decode import UndecodableImage
from minidl.data.embedded import EmbeddedCIFAR10
from minidl.data.folder import ImageFolder
from minidl.data.image_list import ImageList, read_numbers
from minidl.data.loader import DataLoader
from minidl.data.mnist import MNIST, FashionMNIST
from minidl.data.packed import PackedImages
from minidl.data.statistics import colour_covariance, mean_colour, mean_image, std_colour
from minidl.data.subset import Subset, split
from minidl.data.transforms import Compose, Mirror, Resize, Scale, SubtractMean

__all__ = [
    "CIFAR10",
    "MNIST",
    "ArrayDataset",
    "CenterCrop",
    "ColourNoise",
    "Compose",
    "DataLoader",
    "Dataset",
    "EmbeddedCIFAR10",
    "FashionMNIST",
    "ImageFolder",
    "ImageList",
    "Mirror",
    "PackedImages",
    "RandomCrop",
    "Resize",
    "Scale",
    "Subset",
    "SubtractMean",
    "TenCrop",
    "UndecodableImage",
    "colour_covariance",
    "mean_colour",
    "mean_image",
    "read_numbers",
    "split",
    "std_colour",
]
