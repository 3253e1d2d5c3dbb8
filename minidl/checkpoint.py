"""Weights on disk, as safetensors: arrays by name and a few words of description, and nothing that could run."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minidl.files import replacing
from minidl.nn import Module


def save_weights(model: Module, path: str | os.PathLike[str], **description: str) -> None:
    """Write the parameters and buffers of `model` to `path`; `description` is stored with them as text."""
    with replacing(path) as temporary:
        save_file(model.state_dict(), temporary, metadata={key: str(value) for key, value in description.items()})


def load_weights(model: Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Read `path` into `model` and return the description stored with it.

    Raises FileNotFoundError, and ValueError for a damaged file, numbers that NumPy does not have (bfloat16), and names or
    shapes that do not fit (all of them named).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file of weights")
    try:
        with safe_open(path, framework="numpy") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            description = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a complete safetensors file ({error}); it may be damaged or cut short") from error
    except TypeError as error:  # bfloat16 and the 8-bit floats
        raise ValueError(f"{path}: holds numbers of a type that NumPy does not have ({error}); store them as float32") from error
    try:
        model.load_state_dict(state)
    except ValueError as error:
        about = f" (stored as: {description})" if description else ""
        raise ValueError(f"{path}{about}: {error}") from error
    return description
