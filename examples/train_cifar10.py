"""Train Krizhevsky's own small networks of 2011 on the full CIFAR-10: 26 % test error in 80 seconds of a 2010 GPU, 18 % in 20 minutes.

    python examples/train_cifar10.py --data path/to/cifar-10-batches-bin
    python examples/train_cifar10.py --data path/to/cifar-10-batches-bin --network 18pct --epochs 20

Three 5 x 5 convolutions with overlapping pools; pixels 0..255 minus the mean image, no crops and no mirroring; batches of 128; weights
0.001, biases 0.002, momentum 0.9. The figures are those of the `example-layers` that came with the 2012 program.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidl
from minidl import data, nn, optim
from minidl.evaluation import read_config
from minidl.nn import init
from minidl.plots import confusion_matrix, curves, kernels
from minidl.program import main_or_exit
from minidl.run import Run, fit_or_exit


def network(name: str) -> nn.Sequential:
    """ "80sec": two fully connected layers. "18pct": response normalisation after the first two pools, one fully connected layer."""
    # The scale 5e-5 is divided by the 9 pixels of the window.
    norm = [] if name == "80sec" else [nn.LocalResponseNormWithin(3, 5e-5 / 9, 0.75, 1.0) for _ in range(2)]
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 32, 5, padding=2),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "relu1": nn.ReLU(),
        **({"norm1": norm[0]} if norm else {}),
        "conv2": nn.Conv2d(32, 32, 5, padding=2),
        "relu2": nn.ReLU(),
        "pool2": nn.AvgPool2d(3, 2, ceil_mode=True),
        **({"norm2": norm[1]} if norm else {}),
        "conv3": nn.Conv2d(32, 64, 5, padding=2),
        "relu3": nn.ReLU(),
        "pool3": nn.AvgPool2d(3, 2, ceil_mode=True),
        "flatten": nn.Flatten(),
    }
    if norm:
        layers["fc10"] = nn.Linear(4 * 4 * 64, 10)
    else:
        layers |= {"fc64": nn.Linear(4 * 4 * 64, 64), "relu4": nn.ReLU(), "fc10": nn.Linear(64, 10)}
    deviations = {"conv1": 0.0001, "conv2": 0.01, "conv3": 0.01, "fc64": 0.1, "fc10": 0.01 if norm else 0.1}
    for layer_name, layer in layers.items():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            init.normal_(layer.weight, std=deviations[layer_name])
            if layer.bias is not None:
                init.constant_(layer.bias, 0.0)
    return nn.Sequential(layers)


def optimiser(model: nn.Sequential, name: str) -> optim.SGD:
    """Weights 0.001 with decay, biases 0.002 without."""
    convolutions = [layer.weight for layer in model if isinstance(layer, nn.Conv2d)]
    connected = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    biases = [p for path, p in model.named_parameters() if path.endswith("bias")]
    return optim.SGD(
        [
            {"params": convolutions, "weight_decay": 0.004},
            {"params": connected, "weight_decay": 0.03 if name == "80sec" else 1.0},
            {"params": biases, "lr": 0.002, "weight_decay": 0.0},
        ],
        lr=0.001,
        momentum=0.9,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="CIFAR-10, binary version")
    parser.add_argument("--network", choices=["80sec", "18pct"], help="(default: 80sec)")
    parser.add_argument("--epochs", type=int, help="passes over the 50,000 images (default: 20)")
    parser.add_argument("--milestones", type=int, nargs="*", metavar="EPOCH", help="epochs after which the rates are divided by 10 "
                        "(default: 120 and 130 of 140 in proportion)")  # fmt: skip
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, help="(default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this folder as it was started, "
                        "or for another number of --epochs")  # fmt: skip
    options = parser.parse_args()

    if options.epochs is not None and options.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {options.epochs}")
    config: dict[str, Any]
    if options.resume:
        fixed = [f"--{name}" for name in ("network", "milestones", "seed", "out") if getattr(options, name) is not None]
        if fixed:
            raise ValueError(f"a run cannot go on with another {', '.join(fixed)}; leave that out, or start a new run")
        config = read_config(options.resume)
        if config.get("network") not in ("80sec", "18pct"):
            raise ValueError(f"{options.resume}: this is no run of these networks")
        config["epochs"] = options.epochs or config["epochs"]
    else:
        epochs, milestones = options.epochs or 20, options.milestones
        if milestones is None:
            milestones = [max(1, round(epochs * share / 140)) for share in (120, 130)]
        config = {"network": options.network or "80sec", "epochs": epochs, "milestones": milestones, "seed": options.seed or 0}
    name, seed = config["network"], config["seed"]
    minidl.set_default_device(options.device)
    minidl.manual_seed(seed)
    train, test = data.CIFAR10(options.data, train=True), data.CIFAR10(options.data, train=False)
    config["classes"] = list(train.classes)
    subtract = data.SubtractMean(data.mean_image(train))
    batches = data.DataLoader(train, 128, shuffle=True, transform=subtract, seed=seed)
    tests = data.DataLoader(test, 128, transform=subtract)
    model = network(name)
    optimizer = optimiser(model, name)
    out = options.resume or options.out or Path("runs") / time.strftime(f"%Y-%m-%d-%H%M%S-cifar10-{name}")

    def pictures(probabilities: np.ndarray) -> None:
        curves(run.metrics, 10, out / "curves.png")
        kernels(model["conv1"].weight.numpy(), out / "kernels.png")
        confusion_matrix(probabilities, test.labels, test.classes, out / "confusion.png")

    schedule = optim.MultiStepLR(optimizer, config["milestones"])
    run = Run(out, config, model, optimizer, schedule, batches, tests, seed, after_epoch=pictures, resume=bool(options.resume))
    print(f"{name}: {sum(p.size for p in model.parameters()):,} parameters; "
          f"rates divided by 10 after {config['milestones']}", flush=True)  # fmt: skip
    again = ["python", sys.argv[0], "--data", str(options.data), "--resume", str(out), "--device", options.device]
    fit_or_exit(run, config["epochs"], again)
    print(f"test error {1 - run.metrics[-1]['test_accuracy']:.2%}; curves and kernels are in {out}/")


if __name__ == "__main__":
    main_or_exit(main)
