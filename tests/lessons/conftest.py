"""The lessons are not installed: they are imported from the clone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))


def pytest_collection_modifyitems(items):
    """What looks at the scripts that run beside the other tests comes last of all: nobody waits for them."""
    items.sort(key=lambda item: "runs" in getattr(item, "fixturenames", ()))
