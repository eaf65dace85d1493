#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our parser of request heads against llhttp (as Node.js has it) and Python's http.server, on generated heads near the edges of the
grammar. Each head goes to all three. What they disagree on is sorted into classes, and a class that neither REFUSED nor OTHERWISE explains by a
clause fails the run. Prints the classes as a table.
  tests/differential/heads.py --ours build/release/tests/differential_heads --heads 1000000 --seed 1"""
import argparse
import collections
import http.client
import http.server
import io
import os
import random
import re
import shutil
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH = 20000
# Behind each head: it shows how the body is framed, and ends what the head left open.
TAIL = b"0\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\n"

# Why we refuse what the other takes, by our word for it.
REFUSED = {
    "bare_cr": "a CR alone is no line end (RFC 9112, 2.2)",
    "bare_lf": "a recipient MAY take a LF alone; we do not, because not all do (RFC 9112, 2.2)",
    "control": "no control characters in names, values and targets (RFC 9110, 5.5)",
    "leading_lines": "one empty line before a request is borne (RFC 9112, 2.2: at least one)",
    "start_line": "three parts, one space between them (RFC 9112, 3)",
    "method": "a method is a token (RFC 9110, 9.1)",
    "connect": "no forward proxy (RFC 9110, 9.3.6: 501)",
    "target": "the four forms, visible ASCII only (RFC 9112, 3.2; RFC 3986)",
    "version": "\"HTTP/\" and two digits, in capitals (RFC 9112, 2.3)",
    "version_unknown": "1.0 and 1.1 are spoken (RFC 9112, 2.3: 505)",
    "name": "a name is a token with a colon behind it (RFC 9110, 5.1; RFC 9112, 5)",
    "space_before_colon": "no blank before the colon: a server MUST refuse (RFC 9112, 5.1)",
    "fold": "obs-fold: a server refuses it or replaces it (RFC 9112, 5.2)",
    "host_missing": "a request of HTTP/1.1 MUST have Host (RFC 9112, 3.2)",
    "host_repeated": "more than one Host MUST be refused (RFC 9112, 3.2)",
    "host": "an invalid Host MUST be refused (RFC 9112, 3.2)",
    "content_length": "Content-Length is digits (RFC 9110, 8.6; RFC 9112, 6.3: 400)",
    "content_length_repeated": "more than one Content-Length (RFC 9110, 8.6: may be refused)",
    "length_and_coding": "Content-Length beside Transfer-Encoding: ought to be an error (RFC 9112, 6.3)",
    "coding": "the last coding must be chunked, once (RFC 9112, 6.1 and 6.3)",
    "coding_unknown": "no coding but chunked is understood (RFC 9112, 6.1: 501)",
    "coding_version": "Transfer-Encoding in HTTP/1.0 is faulty framing (RFC 9112, 6.1)",
    "connection": "Connection is a list of tokens (RFC 9110, 7.6.1)",
    "expect": "only 100-continue is known (RFC 9110, 10.1.1: 417)",
    "trace_body": "TRACE has no body (RFC 9110, 9.3.8)",
}

# Where we take what the other refuses (what it said), and where both take it and read it otherwise. Each head of the class must
# match the pattern; behind it stands why ours is right.
OTHERWISE = [
    ("llhttp", "refused HPE_INVALID_METHOD", rb"", "any token is a method: the origin knows its own (RFC 9110, 9.1)"),
    ("llhttp", "refused HPE_INVALID_VERSION", rb"PRI ", "llhttp keeps the method PRI for HTTP/2.0; here it is a token (RFC 9110, 9.1)"),
    ("llhttp", "refused HPE_INVALID_CONTENT_LENGTH", rb"\d[ \t]+\r\n", "blanks behind a value do not belong to it, tabs included (RFC 9112, 5)"),
    ("llhttp", "keep-alive", rb"(?i)proxy-connection", "Proxy-Connection says nothing (RFC 9112, C.2.2)"),
    ("llhttp", "keep-alive", rb"(?is)HTTP/1.0.*close", "`close` closes, also beside `keep-alive` in HTTP/1.0 (RFC 9112, 9.3)"),
    ("llhttp", "upgrade", rb"(?i)content-length|transfer-encoding", "a request with a body is not made a tunnel (RFC 9110, 7.8: may be ignored)"),
    ("llhttp", "upgrade", rb"HTTP/1.0", "Upgrade MUST be ignored in HTTP/1.0 (RFC 9110, 7.8)"),
    ("Python", "refused empty line", rb"\A\r\n", "an empty line before a request is borne (RFC 9112, 2.2)"),
    ("Python", "keep-alive", rb"(?i)\nconnection", "Connection is a list, in any number of lines (RFC 9110, 7.6.1)"),
    ("Python", "target", rb" //", "a path may begin with two slashes (RFC 3986, 3.3); http.server takes one away"),
]


# ---- generated heads ----

METHODS = [b"GET"] * 6 + [b"POST"] * 3 + [b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"M-SEARCH", b"get", b"FOO", b"G(T", b"", b"PRI"]
TARGETS = [b"/"] * 6 + [b"/a?b=c", b"*", b"/a b", b"http://a.example/x", b"http://u@a.example/", b"//a", b"a", b"", b"/#f", b"/\xc3\xa9", b"/%00", b"/\"q\"",
           b"/a?x={y}|", b"/a\tb", b"https://[::1]:80/", b"ftp://a/", b"a.example:80", b"/\\"]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0"] * 3 + [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"HTTP/ 1.1", b"", b"HTTP/01.1", b"ICE/1.0"]
HOSTS = [b"a.example"] * 8 + [b"a.example:80", b"", b"a b", b"a,b", b"u@a", b"[::1]", b"a:b", b"a:99999", b"a/b", b"[::1", b"\xc3\xa9", b"a_b", b"%41"]
LENGTHS = [b"0", b"3", b"5", b"+3", b"-1", b"3, 3", b"3,5", b"0x3", b"03", b"3 3", b"", b"99999999999999999999", b"3\x0b", b"1_0", b"3;"]
CODINGS = [b"chunked"] * 4 + [b"Chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"chunked, chunked", b"xchunked", b"", b"chunked;q=1", b"\x0bchunked", b"chunked,",
           b",chunked", b"gzip", b"\"chunked\""]
CONNECTIONS = [b"close", b"keep-alive", b"upgrade", b"close, keep-alive", b"Keep-Alive, Upgrade", b"", b"a b", b"close;", b",close", b"CLOSE", b"x-a", b"content-length", b"\"close\""]
NAMES = [b"X-A", b"x", b"X_A", b"X A", b"X-A ", b"", b"X(A", b"X\xe9", b" X", b"X\tA", b"X\x7f", b"!#$%&'*+-.^_`|~", b"X\"A", b"X-A\0"]
VALUES = [b"v"] * 5 + [b"", b" v ", b"\tv\t", b"v w", b"\xe9", b"v\0w", b"v\x01", b"v\x7f", b"v\rw", b"\"q\"", b"v\x0b", b":", b"a: b"]
EXTRA = [(b"Expect", b"100-continue"), (b"Expect", b"x"), (b"Upgrade", b"websocket"), (b"TE", b"trailers"), (b"Cookie", b"a=b"), (b"Keep-Alive", b"5"), (b"Proxy-Connection", b"close"),
         (b"Trailer", b"x"), (b"Content_Length", b"5")]
SEPARATORS = [b": "] * 12 + [b":", b" : ", b":\t", b" ", b"", b"\t:", b":  "]
LINE_ENDS = [b"\r\n"] * 40 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n ", b"\r\n\t", b"\r\n\r\n"]
SPACES = [b" "] * 20 + [b"  ", b"\t", b"", b"\x0b", b"\xa0"]
STARTS = [b""] * 20 + [b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\0", b"\xef\xbb\xbf"]
EDGES = [b"\0", b"\t", b"\n", b"\r", b" ", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xa0", b"\xff", b":", b",", b";", b"\"", b"\\", b"(", b"_", b"0", b"/", b"\r\n", b"\r\n ", b"\r\n\r\n"]


def fields_of(rng):
    some = [(b"Host", plain_or(rng, HOSTS))] if rng.random() < 0.95 else []
    for chance, name, values in ((0.25, b"Content-Length", LENGTHS), (0.2, b"Transfer-Encoding", CODINGS), (0.2, b"Connection", CONNECTIONS)):
        while rng.random() < chance:
            some.append((rng.choice((name, name, name.lower())), rng.choice(values)))
    if rng.random() < 0.3:
        some.append((rng.choice(NAMES), rng.choice(VALUES)))
    if rng.random() < 0.2:
        some.append(rng.choice(EXTRA))
    if rng.random() < 0.04:
        some.append((b"host", rng.choice(HOSTS)))
    rng.shuffle(some)
    return some


def changed(rng, head):
    """One to three bytes of it changed, taken out or put in."""
    head = bytearray(head)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(head) + 1)
        head[at:at + rng.randint(0, 1)] = rng.choice(EDGES)
    return bytes(head)


def plain_or(rng, values):
    """Mostly the first, which is as it should be: a head has one fault or two, not ten."""
    return values[0] if rng.random() < 0.85 else rng.choice(values)


def generated(rng):
    line = plain_or(rng, METHODS) if rng.random() < 0.5 else rng.choice((b"GET", b"POST"))
    out = [plain_or(rng, STARTS), line, plain_or(rng, SPACES), plain_or(rng, TARGETS), plain_or(rng, SPACES), plain_or(rng, VERSIONS), plain_or(rng, LINE_ENDS)]
    for name, value in fields_of(rng):
        out += [name, plain_or(rng, SEPARATORS), value, plain_or(rng, LINE_ENDS)]
    out.append(plain_or(rng, LINE_ENDS))
    head = b"".join(out)
    return changed(rng, head) if rng.random() < 0.15 else head


# ---- the parsers ----

class Quiet(http.server.BaseHTTPRequestHandler):
    """Python's parser of heads without a connection around it."""

    def __init__(self, data):  # pylint: disable=super-init-not-called
        self.rfile, self.wfile, self.error = io.BytesIO(data), io.BytesIO(), None
        self.raw_requestline = self.rfile.readline(65537)
        if self.raw_requestline in (b"\r\n", b"\n"):
            self.error = "empty line"
        elif not self.parse_request() and self.error is None:
            self.error = "empty line"

    protocol_version = "HTTP/1.1"

    def send_error(self, code, message=None, explain=None):
        self.error = str(code)

    def handle_expect_100(self):
        return True

    def log_message(self, *args):
        pass


def python_says(data):
    asked = Quiet(data)
    if asked.error is not None:
        return f"refused {asked.error}".encode()
    # How the body is framed is left to who derives from it; neither is upgrading told.
    parts = ["taken", asked.command, asked.path, asked.request_version[-1], "", "closes" if asked.close_connection else "stays", ""]
    for name, value in asked.headers.raw_items():
        parts += [name, value]
    return "\x1f".join(parts).encode("latin-1", "replace").replace(b"\n", b"\x1e")


class Peer:
    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def say(self, heads):
        """Their lines; the heads are written by a child, so that neither waits for the other."""
        pid = os.fork()
        if pid == 0:
            self.process.stdin.write(b"".join(struct.pack("<I", len(head)) + head for head in heads))
            self.process.stdin.flush()
            os._exit(0)
        lines = [self.process.stdout.readline() for _ in heads]
        os.waitpid(pid, 0)
        if not lines[-1].endswith(b"\n"):
            raise SystemExit(f"{self.process.args} ended before it had judged all heads")
        return [line[:-1] for line in lines]


# ---- comparing ----

def same_fields(ours, theirs):
    def pairs(parts):
        return [(name.lower(), value.strip(b" \t")) for name, value in zip(parts[7::2], parts[8::2])]
    return pairs(ours) == pairs(theirs)


def reason(peer, kind, head):
    """Why the disagreement is right; None: nobody knows."""
    way, word = kind
    if way == "refused by us":
        return REFUSED.get(word)
    whys = (why for who, what, pattern, why in OTHERWISE if (who, what) == (peer, word) and re.search(pattern, head))
    return next(whys, None)


def shows_framing(head):
    """Whether TAIL is what follows the head, and no bytes of a head with an empty line in it."""
    return head.lstrip(b"\r\n").split(b"\r\n\r\n", 1)[1] == TAIL


def class_of(peer, head, ours, theirs):
    """None when both say the same; else the class of the disagreement."""
    if ours.startswith(b"refused"):
        return ("refused by us", ours[8:].decode()) if theirs.startswith(b"taken") else None
    if theirs.startswith(b"refused") or b"more" in (ours[:4], theirs[:4]):
        return None if ours[:4] == theirs[:4] else ("taken by us", theirs.decode())
    mine, other = ours.split(b"\x1f"), theirs.split(b"\x1f")
    for i, what in ((1, "method"), (2, "target"), (3, "version"), (4, "framing"), (5, "keep-alive"), (6, "upgrade")):
        told = other[i] != b"" or peer == "llhttp"
        if i == 4 and (mine[6] + other[6] != b"" or not shows_framing(head)):
            continue
        if told and mine[i] != other[i] and not (i == 4 and other[i] == b"length beyond" and mine[i].startswith(b"length")):
            return "read otherwise", what
    return None if same_fields(mine, other) else ("read otherwise", "fields")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--heads", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if shutil.which("node") is None:
        print("SKIPPED: node is not installed")
        return 77
    ours, llhttp = Peer([os.path.abspath(args.ours)]), Peer(["node", os.path.join(HERE, "heads.js"), str(len(TAIL))])
    rng, found, examples, taken = random.Random(args.seed), collections.Counter(), {}, 0
    for done in range(0, args.heads, BATCH):
        heads = [generated(rng) + TAIL for _ in range(min(BATCH, args.heads - done))]
        for head, mine, node in zip(heads, ours.say(heads), llhttp.say(heads)):
            taken += mine.startswith(b"taken")
            for peer, theirs in (("llhttp", node), ("Python", python_says(head))):
                if (kind := class_of(peer, head, mine, theirs)) is None:
                    continue
                why = reason(peer, kind, head)
                found[peer, kind, why] += 1
                examples.setdefault((peer, kind, why), (head[:-len(TAIL)], mine, theirs))
    print(f"{args.heads} heads from seed {args.seed}; we take {taken}\n")
    return report(found, examples)


def report(found, examples):
    """A row for each class: what llhttp and Python do otherwise than we, and why that is right. 1: a class without a reason."""
    rows = collections.defaultdict(dict)
    for (peer, kind, why), count in found.items():
        rows[kind, why][peer] = count
    print("| we, and they | llhttp | Python | why |\n|---|---|---|---|")
    for (kind, why), counts in sorted(rows.items(), key=lambda row: (row[0][0][0], -sum(row[1].values()))):
        print(f"| {': '.join(kind)} | {counts.get('llhttp', 0)} | {counts.get('Python', 0)} | {why or '**not explained**'} |")
    unexplained = [key for key in found if key[2] is None]
    for key in unexplained:
        print(f"not explained: {key[:2]}, e.g. {examples[key]}")
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
