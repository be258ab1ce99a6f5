"""Many threads that wait, as for a hundred downloads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor


def main(count: int):
    together = threading.Barrier(count)
    with ThreadPoolExecutor(count) as threads:
        return len({number for number, _ in threads.map(lambda number: (number, together.wait(30)), range(count))})
