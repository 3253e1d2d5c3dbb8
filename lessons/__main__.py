"""`python -m lessons`, or from any other folder `python path/to/minidl/lessons`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # started as a folder: Python has put lessons/ on its path, not the folder that holds it
    sys.path[0] = str(ROOT)

try:
    from lessons.runner.commands import main
except KeyboardInterrupt:
    sys.exit("stopped")
except ImportError as error:
    sys.exit(
        f"The lessons need minidl, which this Python cannot import:\n    {error}\n"
        f"Install it (best in a virtual environment) and try again:\n    {sys.executable} -m pip install -e {ROOT}"
    )

sys.exit(main())
