#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Endpoints of a version: the real daemon before real origins.

  weights  requests are shared by weight, a drained endpoint gets none, and a user stays at one endpoint
  lists    a file of endpoints that is replaced or written in place is taken up; a bad or empty one changes nothing, is told with
           its line in log and status, and a good one after it is taken again
  missing  the daemon starts without its file of endpoints, says so, answers 503, and serves when the file comes
  churn    endpoints come and go by file under load: no request fails
  operator endpoints are added, drained, removed and reset by command under load, without a failed request; a bad change is
           refused with its line, and what was changed is in force after a restart"""
import http.client
import os
import socketserver
import subprocess
import threading
import time

import harness

FILE = """
journal: @FOLDER@/sluice.db
workers: 2
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    versions: {{v1: {{{endpoints}}}}}
    {words}
"""


class Origin:
    """Answers every request after `pause` seconds."""

    def __init__(self, pause=0.0):
        origin = self
        self.served, self.lock = 0, threading.Lock()

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self):
                while True:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        line = self.rfile.readline()
                        if not line:
                            return
                        head += line
                    with origin.lock:
                        origin.served += 1
                    time.sleep(pause)
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%05d" % origin.port)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                pass  # a client that left

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port


def ask(port, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/", headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def start(args, folder, stack, endpoints, words="", **kwargs):
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, FILE.format(port=port, endpoints=endpoints, words=words), **kwargs)
    stack.callback(sluice.stop)
    return sluice, port


def weights(args, folder, stack):
    heavy, light, drained = Origin(), Origin(), Origin()
    listed = "endpoints: [{address: %s, weight: 9}, %s, {address: %s, weight: 0}]" % (heavy.address, light.address, drained.address)
    sluice, port = start(args, folder, stack, listed)
    for _ in range(400):
        assert ask(port)[0] == 200
    # 0.9 of 400 is 360, with a deviation of 6: beyond 30 it is no chance.
    assert 330 <= heavy.served <= 390, heavy.served
    assert drained.served == 0 and heavy.served + light.served == 400
    sluice.stop()
    equal = "endpoints: [%s, %s, %s]" % (heavy.address, light.address, drained.address)
    os.makedirs(folder + "/again")
    _, port = start(args, folder + "/again", stack, equal, "balance: {hash: {header: X-User}}")
    homes = [ask(port, {"X-User": "u%d" % i})[1] for i in range(60)]
    assert len(set(homes)) == 3, homes
    assert homes == [ask(port, {"X-User": "u%d" % i})[1] for i in range(60)]


def write(path, text, replace=True):
    target = path + ".new" if replace else path
    with open(target, "w", encoding="utf-8") as out:
        out.write(text)
    if replace:
        os.replace(target, path)


def listed(sluice):
    return sluice.request("GET", "/v1/status")[1]["endpoint_lists"][0]


def told(sluice, text):
    harness.wait_for("the log to tell %r" % text, lambda: text in sluice.output())


def in_force(sluice, origins):
    wanted = [getattr(origin, "address", origin) for origin in origins]

    def is_so():
        table = sluice.request("GET", "/v1/table")[1]
        return table["services"][0]["versions"][0]["endpoints"] == wanted and table["version"] == table["acknowledged"]

    harness.wait_for("the endpoints %s" % wanted, is_so)


def lists(args, folder, stack):
    first, second = Origin(), Origin()
    path = folder + "/v1.yaml"
    write(path, "- %s\n" % first.address)
    sluice, port = start(args, folder, stack, "endpoints_file: v1.yaml")
    assert ask(port) == (200, b"%05d" % first.port)
    assert listed(sluice)["state"] == "good" and listed(sluice)["endpoints"] == 1
    for text, problem in (("- 127.0.0.1:1\n- nonsense\n", "line 2: 'nonsense' is not an address"), ("[]\n", "line 1: 'endpoints' is empty"),
                          ("", "the list is empty"), ("- 127.0.0.1:%d\n" % port, "requests would go in circles"),
                          ("- [a\n", "line ")):
        write(path, text)
        harness.wait_for("the list to be bad: " + problem, lambda wanted=problem: wanted in listed(sluice)["problem"])
        assert listed(sluice)["state"] == "bad" and listed(sluice)["endpoints"] == 1
        told(sluice, problem)
        assert ask(port) == (200, b"%05d" % first.port)
    shown = subprocess.run([args.binary, "status", "--admin", "127.0.0.1:%d" % sluice.admin], capture_output=True, text=True, check=False).stdout
    assert "its last good endpoints stay (1)" in shown, shown
    refused = subprocess.run([args.binary, "check", folder + "/sluice.yaml"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "v1.yaml:" in refused.stderr, refused
    for in_place, origin in ((False, second), (True, first)):
        write(path, '["%s"]' % origin.address, replace=not in_place)
        in_force(sluice, [origin])
        assert ask(port) == (200, b"%05d" % origin.port)
        assert listed(sluice)["state"] == "good" and listed(sluice)["problem"] == ""
    os.remove(path)
    harness.wait_for("the list to be missing", lambda: listed(sluice)["state"] == "missing")
    assert ask(port) == (200, b"%05d" % first.port)
    assert sluice.request("POST", "/v1/reload")[0] == 200  # what was good stays
    assert ask(port) == (200, b"%05d" % first.port)


def missing(args, folder, stack):
    origin = Origin()
    sluice, port = start(args, folder, stack, "endpoints_file: v1.yaml")
    told(sluice, "its version has no endpoint")
    assert ask(port)[0] == 503 and listed(sluice)["state"] == "missing"
    write(folder + "/v1.yaml", "- %s\n" % origin.address)
    in_force(sluice, [origin])
    assert ask(port)[0] == 200


class Load:
    """Clients that ask all the time."""

    def __init__(self, port, clients=6):
        self.failed, self.asked, self.done = [], [0] * clients, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(port, i)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, port, index):
        while not self.done.is_set():
            status, body = ask(port)
            self.asked[index] += 1
            if status != 200:
                self.failed.append((status, body))

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join()


def churn(args, folder, stack):
    origins = [Origin(0.05) for _ in range(4)]
    path = folder + "/v1.yaml"
    write(path, "- %s\n" % origins[0].address)
    sluice, port = start(args, folder, stack, "endpoints_file: v1.yaml")
    load = Load(port, 8)
    try:
        for turn in range(1, 9):
            chosen = [origins[turn % 4]] if turn % 2 else [origins[turn % 4], origins[(turn + 1) % 4]]
            write(path, "".join("- %s\n" % origin.address for origin in chosen))
            in_force(sluice, chosen)
    finally:
        load.stop()
    assert not load.failed, load.failed[:5]
    assert all(origin.served > 0 for origin in origins) and sum(load.asked) > 100, load.asked


def command(args, sluice, *words):
    return subprocess.run([args.binary, "endpoints", *words, "--admin", "127.0.0.1:%d" % sluice.admin], capture_output=True, text=True,
                          check=False)


def shown(sluice):
    return sluice.request("GET", "/v1/services/shop/endpoints")[1]["versions"][0]


def send(sluice, method, body=""):
    connection = http.client.HTTPConnection("127.0.0.1", sluice.admin, timeout=10)
    connection.request(method, "/v1/services/shop/endpoints?version=v1", body=body,
                       headers={"X-Sluice-Who": "ann", "Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def operator(args, folder, stack):
    first, second, third = (Origin(0.02) for _ in range(3))
    sluice, port = start(args, folder, stack, "endpoints: [%s]" % first.address)
    assert shown(sluice)["source"] == "file"
    load = Load(port)
    stack.callback(load.stop)
    for words in (("add", "shop", second.address, third.address), ("drain", "shop", first.address), ("remove", "shop", first.address),
                  ("add", "shop", first.address, "--weight", "5"), ("remove", "shop", second.address, third.address)):
        told = command(args, sluice, *words)
        assert told.returncode == 0, told
        in_force(sluice, {"127.0.0.1:%s" % line.split()[0].split(":")[1]: 0 for line in told.stdout.splitlines() if line.startswith("  ")})
        time.sleep(0.3)
    assert third.served > 0 and second.served > 0
    for body, why in (("[", "line 2"), ("[]", "is empty"), ('["127.0.0.1:%d"]' % port, "circles"), ("[{}]", "lacks the word 'address'")):
        status, text = send(sluice, "PUT", body)
        assert status == 400 and why in text, (status, text)
    assert command(args, sluice, "remove", "shop", "10.0.0.1:1").returncode == 1
    assert command(args, sluice, "list", "nobody").returncode == 1
    assert send(sluice, "PUT", '[{"address": "%s", "weight": 2}]' % second.address)[0] == 200
    assert shown(sluice)["source"] == "operator" and shown(sluice)["who"] == "ann" and shown(sluice)["changed_ms"] > 0
    load.stop()
    assert not load.failed, load.failed[:5]
    sluice.stop()
    replayed = sluice.replay()
    assert replayed.returncode == 0, replayed
    sluice = harness.Sluice(folder, args.binary, open(sluice.config_path, encoding="utf-8").read(), admin=sluice.admin)
    stack.callback(sluice.stop)
    assert shown(sluice)["endpoints"] == [{"address": second.address, "weight": 2}] and shown(sluice)["who"] == "ann"
    assert ask(port) == (200, b"%05d" % second.port)
    assert sluice.request("POST", "/v1/reload")[0] == 200
    assert ask(port) == (200, b"%05d" % second.port)
    assert command(args, sluice, "reset", "shop").returncode == 0
    assert shown(sluice)["source"] == "file"
    assert ask(port) == (200, b"%05d" % first.port)
    assert send(sluice, "DELETE")[0] == 404
    sluice.stop()
    sluice = harness.Sluice(folder, args.binary, open(sluice.config_path, encoding="utf-8").read(), admin=sluice.admin)
    stack.callback(sluice.stop)
    assert shown(sluice)["source"] == "file"


if __name__ == "__main__":
    harness.run([weights, lists, missing, churn, operator], harness.options(), at_once=2)
