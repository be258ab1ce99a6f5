"""Finds a Chromium; as a program it prints which, or ends with status 1: ``python -m tests.browser.chromium``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Final

__all__ = ["find_chromium"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the first Chromium that starts: on some systems the name leads to a hint how to install it."""
    for name in PROGRAMS:
        program = shutil.which(name)
        if program is not None:
            version = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, timeout=30)
            if version.returncode == 0 and version.stdout.startswith(("Chromium", "Google Chrome")):
                return program
    return None


if __name__ == "__main__":
    found = find_chromium()
    if found is None:
        sys.exit(1)
    print(found)
