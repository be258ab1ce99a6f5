"""The program inside the sandbox: ``python -I -S main.py FD``."""

import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path.insert(0, os.path.dirname(folder))  # noqa: PTH120
    serve = __import__(os.path.basename(folder) + ".serve", fromlist=["serve"])  # noqa: PTH119
    # Our own modules are loaded: the function's modules must not find, nor be hidden by, their folder.
    del sys.path[0]
    serve.serve(int(sys.argv[1]))
