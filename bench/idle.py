#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an idle connection of TLS costs in memory, each after one request: Sluice beside nginx and HAProxy. Prints a table of
bytes by which each process grew per connection."""
import argparse
import contextlib
import os
import socket
import ssl
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
import wire  # noqa: E402


def resident(contender):
    return sum(harness.rss_bytes(pid) for pid in contender.pids())


def hold(port, count, context):
    """So many connections of TLS that have had an answer and stay."""
    held = []
    for _ in range(count):
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
        s.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"world\n"):
            more = s.recv(4096)
            assert more, answer
            answer += more
        held.append(s)
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--connections", type=int, default=2000)
    args = parser.parse_args()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        wire.files(folder, os.path.abspath(f"{args.build}/sluice"))
        port = harness.free_port()
        stack.callback(harness.Nginx(folder, "origin", wire.ORIGIN.format(port=port, folder=folder), port).stop)
        print(f"{args.connections} connections\n\n| | bytes per idle connection of TLS |\n|---|---|")
        for c in wire.start(stack, folder, port, {"nginx": wire.start_nginx, "HAProxy": wire.start_haproxy, "Sluice": wire.start_sluice(args.build)}):
            for s in hold(c.port["tls"], 100, context):  # what is set aside once is not counted
                s.close()
            before = resident(c)
            held = hold(c.port["tls"], args.connections, context)
            print(f"| {c.name} | {(resident(c) - before) / args.connections:.0f} |", flush=True)
            for s in held:
                s.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
