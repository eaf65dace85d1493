#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cases of HTTP/1 written by others (http11probe, llhttp's requests), said in HTTP/2 as far as it can say them, through the proxy to
an echo origin. What RFC 9113 calls malformed must not reach the origin; what reaches it is one request that says what was sent. The
judge here shares nothing with the proxy."""
import collections
import glob
import json
import os
import re
import time

import harness
from echo_origin import EchoOrigin
from http2_wire import DATA, END_STREAM, FRAME_MAX, GOAWAY, HEADERS, RST_STREAM, Wire, frame, head

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services: {{echo: {{versions: {{v1: ["127.0.0.1:{origin}"]}}, stable: v1}}}}
"""
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
CONNECTION = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
# Fields that the proxy writes itself, and those that end at it.
WRITTEN = {b"host", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"content-length", b"transfer-encoding", b"connection"}
TAKEN = {b"host", b"te", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"cookie", b"content-length"}
# Some origins read an underscore as a hyphen: these would frame the body for them, so they end at the proxy.
TAKEN |= {b"content_length", b"transfer_encoding"}
# What RFC 9113 allows and a rule of the proxy refuses.
RULES = {"COMP-EXPECT-UNKNOWN": "417 for what is expected and is not 100-continue (RFC 9110, 10.1.1)",
         "MAL-URL-BACKSLASH": "a backslash in a path, which some origins read as a slash",
         "COMP-TRACE-WITH-BODY": "TRACE has no body (RFC 9110, 9.3.8)"}


def probe_cases(folder):
    with open(os.path.join(folder, "http11probe.json"), encoding="utf-8") as f:
        for case in json.load(f):
            for i, payload in enumerate(case["payloads"]):
                yield f"{case['id']}#{i}", payload.encode("latin-1") if max(map(ord, payload), default=0) < 256 else payload.encode()


def unescape(text):
    """A fixture's text: line ends are CRLF, a backslash at a line's end joins it to the next."""
    out = text.replace("\\\n", "").replace("\n", "\r\n").encode()
    for written, meant in ((rb"\r", b"\r"), (rb"\n", b"\n"), (rb"\t", b"\t"), (rb"\f", b"\f")):
        out = out.replace(written, meant)
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), out)


def llhttp_cases(folder):
    for path in sorted(glob.glob(os.path.join(folder, "llhttp", "test", "request", "*.md"))):
        with open(path, encoding="utf-8") as f:
            for i, block in enumerate(re.findall(r"```http\n(.*?)\n?```", f.read(), re.S)):
                yield f"{os.path.basename(path)}#{i}", unescape(block)


def say(payload):
    """The fields and the body of HTTP/2 that say the same, faults and all."""
    text, _, body = payload.lstrip(b"\r\n").partition(b"\r\n\r\n")
    line, *lines = text.split(b"\r\n")
    line = re.sub(rb" HTTP/\d\.\d\Z", b"", line)
    method, _, target = line.partition(b" ")
    fields = []
    for part in lines:
        if part[:1] in (b" ", b"\t") and fields:  # a folded line stays in its value
            fields[-1][1] += b"\r\n" + part
            continue
        name, _, value = part.partition(b":")
        fields.append([name.lower(), value.strip(b" \t")])
    hosts = [value for name, value in fields if name == b"host"]
    pseudo = [[b":method", method], [b":scheme", b"http"]] + ([[b":path", target]] if target else [])
    if hosts:
        pseudo.append([b":authority", hosts[0]])
        fields.remove([b"host", hosts[0]])
    return pseudo + fields, body


def as_a_front(fields):
    """As a proxy of HTTP/1 in front of us would say it: without what belonged to its connection."""
    coded = any(name == b"transfer-encoding" for name, _ in fields)
    return [f for f in fields if f[0] not in CONNECTION and not (coded and f[0] == b"content-length")]


def faults(fields, body):
    """Why RFC 9113 calls it malformed, and what RFC 9110 says a field or a target cannot be."""
    pseudo = dict(fields[:sum(name[:1] == b":" and len(name) > 1 for name, _ in fields)])
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    rest = fields[len(pseudo):]
    lengths = [value for name, value in rest if name == b"content-length"]
    authorities = {value.lower() for name, value in fields if name in (b":authority", b"host")}
    checks = [
        ("8.3.1 no method", not re.match(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z", method)),
        ("8.3.1 no path", not (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS"))),
        ("9110 4.1 target", re.search(rb"[^\x21-\x7e]|#", path) is not None),
        ("8.5 CONNECT", method == b"CONNECT"),
        ("8.2.1 name", any(not TOKEN.match(name) for name, _ in rest)),
        ("8.2.1 value", any(re.search(rb"[\0\r\n]|^[ \t]|[ \t]\Z", value) for _, value in fields)),
        ("9110 5.5 control characters", any(re.search(rb"[\x01-\x08\x0b-\x1f\x7f]", value) for _, value in fields)),
        ("8.2.2 connection", any(name in CONNECTION or (name == b"te" and value.lower() != b"trailers") for name, value in rest)),
        ("8.1.1 length", any(not re.match(rb"\d+\Z", value) or int(value) != len(body) for value in lengths)),
        ("9110 8.6 length twice", len(lengths) > 1),
        ("8.3.1 authority", len(authorities) != 1 or any(re.search(rb"[@/?#, \\]|\A\Z", value) for value in authorities)),
    ]
    return [why for why, found in checks if found]


def send(port, fields, body):
    """Sends one request; True: it was answered, by an answer or a reset."""
    wire = Wire(port)
    try:
        data = head(1, 0 if body else END_STREAM, fields)
        for at in range(0, len(body), FRAME_MAX):
            data += frame(DATA, END_STREAM if at + FRAME_MAX >= len(body) else 0, 1, body[at:at + FRAME_MAX])
        wire.send(data)
        while (got := wire.next()) is not None:
            kind, flags, _, _ = got
            if kind in (RST_STREAM, GOAWAY) or (kind in (HEADERS, DATA) and flags & END_STREAM):
                return True
        return False
    except ConnectionError:
        return True
    finally:
        wire.close()


def differences(fields, body, got_head, got_body):
    """What the origin was told that was not said, and what was said and is gone."""
    line, *lines = got_head.split(b"\r\n")
    said = dict(f for f in fields if f[0][:1] == b":")
    got = [(name.lower(), value.strip(b" \t")) for name, _, value in (x.partition(b":") for x in lines)]
    wanted = collections.Counter((name, value) for name, value in fields if name[:1] != b":" and name not in TAKEN)
    found = collections.Counter((name, value) for name, value in got if name not in WRITTEN | TAKEN)
    cookies = [b"; ".join(value for name, value in some if name == b"cookie") for some in (fields, got)]
    out = [] if line == said[b":method"] + b" " + said[b":path"] + b" HTTP/1.1" else [line]
    out += list((wanted - found) + (found - wanted))
    out += [cookies] if cookies[0] != cookies[1] else []
    out += [got_body] if got_body != body else []
    return out + ([got] if [v for n, v in got if n == b"host"] != [said[b":authority"]] else [])


def judge(port, origin, name, fields, body):
    """How one case went, by one word, and what is to say about it."""
    why = faults(fields, body)
    before = origin.count()
    if not send(port, fields, body):
        return "failed", "no answer"
    if why:
        time.sleep(0.01)  # for what must not come
    came = origin.count() - before
    if why:
        return ("refused", why) if came == 0 else ("failed", f"forwarded in spite of {why}")
    if came == 0:
        return ("refused by a rule", "") if name.split("#")[0] in RULES else ("failed", "refused without a rule")
    wrong = differences(fields, body, origin.requests[-1], origin.bodies[-1])
    return ("failed", f"the origin was told {came} requests, and {wrong}") if came > 1 or wrong else ("forwarded", "")


def cases(args, folder, stack):
    """each case as it stands, and as a proxy in front of us would say it"""
    shared = harness.find_shared("SLUICE_CONFORMANCE", "conformance")
    if shared is None:
        harness.skip("no conformance cases (SLUICE_CONFORMANCE)")
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    port = harness.free_port()
    stack.callback(harness.Sluice(folder, args.binary, CONFIG.format(port=port, origin=origin.port)).stop)
    counts = collections.Counter()
    for read in (probe_cases, llhttp_cases):
        for name, payload in read(os.path.join(shared, "http1")):
            fields, body = say(payload)
            for way, said in (("as it stands", fields), ("by a front", as_a_front(fields))):
                word, more = judge(port, origin, name, said, body)
                counts[word] += 1
                if word == "failed":
                    harness.log(f"   {word}: {name} {way}: {more} {said} {body[:80]}")
    harness.log(f"   said in HTTP/2: {dict(counts)}")
    assert not origin.bad, f"the origin met bytes that are no HTTP: {origin.bad}"
    assert counts["failed"] == 0 and counts["forwarded"] > 200 and counts["refused"] > 400, counts


if __name__ == "__main__":
    harness.run([cases], harness.options())
