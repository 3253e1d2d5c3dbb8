"""One file for each lesson: its checks, its hints, its mutants. `lessons/README.md` says how to write one."""
