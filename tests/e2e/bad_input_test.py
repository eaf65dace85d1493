#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong at three in the morning: a taken port, a foreign or broken journal, a full disk, no file descriptors, SIGTERM in
mid-rollout, slow and truncated clients. Each gives a clear word and loses nothing."""
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import time

import harness
from echo_origin import EchoOrigin

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
timeouts: {{client_head: 1s, idle: 2s}}
services:
  echo:
    routes: [{{path: /}}]
    versions:
      v1: {{endpoints: [127.0.0.1:{origin}]}}
      v2: {{endpoints: [127.0.0.1:{origin}]}}
    stable: v1
rollouts:
  echo-v2:
    service: echo
    to: v2
    stages: [{{weight: 20%, for: 10m}}, {{weight: 100%}}]
    checks: {{errors: {{}}, latency: off}}
"""


def get(port, path="/", timeout=5):
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while more := s.recv(65536):
            data += more
    return int(data.split(b" ", 2)[1]), data


def start(args, folder, stack, **kwargs):
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, CONFIG.format(port=port, origin=origin.port), **kwargs)
    stack.callback(sluice.stop)
    return sluice, port, origin


def serve_fails(args, folder, config, *expected):
    """Runs serve on a config that must not start; returns what it said."""
    path = os.path.join(folder, "fails.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(config)
    result = subprocess.run([args.binary, "serve", path], capture_output=True, text=True, timeout=20)
    assert result.returncode not in (0, -6, -11, 134, 139), f"exit {result.returncode}: {result.stderr}"
    for word in expected:
        assert word in result.stderr, f"{word!r} is not in what it said: {result.stderr}"
    harness.log("   says: " + result.stderr.strip().splitlines()[-1][:160])
    return result


def port_in_use(args, folder, stack):
    """a taken port is said with its address"""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = CONFIG.format(port=port, origin=1).replace("@FOLDER@", folder).replace("@ADMIN@", f"127.0.0.1:{harness.free_port()}")
        serve_fails(args, folder, config, str(port), "another process uses that address")
        config = CONFIG.format(port=harness.free_port(), origin=1).replace("@FOLDER@", folder).replace("@ADMIN@", f"127.0.0.1:{port}")
        serve_fails(args, folder, config, str(port), "another process uses that address")


def journal_foreign(args, folder, stack):
    """a foreign, garbled, unreadable or locked journal is refused and left as it is"""
    config = CONFIG.format(port=harness.free_port(), origin=1).replace("@FOLDER@", folder).replace("@ADMIN@", f"127.0.0.1:{harness.free_port()}")
    path = os.path.join(folder, "sluice.db")
    with open(path, "wb") as f:
        f.write(b"this is somebody's diary\n" * 500)
    before = open(path, "rb").read()
    serve_fails(args, folder, config, "sluice.db")
    assert open(path, "rb").read() == before, "a foreign file was changed"
    os.unlink(path)
    db = sqlite3.connect(path)
    db.execute("create table accounts (name text)")
    db.commit()
    db.close()
    serve_fails(args, folder, config, "sluice.db")
    os.unlink(path)
    os.mkdir(path)
    serve_fails(args, folder, config, "sluice.db")


def journal_corrupt(args, folder, stack):
    """a journal with one changed byte in its entries is named, by serve and by replay"""
    sluice, port, _ = start(args, folder, stack)
    sluice.command("echo-v2", "start")
    for _ in range(20):
        get(port)
    time.sleep(0.5)
    sluice.stop()
    db = sqlite3.connect(sluice.journal())
    table = next(name for (name,) in db.execute("select name from sqlite_master where type='table'") if "entr" in name)
    columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
    assert "payload" in columns, columns
    seq, payload = db.execute(f"select rowid, payload from {table} where length(payload) > 4 limit 1").fetchone()
    changed = bytes(payload[:3]) + bytes([payload[3] ^ 1]) + bytes(payload[4:])
    db.execute(f"update {table} set payload=? where rowid=?", (changed, seq))
    db.commit()
    db.close()
    result = sluice.replay()
    assert result.returncode != 0 and str(seq) in result.stdout + result.stderr, f"replay: {result.returncode} {result.stdout} {result.stderr}"
    harness.log("   replay says: " + (result.stderr or result.stdout).strip().splitlines()[-1][:160])
    config = open(sluice.config_path, encoding="utf-8").read()
    serve_fails(args, folder, config, str(seq))


def disk_full(args, folder, stack):
    """a full disk stops what moves forward and says so; the way back acts at once; room again, and all is journalled"""
    # A limit on the size of any file the daemon writes stands for the full disk; raised again, it has room.
    limit = 200 * 1024

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    sluice, port, _ = start(args, folder, stack, preexec_fn=limited)
    sluice.command("echo-v2", "start")
    end = time.monotonic() + 60
    while sluice.request("GET", "/readyz")[0] == 200:
        assert get(port)[0] == 200
        assert time.monotonic() < end, "the journal never filled"
    status, body = sluice.request("GET", "/readyz")
    assert status == 503 and "journal" in str(body), body
    harness.log(f"   /readyz: {str(body)[:160]}")
    status, answer = sluice.request("POST", "/v1/rollouts/echo-v2/promote")
    assert status == 503, f"a step forward was taken without a journal: {status} {answer}"
    status, answer = sluice.request("POST", "/v1/rollouts/echo-v2/abort")
    assert status == 200, f"the way back waits for the journal: {status} {answer}"
    assert sluice.rollout("echo-v2")["weight"]["wanted"] == 0
    sluice.wait_state("echo-v2", "RolledBack", 40)
    for _ in range(20):
        assert get(port)[0] == 200
    assert sluice.request("GET", "/v1/status")[1]["journal"]["waiting"] > 0
    subprocess.run(["prlimit", f"--pid={sluice.pid}", "--fsize=unlimited:unlimited"], check=True)
    harness.wait_for("ready again", lambda: sluice.request("GET", "/readyz")[0] == 200, 20)
    assert sluice.request("GET", "/v1/status")[1]["journal"]["waiting"] == 0
    assert sluice.stop() == 0
    replayed = sluice.replay()
    assert replayed.returncode == 0 and "RolledBack at 0 %" in replayed.stdout, replayed.stdout + replayed.stderr


def index_cut(args, folder, stack):
    """the journal's -shm file cut short under the daemon stops what moves forward, not the traffic and not the way back"""
    sluice, port, _ = start(args, folder, stack)
    sluice.command("echo-v2", "start")
    sluice.wait_state("echo-v2", "Shifting", 10)
    os.truncate(sluice.journal() + "-shm", 0)
    while (status := sluice.request("GET", "/readyz"))[0] == 200:
        assert get(port)[0] == 200  # a tick with requests is written
    assert status[0] == 503 and "-shm was cut short" in str(status[1]), status
    harness.log(f"   /readyz: {str(status[1])[:160]}")
    status, answer = sluice.request("POST", "/v1/rollouts/echo-v2/promote")
    assert status == 503, f"a step forward was taken without a journal: {status} {answer}"
    status, answer = sluice.request("POST", "/v1/rollouts/echo-v2/abort")
    assert status == 200, f"the way back waits for the journal: {status} {answer}"
    assert sluice.rollout("echo-v2")["weight"]["wanted"] == 0
    for _ in range(20):
        assert get(port)[0] == 200
    assert sluice.stop() == 0, "the daemon does not end in an orderly way"
    replayed = sluice.replay()
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def no_descriptors(args, folder, stack):
    """without file descriptors the longest idle clients give way, others are served, and it recovers"""
    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    sluice, port, _ = start(args, folder, stack, preexec_fn=limited)
    first = socket.create_connection(("127.0.0.1", port), 5)
    first.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert first.recv(65536).startswith(b"HTTP/1.1 200")
    held = []
    for _ in range(80):
        try:
            held.append(socket.create_connection(("127.0.0.1", port), 1))
        except OSError:
            break
    time.sleep(0.5)
    first.sendall(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = first.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
    harness.wait_for("a new client served", lambda: answers(port), 10, 0.1)
    for s in held:
        s.close()
    first.close()
    harness.wait_for("serving again", lambda: answers(port), 10, 0.1)
    assert sluice.running()


def answers(port):
    try:
        return get(port)[0] == 200
    except (OSError, IndexError):
        return False


def terminated_in_mid_rollout(args, folder, stack):
    """SIGTERM in mid-rollout: requests in flight end well, the state is there at the next start"""
    sluice, port, _ = start(args, folder, stack)
    sluice.command("echo-v2", "start")
    sluice.wait_state("echo-v2", "Shifting", 10)
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        time.sleep(0.2)
        sluice.signal(signal.SIGTERM)
        time.sleep(0.3)
        s.sendall(b"world")
        data = s.recv(65536)
        assert data.startswith(b"HTTP/1.1 200") and b"helloworld" in data + s.recv(65536), data
    assert sluice.popen.wait(35) == 0, sluice.output()
    again = harness.Sluice(folder, args.binary, open(sluice.config_path, encoding="utf-8").read().replace(f"127.0.0.1:{sluice.admin}", "@ADMIN@"))
    stack.callback(again.stop)
    body = again.rollout("echo-v2")
    assert body["state"] == "Shifting" and abs(body["weight"]["wanted"] - 0.2) < 1e-9, body


def slow_and_truncated(args, folder, stack):
    """slow heads get 408, truncated bodies reach no origin as whole requests, others are served meanwhile"""
    sluice, port, origin = start(args, folder, stack)
    slow = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(50)]
    for s in slow:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    began = time.monotonic()
    dead = 0
    while time.monotonic() - began < 4 and dead < len(slow):
        assert get(port)[0] == 200
        dead = 0
        for s in slow:
            try:
                s.sendall(b"a")
                s.settimeout(0.001)
                if s.recv(4096).startswith(b"HTTP/1.1 408"):
                    dead += 1
            except socket.timeout:
                pass
            except OSError:
                dead += 1
        time.sleep(0.2)
    assert dead >= len(slow), f"{len(slow) - dead} slow clients still hold their slot"
    before = origin.count()
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
    time.sleep(0.5)
    assert origin.count() == before, "a truncated request was passed on as a whole one"
    assert get(port)[0] == 200


def connections_idle(args, folder, stack):
    """10 000 idle connections cost at most 2 KiB each"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sluice, port, _ = start(args, folder, stack)
    with open(f"/proc/{sluice.pid}/maps", encoding="ascii", errors="replace") as f:
        sanitized = "libasan" in f.read()
    # The bytes of the sanitized build are not judged, so there it is enough that many can be held at all.
    count = min(2000 if sanitized else 10000, hard - 200)
    get(port)
    before = harness.rss_bytes(sluice.pid)
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", port), 5)
        held.append(s)
    # Each has had a request, so that what an idle connection keeps is measured, not what a new one has not touched yet.
    for s in held:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while b"\r\n\r\n" not in s.recv(65536):
            pass
    after = harness.rss_bytes(sluice.pid)
    # Some of it may have been set aside at the start: the whole process divided by its connections is the honest bound.
    each = after / count
    harness.log(f"   {count} idle connections: the whole process is resident with {after} bytes, {each:.0f} per connection; it grew by "
                f"{(after - before) / count:.0f} per connection")
    assert sanitized or count < 10000 or each <= 2048, f"{each:.0f} bytes per idle connection"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for s in held:
        s.close()


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (disk_full, index_cut, connections_idle, port_in_use, journal_foreign, journal_corrupt, no_descriptors,
                                   terminated_in_mid_rollout, slow_and_truncated)}
    ARGS = harness.options(only="")
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS, at_once=4)
