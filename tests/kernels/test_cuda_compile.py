"""Every CUDA source compiles for the GPUs of 2017, 2020 and 2022, where a machine has NVIDIA's compiler."""

from pathlib import Path

import numpy as np
import pytest

from kernels import cuda_compilers
from minidl.dtypes import as_dtype
from minidl.kernels import cuda, implicit_gemm

FILES = sorted({path.stem for path in Path(cuda.__file__).parent.glob("*.cu")} - {"implicit_gemm"})
pytestmark = pytest.mark.skipif(cuda_compilers.found() is None, reason="neither NVRTC nor nvcc: see cuda_compilers.py")


def architecture(wanted):
    """That, or the first that the compiler still knows: CUDA 13 has given up 7.0 for 7.5."""
    return min(number for number in cuda_compilers.found().architectures() if number >= wanted)


@pytest.mark.parametrize(
    "wanted, dtype, width", [(70, "float32", 4), (80, "bfloat16", 8), (90, "float32", 4), (90, "float64", 1)]
)
@pytest.mark.parametrize("file", FILES)
def test_it_compiles_without_a_warning(file, wanted, dtype, width):
    options = (*cuda.options(as_dtype(dtype), width), f"-arch=sm_{architecture(wanted)}", "-ftz=true")
    cuda_compilers.found().compile(cuda.source(file), options)


@pytest.mark.parametrize("wanted, tile_m, dtype", [
    (70, 128, "float32"), (80, 256, "float32"), (80, 128, "bfloat16"), (90, 128, "float32"), (90, 256, "bfloat16"),
])  # fmt: skip
def test_tensor_cores(wanted, tile_m, dtype):
    """Also for the GPUs that have none, where nobody asks for it: CuPy compiles for the GPU at hand."""
    options = (*implicit_gemm.options(as_dtype(dtype), tile_m), f"-arch=sm_{architecture(wanted)}")
    cuda_compilers.found().compile(cuda.source("implicit_gemm"), options)


def test_what_is_wrong_does_not():
    with pytest.raises(cuda_compilers.Refused, match="nonsense"):
        cuda_compilers.found().compile(cuda.source("lrn") + "nonsense", (*cuda.options(np.dtype(np.float32), 4), "-arch=sm_90"))
