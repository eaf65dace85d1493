#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 to services, with Node's server as the origin and grpc-js as service and client: requests of HTTP/1.1 and HTTP/2, TLS where
the origin agrees and where it does not, clients that leave, gRPC of all kinds, and a canary that is taken back for its gRPC status."""
import json
import subprocess
import threading

import harness
from flag_sdk_test import Application
from tls_origin_test import Authority

CONFIG = """
listen: [127.0.0.1:{port}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    http2: on
    {more}
    versions:
      v1: ["127.0.0.1:{origin}"]
"""

ROLLOUT = """
listen: [127.0.0.1:{port}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    http2: on
    versions: {{v1: ["127.0.0.1:{v1}"], v2: ["127.0.0.1:{v2}"]}}
    stable: v1
rollouts:
  shop-v2:
    service: shop
    to: v2
    warmup: 1s
    stages: [{{weight: 50%, for: 60s, horizon: 120s}}, {{weight: 100%, for: 1s, soak: 3s}}]
    checks: {{errors: {{negligible: 5%, budget: 20%}}, latency: off, statuses: off, throughput: off}}
"""


def start(args, folder, stack, kind, more="", **words):
    app = Application(folder, "origin.mjs")
    stack.callback(app.stop)
    origin, port = harness.free_port(), harness.free_port()
    app(kind, port=origin, **words)
    sluice = harness.Sluice(folder, args.binary, CONFIG.format(port=port, origin=origin, more=more))
    stack.callback(sluice.stop)
    return app, port


def curl(*words, data=None):
    done = subprocess.run([harness.find_program("curl"), "-sS", "-m", "20", *words], input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def plain(args, folder, stack):
    """bodies both ways, trailers, HEAD and 204, asked over both versions, through few connections"""
    app, port = start(args, folder, stack, "plain")
    url = f"http://127.0.0.1:{port}"
    for version in ("--http1.1", "--http2-prior-knowledge"):
        told = json.loads(curl(version, "-T", "-", f"{url}/up", data=bytes(3 << 20)))
        assert told["bytes"] == 3 << 20 and told["version"] == "2.0" and told["fields"][":authority"] == f"127.0.0.1:{port}", told
        assert len(curl(version, f"{url}/big/8000000")) == 8000000
        assert b"x-sum: 7" in curl(version, "-i", f"{url}/trailers")
        assert b" 204" in curl(version, "-i", f"{url}/empty").split(b"\r\n")[0]
        assert b" 200" in curl(version, "-I", f"{url}/head").split(b"\r\n")[0]
    told = json.loads(curl("--http2-prior-knowledge", "-H", "TE: trailers", "-H", "Priority: u=1", f"{url}/"))["fields"]
    assert told["te"] == "trailers" and told["priority"] == "u=1" and "connection" not in told, told
    codes = []
    asking = [threading.Thread(target=lambda: codes.append(curl("-o", "/dev/null", "-w", "%{http_code}", f"{url}/"))) for _ in range(40)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert codes == [b"200"] * 40, codes
    assert app("counts")["sessions"] <= 4, app("counts")


def leaves(args, folder, stack):
    """a client that leaves cancels its stream at the origin"""
    app, port = start(args, folder, stack, "plain")
    asked = subprocess.run([harness.find_program("curl"), "-sS", "-m", "1", "--http2-prior-knowledge", f"http://127.0.0.1:{port}/never"], capture_output=True, check=False)
    assert asked.returncode == 28, asked
    harness.wait_for("the stream's end", lambda: app("counts")["cancelled"] == 1)
    assert json.loads(curl(f"http://127.0.0.1:{port}/"))["bytes"] == 0
    assert app("counts")["sessions"] <= 2  # of two workers


def secure(args, folder, stack):
    """with TLS, HTTP/2 where the origin agrees"""
    authority = Authority(folder)
    pem, key = authority.issue("shop", ["IP:127.0.0.1"])
    _, port = start(args, folder, stack, "secure", f"tls: {{ca: {authority.path}}}", pem=pem, key=key)
    told = json.loads(curl("-d", "hello", f"http://127.0.0.1:{port}/"))
    assert told["version"] == "2.0" and told["fields"][":scheme"] == "https" and told["bytes"] == 5, told


def falls_back(args, folder, stack):
    """with TLS, HTTP/1.1 where it does not"""
    authority = Authority(folder)
    pem, key = authority.issue("shop", ["IP:127.0.0.1"])
    _, port = start(args, folder, stack, "secure", f"tls: {{ca: {authority.path}}}", pem=pem, key=key, http1=True)
    for _ in range(3):
        told = json.loads(curl("-d", "hello", f"http://127.0.0.1:{port}/"))
        assert told["version"] == "1.1" and told["bytes"] == 5, told


def calls(args, folder, stack):
    """gRPC: one answer, trailers, a failure, and a stream both ways"""
    app, port = start(args, folder, stack, "grpc")
    found = app("unary", port=port, text="hello ")
    assert found == {"code": 0, "text": "hello true", "after": "1"}, found
    found = app("both", port=port, pieces=20)
    assert found["code"] == 0 and found["came"] == [f"piece {i}" for i in range(20)], found


def fails(args, folder, stack):
    """a gRPC answer of trailers alone tells its client why"""
    app, port = start(args, folder, stack, "grpc", code=14)
    found = app("unary", port=port, text="hello")
    assert found["code"] == 14 and found["details"] == "as told", found


def taken_back(args, folder, stack):
    """a canary that answers UNAVAILABLE is taken back"""
    app = Application(folder, "origin.mjs")
    stack.callback(app.stop)
    ports = {name: harness.free_port() for name in ("port", "v1", "v2")}
    app("grpc", port=ports["v1"])
    app("grpc", port=ports["v2"], code=14)
    sluice = harness.Sluice(folder, args.binary, ROLLOUT.format(**ports))
    stack.callback(sluice.stop)
    sluice.command("shop-v2", "start")
    harness.wait_for("the canary is taken back", lambda: app("unary", port=ports["port"], text="x")["code"] in (0, 14)
                     and sluice.rollout("shop-v2")["state"] == "RolledBack", 120, 0)
    assert sluice.rollout("shop-v2")["verdict"]["check"] == "errors", sluice.rollout("shop-v2")["verdict"]
    assert [app("unary", port=ports["port"], text="x")["code"] for _ in range(10)] == [0] * 10
    replay = sluice.replay()
    assert replay.returncode == 0, f"replay differs: {replay.stdout}{replay.stderr}"


if __name__ == "__main__":
    harness.run([plain, leaves, secure, falls_back, calls, fails, taken_back], harness.options(), at_once=2)
