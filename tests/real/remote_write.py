"""Remote write 1.0 without packages: the little of Protocol Buffers and Snappy that it takes."""
import struct

from harness import request


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def nested(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(raw):
    """Nothing but literals, which is valid."""
    out = bytearray(varint(len(raw)))
    for start in range(0, len(raw), 1 << 16):
        piece = raw[start : start + (1 << 16)]
        # The tag of a literal whose length follows in two bytes.
        out += struct.pack("<BH", 61 << 2, len(piece) - 1) + piece
    return bytes(out)


def zigzag(n):
    return varint(n << 1 ^ n >> 63)


def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def histogram(time, schema, total, sum, zero, first, buckets, gauge=False):
    """A native histogram with whole counts: `buckets` follow each other from number `first` on."""
    deltas = b"".join(zigzag(count - before) for before, count in zip([0, *buckets], buckets))
    out = b"\x08" + varint(total) + double(3, sum) + b"\x20" + zigzag(schema) + double(5, 0.001) + b"\x30" + varint(zero)
    if buckets:
        out += nested(11, b"\x08" + zigzag(first) + b"\x10" + varint(len(buckets))) + nested(12, deltas)
    return Encoded(out + b"\x70" + varint(3 if gauge else 0) + b"\x78" + varint(time))


class Encoded:
    """A histogram that knows its time already."""

    def __init__(self, payload):
        self.payload = payload

    def message(self, time):
        return self.payload


def message(series):
    """A WriteRequest of [(labels, [(milliseconds, value)])]; values are floats, the eight bytes of one, or have a message of their own."""
    out = bytearray()
    for labels, samples in series:
        pairs = b"".join(nested(1, nested(1, name.encode()) + nested(2, value.encode())) for name, value in sorted(labels.items()))
        points = b"".join(point(time, value) for time, value in samples)
        out += nested(1, pairs + points)
    return bytes(out)


def point(time, value):
    if isinstance(value, (int, float, bytes)):
        return nested(2, b"\x09" + (value if isinstance(value, bytes) else struct.pack("<d", value)) + b"\x10" + varint(time))
    return nested(4, value.message(time))


def send(url, series):
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    status, answer = request(f"{url}/api/v1/write", snappy(message(series)), headers)
    assert status in (200, 204), f"{status} {answer}"
