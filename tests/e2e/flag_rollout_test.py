#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rollouts of flags on the real daemon: a variant's share moves through a ring and stages by evidence from the service that
reads the flag (nginx, which fails where the header says the new variant), or from events; it is taken back from everybody
within a second of the decision; a kill works within a second; shares, kills and definitions survive kill -9; the journal
replays to the same decisions."""
import http.client
import itertools
import json
import os
import subprocess
import threading
import time

import harness

ORIGIN = """
split_clients "$request_id$msec" $lot {{ {fail}% 1; * 0; }}
map "$http_x_flags/$lot" $bad {{ "~{whom}/1$" 1; default 0; }}
log_format flags '$msec $status $http_x_flags';
server {{
  listen 127.0.0.1:{port} backlog=4096;
  access_log {log} flags;
  rewrite ^ /_$bad$uri last;
  location /_1 {{ internal; return 500 "broken\\n"; }}
  location / {{ internal; return 200 "well\\n"; }}
}}
"""
FLAG = '{state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "off"}'
CONFIG = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
{service}
segments:
  internal: {{ends_with: [{{var: email}}, "@example.com"]}}
flags:
  listen: 127.0.0.1:{ofrep}
  define: {{banner: {flag}}}
rollouts:
  banner-on:
    flag: banner
    from: "off"
    to: "on"
    {evidence}
    checks: {{errors: {{negligible: off, margin: 3}}, latency: off}}
    stages:
      - segment: {{name: internal, for: 1s}}
      - {{weight: 20%, for: 1s, horizon: 2m}}
      - {{weight: 50%, for: 1s, horizon: 2m}}
      - {{weight: 100%, soak: 1s, for: 1s}}
    drain: 1s
"""
SERVICE = """
listen: [{{address: 127.0.0.1:{port}}}]
services:
  shop:
    versions: {{v1: [127.0.0.1:{origin}]}}
    flags:
      key: {{header: X-User}}
      context: {{email: {{header: X-Email}}}}
      headers: {{X-Flags: [banner]}}
"""


def daemon(args, folder, evidence, service="", ofrep=None):
    text = CONFIG.format(service=service, ofrep=ofrep or harness.free_port(), flag=FLAG, evidence=evidence)
    return harness.Sluice(folder, args.binary, text)


def evaluate(sluice, key, email=None, flag="banner"):
    context = {"targetingKey": key} | ({"email": email} if email else {})
    status, body = sluice.request("POST", f"/v1/flags/{flag}/eval", {"context": context})
    assert status == 200, f"eval: {status} {body}"
    return body


def wait_ring(sluice):
    """A state is told when it is decided; the set that splits so is in force some milliseconds later."""
    sluice.wait_state("banner-on", "Segment", 10)
    harness.wait_for("the ring has the variant", lambda: evaluate(sluice, "x", "ann@example.com")["variant"] == "on", 1.0)


def wait_split(sluice):
    sluice.wait_state("banner-on", "Shifting", 20)
    harness.wait_for("somebody outside the ring has the variant",
                     lambda: any(evaluate(sluice, f"somebody-{i}")["variant"] == "on" for i in range(60)), 2.0)


class Load:
    """Requests of ever new users, on a few connections, until stopped."""

    def __init__(self, port, threads=4):
        self.port, self.numbers, self.stopping = port, itertools.count(), False
        self.sent = 0
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.stopping:
            connection.request("GET", "/", headers={"X-User": f"user-{next(self.numbers)}", "X-Flags": "banner=on, forged=yes"})
            connection.getresponse().read()
            self.sent += 1

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(10)


def origin(folder, fail, whom):
    port = harness.free_port()
    log = os.path.join(folder, "access.txt")
    return harness.Nginx(folder, "origin", ORIGIN.format(port=port, log=log, fail=fail, whom=whom), port), log


def seen(log):
    """Time, status and flags of each request that the origin saw."""
    with open(log, encoding="ascii") as f:
        return [(float(t), int(s), flags) for t, s, flags in (line.rstrip("\n").split(" ", 2) for line in f if line.endswith("\n"))]


def by_service(args, folder, stack, fail, whom):
    peer, log = origin(folder, fail, whom)
    stack.callback(peer.stop)
    port = harness.free_port()
    sluice = daemon(args, folder, "service: shop", SERVICE.format(port=port, origin=peer.port))
    stack.callback(sluice.stop)
    harness.wait_for("the proxy", lambda: harness.connects(port))
    load = Load(port)
    stack.callback(load.stop)
    return sluice, load, log


def a_bad_variant_is_taken_back(args, folder, stack):
    """The service fails for a third of those who get the new variant: everybody is off within a second of the decision."""
    sluice, load, log = by_service(args, folder, stack, fail=33, whom="banner=on.*")
    sluice.command("banner-on", "start")
    wait_ring(sluice)
    outside = evaluate(sluice, "x", "ann@elsewhere.example")["variant"]
    # On a slow machine the ring's second may be over by now, and then a lot may have been drawn.
    assert outside == "off" or sluice.rollout("banner-on")["state"] != "Segment"
    body = sluice.wait_state("banner-on", ["RollingBack", "RolledBack"], 60)
    decided = body["verdict"]["time_ms"] / 1000
    time.sleep(1.5)
    load.stop()
    last = max(t for t, _, flags in seen(log) if "banner=on" in flags)
    bad = sum(1 for _, status, _ in seen(log) if status == 500)
    harness.log(f"  {load.sent} requests, {bad} failed; the last one with the variant came {last - decided:+.3f} s after the decision")
    assert bad > 0 and last - decided < 1.0, "everybody is off within a second"
    assert not any("forged" in flags for _, _, flags in seen(log)), "a client's own header never reaches the service"
    assert evaluate(sluice, "x", "ann@example.com")["variant"] == "off", "the ring is taken back too"
    sluice.stop()
    replay = sluice.replay()
    assert replay.returncode == 0, replay.stdout + replay.stderr


def a_good_variant_reaches_all(args, folder, stack):
    """Evidence from the service moves it forward; shares are what was wanted; at the end everybody has it."""
    sluice, load, log = by_service(args, folder, stack, fail=5, whom="")
    sluice.command("banner-on", "start")
    sluice.wait_state("banner-on", "Shifting", 20)
    began = time.time()
    body = sluice.wait_state("banner-on", "Completed", 90)
    load.stop()
    first = [flags for t, _, flags in seen(log) if began + 0.2 < t < began + 0.9]
    share = sum("banner=on" in flags for flags in first) / len(first)
    harness.log(f"  share of the new variant in the first stage: {share:.3f} of {len(first)}; {body['verdict']['text'].splitlines()[0]}")
    assert abs(share - 0.2) < 5 * (0.16 / len(first)) ** 0.5, "within the binomial bound of 20 %"
    assert all(evaluate(sluice, f"u{i}")["variant"] == "on" for i in range(50)), "everybody has it"


def events_are_evidence(args, folder, stack):
    """Without a service: errors that users of the flag report take it back, and a bad body counts nothing."""
    sluice = daemon(args, folder, "")
    stack.callback(sluice.stop)
    sluice.command("banner-on", "start")
    wait_split(sluice)
    for body in ({"events": [{"flag": "banner"}]}, {"events": {}}, {"events": [{"flag": "banner", "context": {}, "error": 1}]}):
        status, answer = sluice.request("POST", "/v1/events", body)
        assert status == 400 and answer["error"]["message"], f"{body}: {status} {answer}"
    number, counted = itertools.count(), 0
    arms = {"on": 0, "off": 0}
    end = time.monotonic() + 60
    while sluice.rollout("banner-on")["state"] == "Shifting":
        assert time.monotonic() < end, "never taken back"
        events = []
        for _ in range(200):
            key = f"user-{next(number)}"
            events.append({"flag": "banner", "context": {"targetingKey": key}, "error": False})
        for event in events[:20]:
            arms[evaluate(sluice, event["context"]["targetingKey"])["variant"]] += 1
        # The variant fails for a third of its users.
        for i, event in enumerate(events):
            if i % 3 == 0 and evaluate(sluice, event["context"]["targetingKey"])["variant"] == "on":
                event["error"] = True
        status, answer = sluice.request("POST", "/v1/events", {"events": events})
        assert status == 200, f"{status} {answer}"
        counted += answer["counted"]
    body = sluice.rollout("banner-on")
    harness.log(f"  {counted} events counted, sampled arms {arms}: {body['state']}")
    assert body["state"] in ("RollingBack", "RolledBack"), body["state"]
    harness.wait_for("everybody is off", lambda: all(evaluate(sluice, f"user-{i}")["variant"] == "off" for i in range(20)), 1.0)


def one_key_is_bounded(args, folder, stack):
    """One key with 2 800 events a second neither hides a variant that fails for a tenth of its users nor takes a good one back."""
    sluices = []
    for name in ("hides", "fails"):
        os.makedirs(os.path.join(folder, name))
        sluices.append(daemon(args, os.path.join(folder, name), ""))
        stack.callback(sluices[-1].stop)
        sluices[-1].command("banner-on", "start")
    for sluice in sluices:
        wait_split(sluice)
    hides, fails = sluices
    loud = [next(key for key in map("loud-{}".format, itertools.count()) if evaluate(sluice, key)["variant"] == "on") for sluice in sluices]

    def send(sluice, events):
        status, answer = sluice.request("POST", "/v1/events", {"events": [
            {"flag": "banner", "context": {"targetingKey": key}, "error": error, "latency_ms": 1} for key, error in events]})
        assert status == 200, f"{status} {answer}"
        return answer

    number, excused = itertools.count(), [0, 0]
    end = time.monotonic() + 90
    while hides.rollout("banner-on")["state"] not in ("RollingBack", "RolledBack"):
        assert time.monotonic() < end and hides.rollout("banner-on")["weight"]["wanted"] <= 0.2, hides.rollout("banner-on")
        began = time.monotonic()
        users = [f"user-{next(number)}" for _ in range(150)]
        send(fails, [(user, False) for user in users])
        mine = [user for user in users if evaluate(hides, user)["variant"] == "on"]
        send(hides, [(user, user in mine[::10]) for user in users])
        for i, sluice in enumerate(sluices):
            for _ in range(4):
                excused[i] += send(sluice, [(loud[i], sluice is fails)] * 700)["excused"]
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
    body = fails.rollout("banner-on")
    harness.log(f"  {excused} events excused; the bad one: {hides.rollout('banner-on')['verdict']['text']}")
    assert body["state"] not in ("RollingBack", "RolledBack"), body["verdict"]


def a_kill_switch_guards_the_ring(args, folder, stack):
    """In a ring nothing is compared: the kill switch takes it back by its own failures, in events and in requests."""
    sluice = daemon(args, folder, "kill: {errors: 30%, requests: 20, within: 5s}")
    stack.callback(sluice.stop)
    text = open(sluice.config_path, encoding="utf-8").read()
    assert "kill:" in text
    sluice.command("banner-on", "start")
    wait_ring(sluice)
    events = [{"flag": "banner", "context": {"targetingKey": f"u{i}", "email": "ann@example.com"}, "error": i % 2 == 0} for i in range(40)]
    began = time.monotonic()
    status, answer = sluice.request("POST", "/v1/events", {"events": events})
    assert status == 200 and answer["ring"] == 40, f"{status} {answer}"
    harness.wait_for("everybody is off", lambda: evaluate(sluice, "u1", "ann@example.com")["variant"] == "off", 1.0)
    harness.log(f"  the ring is off {(time.monotonic() - began) * 1000:.0f} ms after its failures were told")
    body = sluice.rollout("banner-on")
    assert body["state"] in ("RollingBack", "RolledBack") and "kill switch" in body["verdict"]["text"], body["verdict"]
    # The same by the service's own requests.
    folder2 = os.path.join(folder, "service")
    os.makedirs(folder2)
    peer, _ = origin(folder2, 60, "banner=on.*")
    stack.callback(peer.stop)
    port = harness.free_port()
    sluice = daemon(args, folder2, "service: shop\n    kill: 30%", SERVICE.format(port=port, origin=peer.port))
    stack.callback(sluice.stop)
    harness.wait_for("the proxy", lambda: harness.connects(port))
    sluice.command("banner-on", "start")
    wait_ring(sluice)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for i in range(60):
        connection.request("GET", "/", headers={"X-User": f"u{i}", "X-Email": "ann@example.com"})
        connection.getresponse().read()
    body = sluice.wait_state("banner-on", ["RollingBack", "RolledBack"], 1.5)
    assert "kill switch" in body["verdict"]["text"], body["verdict"]
    harness.log("  " + body["verdict"]["text"].splitlines()[0])


def changes_survive_death(args, folder, stack):
    """A kill and a definition outlive kill -9, a share stays where it was, and no key moved."""
    sluice = daemon(args, folder, "")
    sluice.command("banner-on", "start")
    wait_split(sluice)
    keys = [f"user-{i}" for i in range(400)]
    before = {key: evaluate(sluice, key)["variant"] for key in keys}
    status, body = sluice.request("PUT", "/v1/flags/fresh", {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"})
    assert status == 200, f"{status} {body}"
    status, body = sluice.request("POST", "/v1/flags/fresh/off", {"variant": "b", "who": "ann"})
    assert status == 200, f"{status} {body}"
    began = time.monotonic()
    harness.wait_for("the kill is in force", lambda: evaluate(sluice, "x", flag="fresh")["variant"] == "b", 1.0)
    harness.log(f"  killed within {(time.monotonic() - began) * 1000:.0f} ms; {sum(v == 'on' for v in before.values())} of {len(keys)} have the variant")
    sluice.kill()
    sluice = harness.Sluice(folder, args.binary, open(sluice.config_path, encoding="utf-8").read(), admin=sluice.admin)
    stack.callback(sluice.stop)
    assert evaluate(sluice, "x", flag="fresh")["variant"] == "b", "the kill is still there"
    after = {key: evaluate(sluice, key)["variant"] for key in keys}
    assert after == before, f"{sum(after[k] != before[k] for k in keys)} keys moved by a restart"
    status, body = sluice.request("GET", "/v1/flags/fresh/history")
    assert status == 200 and "ann" in json.dumps(body), f"{status} {body}"


def refusals(args, folder, stack):
    """A flag under way is not defined anew, a file that does not fit is not taken, wrong words are told with their place."""
    sluice = daemon(args, folder, "")
    stack.callback(sluice.stop)
    sluice.command("banner-on", "start")
    status, body = sluice.request("PUT", "/v1/flags/banner", {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"})
    assert status == 409 and "banner-on" in body["error"]["message"], f"{status} {body}"
    status, body = sluice.request("POST", "/v1/flags/banner/off", {"variant": "none"})
    assert status == 400 and "no variant" in body["error"]["message"], f"{status} {body}"
    status, body = sluice.request("POST", "/v1/flags/nothing/off", {})
    assert status == 404, f"{status} {body}"
    bad = open(sluice.config_path, encoding="utf-8").read().replace("[{var: email}, \"@example.com\"]", "[{var: email}]").replace("defaultVariant: \"off\"", "defaultVariant: \"none\"")
    path = os.path.join(folder, "bad.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(bad.replace("sluice.db", "other.db").replace(str(sluice.admin), str(harness.free_port())))
    result = subprocess.run([args.binary, "serve", path], capture_output=True, text=True, timeout=20)
    assert result.returncode != 0 and "bad.yaml:" in result.stderr and "banner" in result.stderr, result.stderr
    harness.log("  " + result.stderr.strip().replace("\n", "\n  "))


if __name__ == "__main__":
    harness.run([a_bad_variant_is_taken_back, a_good_variant_reaches_all, events_are_evidence, one_key_is_bounded, a_kill_switch_guards_the_ring, changes_survive_death, refusals],
                harness.options())
