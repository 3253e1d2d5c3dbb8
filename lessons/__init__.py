"""The course: from a finite difference to one's own AlexNet. `python -m lessons` shows the map; README.md says more.

Here is one file for each lesson, `NN_name.py`, complete and worked, with marks around what the learner is to write. `checks/` has a
file beside each, with its checks, hints and mutants, written with `checking.py`; `cuda.py` lets one of them run a CUDA kernel without a
GPU. `runner/` is the program behind `python -m lessons`; whoever writes a lesson need not read it.
"""
