"""The program inside the sandbox: ``python -I -S main.py FD``."""

import os
import sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(folder))
    serve = __import__(os.path.basename(folder) + ".serve", fromlist=["serve"])
    # Our own modules are loaded: the function's modules must not find, nor be hidden by, their folder.
    del sys.path[0]
    serve.serve(int(sys.argv[1]))
