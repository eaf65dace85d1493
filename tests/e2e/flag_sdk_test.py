#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""OpenFeature's own SDKs against the real daemon: the server SDK with the OFREP provider, the web SDK with its caching one, and the
example in examples/flags-node, as npm installs them. Values, variants, reasons, error codes, metadata, caches and live changes are
what an application sees. Packages are installed once into the user's cache ($XDG_CACHE_HOME/sluice-tests); later runs need no network."""
import glob
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import time

import harness

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sdk")
EXAMPLE = os.path.join(harness.ROOT, "examples", "flags-node")
CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{port}
  sources: [@FOLDER@/flags.json]
{more}
"""
ROLLOUT = """
rollouts:
  half:
    flag: shared
    from: "off"
    to: "on"
    checks: {errors: {}, latency: off}
    stages: [{weight: 50%, for: 1h}, {weight: 100%}]
"""


def switch(default="off", **more):
    return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default, **more}


FLAGS = {
    "bool": switch("on", metadata={"team": "shop", "ticket": 7, "risky": False}),
    "text": {"state": "ENABLED", "variants": {"hello": "hello", "ciao": "ciao"}, "defaultVariant": "hello",
             "targeting": {"if": [{"==": [{"var": "country"}, "it"]}, "ciao"]}},
    "number": {"state": "ENABLED", "variants": {"small": 0.125, "large": 9007199254740991, "minus": -3}, "defaultVariant": "large",
               "targeting": {"if": [{"in": [{"var": "size"}, ["small", "minus"]]}, {"var": "size"}]}},
    "object": {"state": "ENABLED", "variants": {"one": {"a": [1, {"b": "ü€\U0001f600"}], "n": None}, "two": {}}, "defaultVariant": "one"},
    "share": switch(targeting={"fractional": [["on", 30], ["off", 70]]}),
    "disabled": {**switch("on"), "state": "DISABLED"},
    "killed": switch("on", **{"x-sluice": {"kill": "off"}}),
    "bare": {"state": "ENABLED", "variants": {"on": True, "off": False}},
    "faulty": switch(targeting={"nosuch": [1]}),
    "odd key/ü": switch("on"),
    "shared": switch(),
    "live": switch(),
    "target": switch(**{"x-sluice": {"targets": {"on": ["ann"]}}}),
}


def save(folder, flags):
    path = os.path.join(folder, "flags.json")
    with open(path + "~", "w", encoding="utf-8") as f:
        json.dump({"metadata": {"flagSetId": "test", "version": "7"}, "flags": flags}, f)
    os.rename(path + "~", path)


# ---- npm ----

def installed(source):
    """The folder with the packages of source/package.json: from the cache, or installed into it now."""
    node, npm = harness.find_program("node"), harness.find_program("npm")
    with open(os.path.join(source, "package.json"), "rb") as f:
        text = f.read()
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
    if int(re.match(r"v(\d+)", version).group(1)) < 18:
        harness.skip(f"node {version} is too old: the SDKs need 18")
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sluice-tests")
    home = os.path.join(cache, "npm-" + hashlib.sha256(text).hexdigest()[:16])
    if os.path.isdir(os.path.join(home, "node_modules")):
        return home
    fresh = f"{home}.{os.getpid()}"
    os.makedirs(fresh)
    with open(os.path.join(fresh, "package.json"), "wb") as f:
        f.write(text)
    try:
        result = subprocess.run([npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
                                 "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000", "--fetch-timeout=20000"], cwd=fresh, capture_output=True, text=True, timeout=180)
        why = "" if result.returncode == 0 else re.sub(r"(?m)^npm warn .*\n", "", result.stdout + result.stderr)
    except subprocess.TimeoutExpired:
        why = "npm does not end: network timeout"
    if why:
        shutil.rmtree(fresh, ignore_errors=True)
        # No way to the packages is no fault of ours, on a desk and in CI. Anything else is.
        if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|timeout|ENOTCACHED|E40[137]|E50\d|UNABLE_TO|CERT", why):
            harness.log("SKIPPED: npm reaches no registry and nothing is in the cache: " + " ".join(why.split())[:300])
            raise SystemExit(harness.SKIP)
        raise AssertionError(f"npm install failed: {why[-1500:]}")
    try:
        os.rename(fresh, home)
    except OSError:  # another run was quicker
        shutil.rmtree(fresh, ignore_errors=True)
    return home


class Application:
    """One of the programs in sdk/, which does what it is told line by line."""

    def __init__(self, folder, script):
        home = os.path.join(folder, "application")
        os.makedirs(home)
        for path in glob.glob(os.path.join(HERE, "*.mjs")):
            shutil.copy(path, home)
        os.symlink(os.path.join(installed(HERE), "node_modules"), os.path.join(home, "node_modules"))
        self.errors = open(os.path.join(folder, "application.log"), "wb")
        self.popen = subprocess.Popen([harness.find_program("node"), script], cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def stop(self):
        self.popen.stdin.close()
        try:
            self.popen.wait(0.5)
        except subprocess.TimeoutExpired:  # an open stream keeps it alive
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()
        self.errors.close()

    def __call__(self, order, **words):
        self.popen.stdin.write((json.dumps({"order": order, **words}) + "\n").encode())
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, f"the application has ended with {self.popen.wait(5)}"
        answer = json.loads(line)
        if "thrown" in answer:
            raise RuntimeError(answer["thrown"])
        return answer["result"]

    def ask(self, kind, key, fallback, context=None, **words):
        return self("evaluate", kind=kind, key=key, fallback=fallback, context=context or {}, **words)


class Daemon(harness.Sluice):
    def __init__(self, args, folder, more="", head=""):
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        if not os.path.exists(os.path.join(folder, "flags.json")):
            save(folder, FLAGS)
        super().__init__(folder, args.binary, CONFIG.format(port=self.port, more=more) + head)
        harness.wait_for("evaluation", lambda: harness.connects(self.port))

    def count(self, name):
        status, text = self.request("GET", "/metrics")
        assert status == 200, text
        return int(float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1)))


def start(args, folder, stack, script, more="", head=""):
    installed(HERE)
    daemon = Daemon(args, folder, more, head)
    stack.callback(daemon.stop)
    application = Application(folder, script)
    stack.callback(application.stop)
    return daemon, application


def check(found, what, **wanted):
    for name, value in wanted.items():
        came = found[name]
        assert came == value and isinstance(came, bool) == isinstance(value, bool), f"{what}: {name} is {came!r}, not {value!r}: {found}"


# ---- the server SDK ----

def server_answers(args, folder, stack):
    """server SDK: values of every type, variants, reasons, error codes, metadata, the code's own defaults"""
    daemon, app = start(args, folder, stack, "server.mjs", head=ROLLOUT)
    app("connect", domain="d", baseUrl=daemon.url)
    daemon.command("half", "start")
    daemon.wait_state("half", "Shifting", 20, report=False)
    user = {"targetingKey": "user-1"}
    cases = 0
    for kind, key, fallback, context, wanted in (
            ("boolean", "bool", False, user, {"value": True, "variant": "on", "reason": "STATIC", "error": None}),
            ("boolean", "bool", False, {}, {"value": True, "reason": "STATIC"}),
            ("string", "text", "x", user, {"value": "hello", "variant": "hello", "reason": "DEFAULT"}),
            ("string", "text", "x", user | {"country": "it"}, {"value": "ciao", "variant": "ciao", "reason": "TARGETING_MATCH"}),
            ("number", "number", 1, user, {"value": 9007199254740991, "reason": "DEFAULT"}),
            ("number", "number", 1, user | {"size": "small"}, {"value": 0.125, "variant": "small", "reason": "TARGETING_MATCH"}),
            ("number", "number", 1, user | {"size": "minus"}, {"value": -3}),
            ("object", "object", {}, user, {"value": FLAGS["object"]["variants"]["one"], "variant": "one", "reason": "STATIC"}),
            ("boolean", "odd key/ü", False, user, {"value": True, "variant": "on"}),
            ("boolean", "target", False, {"targetingKey": "ann"}, {"value": True, "reason": "TARGETING_MATCH"}),
            ("boolean", "target", False, {"targetingKey": "bob"}, {"value": False}),
            ("boolean", "killed", True, user, {"value": False, "variant": "off", "reason": "DISABLED"}),
            # This provider knows no answer without a value: the code's default counts, under a general error.
            ("boolean", "disabled", False, user, {"value": False, "variant": None}),
            ("boolean", "disabled", True, user, {"value": True, "variant": None}),
            ("boolean", "bare", True, user, {"value": True, "variant": None}),
            ("boolean", "none", True, user, {"value": True, "reason": "ERROR", "error": "FLAG_NOT_FOUND"}),
            ("string", "bool", "mine", user, {"value": "mine", "reason": "ERROR", "error": "TYPE_MISMATCH"}),
            ("boolean", "text", True, user, {"value": True, "error": "TYPE_MISMATCH"}),
            ("number", "object", 5, user, {"value": 5, "error": "TYPE_MISMATCH"}),
            ("boolean", "faulty", True, user, {"value": True, "reason": "ERROR", "error": "PARSE_ERROR"}),
            ("boolean", "share", True, {}, {"value": True, "reason": "ERROR", "error": "TARGETING_KEY_MISSING"})):
        found = app.ask(kind, key, fallback, context, domain="d")
        check(found, f"{key} for {context}", **wanted)
        assert not found["error"] or found["message"], f"an error without a word: {found}"
        cases += 1
    check(app.ask("boolean", "bool", False, user, domain="d"), "metadata",
          metadata={"flagSetId": "test", "version": "7", "team": "shop", "ticket": 7, "risky": False})
    # Many at once: the share is what the file says, everybody's answer stays, and a rollout's share is said to be a split.
    many = app("many", domain="d", count=2000, kind="boolean", key="share", fallback=False)
    again = app("many", domain="d", count=2000, kind="boolean", key="share", fallback=False)
    on = sum(a["value"] for a in many["answers"])
    assert all(a["reason"] == "TARGETING_MATCH" and a["error"] is None for a in many["answers"]), many["answers"][:3]
    assert abs(on - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5, f"{on} of 2000 at 30 %"
    assert [a["value"] for a in many["answers"]] == [a["value"] for a in again["answers"]], "somebody's answer moved"
    split = app("many", domain="d", count=400, kind="boolean", key="shared", fallback=False)["answers"]
    reasons = {(a["value"], a["reason"]) for a in split}
    assert reasons == {(True, "SPLIT"), (False, "SPLIT")}, reasons
    assert abs(sum(a["value"] for a in split) - 200) < 5 * 10, f"{sum(a['value'] for a in split)} of 400 at 50 %"
    harness.log(f"   {cases} questions answered as they should; {on} of 2000 in a share of 30 %; {sum(a['value'] for a in split)} of 400 in a rollout's 50 %")
    # A context of every shape arrives whole.
    shape = {"targetingKey": "u", "country": "it", "deep": {"list": [1, 2.5, None, True, {"x": "€"}]}, "empty": {}, "when": "2026-11-21T00:00:00Z"}
    check(app.ask("string", "text", "x", shape, domain="d"), "a context of every shape", value="ciao")
    # Without a daemon the code's default answers, and it is said.
    daemon.stop()
    found = app.ask("boolean", "bool", False, user, domain="d")
    check(found, "no daemon", value=False, reason="ERROR", error="GENERAL")


def server_live(args, folder, stack):
    """server SDK: a changed file is seen within a second, and `sluice flag off` by the very next evaluation"""
    daemon, app = start(args, folder, stack, "server.mjs")
    app("connect", domain="d", baseUrl=daemon.url)
    question = {"domain": "d", "kind": "boolean", "key": "live", "fallback": False, "context": {"targetingKey": "u"}}
    times = {"file": [], "off": [], "on": []}
    for turn in range(4):
        wanted = turn % 2 == 0
        save(folder, FLAGS | {"live": switch("on" if wanted else "off")})
        times["file"].append(app("until", value=wanted, seconds=1, **question)["ms"])
    save(folder, FLAGS | {"live": switch("on")})
    app("until", value=True, seconds=1, **question)
    env = {**os.environ, "SLUICE_ADMIN": f"127.0.0.1:{daemon.admin}"}
    for _ in range(3):
        # The command ends when the change is in force: the very next evaluation has it.
        for word, wanted in (("off", False), ("on", True)):
            words = ["flag", word, "live"]
            began = time.monotonic()
            result = subprocess.run([args.binary, *words], capture_output=True, text=True, timeout=20, env=env)
            assert result.returncode == 0, result.stderr
            found = app.ask("boolean", "live", not wanted, {"targetingKey": "u"}, domain="d")
            times[word].append(1000 * (time.monotonic() - began))
            check(found, f"after flag {word}", value=wanted, reason="DISABLED" if word == "off" else "STATIC")
    harness.log("   seen after " + ", ".join(f"{max(ms):.0f} ms ({what})" for what, ms in times.items()) + ", the slowest of each")
    # Most of a command's time is its start, which is slow with a sanitizer on a busy machine; what it promises is the next answer.
    assert max(times["file"]) < 1000 and max(times["off"] + times["on"]) < 5000, times


def make_tokens(args, folder):
    result = subprocess.run([args.binary, "flag", "token", "--name", "app", "--json"], capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result.stderr
    body = json.loads(result.stdout)
    with open(os.path.join(folder, "tokens"), "w", encoding="ascii") as f:
        f.write(body["line"] + "\n")
    os.chmod(os.path.join(folder, "tokens"), 0o600)
    return body["token"]


def server_refused(args, folder, stack):
    """server SDK: without a token and beyond the rate the code's default answers; the provider keeps away as long as it is told to"""
    token = make_tokens(args, folder)
    daemon, app = start(args, folder, stack, "server.mjs", more="  tokens: @FOLDER@/tokens\n  rate: 5\n  burst: 20")
    app("connect", domain="none", baseUrl=daemon.url)
    app("connect", domain="wrong", baseUrl=daemon.url, headers=[["Authorization", "Bearer sluice_wrong"]])
    app("connect", domain="right", baseUrl=daemon.url, headers=[["Authorization", "Bearer " + token]])
    app("connect", domain="key", baseUrl=daemon.url, headers=[["X-API-Key", token]])
    user = {"targetingKey": "u"}
    for domain in ("none", "wrong"):
        found = app.ask("boolean", "bool", False, user, domain=domain)
        check(found, domain, value=False, reason="ERROR", error="GENERAL", variant=None)
    for domain in ("right", "key"):
        check(app.ask("boolean", "bool", False, user, domain=domain), domain, value=True, reason="STATIC")
    assert daemon.count('sluice_evaluation_refused_total{why="unauthorized"}') == 2
    limited = None
    for _ in range(200):
        found = app.ask("boolean", "bool", False, user, domain="right")
        if found["error"]:
            limited = found
            break
    assert limited and limited["value"] is False, "never limited"
    before = daemon.count("sluice_evaluation_requests_total")
    paused = [app.ask("boolean", "bool", False, user, domain="right") for _ in range(20)]
    assert all("TooManyRequests" in p["message"] and p["value"] is False for p in paused), paused[0]
    assert daemon.count("sluice_evaluation_requests_total") == before, "the provider asked although it was told to wait"
    until = app("until", domain="right", value=True, seconds=5, kind="boolean", key="bool", fallback=False, context=user)
    harness.log(f"   limited: {limited['message'][:60]!r}; then: {paused[0]['message'][:60]!r}; answered again after {until['ms']:.0f} ms")
    assert 200 < until["ms"] < 3500, until


# ---- the web SDK ----

def web_answers(args, folder, stack):
    """web SDK: one bulk evaluation answers everything, with the code's default where no value is; another context, another answer"""
    daemon, app = start(args, folder, stack, "web.mjs")
    app("connect", baseUrl=daemon.url, changeDetection="none", cacheMode="disabled", context={"targetingKey": "user-1"})
    assert [(r["status"], r["tag"]) for r in app("requests")] == [(200, None)]
    for kind, key, fallback, wanted in (
            ("boolean", "bool", False, {"value": True, "variant": "on", "reason": "STATIC", "error": None}),
            ("string", "text", "x", {"value": "hello", "reason": "DEFAULT"}),
            ("number", "number", 1, {"value": 9007199254740991}),
            ("object", "object", {}, {"value": FLAGS["object"]["variants"]["one"], "variant": "one"}),
            ("boolean", "odd key/ü", False, {"value": True}),
            ("boolean", "disabled", False, {"value": False, "reason": "DISABLED", "error": None}),
            ("boolean", "disabled", True, {"value": True, "reason": "DISABLED", "error": None}),
            ("boolean", "bare", True, {"value": True, "reason": "DEFAULT", "error": None}),
            ("boolean", "killed", True, {"value": False, "variant": "off", "reason": "DISABLED"}),
            ("boolean", "none", True, {"value": True, "reason": "ERROR", "error": "FLAG_NOT_FOUND"}),
            ("string", "bool", "mine", {"value": "mine", "reason": "ERROR", "error": "TYPE_MISMATCH"}),
            ("boolean", "faulty", True, {"value": True, "reason": "ERROR", "error": "PARSE_ERROR"})):
        check(app.ask(kind, key, fallback), key, **wanted)
    assert app.ask("boolean", "bool", False)["metadata"].get("team") == "shop"
    assert app("requests") == [], "an evaluation asked the daemon"
    # Another member of the same user: the tag is sent, and covers the context, so the answer is a new one.
    app("context", context={"targetingKey": "user-1", "country": "it"})
    check(app.ask("string", "text", "x"), "another context", value="ciao", reason="TARGETING_MATCH")
    (asked,) = app("requests")
    assert asked["status"] == 200 and asked["tag"], asked
    app("context", context={"targetingKey": "user-1", "country": "it"})
    assert [r["status"] for r in app("requests")] in ([304], []), "the same context was answered in full"
    check(app.ask("string", "text", "x"), "the same context", value="ciao")
    app("context", context={})
    check(app.ask("boolean", "share", True), "nobody", value=True, reason="ERROR", error="TARGETING_KEY_MISSING")
    check(app.ask("boolean", "bool", False), "nobody", value=True)


def web_polling(args, folder, stack):
    """web SDK: polls are answered by 304 until something changes; then a change event names exactly the flag"""
    daemon, app = start(args, folder, stack, "web.mjs")
    app("connect", baseUrl=daemon.url, changeDetection="polling", pollInterval=100, cacheMode="disabled", context={"targetingKey": "user-1"})
    time.sleep(1.2)
    statuses = [r["status"] for r in app("requests")]
    under_way = statuses[-1] == 0 # and perhaps the one that tells of the first change
    if under_way:
        statuses.pop()
    assert statuses[0] == 200 and set(statuses[1:]) == {304} and len(statuses) >= 6, statuses
    took = []
    for turn in range(3):
        # What an application of this user cannot see is no change to it.
        save(folder, FLAGS | {"live": switch("on" if turn % 2 == 0 else "off")})
        began = 1000 * time.time()
        event = app("event", name="PROVIDER_CONFIGURATION_CHANGED", after=began - 50, seconds=3)
        took.append(event["at"] - began)
        assert event["flags"] == ["live"], event
        check(app.ask("boolean", "live", turn % 2 == 1), "after the event", value=turn % 2 == 0)
        time.sleep(0.3)
    later = [r["status"] for r in app("requests")]
    if later[-1] == 0:
        later.pop()
    assert later.count(200) in (3, 3 - under_way) and set(later) == {200, 304}, later
    daemon.request("POST", "/v1/flags/live/off", {})
    began = 1000 * time.time()
    app("event", name="PROVIDER_CONFIGURATION_CHANGED", after=began - 50, seconds=3)
    check(app.ask("boolean", "live", True), "after the kill", value=False, reason="DISABLED")
    harness.log(f"   {statuses.count(304) + later.count(304)} polls answered by 304, {1 + later.count(200)} by 200; changes seen after {max(took):.0f} ms at most, polling each 100 ms")
    daemon.stop()
    app("event", name="PROVIDER_STALE", after=began, seconds=3)
    check(app.ask("boolean", "bool", False), "without a daemon", value=True)


def web_events(args, folder, stack):
    """web SDK: the event stream that the bulk answer names tells of changes at once, without a poll"""
    daemon, app = start(args, folder, stack, "web.mjs")
    app("connect", baseUrl=daemon.url, cacheMode="disabled", context={"targetingKey": "user-1"})
    harness.wait_for("the stream is open", lambda: daemon.count("sluice_evaluation_streams") == 1)
    assert [r["status"] for r in app("requests")] == [200]
    took = []
    for turn in range(3):
        save(folder, FLAGS | {"live": switch("on" if turn % 2 == 0 else "off")})
        began = 1000 * time.time()
        event = app("event", name="PROVIDER_CONFIGURATION_CHANGED", after=began - 50, seconds=3)
        took.append(event["at"] - began)
        assert event["flags"] == ["live"], event
        check(app.ask("boolean", "live", turn % 2 == 1), "after the event", value=turn % 2 == 0)
        time.sleep(0.2)
    time.sleep(0.5)
    asked = app("requests")
    assert len(asked) == 3 and all(r["status"] == 200 and r["tag"] for r in asked), asked
    harness.log(f"   changes seen after {max(took):.0f} ms at most, of which the provider waits 50; {len(asked)} requests for 3 changes")
    assert max(took) < 1000, took


def web_cache(args, folder, stack):
    """web SDK: what was kept answers at once when the daemon is away, and is replaced when it is back; a refused token is fatal"""
    token = make_tokens(args, folder)
    daemon, app = start(args, folder, stack, "web.mjs", more="  tokens: @FOLDER@/tokens")
    good = {"baseUrl": daemon.url, "headers": [["Authorization", "Bearer " + token]], "changeDetection": "none", "context": {"targetingKey": "user-1"}}
    try:
        app("connect", baseUrl=daemon.url, changeDetection="none", cacheMode="disabled", context={"targetingKey": "user-1"})
        raise AssertionError("a page without a token was let in")
    except RuntimeError as error:
        harness.log(f"   without a token: {error}")
    check(app.ask("boolean", "bool", False), "without a token", value=False, error="PROVIDER_FATAL")
    app("connect", **good)
    check(app.ask("boolean", "bool", False), "from the daemon", value=True, reason="STATIC")
    daemon.stop()
    app("connect", **good)
    check(app.ask("boolean", "bool", False), "from what was kept", value=True, variant="on", reason="CACHED")
    save(folder, FLAGS | {"bool": switch("off")})
    again = harness.Sluice(folder, args.binary, open(daemon.config_path, encoding="utf-8").read(), admin=daemon.admin)
    stack.callback(again.stop)
    began = 1000 * time.time()
    app("requests")
    app("connect", **good)
    app("event", name="PROVIDER_CONFIGURATION_CHANGED", after=began, seconds=3)
    check(app.ask("boolean", "bool", True), "from the daemon again", value=False, reason="STATIC")
    asked = [r for r in app("requests") if r["status"]]  # the provider that is replaced gives up its own
    assert asked and asked[-1]["status"] == 200 and all(r["tag"] for r in asked), f"the kept tag was not sent: {asked}"


def web_origins(args, folder, stack):
    """what a browser asks before it lets a page ask: preflights, and the headers of every answer, only for the origin configured"""
    origin = "https://shop.example"
    token = make_tokens(args, folder)
    daemon = Daemon(args, folder, f"  tokens: @FOLDER@/tokens\n  cors: {origin}")
    stack.callback(daemon.stop)

    def ask(method, path, headers, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        connection.request(method, path, body, {"Origin": origin} | headers)
        answer = connection.getresponse()
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            answer.read()
        connection.close()
        return answer.status, answer.headers

    bulk, single = "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/bool"
    for path in (bulk, single):
        # A preflight carries no token.
        status, headers = ask("OPTIONS", path, {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,if-none-match"})
        allowed = [name.strip().lower() for name in headers["Access-Control-Allow-Headers"].split(",")]
        assert status in (200, 204) and headers["Access-Control-Allow-Origin"] == origin and "POST" in headers["Access-Control-Allow-Methods"], f"{status} {headers}"
        assert {"authorization", "content-type", "if-none-match"} <= set(allowed), allowed
    bearer = {"Authorization": "Bearer " + token}
    status, headers = ask("POST", bulk, bearer, '{"context": {"targetingKey": "u"}}')
    assert status == 200 and headers["ETag"], f"{status} {headers}"
    for what, answer in {
            "bulk": (status, headers), "304": ask("POST", bulk, bearer | {"If-None-Match": headers["ETag"]}, '{"context": {"targetingKey": "u"}}'),
            "single": ask("POST", single, bearer, '{"context": {}}'), "401": ask("POST", single, {}, '{"context": {}}'),
            "404": ask("POST", single + "x", bearer, '{"context": {}}'), "400": ask("POST", single, bearer, "{"),
            "stream": ask("GET", "/ofrep/v1/stream", bearer)}.items():
        assert what in ("bulk", "single", "stream") and answer[0] == 200 or str(answer[0]) == what, f"{what}: {answer[0]}"
        assert answer[1]["Access-Control-Allow-Origin"] == origin and "Origin" in answer[1].get("Vary", ""), f"{what}: {answer[1]}"
        exposed = answer[1].get("Access-Control-Expose-Headers", "").lower()
        assert "etag" in exposed and "retry-after" in exposed, f"{what}: a page cannot read the tag: {answer[1]}"
    daemon.stop()
    plain = Daemon(args, folder)
    stack.callback(plain.stop)
    daemon.port = plain.port
    status, headers = ask("OPTIONS", bulk, {"Access-Control-Request-Method": "POST"})
    assert status == 405 and "Access-Control-Allow-Origin" not in headers, f"not configured, and yet: {status} {headers}"


# ---- the example ----

def example(args, folder, stack):
    """examples/flags-node says what its reader is promised"""
    if not os.path.exists(os.path.join(EXAMPLE, "package.json")):
        raise AssertionError("examples/flags-node is not there")
    modules = os.path.join(installed(EXAMPLE), "node_modules")
    home = os.path.join(folder, "example")
    os.makedirs(home)
    for path in glob.glob(os.path.join(EXAMPLE, "*.mjs")) + [os.path.join(EXAMPLE, "package.json")]:
        shutil.copy(path, home)
    os.symlink(modules, os.path.join(home, "node_modules"))
    save(folder, {"new-checkout": switch(targeting={"if": [{"==": [{"var": "plan"}, "gold"]}, "on"]})})
    token = make_tokens(args, folder)
    daemon = Daemon(args, folder, "  tokens: @FOLDER@/tokens")
    stack.callback(daemon.stop)

    def run(*words, **env):
        result = subprocess.run([harness.find_program("node"), "index.mjs", *words], cwd=home, capture_output=True, text=True, timeout=30,
                                env={**os.environ, "OFREP_URL": daemon.url, "OFREP_TOKEN": token, **env})
        assert result.returncode == 0, f"{words}: {result.returncode} {result.stderr}"
        return json.loads(result.stdout.strip().splitlines()[-1])

    found = run("new-checkout", "user-1", "gold")
    assert found["value"] is True and found["variant"] == "on" and found["reason"] == "TARGETING_MATCH", found
    found = run("new-checkout", "user-1", "free")
    assert found["value"] is False and found["reason"] == "DEFAULT", found
    found = run("nothing")
    assert found["value"] is False and found["errorCode"] == "FLAG_NOT_FOUND", found
    found = run("new-checkout", OFREP_TOKEN="")
    assert found["value"] is False and found["errorCode"] == "GENERAL", found


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (server_answers, server_live, server_refused, web_answers, web_polling, web_events, web_cache, web_origins, example)}
    ARGS = harness.options(only="")
    installed(HERE)
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS)
