"""What a Python program sees of a service: client.py WHAT HOST PORT"""

import asyncio
import socket
import sys

WHAT, HOST, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Ask(asyncio.DatagramProtocol):
    """Keeps what comes, as lines."""

    def __init__(self):
        self.seen = asyncio.Queue()

    def datagram_received(self, data, source):
        self.seen.put_nowait(f"{data.decode()} from {source}")

    def error_received(self, error):
        self.seen.put_nowait(type(error).__name__)


async def streams():
    for _ in range(4):
        reader, writer = await asyncio.open_connection(HOST, PORT)
        writer.write(b"?")
        print((await reader.read(99)).decode(), "peer", writer.get_extra_info("peername"))
        writer.close()
        await writer.wait_closed()


async def datagrams(connected):
    for _ in range(3):
        to = {"remote_addr": (HOST, PORT)} if connected else {"local_addr": ("0.0.0.0", 0)}
        transport, ask = await asyncio.get_running_loop().create_datagram_endpoint(Ask, **to)
        for _ in range(2):
            transport.sendto(b"?", None if connected else (HOST, PORT))
            print(await ask.seen.get(), "peer", transport.get_extra_info("peername"))
        transport.close()


def sockets():
    for _ in range(2):
        with socket.create_connection((HOST, PORT)) as stream:
            stream.sendall(b"?")
            print(stream.recv(99).decode(), "peer", stream.getpeername())
    for family, host in (socket.AF_INET, HOST), (socket.AF_INET6, "::ffff:" + HOST):
        with socket.socket(family, socket.SOCK_DGRAM) as unconnected:
            for _ in range(2):
                unconnected.sendto(b"?", (host, PORT))
                data, source = unconnected.recvfrom(99)
                print(data.decode(), "from", source)


async def refused():
    try:
        await asyncio.open_connection(HOST, PORT)
    except OSError as error:
        print(repr(error))
    await datagrams(connected=True)


if WHAT == "sockets":
    sockets()
else:
    asyncio.run(
        {
            "streams": streams,
            "connected": lambda: datagrams(connected=True),
            "unconnected": lambda: datagrams(connected=False),
            "refused": refused,
        }[WHAT]()
    )
