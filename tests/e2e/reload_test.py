#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon that lives through more releases than it has slots: each reload moves all traffic to a version that nobody has
seen before, no request fails, and what is counted of a version stays that version's."""
import json
import re
import socket
import threading
import time

import harness
from wire_test import OK, Origin

CONFIG = """
workers: 2
journal: @FOLDER@/sluice.db
listen: [127.0.0.1:{port}]
admin: {{address: "@ADMIN@"}}
timeouts: {{drain: 30m}}
services:
  shop:
    timeouts: {{first_byte: 30m}}
    versions: {{{versions}}}
    stable: {stable}
"""


def counted(sluice):
    """Requests routed, by version."""
    status, text = sluice.request("GET", "/metrics")
    assert status == 200, f"metrics: {status} {text[:300]}"
    return {name: int(count) for name, count in re.findall(r'^sluice_routed_total{service="shop",version="(\w+)"} (\d+)$', text, re.M)}


def releases(args, folder, stack):
    """fresh versions with each reload under load: none refused, no request failed, no count mixed up"""
    held = threading.Event()
    stack.callback(held.set)

    def answer(head):
        if b"/held" in head:
            held.wait()
        return OK

    origin = Origin(answer)
    stack.callback(origin.stop)
    port = harness.free_port()

    def file(i):
        return CONFIG.format(port=port, stable=f"w{i}", versions=", ".join(f'w{k}: ["127.0.0.1:{origin.port}"]' for k in (i, i + 1)))

    sluice = harness.Sluice(folder, args.binary, file(0))
    stack.callback(sluice.stop)
    with socket.create_connection(("127.0.0.1", port)) as patient:
        patient.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        harness.wait_for("the request of the first version", lambda: any(b"/held" in head for head in origin.heads))
        load = harness.Process(folder, "load", [args.binary, "load", f"http://127.0.0.1:{port}/", "--rate", "200", "--duration", "30m", "--json"])
        stack.callback(load.stop)
        began = time.monotonic()
        for i in range(1, args.reloads + 1):
            with open(sluice.config_path, "w", encoding="utf-8") as f:
                f.write(file(i).replace("@ADMIN@", f"127.0.0.1:{sluice.admin}").replace("@FOLDER@", folder))
            status, told = sluice.request("POST", "/v1/reload")
            assert status == 200, f"reload {i}: {status} {told}"
            assert time.monotonic() - began < 600, f"only {i} reloads in ten minutes"
        harness.wait_for("requests of the last version", lambda: counted(sluice)[f"w{args.reloads}"] > 20)
        assert load.stop() == 0, load.output()
        sent = json.loads(load.output())
        shown = counted(sluice)
        held.set()
        assert patient.recv(4096).startswith(b"HTTP/1.1 200"), "the request of the first version"
    log = f"{args.reloads} reloads in {time.monotonic() - began:.1f} s, {sent['answers']} requests, {len(shown)} versions shown"
    harness.log(f"   {log}")
    assert shown["w0"] == 1, "the request that is held is the first version's, whoever came after it"
    assert sum(shown.values()) <= sent["scheduled"] + 1, log
    if args.reloads > 1024:
        assert "w1" not in shown and len(shown) == 1024, log
    else:
        assert sum(shown.values()) >= sent["answers"] + 1 and len(shown) == args.reloads + 2, log


if __name__ == "__main__":
    harness.run([releases], harness.options(reloads=300))
