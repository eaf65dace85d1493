#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTPS in front of a service, with Python's own TLS as the peer: versions, names, sessions, client certificates, certificates that
change under load, and what comes that is no TLS."""
import contextlib
import http.client
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings

import harness
from tls_origin_test import Authority

warnings.simplefilter("ignore", DeprecationWarning)  # old versions are asked for on purpose


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request's body, or with its head."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body)

    def do_GET(self):
        if "slow" in self.path:
            time.sleep(3)
        self.answer(str(self.headers).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


CONFIG = """
journal: @FOLDER@/sluice.db
listen: [{{address: "127.0.0.1:{plain}"}}, {{address: "127.0.0.1:{secure}", tls: {{{tls}}}}}]
admin: {{address: "@ADMIN@"}}
timeouts: {{client_head: 1s}}
services: {{shop: {{versions: {{v1: ["127.0.0.1:{origin}"], v2: ["127.0.0.1:{origin}"]}}, stable: v1}}}}
rollouts: {{ship: {{service: shop, to: v2, stages: [{{weight: 50%, for: 1h}}, {{weight: 100%, soak: 1h}}], checks: {{latency: off}}}}}}
"""


def certify(args, folder, stem, *names):
    subprocess.run([args.binary, "certificate", *names, "--out", os.path.join(folder, stem)], check=True, stdout=subprocess.DEVNULL)


class World:
    def __init__(self, args, folder, stack, tls="certificate: a.pem, key: a.key"):
        self.args, self.stack = args, stack
        origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        stack.callback(origin.shutdown)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        self.folder, self.plain, self.secure = folder, harness.free_port(), harness.free_port()
        if not os.path.exists(os.path.join(folder, "a.pem")):
            certify(args, folder, "a", "shop.example", "127.0.0.1")
        self.config = CONFIG.format(plain=self.plain, secure=self.secure, tls=tls, origin=origin.server_address[1])
        self.start()

    def start(self):
        self.sluice = harness.Sluice(self.folder, self.args.binary, self.config)
        self.stack.callback(self.sluice.stop)

    def context(self, ca="a", version=None, chain=None):
        context = ssl.create_default_context(cafile=os.path.join(self.folder, ca + ".pem"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if chain is not None:
            context.load_cert_chain(os.path.join(self.folder, chain + ".pem"), os.path.join(self.folder, chain + ".key"))
        return context

    def connect(self, context=None, name="shop.example", session=None):
        raw = socket.create_connection(("127.0.0.1", self.secure), timeout=10)
        return (context or self.context()).wrap_socket(raw, server_hostname=name, session=session)

    def ask(self, connection, method="GET", body=None):
        client = http.client.HTTPConnection("shop.example")
        client.sock = connection
        client.request(method, "/x", body=body)
        answer = client.getresponse()
        return answer.status, answer.read()

    def counts(self):
        lines = self.sluice.request("GET", "/metrics")[1].splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("sluice_tls")}


def serves(args, folder, stack):
    """requests over TLS 1.2 and 1.3, long bodies, resumed sessions, and the origin knows that it was HTTPS"""
    world = World(args, folder, stack)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = world.context(version=version)
        connection = world.connect(context)
        for _ in range(100):
            status, body = world.ask(connection)
            assert status == 200 and b"X-Forwarded-Proto: https" in body, body
        sent = os.urandom(8 << 20)
        status, body = world.ask(connection, "POST", sent)
        assert status == 200 and body == sent
        session = connection.session
        connection.close()
        again = world.connect(context, session=session)
        assert again.session_reused, version
        assert world.ask(again)[0] == 200
        again.close()
    counts = world.counts()
    for version in ("1.2", "1.3"):
        assert counts[f'sluice_tls_handshakes_total{{version="{version}",resumed="no"}}'] == 1, counts
        assert counts[f'sluice_tls_handshakes_total{{version="{version}",resumed="yes"}}'] == 1, counts
    left = counts["sluice_tls_certificate_expires_seconds"] - time.time()
    assert 89 * 86400 < left < 91 * 86400, left


def refuses(args, folder, stack):
    """no TLS, half a handshake, old versions, a name that is not in the certificate: closed, counted, and others are served"""
    world = World(args, folder, stack)
    plain = socket.create_connection(("127.0.0.1", world.secure), timeout=10)
    plain.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        answer = plain.recv(1000)
        assert not answer.startswith(b"HTTP"), answer
    began = time.monotonic()
    half = socket.create_connection(("127.0.0.1", world.secure), timeout=10)
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    with contextlib.suppress(ConnectionError):
        assert half.recv(1000) == b""
    assert 0.5 < time.monotonic() - began < 5, "a handshake has as long as a head"
    old = world.context()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    for context, name in ((old, "shop.example"), (world.context(), "other.example")):
        try:
            world.connect(context, name)
            raise AssertionError(f"{name} was accepted")
        except ssl.SSLError:
            pass
    harness.wait_for("failures to be counted", lambda: world.counts()['sluice_tls_failures_total{reason="protocol"}'] >= 2
                     and world.counts()['sluice_tls_failures_total{reason="refused"}'] >= 1)
    assert world.ask(world.connect())[0] == 200
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", world.plain, timeout=10)) as client:
        client.request("GET", "/")
        assert b"X-Forwarded-Proto: http\n" in client.getresponse().read()


def goodbyes(args, folder, stack):
    """bytes behind a client's goodbye, while it waits for its answer, are kept by nobody"""
    world = World(args, folder, stack)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = world.context().wrap_bio(received, sent, server_hostname="shop.example")
    with socket.create_connection(("127.0.0.1", world.secure), 10) as raw:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(sent.read())
                received.write(raw.recv(65536))
        client.write(b"GET /slow HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()
        raw.sendall(sent.read())
        time.sleep(0.3)
        before = harness.rss_bytes(world.sluice.pid)
        raw.settimeout(0.5)
        end, count = time.monotonic() + 2, 0
        with contextlib.suppress(OSError):
            while time.monotonic() < end and count < 128 << 20:
                count += raw.send(b"x" * 65536)
        grown = harness.rss_bytes(world.sluice.pid) - before
        assert grown < 16 << 20, f"{grown} bytes more for {count} that nobody reads"
    assert world.ask(world.connect())[0] == 200


def names(args, folder, stack):
    """several certificates, chosen by the name that is asked for; the first for all others"""
    certify(args, folder, "b", "other.example", "*.other.example")
    world = World(args, folder, stack, "certificate: a.pem, key: a.key, certificates: [{certificate: b.pem, key: b.key}]")
    for ca, name in (("a", "shop.example"), ("b", "other.example"), ("b", "x.other.example"), ("a", "127.0.0.1")):
        assert world.ask(world.connect(world.context(ca), name))[0] == 200, name
    try:
        world.connect(world.context("b"), "x.y.other.example")
        raise AssertionError("a wildcard stood for two labels")
    except ssl.SSLCertVerificationError:
        pass


def clients(args, folder, stack):
    """a listener that wants certificates of its clients serves nobody else"""
    certify(args, folder, "ann", "ann.example")
    certify(args, folder, "eve", "ann.example")
    world = World(args, folder, stack, "certificate: a.pem, key: a.key, client_ca: ann.pem")
    assert world.ask(world.connect(world.context(chain="ann")))[0] == 200
    for chain in (None, "eve"):
        try:
            # In TLS 1.3 a client learns only when it reads that it was refused.
            status, _ = world.ask(world.connect(world.context(chain=chain)))
            raise AssertionError(f"{chain}: {status}")
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
            pass
    harness.wait_for("refusals", lambda: world.counts()['sluice_tls_failures_total{reason="certificate"}'] == 1
                     and world.counts()['sluice_tls_failures_total{reason="issuer"}'] == 1)


def staples(args, folder, stack):
    """an answer of OCSP goes along with the certificate; a newer one takes its place, a broken one does not"""
    authority = Authority(folder)
    pem, key = authority.issue("shop", ["DNS:shop.example"])
    authority.staple(pem, False)
    world = World(args, folder, stack, f"certificate: {pem}, key: {key}, ocsp: {pem}.ocsp")

    def stapled():
        done = subprocess.run([harness.find_program("openssl"), "s_client", "-connect", f"127.0.0.1:{world.secure}", "-servername", "shop.example",
                               "-CAfile", authority.path, "-status"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
        assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
        return next((line.split(": ")[1] for line in done.stdout.splitlines() if "Cert Status" in line), None)

    assert stapled() == "good"
    with open(pem + ".ocsp", "wb") as answer:
        answer.write(b"no answer")
    harness.wait_for("a word about it", lambda: "no OCSP response" in world.sluice.output(), 10)
    assert stapled() == "good"
    authority.staple(pem, True) # what the authority says goes to clients as it is
    harness.wait_for("the newer answer", lambda: stapled() == "revoked", 10)


def change(folder, stem):
    for end in (".pem", ".key"):
        shutil.copy(os.path.join(folder, stem + end), os.path.join(folder, "new"))
        os.replace(os.path.join(folder, "new"), os.path.join(folder, "a" + end))


def changes(args, folder, stack):
    """certificates change under load without a failed request; broken ones change nothing"""
    world = World(args, folder, stack)
    certify(args, folder, "b", "b.example", "shop.example")  # issuers are told apart by their first name
    certify(args, folder, "c", "c.example", "shop.example")
    both = os.path.join(folder, "both.pem")
    with open(both, "w", encoding="utf-8") as out:
        for stem in ("a", "b", "c"):
            with open(os.path.join(folder, stem + ".pem"), encoding="utf-8") as f:
                out.write(f.read())
    context = ssl.create_default_context(cafile=both)
    stop, failed, done = threading.Event(), [], [0]

    def load():
        while not stop.is_set():
            try:
                connection = world.connect(context)
                for _ in range(20):
                    assert world.ask(connection)[0] == 200
                    done[0] += 1
                connection.close()
            except Exception as error:  # any failure counts
                failed.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()

    def served(stem):
        def check():
            with open(os.path.join(folder, stem + ".pem"), encoding="utf-8") as f:
                return world.connect(context).getpeercert(True) == ssl.PEM_cert_to_DER_cert(f.read())
        return check

    keep = world.connect(context)
    assert world.ask(keep)[0] == 200
    change(folder, "b")
    harness.wait_for("the new certificate", served("b"))
    assert world.ask(keep)[0] == 200  # an open connection stays
    with open(os.path.join(folder, "a.pem"), "w", encoding="utf-8") as f:
        f.write("this is no certificate\n")
    harness.wait_for("a word in the log", lambda: "the old ones stay" in world.sluice.output())
    assert served("b")()
    status, answer = world.sluice.request("POST", "/v1/reload")
    assert status >= 400 and "a.pem" in str(answer), answer
    change(folder, "c")
    harness.wait_for("the third certificate", served("c"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, failed[:3]
    assert done[0] > 100
    harness.log(f"   {done[0]} requests, none failed")


def starts(args, folder, stack):
    """a certificate that cannot be used at the start closes its listener alone, until it is mended"""
    certify(args, folder, "a", "shop.example", "127.0.0.1")
    os.rename(os.path.join(folder, "a.key"), os.path.join(folder, "away.key"))
    world = World(args, folder, stack)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", world.plain, timeout=10)) as client:
        client.request("GET", "/")
        assert client.getresponse().status == 200
    try:
        world.connect()
        raise AssertionError("there was no key to serve with")
    except (ssl.SSLError, ConnectionError, OSError):
        pass
    assert "a.key" in world.sluice.output()
    os.rename(os.path.join(folder, "away.key"), os.path.join(folder, "a.key"))

    def works():
        try:
            return world.ask(world.connect())[0] == 200
        except (ssl.SSLError, ConnectionError, OSError):
            return False
    harness.wait_for("the listener to serve", works)


def resumes(args, folder, stack):
    """a daemon that goes on with a run of before serves with its certificates from the first request on"""
    world = World(args, folder, stack)
    world.sluice.command("ship", "start")
    world.sluice.stop()
    world.start()
    assert world.sluice.rollout("ship")["state"] == "Shifting"
    assert world.ask(world.connect())[0] == 200


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (serves, refuses, goodbyes, names, clients, staples, changes, starts, resumes)}
    arguments = harness.options(only="")
    harness.run([f for name, f in ALL.items() if arguments.only in ("", name)], arguments, at_once=3)
