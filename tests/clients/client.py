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
        banner = (await reader.readline()).decode().strip()
        print(banner, "peer", writer.get_extra_info("peername"))
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
            print(stream.makefile().readline().strip(), "peer", stream.getpeername())
    with socket.socket(type=socket.SOCK_DGRAM) as unconnected:
        for _ in range(2):
            unconnected.sendto(b"?", (HOST, PORT))
            data, source = unconnected.recvfrom(99)
            print(data.decode(), "from", source)
        data, _, _, source = unconnected.recvmsg(99) if unconnected.sendto(b"?", (HOST, PORT)) else None
        print(data.decode(), "from", source)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mapped:
        mapped.sendto(b"?", ("::ffff:" + HOST, PORT))
        data, source = mapped.recvfrom(99)
        print(data.decode(), "from", source)


if WHAT == "streams":
    asyncio.run(streams())
elif WHAT == "sockets":
    sockets()
else:
    asyncio.run(datagrams(connected=WHAT == "connected"))
