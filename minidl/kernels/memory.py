"""Memory that was used once stays with the process.

A training step makes and drops the same large arrays again and again. The C library gives the memory of a large array back to the
operating system at once and asks for fresh memory for the next one; and each page of that, 4 kB, is cleared and mapped when it is
first touched. In AlexNet that cost an eighth to a fifth of a step. glibc can be told to keep the memory; other C libraries have no
such switch, and are left as they are.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep() -> bool:
    """From now on this process keeps freed memory and uses it again. Returns whether the C library can do that."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library; Windows
        return False
    # No array gets a mapping of its own, and the heap never shrinks.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
