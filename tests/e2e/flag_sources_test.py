#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where flags come from and who may ask, against the real daemon and over the wire: files, folders, links and addresses that
change, fail and lie; refusals that name line and column while the last good set goes on answering; tokens, rates, exposures,
streams; flags in the request path. What comes of malformed ones is in flag_malformed_test.py."""
import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import harness
from echo_origin import EchoOrigin
from flag_daemon import as_text, save, start, switch, text_flag


class Watch:
    """Asks for a flag all the time and keeps every answer that was given, so that a half-read file cannot hide."""

    def __init__(self, daemon, key):
        self.daemon, self.key, self.seen, self.stopping = daemon, key, set(), False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            self.seen.add(self.daemon.flag(self.key))
            time.sleep(0.002)

    def stop(self):
        self.stopping = True
        self.thread.join(20)
        return self.seen


# ---- files ----

def files(args, folder, stack):
    """in place, by rename, by a link that is swapped, from the file's own text: each is served within a second"""
    place, renamed = os.path.join(folder, "place.json"), os.path.join(folder, "renamed.json")
    save(place, {"place": text_flag("a")})
    save(renamed, {"renamed": text_flag("a")})
    # As a mounted volume of an orchestrator does it: the file is a link through a link that is swapped whole.
    for name in ("a", "b"):
        os.makedirs(os.path.join(folder, name))
        save(os.path.join(folder, name, "linked.json"), {"linked": text_flag(name)})
    os.symlink("a", os.path.join(folder, "..data"))
    os.symlink("..data/linked.json", os.path.join(folder, "linked.json"))
    daemon = start(args, folder, stack, "sources: [@FOLDER@/place.json, @FOLDER@/renamed.json, @FOLDER@/linked.json]\n"
                   "define: {own: {state: ENABLED, variants: {one: yaml}, defaultVariant: one}}")
    assert daemon.flag("own") == "yaml" and daemon.flag("nothing") == "FLAG_NOT_FOUND"
    watch = Watch(daemon, "place")
    took = {"in place": [], "by rename": [], "by link": []}
    for turn in range(5):
        with open(place, "w", encoding="utf-8") as f:
            f.write(as_text({"place": text_flag(f"p{turn}")}))
        took["in place"].append(daemon.becomes("place", f"p{turn}", "written in place"))
        save(renamed, {"renamed": text_flag(f"r{turn}")})
        took["by rename"].append(daemon.becomes("renamed", f"r{turn}", "renamed"))
        to = "b" if turn % 2 == 0 else "a"
        os.symlink(to, os.path.join(folder, "..next"))
        os.rename(os.path.join(folder, "..next"), os.path.join(folder, "..data"))
        took["by link"].append(daemon.becomes("linked", to, "link swapped"))
    seen = watch.stop()
    assert seen <= {"a"} | {f"p{n}" for n in range(5)}, f"answers of a half-written file: {seen}"
    # Same size, same second: nothing but the content tells them apart.
    for value in ("x1", "x2", "x3"):
        with open(renamed, "r+", encoding="utf-8") as f:
            f.write(as_text({"renamed": text_flag(value)}))
        daemon.becomes("renamed", value, "same size in the same second")
    harness.log("   served after " + ", ".join(f"{max(ms):.0f} ms {how}" for how, ms in took.items()) + " (the slowest of 5)")
    # Gone is not empty: what it said stays, and it is said that it is gone.
    os.unlink(place)
    harness.wait_for("the lost file is named", lambda: not daemon.source("place.json")["good"], 3)
    assert daemon.flag("place") == "p4" and "place.json" in daemon.source("place.json")["problem"], daemon.source("place.json")
    save(place, {"place": text_flag("back")})
    daemon.becomes("place", "back", "the file is there again", 3)


def odd_files(args, folder, stack):
    """a pipe, a folder, a device, a circle of links, a file too large where a file should be: named, and nothing waits for it"""
    path, home = os.path.join(folder, "flags.json"), os.path.join(folder, "flags.d")
    os.makedirs(home)
    save(path, {"k": text_flag("good")})
    save(os.path.join(home, "a.json"), {"other": text_flag("good")})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json, {directory: @FOLDER@/flags.d}]")

    def large(where):
        with open(where, "wb") as f:
            f.truncate(257 << 20)

    oddities = {"a pipe": os.mkfifo, "a folder": os.mkdir, "a circle of links": lambda where: os.symlink(os.path.basename(where), where),
                "a device": lambda where: os.symlink("/dev/zero", where), "a file too large": large}
    for at, source in ((path, "flags.json"), (os.path.join(home, "z.json"), "flags.d")):
        for what, make in oddities.items():
            if at == path:
                os.unlink(at)
            make(at)
            state = harness.wait_for(f"{what} is named", lambda: not daemon.source(source)["good"] and daemon.source(source), 3)
            assert os.path.basename(at) in state["problem"], f"{what}: {state}"
            assert daemon.flag("k") == "good", what
            for word, value in (("off", None), ("on", "good")):
                assert daemon.request("POST", f"/v1/flags/other/{word}", {})[0] == 200
                daemon.becomes("other", value, f"switched {word} beside {what}")
            if os.path.isdir(at) and not os.path.islink(at):
                os.rmdir(at)
            else:
                os.unlink(at)
            if at == path:
                save(at, {"k": text_flag("good")})
            harness.wait_for(f"after {what} it is good again", lambda: daemon.source(source)["good"], 3)


def directories(args, folder, stack):
    """files come, go and override each other in name order; others are left alone"""
    home = os.path.join(folder, "flags.d")
    os.makedirs(home)
    save(os.path.join(home, "20.json"), {"who": text_flag("20"), "late": text_flag("20")})
    save(os.path.join(folder, "base.json"), {"who": text_flag("base"), "base": text_flag("base")})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/base.json, {directory: @FOLDER@/flags.d}]")
    assert [daemon.flag(k) for k in ("who", "late", "base")] == ["20", "20", "base"]
    save(os.path.join(home, "10.json"), {"who": text_flag("10"), "early": text_flag("10")})
    daemon.becomes("early", "10", "a file is added")
    assert daemon.flag("who") == "20", "an earlier name must not override"
    save(os.path.join(home, "30.json"), {"who": text_flag("30")})
    daemon.becomes("who", "30", "a later file is added")
    save(os.path.join(home, "40.txt"), "this is no flag file")
    save(os.path.join(home, ".50.json.swp"), "nor is this")
    with open(os.path.join(home, "10.json"), "w", encoding="utf-8") as f:
        f.write(as_text({"early": text_flag("changed")}))
    daemon.becomes("early", "changed", "a file of the folder is edited")
    assert daemon.flag("who") == "30" and not daemon.state()["refused"], daemon.state()["problems"]
    save(os.path.join(home, "35.json"), '{"flags": {"who": {}}}')
    daemon.refusal("35.json:1:")
    assert daemon.flag("who") == "30"
    os.unlink(os.path.join(home, "35.json"))
    daemon.accepted("the bad file is removed")
    os.unlink(os.path.join(home, "30.json"))
    daemon.becomes("who", "20", "a file is removed")
    os.unlink(os.path.join(home, "20.json"))
    daemon.becomes("who", "base", "the last that overrides is removed")
    assert daemon.flag("late") == "FLAG_NOT_FOUND"


# ---- addresses ----

class FlagServer:
    """An address with flags: counts what it answered, and fails and lies as told."""

    def __init__(self, flags):
        self.lock = threading.Lock()
        self.mode, self.token = "good", None
        self.counts, self.tokens, self.connections = {}, [], []
        self.put(flags)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def setup(self):
                super().setup()
                outer.connections.append(self.connection)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, flags, tag=None):
        with self.lock:
            self.body = as_text(flags) if isinstance(as_text(flags), bytes) else as_text(flags).encode()
            self.tag = tag or f'"{hash(self.body) & 0xffffffff:x}"'

    def count(self, what):
        with self.lock:
            return self.counts.get(what, 0)

    def answer(self, handler):
        with self.lock:
            body, tag, mode = self.body, self.tag, self.mode
            self.tokens.append(handler.headers.get("Authorization"))
        known = handler.headers.get("If-None-Match") == tag
        if mode == "always 304":
            known = True
        status, headers = 304 if known and mode in ("good", "always 304") else 200, {"ETag": tag}
        length = None
        if mode == "500":
            status, body = 500, as_text({"remote": text_flag("must not be served")}).encode()
        elif mode == "redirect":
            status, headers = 302, {"Location": handler.path}
        elif mode == "page":
            body, headers = b"<html><body>Please log in</body></html>", {"Content-Type": "text/html", "ETag": '"login"'}
        elif mode == "cut":
            length = len(body) + 1000
        elif mode == "slow":
            time.sleep(0.3)
        elif mode in ("no tag", "drip"):
            headers = {}
        with self.lock:
            self.counts[status] = self.counts.get(status, 0) + 1
            self.counts[mode] = self.counts.get(mode, 0) + 1
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 304:
            handler.send_header("Content-Length", str(length if length is not None else len(body)))
        handler.end_headers()
        if mode == "drip":
            handler.close_connection = True
            while self.mode == "drip":
                handler.wfile.write(b" ")
                time.sleep(0.02)
        elif status != 304:
            handler.wfile.write(body)
        if mode == "cut":
            handler.close_connection = True

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        # Handlers of kept connections would go on answering.
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def addresses(args, folder, stack):
    """an address is polled with its entity tag; when it fails or lies, what it last said stays, and it is named"""
    server = FlagServer({"remote": text_flag("first"), "x": text_flag("remote")})
    stack.callback(lambda: server.stop() if server is not None else None)
    with open(os.path.join(folder, "token"), "w", encoding="ascii") as f:
        f.write("secret-word\nsecond line\n")
    os.chmod(os.path.join(folder, "token"), 0o600)
    address = f"http://127.0.0.1:{server.port}/set.json"
    daemon = start(args, folder, stack, f"sources: [{{url: \"{address}\", every: 100ms, token: @FOLDER@/token}}]")
    assert daemon.flag("remote") == "first"
    harness.wait_for("polls answered by 304", lambda: server.count(304) >= 3, 5)
    assert server.count(200) == 1, f"{server.counts}: the tag was not sent"
    assert set(server.tokens) == {"Bearer secret-word"}, set(server.tokens)
    server.put({"remote": text_flag("second"), "x": text_flag("remote")})
    took = daemon.becomes("remote", "second", "the address says something new")
    harness.log(f"   polled every 100 ms: a change was served after {took:.0f} ms; {server.count(304)} answers were 304, {server.count(200)} were 200")
    for mode, expected in (("500", "500"), ("redirect", "redirect"), ("page", ":1:1"), ("cut", "")):
        server.mode = mode
        harness.wait_for(f"{mode} was asked", lambda: server.count(mode) >= 2, 5)
        state = harness.wait_for(f"{mode} is named", lambda: not daemon.source("set.json")["good"] and daemon.source("set.json"), 3)
        assert expected in state["problem"] and state["problem"], f"{mode}: {state}"
        assert daemon.flag("remote") == "second" and daemon.flag("x") == "remote", f"{mode}: what it last said is gone"
        harness.log(f"   {mode}: {state['problem'][:130]}")
        server.mode = "good"
        harness.wait_for(f"after {mode} it is good again", lambda: daemon.source("set.json")["good"], 3)
    # A bad content is refused with its place, and told once, not at each poll.
    server.put('{"flags": {\n  "remote": {"state": "ENABLED", "variants": {"a": 1, "b": "x"}}}}')
    text = daemon.refusal("set.json:2:")
    time.sleep(0.5)
    assert daemon.output().count(text) <= 2, f"said {daemon.output().count(text)} times: {text}"
    assert daemon.flag("remote") == "second"
    server.put({"remote": text_flag("third")})
    daemon.becomes("remote", "third", "mended")
    assert daemon.flag("x") == "FLAG_NOT_FOUND"
    # Lies: a new content under the old tag is taken when it is sent; a server that says "not modified" for ever changes nothing.
    server.mode = "no tag"
    server.put({"remote": text_flag("untagged")})
    daemon.becomes("remote", "untagged", "an answer without a tag")
    server.mode = "always 304"
    server.put({"remote": text_flag("hidden")})
    time.sleep(0.4)
    assert daemon.flag("remote") == "untagged"
    server.mode = "slow"
    server.put({"remote": text_flag("slowly")})
    watch = Watch(daemon, "remote")
    daemon.becomes("remote", "slowly", "a slow answer", 2)
    assert watch.stop() <= {"untagged", "slowly"}
    # An answer that never ends keeps nothing else waiting.
    server.mode = "drip"
    harness.wait_for("the drip has begun", lambda: server.count("drip") >= 1, 5)
    for value in ("a", "b"):
        status, body = daemon.request("PUT", "/v1/flags/beside", text_flag(value))
        assert status == 200, body
        daemon.becomes("beside", value, "set while an address drips")
    server.mode = "good"
    harness.wait_for("after the drip it is good again", lambda: daemon.source("set.json")["good"], 3)
    # Silence: the port is gone.
    port = server.port
    server.stop()
    server = None
    state = harness.wait_for("the silence is named", lambda: not daemon.source("set.json")["good"] and daemon.source("set.json"), 3)
    harness.log(f"   silent: {state['problem'][:130]}")
    assert daemon.flag("remote") == "slowly"
    # The start does not wait for a silent address; what other sources say is served.
    late = start(args, folder, stack, f"sources: [{{url: \"http://127.0.0.1:{port}/set.json\", every: 100ms}}]\n"
                 "define: {local: {state: ENABLED, variants: {one: here}, defaultVariant: one}}", name="late")
    assert late.flag("local") == "here" and late.flag("remote") == "FLAG_NOT_FOUND"
    assert not late.source("set.json")["good"], late.state()["sources"]


def override_order(args, folder, stack):
    """define, file, folder, address, runtime: each overrides what stands before it, and goes back"""
    server = FlagServer({"k": text_flag("address")})
    stack.callback(server.stop)
    os.makedirs(os.path.join(folder, "flags.d"))
    save(os.path.join(folder, "file.json"), {"k": text_flag("file")})
    save(os.path.join(folder, "flags.d", "a.json"), {"k": text_flag("folder")})
    daemon = start(args, folder, stack, "define: {k: {state: ENABLED, variants: {one: define}, defaultVariant: one}}\nsources: [@FOLDER@/file.json, "
                   f"{{directory: @FOLDER@/flags.d}}, {{url: \"http://127.0.0.1:{server.port}/a\", every: 100ms}}]")
    assert daemon.flag("k") == "address"
    status, body = daemon.request("PUT", "/v1/flags/k", text_flag("runtime"))
    assert status == 200, body
    daemon.becomes("k", "runtime", "set at runtime")
    server.put({})
    save(os.path.join(folder, "file.json"), {"k": text_flag("file2")})
    time.sleep(0.3)
    assert daemon.flag("k") == "runtime", "a source overrode what was set at runtime"
    status, body = daemon.request("DELETE", "/v1/flags/k")
    assert status == 200, body
    daemon.becomes("k", "folder", "taken away at runtime")
    os.unlink(os.path.join(folder, "flags.d", "a.json"))
    daemon.becomes("k", "file2", "the folder is empty")
    save(os.path.join(folder, "file.json"), {})
    daemon.becomes("k", "define", "the file is empty")


# ---- refusals ----

def refused_whole(args, folder, stack):
    """a bad update changes nothing, is named with line and column, and a restart with it fails the same way"""
    path = os.path.join(folder, "flags.json")
    save(path, {"a": text_flag("old"), "b": text_flag("old")})
    save(os.path.join(folder, "other.json"), {"c": text_flag("old")})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json, @FOLDER@/other.json]")
    save(path, '{\n  "flags": {\n    "a": ' + json.dumps(text_flag("new")) + ',\n    "b": {"state": "SOMETIMES"}\n  }\n}\n')
    text = daemon.refusal("flags.json:4:")
    harness.log("   " + text)
    assert re.search(r"flags\.json:4:\d+: ", text), text
    assert daemon.flag("a") == "old" and daemon.flag("b") == "old", "half of a refused file is in force"
    # Another source still moves while this one is broken, and the kill switch works.
    save(os.path.join(folder, "other.json"), {"c": text_flag("new")})
    daemon.becomes("c", "new", "another source while one is broken", 3)
    status, body = daemon.request("POST", "/v1/flags/a/off", {})
    assert status == 200, body
    daemon.becomes("a", None, "killed while a source is broken")
    status, body, _ = daemon.ask("/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "u"}})
    assert {f["key"]: f.get("value") for f in body["flags"]} == {"a": None, "b": "old", "c": "new"}, body
    status, metrics = daemon.request("GET", "/metrics")
    assert "sluice_flag_set_refused 1" in metrics, [m for m in metrics.splitlines() if "sluice_flag_set" in m]
    # A bad file at the start is a reason not to start.
    config = open(daemon.config_path, encoding="utf-8").read()
    daemon.stop()
    result = subprocess.run([args.binary, "serve", daemon.config_path], capture_output=True, text=True, timeout=20)
    assert result.returncode not in (0, -6, -11) and re.search(r"flags\.json:4:\d+: ", result.stderr), f"{result.returncode} {result.stderr}"
    harness.log("   start: " + result.stderr.strip().splitlines()[-1][:150])
    for what, flags in {"a file that is not there": "nothing.json", "a folder that is not there": "{directory: nothing.d}"}.items():
        other = os.path.join(folder, "other.yaml")
        with open(other, "w", encoding="utf-8") as f:
            f.write(re.sub(r"sources: .*", f"sources: [{flags}]", config))
        result = subprocess.run([args.binary, "serve", other], capture_output=True, text=True, timeout=20)
        assert result.returncode not in (0, -6, -11) and "nothing" in result.stderr, f"{what}: {result.returncode} {result.stderr}"
        harness.log("   start: " + result.stderr.strip().splitlines()[-1][:150])


def reload(args, folder, stack):
    """SIGHUP takes other sources and other flags of the file; a file with a mistake changes nothing"""
    for name in ("a", "b"):
        save(os.path.join(folder, name + ".json"), {"who": text_flag(name), name: text_flag(name)})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/a.json]")
    assert daemon.flag("who") == "a"
    config = open(daemon.config_path, encoding="utf-8").read()
    save(daemon.config_path, config.replace("a.json]", "a.json, " + folder + "/b.json]\n  define: {own: {state: ENABLED, variants: {one: 1}, defaultVariant: one}}"))
    daemon.signal(signal.SIGHUP)
    daemon.becomes("who", "b", "a source more", 3)
    assert daemon.flag("own") == 1 and daemon.flag("a") == "a"
    good = open(daemon.config_path, encoding="utf-8").read()
    for bad, word in ((good.replace("variants: {one: 1}", "variants: {one: 1, two: x}"), "sluice.yaml:8:"), (good.replace("sources:", "sourcse:"), "sluice.yaml:7:"),
                      (good.replace("]\n  define: {own", ", /none.json]\n  define: {own"), "none.json")):
        before = len(daemon.output())
        assert bad != good
        save(daemon.config_path, bad)
        daemon.signal(signal.SIGHUP)
        harness.wait_for(f"{word} is said", lambda: word in daemon.output()[before:] and " error " in daemon.output()[before:], 3)
        time.sleep(0.2)
        assert daemon.flag("who") == "b" and daemon.flag("own") == 1, f"a bad file took effect: {daemon.output()[before:]}"
        harness.log("   " + next(line for line in daemon.output()[before:].splitlines() if " error " in line)[25:175])
    save(daemon.config_path, config)
    daemon.signal(signal.SIGHUP)
    daemon.becomes("who", "a", "a source less", 3)
    assert daemon.flag("b") == "FLAG_NOT_FOUND" and daemon.flag("own") == "FLAG_NOT_FOUND"


# ---- who may ask ----

def make_token(args, name, kind, environment):
    result = subprocess.run([args.binary, "flag", "token", "--name", name, "--kind", kind, "--environment", environment, "--json"],
                            capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    return body["token"], body["line"]


def tokens(args, folder, stack):
    """each token sees its own environment; a server's reads definitions; unknown ones get 401; SIGHUP takes a new file"""
    for name in ("shop", "bank"):
        save(os.path.join(folder, name + ".json"), json.dumps({"metadata": {"flagSetId": name}, "flags": {name: switch(), "both": text_flag(name)}}))
    made = {name: make_token(args, name, kind, environment) for name, kind, environment in
            (("shop", "read", "shop"), ("bank", "server", "bank"), ("all", "read", "*"), ("root", "server", "*"), ("late", "read", "*"))}
    path = os.path.join(folder, "tokens")
    with open(path, "w", encoding="ascii") as f:
        f.write("# who may ask\n" + "".join(made[n][1] + "\n" for n in ("shop", "bank", "all", "root")))
    os.chmod(path, 0o600)
    assert not any(secret in open(path, encoding="ascii").read() for secret, _ in made.values()), "a token stands in the file in plain"
    daemon = start(args, folder, stack, "sources: [@FOLDER@/shop.json, @FOLDER@/bank.json]\ntokens: @FOLDER@/tokens")

    def bearer(name):
        return {"Authorization": f"Bearer {made[name][0]}"}

    def keys(headers, query=""):
        status, body, _ = daemon.ask("/ofrep/v1/evaluate/flags" + query, {"context": {}}, headers)
        return sorted(f["key"] for f in body["flags"]) if status == 200 else status

    status, body, headers = daemon.ask("/ofrep/v1/evaluate/flags/shop", {"context": {}})
    assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer") and "errorDetails" in body, f"{status} {body} {headers}"
    status, body, headers = daemon.ask("/ofrep/v1/evaluate/flags/shop", {"context": {}}, {"Authorization": "Bearer sluice_wrong"})
    assert status == 401 and "invalid_token" in headers["WWW-Authenticate"], f"{status} {body} {headers}"
    assert daemon.flag("shop", headers=bearer("shop")) is False and daemon.flag("shop", headers={"X-API-Key": made["shop"][0]}) is False
    assert daemon.flag("bank", headers=bearer("shop")) == "FLAG_NOT_FOUND", "a token sees another environment"
    assert daemon.flag("both", headers=bearer("shop")) == "shop" and daemon.flag("both", headers=bearer("all")) == "bank"
    assert keys(bearer("shop")) == ["both", "shop"] and keys(bearer("bank")) == ["bank", "both"] and keys(bearer("all")) == ["bank", "both", "shop"]
    assert keys(bearer("shop") | {"Flagd-Selector": "flagSetId=bank"}) == 403 and keys(bearer("shop"), "?selector=flagSetId%3Dbank") == 403
    assert keys(bearer("all") | {"Flagd-Selector": "flagSetId=bank"}) == ["bank", "both"]

    def fetch(name):
        status, body, _ = daemon.ask("/flagd.sync.v1.FlagSyncService/FetchAllFlags", {}, bearer(name))
        return status, body

    assert fetch("shop")[0] == 403 and fetch("all")[0] == 403, "a read token got definitions"
    status, body = fetch("root")
    assert status == 200 and set(json.loads(body["flagConfiguration"])["flags"]) == {"shop", "bank", "both"}, f"{status} {body}"
    status, body = fetch("bank")
    assert status == 200 and set(json.loads(body["flagConfiguration"])["flags"]) == {"bank", "both"}, f"a server of one environment: {status} {body}"
    assert "shop" not in json.dumps(body), f"definitions of another environment: {body}"
    assert keys(bearer("late")) == 401
    with open(path, "w", encoding="ascii") as f:
        f.write(made["late"][1] + "\n")
    daemon.signal(signal.SIGHUP)
    harness.wait_for("the new token counts", lambda: keys(bearer("late")) != 401, 3)
    assert keys(bearer("shop")) == 401, "a token that was taken away still counts"
    before = len(daemon.output())
    with open(path, "w", encoding="ascii") as f:
        f.write("late read\n")
    daemon.signal(signal.SIGHUP)
    harness.wait_for("the bad token file is named", lambda: "tokens:1" in daemon.output()[before:], 3)
    assert keys(bearer("late")) == ["bank", "both", "shop"], "a bad token file took the good tokens away"
    config = open(daemon.config_path, encoding="utf-8").read()
    daemon.stop()
    with open(path, "w", encoding="ascii") as f:
        f.write(made["late"][1] + "\n")
    os.chmod(path, 0o622)
    result = subprocess.run([args.binary, "serve", daemon.config_path], capture_output=True, text=True, timeout=20)
    assert result.returncode not in (0, -6, -11) and "tokens" in result.stderr, f"others may write the tokens: {result.returncode} {result.stderr}"
    save(daemon.config_path, config.replace("listen: 127.0.0.1", "listen: 0.0.0.0").replace(f"tokens: {folder}/tokens", ""))
    result = subprocess.run([args.binary, "serve", daemon.config_path], capture_output=True, text=True, timeout=20)
    assert result.returncode not in (0, -6, -11) and "tokens" in result.stderr, f"an open address without tokens: {result.returncode} {result.stderr}"


def rate(args, folder, stack):
    """beyond the rate: 429 with a Retry-After that is true"""
    daemon = start(args, folder, stack, "define: {k: {state: ENABLED, variants: {one: 1}, defaultVariant: one}}\nrate: 5\nburst: 10")
    answers = [daemon.ask("/ofrep/v1/evaluate/flags/k", {"context": {}}) for _ in range(40)]
    limited = [(body, headers) for status, body, headers in answers if status == 429]
    assert 20 <= len(limited) <= 30, f"{len(limited)} of 40 were limited"
    body, headers = limited[-1]
    seconds = int(headers["Retry-After"])
    assert 1 <= seconds <= 3 and body.get("errorDetails"), f"{headers} {body}"
    time.sleep(seconds)
    assert daemon.ask("/ofrep/v1/evaluate/flags/k", {"context": {}})[0] == 200, "the promise of Retry-After was not kept"
    assert daemon.request("GET", "/readyz")[0] == 200


# ---- telemetry ----

def exposures(args, folder, stack):
    """the first sight of a variant by a key is one line; the second, and bulk answers, are none"""
    save(os.path.join(folder, "flags.json"), {"k": switch(targeting={"if": [{"==": [{"var": "p"}, 1]}, "on"]}), "off": {**switch(), "state": "DISABLED"}})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json]\nexposures: @FOLDER@/seen.jsonl")
    for _ in range(3):
        for key in ("ann", "bob", 'c"\n€'):
            for p in (0, 1):
                daemon.flag("k", {"targetingKey": key, "p": p})
        daemon.flag("off", {"targetingKey": "ann"})
        daemon.ask("/ofrep/v1/evaluate/flags/k", {"context": {}})
        daemon.ask("/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "bulk"}})
    path = os.path.join(folder, "seen.jsonl")

    def lines():
        with open(path, encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    harness.wait_for("exposures are written", lambda: len(lines()) >= 6, 5)
    time.sleep(0.3)
    seen = [(line["flag"], line["variant"], line["targetingKey"]) for line in lines()]
    assert sorted(seen) == sorted(("k", v, who) for who in ("ann", "bob", 'c"\n€') for v in ("on", "off")), seen
    harness.log("   " + json.dumps(lines()[0]))
    daemon.flag("k", {"targetingKey": "last"})
    daemon.stop()
    assert lines()[-1]["targetingKey"] == "last", "what was seen just before the end is lost"


class Stream:
    """Server-sent events as a client reads them."""

    def __init__(self, daemon, path="/ofrep/v1/stream", headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
        self.connection.request("GET", path, headers={"Accept": "text/event-stream"} | (headers or {}))
        self.socket = self.connection.sock
        self.answer = self.connection.getresponse()
        self.events, self.last_id = [], None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            for line in self.answer:
                if line.startswith(b"id:"):
                    self.last_id = line[3:].strip().decode()
                elif line.startswith(b"data:"):
                    self.events.append((time.monotonic(), json.loads(line[5:])))

    def close(self):
        # The reader holds the answer's lock while it waits: only the socket beneath can end it.
        with contextlib.suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)


def streams(args, folder, stack):
    """a change is told to those whose view it touches; who asks then gets the new answer, and 304 until the next"""
    for name in ("shop", "bank"):
        save(os.path.join(folder, name + ".json"), json.dumps({"metadata": {"flagSetId": name}, "flags": {name: text_flag("old")}}))
    daemon = start(args, folder, stack, "sources: [@FOLDER@/shop.json, @FOLDER@/bank.json]")

    def bulk(tag=None, context=None, query=""):
        headers = {"If-None-Match": tag} if tag else {}
        return daemon.ask("/ofrep/v1/evaluate/flags" + query, {"context": context or {"targetingKey": "u"}}, headers)

    status, body, headers = bulk()
    tag = headers["ETag"]
    assert body["eventStreams"][0]["endpoint"]["requestUri"] == "/ofrep/v1/stream", body["eventStreams"]
    assert bulk(tag)[0] == 304 and bulk(tag, {"targetingKey": "v"})[0] == 200 and bulk(tag, query="?selector=flagSetId%3Dshop")[0] == 200
    everything, shop = Stream(daemon), Stream(daemon, "/ofrep/v1/stream?selector=flagSetId%3Dshop")
    for stream in (everything, shop):
        stack.callback(stream.close)
        assert stream.answer.status == 200 and stream.answer.headers["Content-Type"].startswith("text/event-stream"), stream.answer.headers
    harness.wait_for("the streams begin", lambda: everything.last_id and shop.last_id)
    began = time.monotonic()
    save(os.path.join(folder, "bank.json"), json.dumps({"metadata": {"flagSetId": "bank"}, "flags": {"bank": text_flag("new")}}))
    harness.wait_for("the change is told", lambda: everything.events, 3)
    at, event = everything.events[0]
    assert event["type"] == "refetchEvaluation", event
    assert daemon.flag("bank") == "new", "told before it is in force"
    assert bulk(tag)[0] == 200
    harness.log(f"   told {1000 * (at - began):.0f} ms after the file was renamed: {event}")
    time.sleep(0.3)
    assert not shop.events, f"a change that the selector does not see was told: {shop.events}"
    # Nothing changed: nothing is told.
    save(os.path.join(folder, "bank.json"), json.dumps({"metadata": {"flagSetId": "bank"}, "flags": {"bank": text_flag("new")}}))
    time.sleep(0.4)
    assert len(everything.events) == 1, f"the same content again was told: {everything.events}"
    daemon.request("POST", "/v1/flags/shop/off", {})
    harness.wait_for("the kill is told to both", lambda: len(everything.events) == 2 and len(shop.events) == 1, 3)
    # Who was away hears of it at once.
    missed = everything.last_id
    everything.close()
    daemon.request("POST", "/v1/flags/shop/on", {})
    daemon.becomes("shop", "old", "switched on")
    back = Stream(daemon, headers={"Last-Event-ID": missed})
    stack.callback(back.close)
    harness.wait_for("what was missed is told", lambda: back.events, 3)


# ---- in the request path ----

def request_path(args, folder, stack):
    """a service gets variants as a header that no client can forge, and a flag chooses the version"""
    origins = [EchoOrigin(harness.free_port()) for _ in range(2)]
    for origin in origins:
        stack.callback(origin.stop)
    port = harness.free_port()
    head = f"""
listen: [{{address: 127.0.0.1:{port}}}]
services:
  shop:
    versions: {{v1: [127.0.0.1:{origins[0].port}], v2: [127.0.0.1:{origins[1].port}]}}
    stable: v1
    flags:
      key: {{header: X-User}}
      context: {{plan: {{header: X-Plan}}, where: path}}
      headers: {{X-Flags: [banner, theme, killed, nothing]}}
      version: which
"""
    save(os.path.join(folder, "flags.json"), {
        "banner": switch(targeting={"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on"]}),
        "theme": {"state": "ENABLED", "variants": {"light": 1, "dark": 2}, "defaultVariant": "light", "targeting": {"if": [{"==": [{"var": "plan"}, "gold"]}, "dark"]}},
        "killed": {**switch(), "x-sluice": {"kill": True}},
        "which": {"state": "ENABLED", "variants": {"v1": "v1", "v2": "v2", "v9": "v9"}, "defaultVariant": "v1",
                  "targeting": {"if": [{"starts_with": [{"var": "where"}, "/new"]}, "v2", {"starts_with": [{"var": "where"}, "/odd"]}, "v9"]}}})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json]", head=head)
    harness.wait_for("the proxy", lambda: harness.connects(port))

    def send(user, path="/", plan=None, extra=()):
        lines = [f"GET {path} HTTP/1.1", "Host: shop", "Connection: close", f"X-User: {user}", *([f"X-Plan: {plan}"] if plan else []), *extra]
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            data = b""
            while more := s.recv(65536):
                data += more
        assert data.startswith(b"HTTP/1.1 200"), data[:200]
        echoed = data.split(b"\r\n\r\n", 1)[1].decode()
        found = [line.split(":", 1)[1].strip() for line in echoed.split("\r\n") if line.lower().startswith("x-flags:")]
        assert len(found) <= 1, found
        return dict(part.strip().split("=", 1) for part in found[0].split(",")) if found and found[0] else {}

    assert send("ann") == {"banner": "on", "theme": "light", "killed": "off"}, send("ann")
    assert send("bob", plan="gold") == {"banner": "off", "theme": "dark", "killed": "off"}
    forged = send("bob", extra=("X-Flags: banner=on", "x-flags: theme=dark, admin=yes"))
    assert forged == {"banner": "off", "theme": "light", "killed": "off"}, f"a client's own header came through: {forged}"
    for path, which in (("/", 0), ("/new", 1), ("/odd", 0)):
        before = [o.count() for o in origins]
        send("ann", path)
        after = [o.count() for o in origins]
        assert after[which] == before[which] + 1 and sum(after) == sum(before) + 1, f"{path}: {before} {after}"
    daemon.request("POST", "/v1/flags/which/off", {"variant": "v2"})
    began = time.monotonic()

    def second():
        count = origins[1].count()
        send("ann")
        return origins[1].count() == count + 1

    harness.wait_for("the kill moves the traffic", second, 1.0, 0.005)
    harness.log(f"   a switched flag moved the traffic after {1000 * (time.monotonic() - began):.0f} ms")
    daemon.request("POST", "/v1/flags/banner/off", {"variant": "off"})
    harness.wait_for("the kill is in the header", lambda: send("ann")["banner"] == "off", 1.0)


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (files, odd_files, directories, addresses, override_order, refused_whole, reload, tokens, rate, exposures, streams, request_path)}
    ARGS = harness.options(only="")
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS)
