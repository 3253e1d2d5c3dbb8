"""Weights and whole states on disk, as safetensors: arrays by name and a description as JSON, and nothing that could run.

A file is written under another name and renamed, so it is there whole or not at all; a state carries a checksum besides.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minidl.files import replacing
from minidl.nn import Module


def save_weights(model: Module, path: str | os.PathLike[str], **description: str) -> None:
    """Write the parameters and buffers of `model` to `path`; `description` is stored with them as text.

    Raises TypeError for numbers that NumPy does not have (bfloat16), OSError where nothing can be written.
    """
    arrays = _storable(model.state_dict(), path)
    _write(arrays, {key: str(value) for key, value in description.items()}, path)


def load_weights(model: Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Read `path` into `model` and return the description stored with it.

    Raises FileNotFoundError, and ValueError for a damaged file, numbers that NumPy does not have (bfloat16), and names or
    shapes that do not fit (all of them named).
    """
    state, description = _read(path)
    try:
        model.load_state_dict(state)
    except ValueError as error:
        about = f" (stored as: {description})" if description else ""
        raise ValueError(f"{path}{about}: {error}") from error
    return description


def save_state(arrays: Mapping[str, np.ndarray], description: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write arrays and a description (anything JSON can say), with a checksum over both. Raises what `save_weights` raises."""
    text = json.dumps(description)
    arrays = _storable(arrays, path)
    _write(arrays, {"description": text, "sha256": _checksum(arrays, text)}, path)


def load_state(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save_state` wrote. Raises FileNotFoundError, and ValueError for a file that is cut short or was changed."""
    arrays, metadata = _read(path)
    text = metadata.get("description")
    if text is None:
        raise ValueError(f"{path}: holds weights alone, not the state of a run")
    if metadata.get("sha256") != _checksum(arrays, text):
        raise ValueError(
            f"{path}: the checksum does not agree with the content, so the file was damaged or changed; use an older one"
        )
    return arrays, json.loads(text)


def _storable(arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> Mapping[str, np.ndarray]:
    """`arrays` themselves. Raises TypeError for what `_read` would refuse: it would be lost."""
    for name, array in arrays.items():
        if _is_foreign(array.dtype):
            raise TypeError(
                f"{path}: {name} is {array.dtype.name}, a type that NumPy does not have; make it float32 before it is saved"
            )
    return arrays


def _write(arrays: Mapping[str, np.ndarray], metadata: dict[str, str], path: str | os.PathLike[str]) -> None:
    try:
        with replacing(path) as temporary:
            save_file(_in_order(arrays), temporary, metadata=metadata)
    except (SafetensorError, OSError) as error:  # safetensors has an exception of its own for a full disk
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        raise OSError(f"{path} could not be written, {size:,.0f} MB: {error}; what was saved before is untouched") from error


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file of weights")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for array in arrays.values():
                if _is_foreign(array.dtype):  # the same file is refused whether or not ml_dtypes was imported before
                    raise TypeError(f"data type {array.dtype.name!r}")
            return arrays, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a complete safetensors file ({error}); it may be damaged or cut short") from error
    except TypeError as error:  # bfloat16 and the 8-bit floats
        raise ValueError(f"{path}: holds numbers of a type that NumPy does not have ({error}); store them as float32") from error


def _is_foreign(dtype: np.dtype) -> bool:
    """Whether another package brought the type: bfloat16 and the 8-bit floats."""
    return dtype.type.__module__ != "numpy"


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _in_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with their elements one after the other: safetensors writes memory as it lies, and would store a transposed
    array wrong without a word."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}
