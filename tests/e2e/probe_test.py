#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The probe cases written by others (http11probe.json), sent as raw bytes through the proxy to an echo origin. A case
fails when the outcome is outside what it names, or when the origin saw more requests than were sent (smuggling)."""
import json
import os
import re
import socket
import time

import harness
from echo_origin import EchoOrigin

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
timeouts: {{client_head: 800ms, idle: 800ms, first_byte: 3s}}
services:
  echo:
    routes: [{{path: /}}]
    versions: {{v1: {{endpoints: [127.0.0.1:{origin}]}}}}
    stable: v1
"""
LANES = 6  # each with its own daemon and origin, because most of the time is waiting for an answer that must not come
# About the origin's own features (validators, ranges, content negotiation), not about what stands before it.
LEFT_OUT = {"Capabilities", "COMP-NO-CL-IN-204", "COMP-405-ALLOW", "COMP-TRACE-SENSITIVE"}
# Differences that stand on a rule of ours.
EXPLAINED = {
    "MAL-LONG-HEADER-VALUE": "the payload as documented is shorter than what it describes",
    "SMUG-CHUNK-LF-TRAILER": "the payload as documented ends before the message does: 408",
    "SMUG-CL-LEADING-ZEROS-OCTAL": "leading zeros are decimal (RFC 9110 8.6), so the body is longer than what was sent: 408",
}


def exchange(port, payloads):
    """Sends the payloads one after another on one connection; returns (statuses, closed, raw)."""
    raw, statuses, closed = b"", [], False
    with socket.create_connection(("127.0.0.1", port), 2) as s:
        for payload in payloads:
            try:
                s.sendall(payload)
            except OSError:
                closed = True
                break
            s.settimeout(0.06)
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                try:
                    data = s.recv(65536)
                except socket.timeout:
                    if raw:
                        break
                    continue
                except OSError:
                    closed = True
                    break
                if not data:
                    closed = True
                    break
                raw += data
            if closed:
                break
    statuses = [int(x) for x in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]
    return statuses, closed, raw


def allowed(expected, statuses, closed):
    """Reads the expectation's words: 'ok', 'warn' or 'fail'."""
    text = expected.lower()
    final = [s for s in statuses if s >= 200] or [0]
    first = final[0]
    if first == 408:  # our way of saying that time ran out
        return "ok" if "timeout" in text or "close" in text else "fail"
    if "poisoned follow-up" in text or "extra response" in text:
        return "ok" if first >= 400 else "warn"
    if first == 0 and closed:
        return "ok" if re.search(r"close|drop|timeout", text) else "fail"
    if first == 0:
        return "ok" if "timeout" in text else "fail"
    if "any status except 414" in text:
        return "fail" if first == 414 else "ok"
    if "any response" in text:
        return "ok"
    if "non-1xx" in text or "non-101" in text or "not 101" in text:
        return "fail" if 101 in statuses else "ok"
    verdict = "fail"
    for part in re.split(r"[;,]| or | preferred", text):
        for token in re.findall(r"\b([1-5]\d\d|[1-5]xx)\b", part):
            hit = token == str(first) or (token.endswith("xx") and token[0] == str(first)[0])
            if hit:
                verdict = "warn" if "warn" in part and verdict == "fail" else "ok"
    if verdict == "fail" and "date" in text and first // 100 == 2:
        return "ok"
    if verdict == "fail" and re.search(r"reject|drop", text) and first >= 400:
        return "ok"
    if verdict == "fail" and re.search(r"normaliz|excluded from echo|pass-through|imf-fixdate", text) and first // 100 == 2:
        return "ok"
    return verdict


def probe(args, folder, stack, lane):
    shared = harness.find_shared("SLUICE_CONFORMANCE", "conformance")
    if shared is None:
        harness.log("SKIPPED: no conformance cases (SLUICE_CONFORMANCE)")
        return
    with open(os.path.join(shared, "http1", "http11probe.json"), encoding="utf-8") as f:
        cases = json.load(f)
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, CONFIG.format(port=port, origin=origin.port))
    stack.callback(sluice.stop)
    counts = {"ok": 0, "warn": 0, "explained": 0, "fail": 0, "left out": 0}
    for case in cases[lane::LANES]:
        if case["category"] in LEFT_OUT or case["id"] in LEFT_OUT or not case["payloads"]:
            counts["left out"] += 1
            continue
        before = origin.count()
        payloads = [p.encode("latin-1") if max(map(ord, p), default=0) < 256 else p.encode() for p in case["payloads"]]
        statuses, closed, raw = exchange(port, payloads)
        verdict = allowed(case["expected"], statuses, closed)
        # Two requests written as one payload are meant as pipelining; else one payload is at most one request.
        written = sum(len(re.findall(rb"(?:^|\n)[A-Z]+ \S+ HTTP/1\.[01]\r?\n", p)) for p in payloads)
        if origin.count() - before > max(written, len(payloads)):
            verdict = "fail"
        if verdict == "fail" and case["id"] in EXPLAINED:
            verdict = "explained"
        if verdict != "ok":
            harness.log(f"   {verdict}: {case['id']}: expected {case['expected']!r}, got {statuses} closed={closed}")
        counts[verdict] += 1
    # A client that leaves in the middle of a body cuts it for the origin too: that is no smuggling.
    bad = [b for b in origin.bad if "cut short" not in b]
    assert not bad, f"the origin met bytes that are no HTTP: {bad}"
    harness.log(f"   http11probe: {counts}")
    assert counts["fail"] == 0, f"{counts['fail']} cases outside what they allow"


def lane_case(lane):
    def run_lane(args, folder, stack):
        probe(args, folder, stack, lane)

    run_lane.__name__, run_lane.__doc__ = f"probe_{lane}", f"http11probe, every {LANES}th case from case {lane} on"
    return run_lane


if __name__ == "__main__":
    harness.run([lane_case(lane) for lane in range(LANES)], harness.options(), at_once=LANES)
