#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The wire as real clients and origins use it: slow readers, old clients, origins with habits of their own, many workers
on one unix socket, crowds. Each on both event loops where they differ."""
import contextlib
import os
import resource
import signal
import socket
import threading
import time

import harness

CONFIG = """
workers: {workers}
journal: @FOLDER@/{name}.db
listen: [{{address: "{listen}"}}]
admin: {{address: "@ADMIN@"}}
{more}
services:
  shop:
    routes: [{{path: /}}]
    versions: {{v1: {{endpoints: ["{origin}"]}}}}
    stable: v1
"""
LOOPS = ("epoll", "uring")
BIG = 24 << 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """Answers every head by answer(head) -> bytes, and keeps the heads."""

    def __init__(self, answer):
        self.answer, self.heads = answer, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        data = b""
        try:
            while more := connection.recv(65536):
                data += more
                while b"\r\n\r\n" in data:
                    head, data = data.split(b"\r\n\r\n", 1)
                    self.heads.append(head)
                    connection.sendall(self.answer(head))
        except OSError:
            pass
        finally:
            connection.close()

    def stop(self):
        self.listener.close()


def start(args, folder, stack, answer, name="sluice", listen=None, workers=1, more="", io="epoll", **kwargs):
    origin = Origin(answer)
    stack.callback(origin.stop)
    port = harness.free_port()
    config = CONFIG.format(name=name, workers=workers, listen=listen or f"127.0.0.1:{port}", more=f"io: {io}\n{more}",
                           origin=f"127.0.0.1:{origin.port}")
    sluice = harness.Sluice(folder, args.binary, config, name=name, **kwargs)
    stack.callback(sluice.stop)
    return sluice, port, origin


def ask(port, request, seconds=5):
    """All that comes until the end."""
    with socket.create_connection(("127.0.0.1", port), seconds) as s:
        s.sendall(request)
        data = b""
        while more := s.recv(65536):
            data += more
    return data


def slow_reader(args, folder, stack):
    """a client that reads steadily gets all, however long the kernel's buffers keep the proxy from seeing it"""
    def answer(_):
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG

    clients = []
    for io in LOOPS:
        _, port, _ = start(args, folder, stack, answer, name="sluice-" + io, io=io, more="timeouts: {idle: 8s}")  # loopback tells of 64 KiB at a time: every 3 s here
        clients.append(socket.create_connection(("127.0.0.1", port), 10))
        stack.callback(clients[-1].close)
        clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    got, end = [0] * len(clients), time.monotonic() + 20
    while time.monotonic() < end:
        for i, s in enumerate(clients):
            got[i] += len(s.recv(2000))
        time.sleep(0.1)
    for i, s in enumerate(clients):
        while more := s.recv(1 << 20):
            got[i] += len(more)
    assert min(got) > BIG, f"{got} of {BIG} bytes"


def unix_socket(args, folder, stack):
    """several workers answer on one unix socket"""
    for io in LOOPS:
        path = os.path.join(folder, io + ".sock")
        sluice, _, _ = start(args, folder, stack, lambda _: OK, name="sluice-" + io, io=io, listen="unix:" + path, workers=2)
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(path)
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in s.recv(4096)
        assert sluice.stop() == 0, sluice.output()


def waits(connection):
    """Whether the other side neither said anything nor left."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def crowds(args, folder, stack):
    """few descriptors and many clients that only hold connections, at both addresses: requests and operators get through"""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    for io in LOOPS:
        sluice, port, _ = start(args, folder, stack, lambda _: OK, name="sluice-" + io, io=io, preexec_fn=few)
        assert "limits.connections is lowered" in sluice.output(), sluice.output()
        for target in (port, sluice.admin):
            crowd = []
            for i in range(400):
                s = socket.create_connection(("127.0.0.1", target), 5)
                stack.callback(s.close)
                crowd.append(s)
                if i % 2:
                    with contextlib.suppress(ConnectionError):  # it may have been turned away already
                        s.sendall(b"GET / HT")
            time.sleep(1.2)  # a head that takes longer is no request under way
        assert 0 < sum(waits(s) for s in crowd) <= 256 // 8, "the admin address holds descriptors that clients need"
        # While the crowd gives way a connection may still be turned away; trying again for a moment gets through.
        first = time.monotonic()
        for _ in range(5):
            while True:
                began = time.monotonic()
                with contextlib.suppress(ConnectionError):
                    if b"200 OK" in ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                        break
                assert began - first < 3, io
                time.sleep(0.1)
            status, body = sluice.request("GET", "/readyz")
            assert status == 200 and time.monotonic() - began < 1, f"{io}: {status} {body}"


def many_reloads(args, folder, stack):
    """fresh endpoints with each reload, more in all than there are slots"""
    sluice, port, origin = start(args, folder, stack, lambda _: OK, workers=2)
    with open(sluice.config_path, encoding="utf-8") as f:
        first = f.read()

    def tables():
        return next(int(float(line.split()[-1])) for line in sluice.request("GET", "/metrics")[1].splitlines()
                    if line.startswith("sluice_table_acknowledged_version "))

    for i in range(20):
        seen = tables()
        fresh = ", ".join(f'"127.{i}.{j}.1:9"' for j in range(250))
        text = first if i == 19 else first.replace(f'["127.0.0.1:{origin.port}"]', f"[{fresh}]")
        with open(sluice.config_path, "w", encoding="utf-8") as f:
            f.write(text)
        sluice.signal(signal.SIGHUP)
        harness.wait_for(f"table of reload {i}", lambda: tables() > seen)
    assert b"200 OK" in ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


def unknown_name(args, folder, stack):
    """a name that nobody knows disables its endpoint, loudly, and nothing else"""
    origin = Origin(lambda _: OK)
    stack.callback(origin.stop)
    port = harness.free_port()
    config = CONFIG.format(name="sluice", workers=1, listen=f"127.0.0.1:{port}", more="",
                           origin=f'127.0.0.1:{origin.port}", "nobody.invalid:80')
    sluice = harness.Sluice(folder, args.binary, config)
    stack.callback(sluice.stop)
    for _ in range(10):
        assert b"200 OK" in ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert "a name is not known" in sluice.output() and "nobody.invalid:80" in sluice.output(), sluice.output()


CASES = [slow_reader, unix_socket, crowds, many_reloads, unknown_name]

if __name__ == "__main__":
    arguments = harness.options(only="")
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    harness.run([case for case in CASES if not arguments.only or case.__name__ in arguments.only.split(",")], arguments)
