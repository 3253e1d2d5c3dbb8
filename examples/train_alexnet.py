"""Train AlexNet.

With no arguments: the two-tower network of 2012 at half its width, on the 5,000 images in the package, enlarged to 64 x 64, for
about two minutes on two cores. It leaves a folder in runs/ with metrics.jsonl, curves.png, kernels.png, predictions.png and
weights.safetensors.

    python examples/train_alexnet.py
    python examples/train_alexnet.py --data path/to/cifar-10-batches-bin --epochs 10
    python examples/train_alexnet.py --data path/to/photographs --image-size 227 --width 1 --batch-size 32

A directory of photographs holds one folder for each class; a fifth of each class is kept for testing, unless there are
folders train/ and val/.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidl
from minidl import data, models, nn, optim
from minidl.checkpoint import save_weights
from minidl.plots import contact_sheet, curves, kernels
from minidl.training import RunFolder, fit

# Learning rates that train each variant on the embedded images. Where biases learn twice as fast and do not decay, the 2012
# program did so.
LEARNING_RATE = {"paper": 0.005, "program": 0.005, "caffe": 0.005, "torchvision": 0.05}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--device", default="cpu", help='where to compute: "cpu" (default), "gpu", or "gpu:1" for the second GPU')
    option("--data", type=Path, metavar="DIR", help="CIFAR-10 (binary version), MNIST or Fashion-MNIST, or photographs in folders; "
           "default: the images in the package")  # fmt: skip
    option("--variant", choices=models.VARIANTS, default="program", help="which AlexNet: what the paper's text says, the "
           "program did (default), Caffe's, or torchvision's; from the initial values of paper and caffe, small networks "
           "stay at the loss of guessing for many epochs")  # fmt: skip
    option("--image-size", type=int, default=64, metavar="PIXELS", help="images are cropped to this size, at least 63; "
           "the original's is 224 (default: 64)")  # fmt: skip
    option("--width", type=float, default=0.5, help="factor on the number of channels; the original's is 1 (default: 0.5)")
    option("--epochs", type=int, default=18, help="passes over the training images (default: 18)")
    option("--batch-size", type=int, default=64, metavar="N", help="images a step; the paper's is 128 (default: 64)")
    option("--lr", type=float, help="learning rate, divided by 10 for the last fifth of the epochs (default: "
           + ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATE.items()) + ")")  # fmt: skip
    option("--seed", type=int, default=0, help="of initial weights, order, crops and dropout (default: 0)")
    option("--out", type=Path, metavar="DIR", help="the folder for the results (default: runs/ and date and time)")
    return parser.parse_args()


def open_data(path: Path | None, size: int) -> tuple[Any, Any]:
    """(training set, test set) of whatever is at `path`; photographs are brought to size x size."""
    if path is None:
        return data.EmbeddedCIFAR10(train=True), data.EmbeddedCIFAR10(train=False)
    if not path.is_dir():
        raise FileNotFoundError(f"--data {path}: there is no such folder")
    names = {p.name for folder in (path, path / "cifar-10-batches-bin") if folder.is_dir() for p in folder.iterdir()}
    if "data_batch_1.bin" in names:
        return data.CIFAR10(path, train=True), data.CIFAR10(path, train=False)
    if any(name.startswith("train-images") for name in names):
        reader = data.FashionMNIST if "fashion" in path.name.lower() else data.MNIST
        return reader(path, train=True), reader(path, train=False)
    if (path / "train").is_dir() and (path / "val").is_dir():
        return data.ImageFolder(path / "train", size), data.ImageFolder(path / "val", size)
    training, testing = data.split(data.ImageFolder(path, size), 0.2, seed=0)
    return training, testing


def colour(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey images as colour images."""
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def loaders(train: Any, test: Any, size: int, large: int, options: argparse.Namespace) -> tuple[data.DataLoader, data.DataLoader]:
    """Pixels minus their mean colour, crops and mirror images in training, the centre in testing (paper, section 4.1)."""
    prepare: list[Any] = [colour, data.SubtractMean(data.mean_colour(train))]
    if options.variant == "torchvision":  # the only one whose images are scaled, to a deviation of about 1
        prepare.append(data.Scale(1 / data.std_colour(train)))
    if train[0][0].shape[:2] != (large, large):
        prepare.append(data.Resize(large))
    training = data.Compose([*prepare, data.RandomCrop(size), data.Mirror()])
    testing = data.Compose([*prepare, data.CenterCrop(size)])
    return (
        data.DataLoader(train, options.batch_size, shuffle=True, transform=training, seed=options.seed),
        data.DataLoader(test, options.batch_size, transform=testing),
    )


def optimiser(model: nn.Module, variant: str, lr: float) -> optim.SGD:
    """The paper's SGD; in the 2012 program and in Caffe biases learn twice as fast and do not decay."""
    named = list(model.named_parameters())
    if variant in ("paper", "torchvision"):
        groups: list[dict[str, Any]] = [{"params": [p for _, p in named]}]
    else:
        weights = [p for name, p in named if name.endswith("weight")]
        biases = [p for name, p in named if name.endswith("bias")]
        groups = [{"params": weights}, {"params": biases, "lr": 2 * lr, "weight_decay": 0.0}]
    return optim.SGD(groups, lr, momentum=0.9, weight_decay=0.0005)


def main() -> None:
    options = arguments()
    minidl.set_default_device(options.device)
    minidl.manual_seed(options.seed)
    lr = LEARNING_RATE[options.variant] if options.lr is None else options.lr
    size, large = options.image_size, round(options.image_size * 256 / 224)  # the paper crops 224 from 256

    train, test = open_data(options.data, large)
    batches, tests = loaders(train, test, size, large, options)
    model = models.AlexNet(options.variant, len(train.classes), options.width, size)
    parameters = sum(p.size for p in model.parameters())
    optimizer = optimiser(model, options.variant, lr)
    schedule = optim.MultiStepLR(optimizer, [max(1, round(0.8 * options.epochs))])

    out = options.out or Path("runs") / time.strftime(f"%Y-%m-%d-%H%M%S-{options.variant}")
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()} | {"lr": lr}
    run = RunFolder(out, config)
    print(f"AlexNet, variant {options.variant}, width {options.width}, {size} x {size} pixels: {parameters:,} parameters")
    print(f"{len(train):,} images to learn from, {len(test):,} to test with, {len(train.classes)} classes; on {options.device}")
    print(f"a network that only guesses has a loss of ln {len(train.classes)} = {np.log(len(train.classes)):.3f}", flush=True)

    probabilities = fit(model, batches, tests, optimizer, schedule, options.epochs, run)

    save_weights(model, out / "weights.safetensors", variant=options.variant, width=str(options.width),
                 image_size=str(size), classes=",".join(train.classes))  # fmt: skip
    curves(run.metrics, len(train.classes), out / "curves.png")
    kernels(model["conv1"].weight.numpy(), out / "kernels.png", towers=1 if options.variant == "torchvision" else 2)
    shown = np.random.default_rng(options.seed).choice(len(test), min(40, len(test)), replace=False)
    images, labels = zip(*(test[int(i)] for i in shown), strict=True)
    contact_sheet(images, labels, probabilities[shown], train.classes, out / "predictions.png")
    print(f"test accuracy {run.metrics[-1]['test_accuracy']:.1%}; curves, kernels, predictions and weights are in {out}/")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError, FileExistsError, FloatingPointError, RuntimeError) as error:
        sys.exit(f"train_alexnet: {error}")
    except KeyboardInterrupt:
        sys.exit("\ntrain_alexnet: stopped; the metrics so far are in the run's folder")
