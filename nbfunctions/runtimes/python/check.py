"""Compiles an entry point without running it: ``python -I -S check.py FOLDER FILE``; a mistake is told on stderr."""

import os
import sys
import tokenize
import traceback


def check(folder: str, file: str) -> int:
    """Return 0 when the file compiles; else print the error as Python shows it, the file named as packed."""
    path = os.path.join(folder, file)
    try:
        with tokenize.open(path) as source:
            text = source.read()
        compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError) and error.filename == path:
            error.filename = file
        sys.stderr.write("".join(traceback.format_exception_only(type(error), error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(check(*sys.argv[1:3]))
