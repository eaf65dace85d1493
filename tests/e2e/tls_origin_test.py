#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTPS to the endpoints of versions, with Python's TLS and openssl as origins: who is believed and who is not, why, pools and resumed
sessions, bodies that were cut, web sockets, our own certificate, and files that change under load."""
import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import harness

OPENSSL_CONF = """
[ca]
default_ca = one
[one]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """Issues certificates by the openssl command, and takes them back."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = os.path.join(folder, name + ".d"), name
        os.makedirs(self.folder)
        self.path = os.path.join(folder, name + ".pem")
        self.key = os.path.join(self.folder, "ca.key")
        self.out = folder
        for file, text in (("index.txt", ""), ("serial", "01\n"), ("ca.cnf", OPENSSL_CONF.format(folder=self.folder))):
            with open(os.path.join(self.folder, file), "w", encoding="ascii") as f:
                f.write(text)
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.path,
                 "-days", "30", "-subj", f"/CN={name}")

    @staticmethod
    def run(*words):
        done = subprocess.run([harness.find_program("openssl"), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def issue(self, stem, names, ended=False):
        """Writes stem.pem and stem.key; returns their paths."""
        pem, key, request = (os.path.join(self.out, stem + end) for end in (".pem", ".key", ".csr"))
        extensions = os.path.join(self.folder, stem + ".ext")
        with open(extensions, "w", encoding="ascii") as f:
            f.write("subjectAltName=" + ",".join(names) + "\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={stem}")
        end = time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() + (-3600 if ended else 30 * 86400)))
        begin = time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() - 86400))
        self.run("ca", "-batch", "-notext", "-config", os.path.join(self.folder, "ca.cnf"), "-cert", self.path, "-keyfile", self.key, "-in", request,
                 "-out", pem, "-startdate", begin, "-enddate", end, "-extfile", extensions)
        return pem, key

    def staple(self, pem, revoked):
        """An answer of OCSP about that certificate; returns its path."""
        config, answer, request = os.path.join(self.folder, "ca.cnf"), pem + ".ocsp", pem + ".ask"
        if revoked:
            self.run("ca", "-config", config, "-cert", self.path, "-keyfile", self.key, "-revoke", pem)
        self.run("ocsp", "-issuer", self.path, "-cert", pem, "-reqout", request)
        self.run("ocsp", "-index", os.path.join(self.folder, "index.txt"), "-CA", self.path, "-rsigner", self.path, "-rkey", self.key, "-reqin",
                 request, "-respout", answer, "-ndays", "1")
        return answer


class Origin:
    """Answers on one port, by TLS where there is a context; what a path asks for it does: /close, /cut, /socket."""

    def __init__(self, stack, context=None, sniffs=False):
        self.context, self.sniffs, self.accepted, self.plain_requests, self.subjects, self.asked = context, sniffs, 0, 0, [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        stack.callback(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self.listener.accept()
                self.accepted += 1
                threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def serve(self, raw):
        with contextlib.suppress(OSError, ssl.SSLError), raw:
            raw.settimeout(20)
            if self.context is None:
                raw.recv(1)
                raw.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                time.sleep(1)  # an end with bytes unread would be a reset, which overtakes the answer
                return
            secure = (not self.sniffs or raw.recv(1, socket.MSG_PEEK) == b"\x16")
            connection = self.context.wrap_socket(raw, server_side=True) if secure else raw
            stream = connection.makefile("rb")
            while self.answer(connection, stream, secure):
                pass

    def answer(self, connection, stream, secure):
        line = stream.readline()
        if not line:
            if secure:
                connection.unwrap()
            return False
        headers = http.client.parse_headers(stream)
        self.plain_requests += not secure
        body = stream.read(int(headers.get("Content-Length", 0)))
        if secure and connection.getpeercert():
            self.subjects.append(connection.getpeercert()["subject"])
        path = line.split()[1].decode()
        self.asked.append((path, headers.get("Via"), headers.get("X-Way")))
        if path.endswith("/socket"):
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.unwrap()
            return False
        if path.endswith("/close") or path.endswith("/cut"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100000)
            if path.endswith("/close"):
                connection.unwrap()
            return False
        body = body or b"hello"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return True


def serving(pair, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def daemon(args, folder, stack, services, io="auto", more="", words=""):
    """services: name -> (endpoints, words of tls). Each has the path of its name; more: what else its route says, words: the service."""
    port = harness.free_port()
    text = (f"io: {io}\njournal: @FOLDER@/sluice.db\nlisten: ['127.0.0.1:{port}']\nadmin: {{address: '@ADMIN@'}}\n"
            "timeouts: {connect: 1s, pool_idle: 2s}\nservices:\n")
    for name, (endpoints, tls) in services.items():
        text += f"  {name}: {{routes: [{{path: /{name}{more}}}], versions: {{v1: {{endpoints: {endpoints}, tls: {tls}}}}}{words}}}\n"
    sluice = harness.Sluice(folder, args.binary, text)
    sluice.port = port
    stack.callback(sluice.stop)
    return sluice


def ask(sluice, path, body=None, headers=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sluice.port, timeout=10)) as client:
        client.request("POST" if body is not None else "GET", path, body=body, headers=headers or {})
        answer = client.getresponse()
        return answer.status, answer.read()


def metrics(sluice, pattern):
    lines = sluice.request("GET", "/metrics")[1].splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if re.match(pattern, line)}


def failures(sluice):
    found = metrics(sluice, "sluice_origin_tls_failures_total")
    return {re.search('reason="(.*)"', name).group(1): count for name, count in found.items() if count > 0}


def handshakes(sluice):
    found = metrics(sluice, "sluice_origin_tls_handshakes_total")
    return {resumed: sum(count for name, count in found.items() if f'resumed="{resumed}"' in name) for resumed in ("no", "yes")}


def serves(args, folder, stack, io="epoll"):
    """requests by name and by address, long bodies, pools, resumed sessions, ends with and without a word, web sockets"""
    authority = Authority(folder)
    pair = authority.issue("shop", ["DNS:localhost", "IP:127.0.0.1", "DNS:inner.example"])
    origin = Origin(stack, serving(pair))
    sluice = daemon(args, folder, stack, {
        "name": (f"['localhost:{origin.port}']", "{ca: ca.pem}"),
        "address": (f"['127.0.0.1:{origin.port}']", "{ca: ca.pem, min_version: 1.3}"),
        "given": (f"['127.0.0.1:{origin.port}']", "{ca: ca.pem, server_name: inner.example}")}, io)
    for name in ("name", "address", "given"):
        for _ in range(20):
            assert ask(sluice, f"/{name}") == (200, b"hello"), sluice.output()
    sent = os.urandom(8 << 20)
    assert ask(sluice, "/name/x", sent) == (200, sent)
    full = handshakes(sluice)["no"]
    assert full <= 3 * 4 and origin.accepted < 15, (full, origin.accepted)  # a pool of each worker, at most four of them here
    # Each of these ends its connection: the next resumes.
    for _ in range(30):
        status, body = ask(sluice, "/name/close")
        assert status == 200 and len(body) == 100000, (status, len(body))
    assert handshakes(sluice)["yes"] > 10, handshakes(sluice)
    try:
        ask(sluice, "/name/cut")
        raise AssertionError("a body that was cut looked whole")
    except (http.client.IncompleteRead, ConnectionError):
        pass
    harness.wait_for("the cut to be counted", lambda: failures(sluice).get("cut") == 1)
    harness.wait_for("the log to say so", lambda: "without a word of TLS" in sluice.output())
    with socket.create_connection(("127.0.0.1", sluice.port), timeout=10) as client:
        client.sendall(b"GET /name/socket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1000)
        assert b" 101 " in head, head
        data, echoed = os.urandom(1 << 20), b""
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        while len(echoed) < len(data):
            echoed += client.recv(65536)
        client.shutdown(socket.SHUT_WR)
        assert echoed == data and client.recv(1) == b""
    assert failures(sluice) == {"cut": 1}, failures(sluice)


def serves_by_rings(args, folder, stack):
    """the same by io_uring"""
    serves(args, folder, stack, "uring")


def serves_http2(args, folder, stack):
    """clients over HTTP/2, by a route that changes the request: bodies both ways, and one that was cut looks so"""
    authority = Authority(folder)
    origin = Origin(stack, serving(authority.issue("shop", ["DNS:localhost"])))
    sluice = daemon(args, folder, stack, {"shop": (f"['localhost:{origin.port}']", "{ca: ca.pem}")},
                    more=", rewrite: {path: /inner}, request_headers: {set: {X-Way: written}}")
    sent = os.urandom(8 << 20)
    upload = os.path.join(folder, "upload")
    with open(upload, "wb") as f:
        f.write(sent)

    def curl(path, *words):
        return subprocess.run([harness.find_program("curl"), "-s", "--max-time", "60", "--http2-prior-knowledge", *words,
                               f"http://127.0.0.1:{sluice.port}{path}"], capture_output=True, check=False)

    assert curl("/shop/a?b=c").stdout == b"hello", sluice.output()
    assert origin.asked == [("/inner/a?b=c", "2 sluice", "written")], origin.asked
    assert curl("/shop", "--data-binary", "@" + upload).stdout == sent
    whole, cut = curl("/shop/close"), curl("/shop/cut")
    assert whole.returncode == 0 and len(whole.stdout) == 100000, whole.returncode
    assert cut.returncode == 92, cut.returncode  # the stream was reset
    assert handshakes(sluice)["no"] >= 1 and failures(sluice) == {"cut": 1}, failures(sluice)


def checks(args, folder, stack):
    """active checks speak TLS as requests do: who is not believed is out of use, and the log says why"""
    authority, other = Authority(folder), Authority(folder, "other")
    good = Origin(stack, serving(authority.issue("shop", ["DNS:localhost"])))
    bad = Origin(stack, serving(other.issue("stranger", ["DNS:localhost"])))
    services = {"good": (f"['localhost:{good.port}']", "{ca: ca.pem}"), "bad": (f"['localhost:{bad.port}']", "{ca: ca.pem}")}
    for way, host in (("{http: /healthz, every: 100ms, fall: 2}", ("/healthz", None, None)), ("{tcp: true, every: 100ms, fall: 2}", None)):
        sluice = daemon(args, folder, stack, services, words=f", health: {way}, panic: 0%")
        shown = lambda n: sluice.request("GET", "/v1/table")[1]["services"][n]["versions"][0]["health"][0]
        harness.wait_for("the stranger to be out of use", lambda: not shown(1)["healthy"])
        assert "of no issuer that is believed" in str(shown(1)) and "of no issuer that is believed" in sluice.output(), shown(1)
        assert ask(sluice, "/bad")[0] == 503
        # A connection that only opens is closed before the origin's session has come.
        resumed = "no" if host is None else "yes"
        harness.wait_for("further checks", lambda r=resumed: handshakes(sluice)[r] > 2)
        assert shown(0)["healthy"] and ask(sluice, "/good") == (200, b"hello"), shown(0)
        assert (host in good.asked) == (host is not None), good.asked
        good.asked.clear()
        assert set(failures(sluice)) == {"issuer"}, failures(sluice)
        sluice.stop()


def refuses(args, folder, stack):
    """each way in which an origin is not to be believed: 502, the version's error, the reason in log and metrics"""
    authority, other = Authority(folder), Authority(folder, "other")
    good = ["DNS:localhost", "IP:127.0.0.1"]
    subprocess.run([args.binary, "certificate", "localhost", "--out", os.path.join(folder, "self")], check=True, stdout=subprocess.DEVNULL)
    silent = socket.create_server(("127.0.0.1", 0))
    stack.callback(silent.close)
    stapled = {}
    for stem, revoked in (("revoked", True), ("fresh", False)):
        pem, key = authority.issue(stem, good)
        stapled[stem] = harness.free_port()
        process = harness.Process(folder, stem, [harness.find_program("openssl"), "s_server", "-accept", f"127.0.0.1:{stapled[stem]}", "-cert", pem,
                                                 "-key", key, "-status_file", authority.staple(pem, revoked), "-www", "-quiet"])
        stack.callback(process.stop)
        harness.wait_for("openssl to listen", lambda port=stapled[stem]: harness.connects(port))
    ports = {
        "expired": Origin(stack, serving(authority.issue("ended", good, ended=True))).port,
        "name": Origin(stack, serving(authority.issue("elsewhere", ["DNS:other.example"]))).port,
        "issuer": Origin(stack, serving(other.issue("stranger", good))).port,
        "alone": Origin(stack, serving((os.path.join(folder, "self.pem"), os.path.join(folder, "self.key")))).port,
        "protocol": Origin(stack).port,
        "revoked": stapled["revoked"],
        "unfinished": silent.getsockname()[1],
        "refused": Origin(stack, serving(authority.issue("asks", good), other.path)).port,
        "fresh": stapled["fresh"]}
    sluice = daemon(args, folder, stack, {name: (f"['localhost:{port}']", "{ca: ca.pem}") for name, port in ports.items()})
    words = {"expired": "has expired", "name": "for another name", "issuer": "of no issuer that is believed", "alone": "signs itself",
             "protocol": "does not speak TLS", "revoked": "is revoked", "unfinished": "handshake took too long", "refused": "alert"}
    for name, word in words.items():
        reason = {"alone": "issuer"}.get(name, name)
        before = failures(sluice).get(reason, 0)
        began = time.monotonic()
        status, body = ask(sluice, f"/{name}")
        assert status == 502 and body == b"502 no secure connection to the origin\n", (name, status, body)
        assert time.monotonic() - began < 5, name
        harness.wait_for(f"{name} to be counted", lambda r=reason, b=before: failures(sluice).get(r, 0) > b)
        counted = metrics(sluice, f'sluice_upstream_failures_total.*service="{name}".*reason="tls"')
        assert sum(counted.values()) >= 1, (name, counted)
        harness.wait_for(f"'{word}' in the log", lambda w=word: w in sluice.output())
    assert ask(sluice, "/fresh")[0] == 200, sluice.output()  # a stapled answer that is good
    # Said once for all that are alike, and what came in between is counted.
    lines, began = sluice.output().count("has expired"), time.monotonic()
    for _ in range(50):
        assert ask(sluice, "/expired")[0] == 502
    windows = 2 + int((time.monotonic() - began) / 10)  # of ten seconds; each has five lines, and one that counts
    assert sluice.output().count("has expired") <= lines + 6 * windows, sluice.output()


def shows(args, folder, stack):
    """our own certificate, for an origin that asks for one"""
    authority = Authority(folder)
    authority.issue("sluice", ["DNS:sluice.example"])
    origin = Origin(stack, serving(authority.issue("shop", ["DNS:localhost"]), authority.path))
    sluice = daemon(args, folder, stack, {
        "with": (f"['localhost:{origin.port}']", "{ca: ca.pem, certificate: sluice.pem, key: sluice.key}"),
        "without": (f"['localhost:{origin.port}']", "{ca: ca.pem}")})
    assert ask(sluice, "/with") == (200, b"hello"), sluice.output()
    assert origin.subjects == [((("commonName", "sluice"),),)], origin.subjects
    assert ask(sluice, "/without")[0] == 502
    left = metrics(sluice, "sluice_tls_certificate_expires")["sluice_tls_certificate_expires_seconds"] - time.time()
    assert 29 * 86400 < left < 31 * 86400, left


def believes(args, folder, stack):
    """verify: false takes whoever answers, and says so, at the start and in `check`"""
    origin = Origin(stack, serving(Authority(folder).issue("shop", ["DNS:other.example"])))
    sluice = daemon(args, folder, stack, {"blind": (f"['127.0.0.1:{origin.port}']", "{verify: false}"),
                                          "seeing": (f"['127.0.0.1:{origin.port}']", "true")})
    assert ask(sluice, "/blind") == (200, b"hello")
    assert ask(sluice, "/seeing")[0] == 502  # the machine's issuers do not know ours
    said = "NOT VERIFIED: whoever answers is believed to be blind v1"
    assert said in sluice.output(), sluice.output()
    check = subprocess.run([args.binary, "check", sluice.config_path], capture_output=True, text=True, check=False)
    assert check.returncode == 0 and said in check.stderr, (check.returncode, check.stderr)


def put(source, target):
    shutil.copy(source, target + ".new")
    os.replace(target + ".new", target)


def changes(args, folder, stack):
    """issuers and certificates change under load without a failed request; broken ones change nothing, not even at the start"""
    old, new = Authority(folder), Authority(folder, "next")
    pair = old.issue("shop", ["DNS:localhost"])
    context = serving(pair)
    origin = Origin(stack, context)
    both = os.path.join(folder, "both.pem")
    with open(both, "w", encoding="ascii") as out:
        for authority in (old, new):
            with open(authority.path, encoding="ascii") as f:
                out.write(f.read())
    sluice = daemon(args, folder, stack, {"shop": (f"['localhost:{origin.port}']", "{ca: trusted.pem}")})
    assert ask(sluice, "/shop")[0] == 502  # there is no such file yet
    assert "trusted.pem" in sluice.output() and "cannot be used" in sluice.output()
    trusted = os.path.join(folder, "trusted.pem")
    check = subprocess.run([args.binary, "check", sluice.config_path], capture_output=True, text=True, check=False)
    assert check.returncode != 0 and "trusted.pem" in check.stderr, check.stderr
    put(old.path, trusted)
    harness.wait_for("the file to be read", lambda: ask(sluice, "/shop")[0] == 200)
    stop, failed, done = threading.Event(), [], [0]

    def load():
        while not stop.is_set():
            status, _ = ask(sluice, "/shop/close" if done[0] % 3 == 0 else "/shop")
            done[0] += 1
            if status != 200:
                failed.append(status)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    said = "new certificates are in force"
    count = sluice.output().count(said)
    put(both, trusted)
    harness.wait_for("both issuers to be believed", lambda: sluice.output().count(said) > count)
    context.load_cert_chain(*new.issue("shop2", ["DNS:localhost"]))
    harness.wait_for("requests by the new certificate", lambda n=done[0]: done[0] > n + 30)
    with open(trusted, "w", encoding="ascii") as f:
        f.write("this is no certificate\n")
    harness.wait_for("a word in the log", lambda: "the old ones stay" in sluice.output())
    status, answer = sluice.request("POST", "/v1/reload")
    assert status >= 400 and "trusted.pem" in str(answer), answer
    put(new.path, trusted)
    harness.wait_for("the new issuer alone", lambda: sluice.output().count(said) > count + 1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed, (failed[:3], sluice.output()[-2000:])
    # Whom nobody believes any more is not resumed either.
    context.load_cert_chain(*pair)
    origin.listener.close()
    again = Origin(stack, context)
    put(sluice.config_path, sluice.config_path + ".old")
    with open(sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    with open(sluice.config_path, "w", encoding="utf-8") as f:
        f.write(text.replace(str(origin.port), str(again.port)))
    assert sluice.request("POST", "/v1/reload")[0] == 200
    harness.wait_for("the old issuer to be refused", lambda: ask(sluice, "/shop")[0] == 502)
    harness.log(f"   {done[0]} requests, none failed")


def turns(args, folder, stack):
    """a reload that turns TLS on leaves no connection in the clear behind, and the other way round"""
    authority = Authority(folder)
    origin = Origin(stack, serving(authority.issue("shop", ["DNS:localhost"])), sniffs=True)
    sluice = daemon(args, folder, stack, {"shop": (f"['localhost:{origin.port}']", "false")})
    for _ in range(20):
        assert ask(sluice, "/shop")[0] == 200
    assert origin.plain_requests == 20
    with open(sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    for words, plain in (("{ca: ca.pem}", 0), ("false", 20)):
        with open(sluice.config_path, "w", encoding="utf-8") as f:
            f.write(text.replace("tls: false", "tls: " + words))
        assert sluice.request("POST", "/v1/reload")[0] == 200
        harness.wait_for("the table to be taken up", lambda: sluice.request("GET", "/readyz")[0] == 200)
        time.sleep(0.2)
        before = origin.plain_requests
        for _ in range(20):
            assert ask(sluice, "/shop")[0] == 200
        assert origin.plain_requests - before == plain, (words, origin.plain_requests - before)


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (serves, serves_by_rings, serves_http2, checks, refuses, shows, believes, changes, turns)}
    arguments = harness.options(only="")
    harness.run([f for name, f in ALL.items() if arguments.only in ("", name)], arguments, at_once=3)
