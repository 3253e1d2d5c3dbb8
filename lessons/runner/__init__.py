"""The program behind `python -m lessons`, from the bottom up:

- `course.py`: the 24 titles, and where the two files of each lie
- `source.py`: the format of a lesson, its holes
- `examine.py`: runs a file and its checks, in a process of its own; words for what goes wrong
- `process.py`: starts that process and passes on what it finds
- `workbook.py`: the learner's folder: files that are never overwritten, progress
- `terminal.py`: 80 columns, colour where there is a terminal
- `assemble.py`: AlexNet from the learner's parts
- `commands.py`: the commands
"""
