"""Carries one TCP connection between standard input and output and an address: argv is address and port."""

import os
import socket
import sys
import threading

link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
link.settimeout(None)


def outward():
    while block := os.read(0, 65536):
        link.sendall(block)
    link.shutdown(socket.SHUT_WR)


threading.Thread(target=outward, daemon=True).start()
while block := link.recv(65536):
    while block:
        block = block[os.write(1, block) :]
