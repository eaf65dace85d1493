# SPDX-License-Identifier: Apache-2.0
"""As much of the wire format of Protocol Buffers as flagd's messages need, written from its description, and gRPC's envelope."""
import struct


def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    """A field by the Python type of its value: bytes and text, bool and int, float."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3) + varint(int(value))


def value(thing):
    """google.protobuf.Value"""
    if thing is None:
        return field(1, 0)
    if isinstance(thing, bool):
        return field(4, thing)
    if isinstance(thing, (int, float)):
        return field(2, float(thing))
    if isinstance(thing, str):
        return field(3, thing)
    if isinstance(thing, dict):
        return field(5, encode_struct(thing))
    return field(6, b"".join(field(1, value(item)) for item in thing))


def encode_struct(members):
    return b"".join(field(1, field(1, key) + field(2, value(item))) for key, item in members.items())


def take_varint(data, at):
    shift = result = 0
    while True:
        result |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return result, at


def fields(data):
    """(number, value) of each field; a varint is an int, fixed64 a double, all else bytes."""
    at, out = 0, []
    while at < len(data):
        tag, at = take_varint(data, at)
        if tag & 7 == 0:
            found, at = take_varint(data, at)
        elif tag & 7 == 1:
            found, at = struct.unpack_from("<d", data, at)[0], at + 8
        else:
            assert tag & 7 == 2, f"type {tag & 7}"
            size, at = take_varint(data, at)
            assert at + size <= len(data), "a field is longer than its message"
            found, at = data[at:at + size], at + size
        out.append((tag >> 3, found))
    return out


def decode_value(data):
    for number, found in fields(data):
        if number == 5:
            return decode_struct(found)
        if number == 6:
            return [decode_value(item) for _, item in fields(found)]
        return {1: lambda: None, 2: lambda: found, 3: lambda: found.decode(), 4: lambda: bool(found)}[number]()
    return None


def decode_struct(data):
    out = {}
    for number, entry in fields(data):
        assert number == 1, number
        parts = dict(fields(entry))
        out[parts.get(1, b"").decode()] = decode_value(parts.get(2, b""))
    return out


def envelope(message):
    return struct.pack(">BI", 0, len(message)) + message
