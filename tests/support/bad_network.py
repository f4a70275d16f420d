# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks between a client and a server, in a thread of this process: one that delays, drops, cuts and resets on
order, and one with an HTTP proxy. Both are contexts."""
import asyncio
import re
import socket
import struct
import threading

PIECE = 65536
WELL = ("well", 0)


def delay(seconds):
    """Each piece of an answer comes so much later."""
    return ("delay", seconds)


def drop():
    """The connection is accepted, and nothing ever comes back."""
    return ("drop", 0)


def cut(n):
    """It ends after n bytes of what the server says."""
    return ("cut", n)


def reset(n):
    """It is reset after n bytes of what the server says."""
    return ("reset", n)


def hang_up(writer, at_once=False):
    """Also in the other direction; at once: the peer sees a reset."""
    if at_once and not writer.is_closing():
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


async def carry(reader, writer):
    """All that comes, until one side ends."""
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()


class Listener:
    """A loop in a thread of its own, with a port at an address of this machine."""

    def __init__(self, address="127.0.0.1", port=0):
        self.loop, self.lock = asyncio.new_event_loop(), threading.Lock()
        self.sock = socket.create_server((address, port))
        self.port = self.sock.getsockname()[1]
        self.stopped = asyncio.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *why):
        self.close()

    def close(self):
        """The port, and all connections; again: nothing."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopped.set)
            self.thread.join()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self):
        server = await asyncio.start_server(self.take, sock=self.sock)
        await self.stopped.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, reader, writer):
        try:
            await self.connection(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side left, or the test is over
        finally:
            writer.close()

    async def both_ways(self, reader, writer, far_reader, far_writer, back=carry):
        """Until one of the directions ends."""
        tasks = [asyncio.ensure_future(carry(reader, far_writer)), asyncio.ensure_future(back(far_reader, writer))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class BadNetwork(Listener):
    """Leads to a port of 127.0.0.1, which may change. Connection k does what plan[k] orders, those after the plan what
    `then` does."""

    def __init__(self, target, plan=(), then=WELL, **where):
        super().__init__(**where)
        self.target, self.plan, self.then = target, list(plan), then
        self.n, self.frozen, self.near = 0, 0, set()

    def connections(self):
        with self.lock:
            return self.n

    def move(self, target):
        """Another port; the connections that are there are reset."""
        async def reset_all():
            self.target = target
            for writer in self.near:
                hang_up(writer, at_once=True)

        asyncio.run_coroutine_threadsafe(reset_all(), self.loop).result()

    def freeze(self):
        """Nothing comes back any more on the connections that are there."""
        with self.lock:
            self.frozen = self.n

    async def connection(self, reader, writer):
        self.near.add(writer)
        try:
            await self.lead(reader, writer)
        finally:
            self.near.discard(writer)

    async def lead(self, reader, writer):
        with self.lock:
            self.n += 1
            number = self.n
        what, amount = self.plan[number - 1] if number <= len(self.plan) else self.then
        if what == "drop":
            while await reader.read(PIECE):
                pass
            return
        far = await asyncio.open_connection("127.0.0.1", self.target)

        async def back(far_reader, near_writer):
            left = amount if what in ("cut", "reset") else None
            while piece := await far_reader.read(PIECE):
                if what == "delay":
                    await asyncio.sleep(amount)
                if number <= self.frozen:
                    continue
                near_writer.write(piece if left is None else piece[:left])
                await near_writer.drain()
                left = None if left is None else left - len(piece)
                if left is not None and left <= 0:
                    break
            hang_up(near_writer, what == "reset")

        await self.both_ways(reader, writer, *far, back)


class HttpProxy(Listener):
    """Leads every request to a port of 127.0.0.1, whatever host it names; heads has what clients said to it. With a
    status it refuses them all."""

    def __init__(self, target, refusal=None):
        super().__init__()
        self.target, self.refusal, self.heads = target, refusal, []
        self.url = f"http://127.0.0.1:{self.port}"

    async def connection(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        with self.lock:
            self.heads.append(head.decode())
        if self.refusal:
            writer.write(b"HTTP/1.1 %d No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n"
                         b"Connection: close\r\n\r\n" % self.refusal)
            writer.write_eof()
            while await reader.read(PIECE):  # a picture that nobody wants; a reset would overtake the answer
                pass
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:  # one exchange: what follows on the connection would name the host again
            head = re.sub(rb"^(\S+) http://[^/]+", rb"\1 ", head)
            far_writer.write(re.sub(rb"\r\n(Proxy-)?Connection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n")
        await self.both_ways(reader, writer, far_reader, far_writer)
