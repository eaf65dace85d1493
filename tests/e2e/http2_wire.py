# SPDX-License-Identifier: Apache-2.0
"""A client of HTTP/2 (RFC 9113) whose frames are made by hand, so that it can also say what no client would."""
import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
FRAME_MAX = 16384  # bytes of a payload, where SETTINGS do not say otherwise


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """A string that is not Huffman-coded (RFC 7541, 5.1 and 5.2)."""
    value = value.encode() if isinstance(value, str) else value
    rest = len(value) - 127
    if rest < 0:
        return bytes([len(value)]) + value
    length = b"\x7f"
    while rest >= 128:
        length += bytes([rest & 127 | 128])
        rest >>= 7
    return length + bytes([rest]) + value


def field(name, value):
    """A literal that enters no table (RFC 7541, 6.2.2)."""
    return b"\0" + text(name) + text(value)


def head(stream, flags, fields):
    """HEADERS, and CONTINUATION for what does not fit."""
    block = b"".join(field(name, value) for name, value in fields)
    pieces = [block[i:i + FRAME_MAX] for i in range(0, len(block), FRAME_MAX)] or [b""]
    last = len(pieces) - 1
    return b"".join(frame(CONTINUATION if i else HEADERS, (0 if i else flags) | (END_HEADERS if i == last else 0), stream, piece)
                    for i, piece in enumerate(pieces))


class Wire:
    """A connection; its methods send at once."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.came = self.socket.makefile("rb")
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def close(self):
        self.came.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def head(self, stream, flags, *fields):
        self.send(head(stream, flags, fields))

    def get(self, stream, path):
        self.head(stream, END_STREAM, (":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", path))

    def next(self):
        """The next frame as (type, flags, stream, payload); None at the connection's end."""
        start = self.came.read(9)
        if len(start) < 9:
            return None
        return start[3], start[4], int.from_bytes(start[5:], "big"), self.came.read(int.from_bytes(start[:3], "big"))

    def wait(self, kind):
        """The flags and the payload of the next frame of that kind."""
        while True:
            got = self.next()
            assert got is not None, f"the connection ended before a frame of type {kind}"
            if got[0] == kind:
                return got[1], got[3]
