"""A node and the world around it: runs scripts in the node, sends prepared packets, tells where they come out.

Starts in the node's network namespace, which is new, and makes that of the world, where the other ends of the node's
devices go. Then does what stdin says, a line each, and ends with it:

    sh FILE      runs a shell script in the node; $world is the world's namespace, for ip and nsenter
    open         takes hold of the devices, once they are there
    fire FILE    sends the packets of a file

After the output of each comes a line `==done== STATUS`. A file of packets has one a line: where it starts (the name of a
device, or `host` for the node itself) and the packet in hex, from the IP header on. What comes out is printed in the same
form; `host` is what the node takes for itself. It is over when nothing has come for QUIET ms. What the packets mean is
the business of tests/kernel/bytes.rs, which makes and reads them.
"""

import ctypes
import os
import select
import socket
import struct
import subprocess
import sys

QUIET = 60
DEVICES = ["veth0", "eth0"]
MAC = b"\x02\x00\x00\x00\x00\x01"  # of the node's ends, as tests/kernel/place.rs sets it
TCP, UDP, SCTP, ICMP, ICMP6 = 6, 17, 132, 1, 58
CLONE_NEWNET = 0x40000000
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4

libc = ctypes.CDLL(None, use_errno=True)
poll = select.poll()
inputs = {}  # by file number: the socket, the place, how to read a packet
outputs = {}  # by place


def check(result):
    if result:
        raise OSError(ctypes.get_errno(), "a namespace")


def listen(s, place, read):
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    s.setblocking(False)
    inputs[s.fileno()] = (s, place, read)
    poll.register(s, select.POLLIN)


def whole6(s, proto):
    """A packet of a raw IPv6 socket, with the header that the kernel cut off."""
    data, notes, _, peer = s.recvmsg(65536, 256)
    to = next(v[:16] for level, kind, v in notes if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO)
    came = socket.inet_pton(socket.AF_INET6, peer[0].split("%")[0])
    return struct.pack("!IHBB", 6 << 28, len(data), proto, 64) + came + to + data


def from_device(s):
    data, sender = s.recvfrom(65536)
    return None if sender[2] == PACKET_OUTGOING else data


def open_sockets():
    for proto in (TCP, UDP, SCTP, ICMP):
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, proto)
        listen(s, "host", lambda s: s.recv(65536))
    for proto in (TCP, UDP, SCTP, ICMP6):
        s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, proto)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        listen(s, "host", lambda s, proto=proto: whole6(s, proto))
    for family in (socket.AF_INET, socket.AF_INET6):
        outputs[family] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    check(libc.setns(world, CLONE_NEWNET))
    for name in DEVICES:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        s.bind((name, 3))
        listen(s, name, from_device)
        outputs[name] = s
    check(libc.setns(node, CLONE_NEWNET))


def send(place, data):
    v4 = data[0] >> 4 == 4
    if place != "host":
        outputs[place].sendto(data, (place, 0x0800 if v4 else 0x86DD, 0, 0, MAC))
        return
    family, to = (socket.AF_INET, data[16:20]) if v4 else (socket.AF_INET6, data[24:40])
    try:
        outputs[family].sendto(data, (socket.inet_ntop(family, to), 0))
    except PermissionError:
        pass  # what a rule in OUTPUT drops


def take(seen, timeout):
    ready = poll.poll(timeout)
    for number, _ in ready:
        s, place, read = inputs[number]
        while True:
            try:
                data = read(s)
            except BlockingIOError:
                break
            if data is not None:
                seen.append(f"{place} {data.hex()}\n")
    return bool(ready)


def fire(path):
    seen = []
    with open(path) as packets:
        for n, line in enumerate(packets):
            place, text = line.split()
            send(place, bytes.fromhex(text))
            if n % 64 == 63:
                take(seen, 0)
    while take(seen, QUIET):
        pass
    sys.stdout.write("".join(seen))


# One CPU: packets are handled in the order in which they are sent.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
node = os.open("/proc/self/ns/net", os.O_RDONLY)
check(libc.unshare(CLONE_NEWNET))
world = os.open("/proc/self/ns/net", os.O_RDONLY)
check(libc.setns(node, CLONE_NEWNET))
os.environ["world"] = f"/proc/{os.getpid()}/fd/{world}"
while line := sys.stdin.readline():
    word, _, path = line.strip().partition(" ")
    status = 0
    if word == "sh":
        status = subprocess.run(["sh", "-e", path], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT).returncode
    elif word == "open":
        open_sockets()
    else:
        fire(path)
    print(f"==done== {status}", flush=True)
