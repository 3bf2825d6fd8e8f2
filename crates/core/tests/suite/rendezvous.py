#!/usr/bin/env python3
"""Golden vectors of the rendezvous score, worked out without any of Echelon's code.

BLAKE3 is written here from its paper, for inputs of at most one chunk (1,024 bytes), which names never
exceed. The logarithm is that of Python's math module. Prints the table of docs/routing.md.
"""

import math
import struct

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, ROOT = 1, 2, 8
MASK = 0xFFFFFFFF


def rotate(x, n):
    return ((x >> n) | (x << (32 - n))) & MASK


def mix(v, a, b, c, d, x, y):
    v[a] = (v[a] + v[b] + x) & MASK
    v[d] = rotate(v[d] ^ v[a], 16)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = rotate(v[b] ^ v[c], 12)
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] = rotate(v[d] ^ v[a], 8)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = rotate(v[b] ^ v[c], 7)


def compress(chaining, block, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = chaining + IV[:4] + [0, 0, length, flags]
    for _ in range(7):
        for i in range(4):
            mix(v, i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3(data):
    assert len(data) <= 1024, "one chunk only"
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    chaining = IV
    for i, block in enumerate(blocks):
        flags = CHUNK_START * (i == 0) | (CHUNK_END | ROOT) * (i == len(blocks) - 1)
        chaining = compress(chaining, block, len(block), flags)
    return struct.pack("<8I", *chaining)


def score(host, type_, manager, weight):
    if weight == 0:
        return 0.0, 0.0
    digest = blake3(b"\0".join(s.encode() for s in (host, type_, manager)))
    bits = int.from_bytes(digest[:8], "big") >> 11
    u = (bits + 0.5) / 2**53
    return bits, -weight / math.log(u)


VECTORS = [
    ("agent1", "command-control", "agent3", 1),
    ("agent2", "command-control", "agent3", 1),
    ("agent1", "command-control", "framework-manager", 1),
    ("agent1", "audit", "agent3", 1),
    ("agent1", "command-control", "agent3", 7),
    ("agent1", "command-control", "agent3", 65535),
    ("agent1", "command-control", "agent3", 0),
    ("a", "b", "c", 1),
    ("web-0.example.net", "mirror", "db.example.org", 3),
    ("h" * 253, "t" * 63, "m" * 253, 2),
]

if __name__ == "__main__":
    assert blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    for vector in VECTORS:
        bits, value = score(*vector)
        print(*(f if len(str(f)) < 40 else f"{f[0]}*{len(f)}" for f in vector), f"{int(bits):#x}", repr(value), struct.pack(">d", value).hex())
