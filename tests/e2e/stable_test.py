#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What happens after a rollout is complete: the version that it promoted stays the stable one through edits of the file and
restarts, the next release needs no edit of the last, an undo moves traffic back and ends, and every valid file starts."""
import http.client
import os
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import harness

ENTRY = """  {name}:
    service: shop
    to: {to}
    drain: 2s
    stages: [{{weight: 50%, for: 1s}}, {{weight: 100%, soak: 1h}}]
    checks: {{latency: off}}
"""


class Origin:
    """Answers every request with the name of its version."""

    def __init__(self, version):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(version)))
                self.end_headers()
                self.wfile.write(version.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Shop:
    """A daemon in front of three versions, whose file is written anew by each step of a story."""

    def __init__(self, args, folder, stack):
        self.args, self.folder = args, folder
        self.origins = {}
        for version in ("v1", "v2", "v3"):
            origin = Origin(version)
            stack.callback(origin.server.server_close)
            stack.callback(origin.server.shutdown)
            self.origins[version] = origin.port
        self.port, self.admin = harness.free_port(), harness.free_port()
        self.sluice = None
        stack.callback(lambda: self.sluice.stop())

    def file(self, stable, entries=(), versions=("v1", "v2", "v3")):
        text = f"journal: {self.folder}/sluice.db\nlisten: [127.0.0.1:{self.port}]\nadmin: 127.0.0.1:{self.admin}\nservices:\n  shop:\n    versions:\n"
        text += "".join(f"      {v}: [127.0.0.1:{self.origins[v]}]\n" for v in versions)
        text += f"    stable: {stable}\n"
        if entries:
            text += "rollouts:\n" + "".join(ENTRY.format(name=name, to=to) for name, to in entries)
        return text

    def start(self, text):
        self.sluice = harness.Sluice(self.folder, self.args.binary, text, admin=self.admin)

    def restart(self, text):
        assert self.sluice.stop() == 0
        self.start(text)

    def reload(self, text, answer="the file was read again and is in force"):
        """Puts the file there and waits for what the log says to it; returns all that was said."""
        before = len(self.sluice.output())
        with open(self.sluice.config_path, "w", encoding="utf-8") as f:
            f.write(text)
        self.sluice.signal(signal.SIGHUP)
        harness.wait_for(answer, lambda: answer in self.sluice.output()[before:])
        return self.sluice.output()[before:]

    def expect(self, version):
        """Every request is answered by that version, a moment from now on and for good."""
        harness.wait_for(f"traffic on {version}", lambda: self.ask() == {version})
        for _ in range(5):
            seen = self.ask()
            assert seen == {version}, f"traffic goes to {seen}, not {version}"

    def ask(self):
        seen = set()
        for _ in range(20):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/")
            seen.add(connection.getresponse().read().decode())
            connection.close()
        return seen

    def complete(self, name):
        self.sluice.command(name, "start")
        for state in ("Soaking", "Completed"):
            self.sluice.command(name, "promote")
            self.sluice.wait_state(name, state, 10)

    def cli(self, *words):
        result = subprocess.run([self.args.binary, *words], capture_output=True, text=True, timeout=60, env={**os.environ, "NO_COLOR": "1"})
        return result.returncode, result.stdout + result.stderr

    def status(self):
        return self.cli("status", "--admin", f"127.0.0.1:{self.admin}")[1]

    def check(self, text):
        path = os.path.join(self.folder, "checked.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        code, out = self.cli("check", path)
        assert code == 0, out
        return out

    def replays(self):
        result = self.sluice.replay()
        assert result.returncode == 0, result.stdout + result.stderr


FACT = re.compile(r"service shop: stable: v1 in the file; v2 since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, promoted by rollout shop-v2")


def promoted(args, folder, stack):
    shop = Shop(args, folder, stack)
    shop.start(shop.file("v1", [("shop-v2", "v2")]))
    shop.expect("v1")
    shop.complete("shop-v2")
    shop.expect("v2")
    return shop


def next_release(args, folder, stack):
    """after Completed, `to: v2` becomes `to: v3`, or the entry goes, and `stable: v1` stays: traffic stays on v2"""
    shop = promoted(args, folder, stack)
    said = shop.reload(shop.file("v1", [("shop-v2", "v3")]))
    shop.expect("v2")
    assert "that version stays" in said, said
    assert FACT.search(shop.status()), shop.status()
    out = shop.check(shop.file("v1", [("shop-v2", "v3")]))
    assert FACT.search(out) and "service shop, v2 to v3" in out, out
    out = shop.check(shop.file("v3"))
    assert "WARNING: service shop: this file moves its traffic from v2 to v3" in out, out
    shop.reload(shop.file("v1"))
    shop.expect("v2")
    shop.restart(shop.file("v1", [("shop-v3", "v3")]))
    shop.expect("v2")
    body = shop.sluice.command("shop-v3", "start")
    assert (body["from"], body["to"], body["file_differs"]) == ("v2", "v3", False), body
    assert shop.ask() <= {"v2", "v3"}
    shop.sluice.command("shop-v3", "abort")
    shop.expect("v2")
    # An edited word counts, and says what it moves.
    said = shop.reload(shop.file("v3"))
    shop.expect("v3")
    assert "moves the traffic of a service to another stable version" in said and "from=v2 to=v3" in said, said
    shop.reload(shop.file("v1"))
    shop.expect("v1")
    shop.replays()


def undo(args, folder, stack):
    """then `stable: v2`, v3's entry for v2's, and undo: traffic really goes back, the run ends, files are taken, the daemon starts"""
    shop = promoted(args, folder, stack)
    text = shop.file("v2", [("shop-v3", "v3")])
    shop.reload(text)
    shop.expect("v2")
    code, out = shop.cli("rollout", "undo", "--yes", "shop-v2", "--admin", f"127.0.0.1:{shop.admin}")
    assert code == 0 and "RollingBack" in out, (code, out)
    shop.expect("v1")
    assert "v1 since" in shop.status() and "by the undo of rollout shop-v2" in shop.status(), shop.status()
    shop.sluice.wait_state("shop-v2", "RolledBack", 10)
    shop.reload(text)
    shop.restart(text)
    shop.expect("v1")
    shop.complete("shop-v3")
    shop.expect("v3")
    status, body = shop.sluice.request("POST", "/v1/rollouts/shop-v2/undo")
    assert status == 409, (status, body)
    shop.expect("v3")
    shop.replays()


def undo_too_late(args, folder, stack):
    """an undo that would not move traffic is refused with the reason, and the rollout stays as it was"""
    shop = promoted(args, folder, stack)
    shop.reload(shop.file("v2", versions=("v2", "v3")))
    status, body = shop.sluice.request("POST", "/v1/rollouts/shop-v2/undo")
    assert status == 409 and "no longer has version v1" in body["error"]["message"], (status, body)
    assert shop.sluice.rollout("shop-v2")["state"] == "Completed"
    shop.expect("v2")


def misfit(args, folder, stack):
    """a file that a reload refuses in mid-rollout starts all the same: traffic flows, and the rollout is taken back"""
    shop = promoted(args, folder, stack)
    shop.reload(shop.file("v1", [("shop-v3", "v3")]))
    shop.sluice.command("shop-v3", "start")
    text = shop.file("v1", versions=("v1", "v2"))
    said = shop.reload(text, "the file cannot be put in force and changes nothing")
    assert "shop-v3" in said, said
    assert shop.sluice.rollout("shop-v3")["state"] == "Shifting"
    shop.restart(text)
    shop.expect("v2")
    assert "a rollout under way does not fit the file: it is taken back" in shop.sluice.output()
    body = shop.sluice.wait_state("shop-v3", "RolledBack", 10)
    assert "a file that does not fit" in body["verdict"]["text"], body["verdict"]
    shop.reload(text)
    shop.restart(text)
    shop.expect("v2")
    shop.replays()


def part(args, folder, stack):
    """check warns of a rollout that ends below 100 %, and of one that has nothing to ship"""
    shop = promoted(args, folder, stack)
    out = shop.check(shop.file("v1", [("shop-v3", "v3")]).replace("{weight: 50%, for: 1s}, {weight: 100%, soak: 1h}", "{weight: 50%}"))
    assert "WARNING: it ends at 50%" in out, out
    out = shop.check(shop.file("v1", [("shop-v2", "v2")]))
    assert "version v2 of service shop is stable already" in out and "WARNING: it ends" not in out, out


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (next_release, undo, undo_too_late, misfit, part)}
    ARGS = harness.options(only="")
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS)
