"""`python -m minidl.doctor`: what minidl finds on this machine, and what to do about what is missing."""

from __future__ import annotations

import platform

import numpy as np
from threadpoolctl import threadpool_info

import minidl
from minidl.backend import on_device
from minidl.kernels.parallel import worker_count


def report() -> list[str]:
    """One line for each thing found; works where there is no GPU at all."""
    blas = [
        f"{b['internal_api']} {b['version']}, {b['num_threads']} threads" for b in threadpool_info() if b["user_api"] == "blas"
    ]
    lines = [
        f"minidl   {minidl.__version__}",
        f"Python   {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"NumPy    {np.__version__}, BLAS: {'; '.join(blas) or 'not recognised'}",
        f"threads  {worker_count()} in minidl's pool (OMP_NUM_THREADS changes it)",
    ]
    try:
        with on_device("gpu") as cupy:
            lines.append(f"CuPy     {cupy.__version__}, CUDA runtime {cupy.cuda.runtime.runtimeGetVersion()}, "
                         f"driver for CUDA {cupy.cuda.runtime.driverGetVersion()}")  # fmt: skip
            for number in range(cupy.cuda.runtime.getDeviceCount()):
                name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
                with cupy.cuda.Device(number):
                    free, total = cupy.cuda.runtime.memGetInfo()
                lines.append(f"gpu:{number}    {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
            square = cupy.random.default_rng(0).random((256, 256), dtype=np.float32)
            total = float((square @ square).sum())
            lines.append(f"         a matrix product on gpu:0 {'works' if np.isfinite(total) else 'gave ' + str(total)}")
    except Exception as error:  # whatever is wrong with a GPU, the doctor's answer is a sentence
        lines.append(f"GPU      none to use: {error}")
    return lines


if __name__ == "__main__":
    print("\n".join(report()))
