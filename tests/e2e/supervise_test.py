#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`sluice serve --supervise`: the serving process is killed, stopped and replaced while clients connect anew all the time. None is
refused, none waits long, and what was in force is in force again."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import harness

CONFIG = """
workers: 2
journal: @FOLDER@/sluice.db
listen: [{{address: "127.0.0.1:{port}"}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    routes: [{{path: /}}]
    unit: {{header: X-User}}
    versions:
      v1: {{endpoints: ["127.0.0.1:{v1}"]}}
      v2: {{endpoints: ["127.0.0.1:{v2}"]}}
    stable: v1
rollouts:
  shop-v2: {{service: shop, to: v2, warmup: 1s, stages: [{{weight: 50%, for: 1h, horizon: 2h}}, {{weight: 100%}}],
            checks: {{latency: off}}}}
"""


class Origin:
    """Answers with its name; /slow after a second."""

    def __init__(self, name):
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        data = b""
        with contextlib.suppress(OSError), connection:
            while more := connection.recv(65536):
                data += more
                while b"\r\n\r\n" in data:
                    head, data = data.split(b"\r\n\r\n", 1)
                    if b" /slow " in head:
                        time.sleep(1)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self.name), self.name))

    def stop(self):
        self.listener.close()


def ask(port, path="/", user="someone", seconds=10):
    """Over a connection of its own: the body; or what went wrong."""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-User: {user}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while more := s.recv(65536):
                data += more
    except OSError as error:
        return type(error).__name__
    head, _, body = data.partition(b"\r\n\r\n")
    return body.decode() if head.startswith(b"HTTP/1.1 200 ") else f"answer {head[:40]!r}" if head else "none"


class Load:
    """Four clients, each request over a new connection; remembers what went wrong, and the longest wait."""

    def __init__(self, port):
        self.port, self.over, self.asked, self.wrong, self.longest = port, False, 0, [], 0.0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(4)]
        for t in self.threads:
            t.start()

    def _run(self, client):
        while not self.over:
            began = time.monotonic()
            body = ask(self.port, user=f"u{client}")
            took = time.monotonic() - began
            with self.lock:
                self.asked += 1
                self.longest = max(self.longest, took)
                if body not in ("v1", "v2"):
                    self.wrong.append(body)

    def stop(self):
        self.over = True
        for t in self.threads:
            t.join()


def start(args, folder, stack, *options, binary=None):
    origins = [Origin(b"v1"), Origin(b"v2")]
    for origin in origins:
        stack.callback(origin.stop)
    port = harness.free_port()
    config = CONFIG.format(port=port, v1=origins[0].port, v2=origins[1].port)
    sluice = harness.Sluice(folder, binary or args.binary, config, options=("--supervise", *options))
    stack.callback(sluice.stop)
    return sluice, port


def serving(sluice):
    """The id of the process that serves; 0: none answers."""
    status, body = sluice.request("GET", "/v1/status")
    return body["process"] if status == 200 else 0


def shift(sluice, port):
    """Half of the users to v2. Time without traffic does not count."""
    sluice.command("shop-v2", "start")

    def shifting():
        ask(port)
        return sluice.rollout("shop-v2")["state"] == "Shifting"

    harness.wait_for("the first stage", shifting, 20)


def arms(port):
    return [ask(port, user=f"user{i}") for i in range(40)]


def deaths(args, folder, stack):
    """killed, crashed, hung under load: nobody is refused, the next process serves within a second, users stay on their version"""
    sluice, port = start(args, folder, stack, "--hang-after", "1500ms")
    shift(sluice, port)
    before = arms(port)
    assert {"v1", "v2"} == set(before), before
    load = Load(port)
    stack.callback(load.stop)
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGABRT, signal.SIGSTOP):
        old = serving(sluice)
        os.kill(old, number)
        harness.wait_for(f"another process after {number}", lambda old=old: serving(sluice) not in (0, old), 10)
        time.sleep(0.3)
    load.stop()
    # What was under way in the process that died is lost; who connects in between waits.
    refused = [w for w in load.wrong if "Refused" in w or "answer" in w or "imeout" in w]
    assert not refused and len(load.wrong) <= 4 * 4 + 8, load.wrong
    assert load.longest < 5, load.longest
    assert arms(port) == before
    assert sluice.rollout("shop-v2")["state"] == "Shifting"
    assert sluice.output().count("another takes its place") == 4, sluice.output()
    assert "it gave no sign of life" in sluice.output()
    harness.log(f"   {load.asked} requests, {len(load.wrong)} were under way in what died, the longest wait {load.longest * 1000:.0f} ms")


def command(args, sluice):
    """`sluice upgrade`, which waits for the outcome. The processes before may have to end first."""
    def settled():
        done = subprocess.run([args.binary, "upgrade", "--admin", f"127.0.0.1:{sluice.admin}"], capture_output=True, text=True, timeout=80)
        return None if "the last change of process is not over" in done.stderr else done

    return harness.wait_for("the end of the change before", settled, 40)


def upgrades(args, folder, stack):
    """another binary takes over, and again: no request fails, one that is under way is answered, and so is one that fails to serve"""
    binary = os.path.join(folder, "sluice")
    shutil.copy(args.binary, binary)
    sluice, port = start(args, folder, stack, binary=binary)
    shift(sluice, port)
    before = arms(port)
    load = Load(port)
    stack.callback(load.stop)

    def upgrade(says):
        old = serving(sluice)
        seen = sluice.output().count(says)
        answers = []
        slow = threading.Thread(target=lambda: answers.append(ask(port, "/slow")))
        slow.start()
        time.sleep(0.2)
        sluice.signal(signal.SIGUSR2)
        harness.wait_for(f"'{says}'", lambda: sluice.output().count(says) > seen, 20)
        slow.join()
        assert answers[0] in ("v1", "v2"), answers
        harness.wait_for("the end of the process before", lambda: not os.path.exists(f"/proc/{old}"), 40)
        assert serving(sluice) not in (0, old)

    for _ in range(3):
        shutil.copy(args.binary, binary + ".new")
        os.rename(binary + ".new", binary)
        upgrade("another binary was put in place")
    shutil.copy(harness.find_program("false"), binary + ".new")
    os.rename(binary + ".new", binary)
    refused = command(args, sluice)
    assert refused.returncode == 1 and "nothing changed: it does not take the file: its check ends with code 1" in refused.stderr, refused
    assert "the present one serves on" in sluice.output()
    shutil.copy(harness.find_program("true"), binary + ".new") # takes every file, and cannot be loaded
    os.rename(binary + ".new", binary)
    refused = command(args, sluice)
    assert refused.returncode == 1 and "nothing changed: it was not loaded: ended with code 0" in refused.stderr, refused
    shutil.copy(os.path.join(os.path.dirname(args.binary), "tests", "e2e", "serves_not"), binary + ".new")
    os.rename(binary + ".new", binary)
    upgrade("the other binary does not serve: the one before is started again")
    taken_back = command(args, sluice)
    assert taken_back.returncode == 1, taken_back
    assert "the binary from before serves on: the other binary did not serve: ended with code 7" in taken_back.stderr, taken_back
    shutil.copy(args.binary, binary + ".new")
    os.rename(binary + ".new", binary)
    taken = command(args, sluice)
    assert taken.returncode == 0 and f"serves, as process {serving(sluice)}.\n" in taken.stdout, taken
    load.stop()
    assert not load.wrong, load.wrong
    assert arms(port) == before
    harness.log(f"   {load.asked} requests, none failed, the longest wait {load.longest * 1000:.0f} ms")


def ends(args, folder, stack):
    """how it ends: with the parent, by a signal, at a start that fails"""
    sluice, port = start(args, folder, stack)
    child = serving(sluice)
    os.kill(sluice.pid, signal.SIGKILL)
    harness.wait_for("the end of the serving process", lambda: not os.path.exists(f"/proc/{child}"), 40)
    assert not harness.connects(port)
    sluice.popen.wait()
    sluice, port = start(args, folder, stack)
    assert ask(port) in ("v1", "v2")
    sluice.popen.send_signal(signal.SIGTERM)
    assert sluice.popen.wait(20) == 0
    bad = os.path.join(folder, "bad.yaml")
    with open(bad, "w", encoding="utf-8") as f:
        f.write("services: 7\n")
    run = subprocess.run([args.binary, "serve", "--supervise", bad], capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 1 and "services" in run.stderr, run
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        with open(bad, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(port=taken_port, v1=1, v2=2).replace("@FOLDER@", folder).replace("@ADMIN@", "127.0.0.1:0").replace("sluice.db", "other.db"))
        run = subprocess.run([args.binary, "serve", "--supervise", bad], capture_output=True, text=True, timeout=20, check=False)
        assert run.returncode == 5 and "another process uses that address" in run.stderr, run


def spoilt(args, folder, stack):
    """the file is spoilt while the daemon runs, then its process dies: what was in force serves on"""
    sluice, port = start(args, folder, stack)
    with open(sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    changed = text.replace("weight: 50%", "weight: 40%")

    def write(content):
        with open(sluice.config_path, "w", encoding="utf-8") as f:
            f.write(content)

    write(changed)
    assert sluice.request("POST", "/v1/reload")[0] == 200
    time.sleep(3)  # the next process is loaded anew
    write("services: 7\n")
    assert sluice.request("POST", "/v1/reload")[0] == 409
    old = serving(sluice)
    os.kill(old, signal.SIGKILL)
    harness.wait_for("the next process", lambda: serving(sluice) not in (0, old), 20)
    assert ask(port) == "v1"
    assert "the file cannot be read any more" in sluice.output()
    assert sluice.rollout("shop-v2")["stages"][0]["weight"] == 0.4
    write(text)
    assert sluice.request("POST", "/v1/reload")[0] == 200


def careful(args, folder, stack):
    """eleven deaths within a minute: it serves on, nothing moves forward, what leads back is done"""
    sluice, port = start(args, folder, stack)
    shift(sluice, port)
    for i in range(11):
        old = serving(sluice)
        os.kill(old, signal.SIGKILL)
        harness.wait_for(f"process {i + 2}", lambda old=old: serving(sluice) not in (0, old), 20)
    assert "too many deaths within a minute" in sluice.output()
    assert sluice.request("GET", "/v1/status")[1]["careful"] is True
    sluice.command("shop-v2", "abort")
    harness.wait_for("the way back", lambda: sluice.rollout("shop-v2")["state"] == "RolledBack", 20)
    assert set(arms(port)) == {"v1"}


if __name__ == "__main__":
    ARGS = harness.options(only="")
    ALL = {f.__name__: f for f in (deaths, upgrades, ends, spoilt, careful)}
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS)
