"""Start the stand-in: `PYTHONPATH=deploy/sandbox python -m standin --port 0 --ready-file PATH`; server.py tells the rest.

Where SFDATA_STANDIN_NURSERY names the socket of a nursery (tests/kit/nursery.py), the stand-in is a fork of that, which
has everything imported. It has this process's arguments, standard streams and end, and this process no need of moto.
"""

import json
import os
import socket
import sys


def be_born(nursery):
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(nursery)
        socket.send_fds(line, [json.dumps(sys.argv[1:]).encode()], [0, 1, 2])
        line.recv(1)  # closed when the fork ends


if __name__ == "__main__":
    if "SFDATA_STANDIN_NURSERY" in os.environ:
        be_born(os.environ["SFDATA_STANDIN_NURSERY"])
    else:
        from . import server

        server.serve(server.prepare(), sys.argv[1:])
