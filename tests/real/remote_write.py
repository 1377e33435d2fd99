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


def message(series):
    """A WriteRequest of [(labels, [(milliseconds, value)])]; values are floats, the eight bytes of one, or have a message of their own."""
    out = bytearray()
    for labels, samples in series:
        pairs = b"".join(nested(1, nested(1, name.encode()) + nested(2, value.encode())) for name, value in sorted(labels.items()))
        points = b"".join(point(time, value) for time, value in samples)
        out += nested(1, pairs + points)
    return bytes(out)


def point(time, value):
    if isinstance(value, (float, bytes)):
        return nested(2, b"\x09" + (value if isinstance(value, bytes) else struct.pack("<d", value)) + b"\x10" + varint(time))
    return nested(4, value.message(time))


def send(url, series):
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    status, answer = request(f"{url}/api/v1/write", snappy(message(series)), headers)
    assert status in (200, 204), f"{status} {answer}"
