"""Memory that was used once stays with the process.

A training step makes and drops the same large arrays again and again. The C library gives an array above some size back to the
operating system at once, and asks for the next one anew: whose every page, 4 kB, is cleared and mapped when it is first touched. In
AlexNet that cost an eighth to a fifth of a step. glibc can be told to keep it; other C libraries have no such switch, and are left
as they are.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep() -> bool:
    """From now on freed memory is used again by this process, and not given back. Returns whether the C library can do that."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library; Windows
        return False
    # No array in a mapping of its own, and never a smaller heap.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
