"""Sends prepared packets into a node and tells where they come out.

    wire.py PID FILE [QUIET]

Runs in the node's network namespace; PID is a process in the world around it, which holds the other ends of the node's
devices. FILE has a packet a line: where it starts (the name of a device, or `host` for the node itself) and the packet
in hex, from the IP header on. Prints what comes out in the same form: `host` is what the node takes for itself. Ends
when nothing has come for QUIET seconds. Knows nothing of what the packets mean: tests/kernel/bytes.rs makes and reads
them.
"""

import ctypes
import os
import select
import socket
import struct
import sys

DEVICES = ["veth0", "eth0"]
MAC = b"\x02\x00\x00\x00\x00\x01"  # of the node's ends, as tests/kernel/place.rs sets it
TCP, UDP, SCTP, ICMP, ICMP6 = 6, 17, 132, 1, 58
CLONE_NEWNET = 0x40000000
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4


def roomy(s):
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    s.setblocking(False)
    return s


def whole6(s, proto):
    """A packet of a raw IPv6 socket, with the header that the kernel cut off."""
    data, notes, _, peer = s.recvmsg(65536, 256)
    to = next(v[:16] for level, kind, v in notes if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO)
    came = socket.inet_pton(socket.AF_INET6, peer[0].split("%")[0])
    return struct.pack("!IHBB", 6 << 28, len(data), proto, 64) + came + to + data


def device(s):
    data, sender = s.recvfrom(65536)
    return None if sender[2] == PACKET_OUTGOING else data


def main():
    world, path = sys.argv[1:3]
    quiet = float(sys.argv[3]) if len(sys.argv) > 3 else 0.1
    # One CPU: packets are handled in the order in which they are sent.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    inputs, outputs = {}, {}
    for proto in (TCP, UDP, SCTP, ICMP):
        s = roomy(socket.socket(socket.AF_INET, socket.SOCK_RAW, proto))
        inputs[s] = ("host", lambda s: s.recv(65536))
    for proto in (TCP, UDP, SCTP, ICMP6):
        s = roomy(socket.socket(socket.AF_INET6, socket.SOCK_RAW, proto))
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        inputs[s] = ("host", lambda s, proto=proto: whole6(s, proto))
    raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{world}/ns/net") as ns:
        if libc.setns(ns.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    for name in DEVICES:
        s = roomy(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
        s.bind((name, 3))
        inputs[s] = (name, device)
        outputs[name] = s

    poll = select.poll()
    by_number = {}
    for s in inputs:
        poll.register(s, select.POLLIN)
        by_number[s.fileno()] = s
    seen = []

    def take(timeout):
        ready = poll.poll(timeout)
        for number, _ in ready:
            s = by_number[number]
            name, read = inputs[s]
            while True:
                try:
                    data = read(s)
                except BlockingIOError:
                    break
                if data is not None:
                    seen.append(f"{name} {data.hex()}\n")
        return bool(ready)

    with open(path) as packets:
        for n, line in enumerate(packets):
            place, text = line.split()
            data = bytes.fromhex(text)
            v4 = data[0] >> 4 == 4
            try:
                if place == "host" and v4:
                    raw4.sendto(data, (socket.inet_ntop(socket.AF_INET, data[16:20]), 0))
                elif place == "host":
                    raw6.sendto(data, (socket.inet_ntop(socket.AF_INET6, data[24:40]), 0))
                else:
                    outputs[place].sendto(data, (place, 0x0800 if v4 else 0x86DD, 0, 0, MAC))
            except PermissionError:
                pass  # what a rule in OUTPUT drops
            if n % 64 == 63:
                take(0)
    while take(quiet * 1000):
        pass
    sys.stdout.write("".join(seen))


main()
