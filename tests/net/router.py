"""A network of namespaces with one router, which delays, loses, drops or garbles packets between pairs of hosts.

Every host is a network namespace with a TUN device; this program reads what they send and writes it to whom it is for.
It runs inside namespaces of its own (tests/net/enter), so nothing of it is left when it ends.

    router.py --control SOCKET [--mtu BYTES] NAME=ADDRESS...

A name of `.` is the namespace of whoever starts it. It prints `ready` when all devices are up. Commands, one a
connection, on the unix socket:

    set FROM TO [delay=MS] [loss=SHARE] [drop=0|1] [garble=0|1]     one direction; * is every host
    count                                                           packets and bytes that went through
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import time
from dataclasses import dataclass

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PR_SET_TIMERSLACK = 29
DEVICE = "mesh0"
# Packets taken from a device before the others and the clock get their turn.
BURST = 64

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Link:
    """What befalls packets in one direction."""

    delay: float = 0.0
    loss: float = 0.0
    drop: bool = False
    garble: bool = False


def setns(fd: int) -> None:
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def open_tun(namespace: str) -> int:
    """A TUN device in a namespace; the descriptor works from here."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if namespace != ".":
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        setns(there)
        os.close(there)
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        return fd
    finally:
        setns(home)
        os.close(home)


def ip(namespace: str, *args: str) -> None:
    where = [] if namespace == "." else ["-n", namespace]
    subprocess.run(["ip", *where, *args], check=True)


def checksum(data: bytes) -> int:
    """Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def garbled(packet: bytes) -> bytes:
    """The packet with noise for its TCP payload and a checksum that fits; others as they are."""
    header = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_TCP:
        return packet
    data = header + (packet[header + 12] >> 4) * 4
    if data >= len(packet):
        return packet
    segment = bytearray(packet[header:data] + random.randbytes(len(packet) - data))
    segment[16:18] = b"\0\0"
    pseudo = packet[12:20] + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
    segment[16:18] = struct.pack("!H", checksum(pseudo + bytes(segment)))
    return packet[:header] + bytes(segment)


class Router:
    def __init__(self, hosts: dict[str, str], mtu: int):
        self.names = list(hosts)
        self.links = {(a, b): Link() for a in hosts for b in hosts}
        self.by_address = {socket.inet_aton(address): name for name, address in hosts.items()}
        self.tuns, self.hosts = {}, {}
        self.waiting: list[tuple[float, int, int, bytes]] = []
        self.packets = self.bytes = self.number = 0
        for name, address in hosts.items():
            fd = open_tun(name)
            self.tuns[name], self.hosts[fd] = fd, name
            ip(name, "addr", "add", f"{address}/24", "dev", DEVICE)
            ip(name, "link", "set", DEVICE, "mtu", str(mtu), "txqueuelen", "4000", "up")
            ip(name, "link", "set", "lo", "up")

    def serve(self, control: socket.socket) -> None:
        inputs = [*self.hosts, control]
        while True:
            self.deliver()
            wait = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            # select and not epoll: it waits to the microsecond.
            for ready in select.select(inputs, [], [], wait)[0]:
                if ready is control:
                    self.command(control)
                else:
                    self.forward(ready)

    def forward(self, fd: int) -> None:
        for _ in range(BURST):
            try:
                packet = os.read(fd, 65536)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue
            target = self.by_address.get(packet[16:20])
            if target is None:
                continue
            link = self.links[self.hosts[fd], target]
            if link.drop or (link.loss and random.random() < link.loss):
                continue
            if link.garble:
                packet = garbled(packet)
            self.packets += 1
            self.bytes += len(packet)
            if link.delay:
                self.number += 1
                heapq.heappush(self.waiting, (time.monotonic() + link.delay, self.number, self.tuns[target], packet))
            else:
                self.write(self.tuns[target], packet)

    def deliver(self) -> None:
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, _, fd, packet = heapq.heappop(self.waiting)
            self.write(fd, packet)

    def write(self, fd: int, packet: bytes) -> None:
        try:
            os.write(fd, packet)
        except OSError:
            # Its queue is full, or the host has gone: as a wire does, it loses the packet.
            pass

    def command(self, control: socket.socket) -> None:
        connection, _ = control.accept()
        with connection:
            connection.settimeout(1)
            try:
                answer = self.act(connection.recv(4096).decode().split())
            except (OSError, ValueError, KeyError) as error:
                answer = f"error: {error!r}"
            connection.sendall(answer.encode())

    def act(self, words: list[str]) -> str:
        match words:
            case ["count"]:
                return json.dumps({"packets": self.packets, "bytes": self.bytes})
            case ["set", source, target, *settings]:
                values = dict(setting.split("=", 1) for setting in settings)
                if unknown := values.keys() - {"delay", "loss", "drop", "garble"}:
                    raise ValueError(f"unknown: {unknown}")
                for a in self.named(source):
                    for b in self.named(target):
                        if a != b:
                            self.change(self.links[a, b], values)
                return "ok"
        raise ValueError(f"no command: {words}")

    def named(self, name: str) -> list[str]:
        if name == "*":
            return self.names
        if name not in self.names:
            raise ValueError(f"no host {name}")
        return [name]

    @staticmethod
    def change(link: Link, values: dict[str, str]) -> None:
        for key, value in values.items():
            match key:
                case "delay":
                    link.delay = float(value) / 1000
                case "loss":
                    link.loss = float(value)
                case "drop":
                    link.drop = value == "1"
                case "garble":
                    link.garble = value == "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control", required=True)
    parser.add_argument("--mtu", type=int, default=1500)
    parser.add_argument("hosts", nargs="+", metavar="NAME=ADDRESS")
    args = parser.parse_args()
    # Timers as exact as the machine has them.
    libc.prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    router = Router(dict(host.split("=", 1) for host in args.hosts), args.mtu)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(args.control)
    control.listen()
    print("ready", flush=True)
    router.serve(control)


if __name__ == "__main__":
    main()
