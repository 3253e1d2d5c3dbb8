"""A small training run, for `test_run.py` to kill: `python tests/interrupted_run.py FOLDER [resume]`. Goes on if asked to."""

import sys

import minidl
from minidl import data, nn, optim
from minidl.checkpoint import save_weights
from minidl.run import Run

folder, resume = sys.argv[1], len(sys.argv) > 2
train, test = data.EmbeddedCIFAR10(), data.EmbeddedCIFAR10(train=False)
train, test = data.Subset(train, range(1000)), data.Subset(test, range(50))
transform = data.Compose([data.SubtractMean(data.mean_image(train)), data.Scale(1 / 64), data.RandomCrop(28), data.Mirror()])
batches = data.DataLoader(train, 20, shuffle=True, transform=transform, seed=5)
tests = data.DataLoader(test, 50, transform=data.Compose([data.Scale(1 / 64), data.CenterCrop(28)]))

minidl.manual_seed(5)
model = nn.Sequential(
    nn.Conv2d(3, 16, 5), nn.BatchNorm(16), nn.ReLU(), nn.LocalResponseNorm(alpha=1.0), nn.MaxPool2d(3, 2),
    nn.Flatten(), nn.Linear(16 * 11 * 11, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10),
)  # fmt: skip
optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
schedule = optim.ReduceLROnPlateau(optimizer, patience=1)
run = Run(folder, {"test": True}, model, optimizer, schedule, batches, tests, seed=5, save_every=2, resume=resume)
run.fit(5)
save_weights(model, f"{folder}/weights.safetensors")
