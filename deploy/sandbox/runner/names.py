"""A fixed address for a service whose tasks come and go, as ECS Service Connect gives it: connections are passed on.

Runs in a thread of its own. A connection goes to the first of `targets` that takes it, and is closed where none does.
"""

import asyncio
import threading


class Name:
    def __init__(self):
        self.targets = []  # (address, port), newest task first; replaced as a whole
        self.port, ready = None, threading.Event()
        threading.Thread(target=asyncio.run, args=[self.serve(ready)], daemon=True).start()
        ready.wait()

    async def serve(self, ready):
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def connect(self, reader, writer):
        for address, port in self.targets:
            try:
                theirs, ours = await asyncio.open_connection(address, port)
            except OSError:
                continue
            await asyncio.gather(pass_on(reader, ours), pass_on(theirs, writer))
            return
        writer.close()


async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
