"""What programs ordinarily rely on: names, certificates, accounts, threads, processes, a clock's zone."""

import getpass
import multiprocessing
import os
import socket
import ssl
import tempfile
import threading


def main():
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(abs, [-1, -2])
    threads = [threading.Thread(target=squares.append, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with tempfile.NamedTemporaryFile() as file:
        return {
            "localhost": socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4][0],
            "certificates": len(ssl.create_default_context().get_ca_certs()) > 0
            or not os.path.exists("/etc/ssl/certs"),
            "user": getpass.getuser(),
            "processes": squares[:2],
            "threads": len(threads),
            "folder": os.path.dirname(file.name),
        }
