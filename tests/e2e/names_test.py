#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Endpoints by name: the daemon follows a name server that answers, changes, fails, falls silent and floods."""
import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import struct
import threading
import time

import harness

A, SRV, AAAA = 1, 33, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class NameServer:
    """Answers over UDP from `records`: name -> list of addresses, an rcode, or None for silence. Times to live are `ttl`."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.records, self.ttl, self.asked = {}, 1, 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                packet, peer = self.socket.recvfrom(512)
            except OSError:
                return
            at, labels = 12, []
            while packet[at]:
                labels.append(packet[at + 1:at + 1 + packet[at]].decode())
                at += packet[at] + 1
            kind = struct.unpack(">H", packet[at + 1:at + 3])[0]
            self.asked += 1
            known = self.records.get(".".join(labels), NXDOMAIN)
            if known is None:
                continue
            rcode = known if isinstance(known, int) else NOERROR
            data = [] if isinstance(known, int) else [d for d in known if (kind == A) == isinstance(d, str) and kind != AAAA]
            body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl, len(self.pack(d))) + self.pack(d) for d in data)
            head = packet[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(data), 0, 0)
            self.socket.sendto(head + packet[12:at + 5] + body, peer)

    @staticmethod
    def pack(data):
        if isinstance(data, str):
            return socket.inet_aton(data)
        priority, port, target = data
        name = b"".join(bytes([len(label)]) + label.encode() for label in target.split(".")) + b"\0"
        return struct.pack(">HHH", priority, 1, port) + name

    def close(self):
        self.socket.close()


class Origin:
    """Says its address, which is one of loopback."""

    def __init__(self, host, port=0):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = host.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


CONFIG = """
workers: 2
listen: [127.0.0.1:%(listen)d]
admin: @ADMIN@
journal: @FOLDER@/sluice.db
names: {servers: [%(names)s]}
services:
%(services)s
"""


def service(name, *endpoints):
    return f"  {name}: {{routes: [{{host: {name}}}], versions: {{v1: [{', '.join(endpoints)}]}}}}\n"


def start(args, path, stack, names, services, wait_ready=True):
    listen = harness.free_port()
    config = CONFIG % {"listen": listen, "names": names.address, "services": services}
    sluice = harness.Sluice(path, args.binary, config, wait_ready=wait_ready)
    stack.callback(sluice.stop)
    sluice.listen = listen
    return sluice


def rewrite(sluice, names, services):
    with open(sluice.config_path, "w", encoding="utf-8") as f:
        f.write((CONFIG % {"listen": sluice.listen, "names": names.address, "services": services})
                .replace("@ADMIN@", f"127.0.0.1:{sluice.admin}").replace("@FOLDER@", sluice.folder))


def ask(sluice, host):
    connection = http.client.HTTPConnection("127.0.0.1", sluice.listen, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answers(sluice, host, count=24):
    return {ask(sluice, host) for _ in range(count)}


def name_of(sluice, text):
    return {n["name"]: n for n in sluice.request("GET", "/v1/status")[1]["names"]}[text]


def metric(sluice, line):
    text = sluice.request("GET", "/metrics")[1]
    return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line + " ")), None)


def opened(stack, thing):
    stack.callback(thing.close)
    return thing


def origins(stack, hosts):
    port = harness.free_port()
    for host in hosts:
        opened(stack, Origin(host, port))
    return port


def follows(args, path, stack):
    """All addresses of a name serve; what changes is in force after its time to live, without a failed request."""
    names = opened(stack, NameServer())
    port = origins(stack, ["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    names.records["shop.test"] = ["127.0.0.1", "127.0.0.2"]
    names.records["_http._tcp.shop.test"] = [(1, port, "shop.test"), (2, 1, "spare.test")]
    sluice = start(args, path, stack, names, service("shop", f"shop.test:{port}") + service("srv", "srv:_http._tcp.shop.test"))
    assert answers(sluice, "shop") == {(200, "127.0.0.1"), (200, "127.0.0.2")}, answers(sluice, "shop")
    assert answers(sluice, "srv") == {(200, "127.0.0.1"), (200, "127.0.0.2")}
    assert name_of(sluice, f"shop.test:{port}")["addresses"] == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]
    seen, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            seen.append(ask(sluice, "shop"))

    thread = threading.Thread(target=load)
    thread.start()
    names.records["shop.test"] = ["127.0.0.3"]
    try:
        harness.wait_for("the new address alone", lambda: answers(sluice, "shop", 8) == {(200, "127.0.0.3")})
    finally:
        stop.set()
        thread.join()
    assert {status for status, _ in seen} == {200}, set(seen)
    harness.wait_for("the same by SRV", lambda: answers(sluice, "srv", 8) == {(200, "127.0.0.3")})
    assert metric(sluice, 'sluice_names{state="known"}') == 2
    assert metric(sluice, "sluice_name_addresses") == 2


def keeps(args, path, stack):
    """While the name server fails, or says that the name is gone, the last good answer serves, and that is said."""
    names = opened(stack, NameServer())
    port = origins(stack, ["127.0.0.1"])
    text = f"shop.test:{port}"
    names.records["shop.test"] = ["127.0.0.1"]
    sluice = start(args, path, stack, names, service("shop", text))
    for rcode, state, words in ((SERVFAIL, "failing", "cannot be looked up; its last addresses stay"),
                                (NXDOMAIN, "missing", "is known no more; its last addresses stay")):
        names.records["shop.test"] = rcode
        harness.wait_for(state, lambda: name_of(sluice, text)["state"] == state)
        assert answers(sluice, "shop", 4) == {(200, "127.0.0.1")}
        time.sleep(2.2)
        assert sluice.output().count(words) == 1, sluice.output()
        assert metric(sluice, "sluice_name_oldest_answer_seconds") > 1
        names.records["shop.test"] = ["127.0.0.1"]
        harness.wait_for("known again", lambda: name_of(sluice, text)["state"] == "known", 15)
        assert metric(sluice, "sluice_name_oldest_answer_seconds") == 0
    assert sluice.output().count("a name is known again") == 2


def starts(args, path, stack):
    """A silent name server delays the start by two seconds at most, other services serve, and the name's begin when it is known."""
    names = opened(stack, NameServer())
    port = origins(stack, ["127.0.0.1"])
    names.records["shop.test"] = None
    began = time.monotonic()
    sluice = start(args, path, stack, names, service("shop", f"shop.test:{port}") + service("other", f"127.0.0.1:{port}"))
    took = time.monotonic() - began
    assert took < 3.5, took
    assert ask(sluice, "other") == (200, "127.0.0.1")
    assert ask(sluice, "shop")[0] == 503
    harness.wait_for("failing", lambda: name_of(sluice, f"shop.test:{port}")["state"] == "failing")
    assert "a name cannot be looked up, so it gives no endpoint" in sluice.output(), sluice.output()
    status = harness.subprocess.run([args.binary, "status", "--admin", f"127.0.0.1:{sluice.admin}"], capture_output=True, text=True,
                                    timeout=20)
    assert f"shop.test:{port}" in status.stdout and "the name servers are silent" in status.stdout, status.stdout + status.stderr
    names.records["shop.test"] = ["127.0.0.1"]
    harness.wait_for("the service serves", lambda: ask(sluice, "shop") == (200, "127.0.0.1"), 20)


def reloads(args, path, stack):
    """A dead name server delays neither a reload nor the ticks; a version keeps its endpoints until its new names are known."""
    names = opened(stack, NameServer())
    port = origins(stack, ["127.0.0.1", "127.0.0.2"])
    names.records.update({"old.test": ["127.0.0.1"], "new.test": None})
    sluice = start(args, path, stack, names, service("shop", f"old.test:{port}"))
    assert ask(sluice, "shop") == (200, "127.0.0.1")
    late = sluice.request("GET", "/v1/status")[1]["ticks"]["late"]
    rewrite(sluice, names, service("shop", f"new.test:{port}") + service("fresh", f"127.0.0.2:{port}"))
    sluice.signal(signal.SIGHUP)
    began = time.monotonic()
    harness.wait_for("the file in force", lambda: ask(sluice, "fresh")[0] == 200, 5, 0.01)
    assert time.monotonic() - began < 1, time.monotonic() - began
    longest, end = 0, time.monotonic() + 4
    while time.monotonic() < end:
        began = time.monotonic()
        assert sluice.request("GET", "/readyz")[0] == 200
        longest = max(longest, time.monotonic() - began)
        assert ask(sluice, "shop") == (200, "127.0.0.1")
    assert longest < 0.5, longest
    ticks = sluice.request("GET", "/v1/status")[1]["ticks"]
    assert ticks["max_us"] < 100000, ticks
    assert ticks["late"] - late <= 5, (late, ticks)
    names.records["new.test"] = ["127.0.0.2"]
    harness.wait_for("the new name serves", lambda: ask(sluice, "shop") == (200, "127.0.0.2"), 20)
    names.records["gone.test"] = NXDOMAIN
    rewrite(sluice, names, service("shop", f"gone.test:{port}"))
    sluice.signal(signal.SIGHUP)
    harness.wait_for("no endpoint", lambda: ask(sluice, "shop")[0] == 503, 5)


def churns(args, path, stack):
    """Ten thousand addresses pass through one name: no slot runs out, no request fails."""
    names = opened(stack, NameServer())
    port = origins(stack, ["0.0.0.0"])
    names.ttl = 0
    fresh, many, each = iter(range(1, 1 << 16)), 16, 28

    def turn():
        for i in range(many):
            names.records[f"n{i}.test"] = [f"127.{n // 62500 + 1}.{n // 250 % 250}.{n % 250 + 1}"
                                           for n in (next(fresh) for _ in range(each))]

    turn()
    sluice = start(args, path, stack, names, service("shop", *[f"n{i}.test:{port}" for i in range(many)]))
    turns, seen, end = 1, set(), time.monotonic() + 120
    while turns * many * each < 10000:
        assert time.monotonic() < end
        turn()
        turns += 1
        expected = {f"{address}:{port}" for i in range(many) for address in names.records[f"n{i}.test"]}
        while {a for n in sluice.request("GET", "/v1/table")[1]["names"] for a in n["addresses"]} != expected:
            assert time.monotonic() < end
            seen.update(ask(sluice, "shop")[0] for _ in range(20))
    assert seen == {200}, seen
    assert metric(sluice, "sluice_name_addresses") == many * each
    assert metric(sluice, "sluice_name_addresses_left_out") == 0
    assert "could not be replaced" not in sluice.output(), sluice.output()


if __name__ == "__main__":
    arguments = harness.options()
    harness.run([follows, keeps, starts, reloads, churns], arguments, at_once=2)
