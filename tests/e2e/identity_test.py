#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who a client is: PROXY headers by curl and HAProxy, before TLS and HTTP/2, whole and in pieces; and what strangers make up."""
import hashlib
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import harness
from echo_origin import EchoOrigin

CONFIG = """
journal: @FOLDER@/sluice.db
listen:
  - {{address: "127.0.0.1:{plain}", proxy_protocol: [127.0.0.1]}}
  - {{address: "127.0.0.1:{secure}", proxy_protocol: [127.0.0.1], tls: {{certificate: a.pem, key: a.key}}}}
admin: {{address: "@ADMIN@"}}
timeouts: {{client_head: 1s}}
log: {{access: "@FOLDER@/access.log"}}
{more}
services: {{shop: {{versions: {{v1: ["127.0.0.1:{origin}"]}}, stable: v1}}}}
"""

HAPROXY = """
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen v1
  bind 127.0.0.1:{0}
  server s 127.0.0.1:{plain} send-proxy
listen v2
  bind 127.0.0.1:{1}
  server s 127.0.0.1:{plain} send-proxy-v2
listen v1_tls
  bind 127.0.0.1:{2}
  server s 127.0.0.1:{secure} send-proxy
listen v2_tls
  bind 127.0.0.1:{3}
  server s 127.0.0.1:{secure} send-proxy-v2
"""

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"


def header_v2(address, extensions=b""):
    block = socket.inet_aton(address) + socket.inet_aton("192.0.2.1") + struct.pack(">HH", 40001, 443) + extensions
    return SIGNATURE + b"\x21\x11" + struct.pack(">H", len(block)) + block


class World:
    def __init__(self, args, folder, stack, more="", options=()):
        self.folder, self.plain, self.secure = folder, harness.free_port(), harness.free_port()
        self.origin = EchoOrigin(harness.free_port())
        stack.callback(self.origin.stop)
        subprocess.run([args.binary, "certificate", "shop.example", "127.0.0.1", "--out", os.path.join(folder, "a")],
                       check=True, stdout=subprocess.DEVNULL)
        self.sluice = harness.Sluice(folder, args.binary, CONFIG.format(
            plain=self.plain, secure=self.secure, origin=self.origin.port, more=more), options=options)
        stack.callback(self.sluice.stop)

    def talk(self, *pieces, source="127.0.0.1", port=None, secure=None):
        """Sends the pieces and gives all that comes back until the end. secure: the pieces that go before TLS."""
        answer = b""
        with socket.create_connection(("127.0.0.1", port or (self.secure if secure else self.plain)), 10, (source, 0)) as raw:
            connection = raw
            if secure is not None:
                raw.sendall(secure)
                context = ssl.create_default_context(cafile=os.path.join(self.folder, "a.pem"))
                connection = context.wrap_socket(raw, server_hostname="shop.example")
            for piece in pieces:
                connection.sendall(piece)
                if len(pieces) > 1:
                    time.sleep(0.002)
            try:
                while more := connection.recv(65536):
                    answer += more
            except ConnectionError:
                pass
            return answer

    def curl(self, *argv):
        done = subprocess.run([harness.find_program("curl"), "-sS", "--max-time", "10", "--cacert", os.path.join(self.folder, "a.pem"), *argv],
                              capture_output=True, check=False)
        return done.stdout

    def count(self, event):
        lines = self.sluice.request("GET", "/metrics")[1].splitlines()
        return sum(float(line.split()[1]) for line in lines if f'event="{event}"' in line)


def headers(args, folder, stack):
    """curl and hand-made PROXY headers of both versions, before requests and before TLS, in pieces, with extensions"""
    world = World(args, folder, stack)
    told = b"X-Forwarded-For: 203.0.113.7\r\n"
    v1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n"
    assert told in world.talk(v1 + GET)
    assert told in world.talk(*[bytes([byte]) for byte in v1 + GET])
    assert told in world.talk(header_v2("203.0.113.7") + GET)
    assert told in world.talk(*[bytes([byte]) for byte in header_v2("203.0.113.7", b"\x04\x00\x02ab") + GET])
    assert b"X-Forwarded-For: 2001:db8::7\r\n" in world.talk(b"PROXY TCP6 2001:db8::7 2001:db8::1 40001 443\r\n" + GET)
    for header in (v1, header_v2("203.0.113.7", b"\x20" + struct.pack(">H", 9000) + b"x" * 9000)):
        answer = world.talk(GET, secure=header)
        assert told in answer and b"X-Forwarded-Proto: https" in answer, answer
    for local in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"):
        assert b"X-Forwarded-For: 127.0.0.1\r\n" in world.talk(local + GET)
    for protocol in ("--http1.1", "--http2", "--http2-prior-knowledge"):
        for url in (f"http://127.0.0.1:{world.plain}/", f"https://127.0.0.1:{world.secure}/"):
            answer = world.curl(protocol, "--haproxy-protocol", "--interface", "127.0.0.1", url)
            assert b"X-Forwarded-For: 127.0.0.1\r\n" in answer, (protocol, url, answer)
    assert world.count("proxy_headers_refused") == 0
    with open(os.path.join(folder, "access.log"), encoding="utf-8") as log:
        assert harness.wait_for("the log", lambda: "203.0.113.7 " in log.read())


def haproxy(args, folder, stack):
    """HAProxy in between, each version, in the clear and with TLS through it, HTTP/1 and HTTP/2"""
    program = harness.find_program("haproxy")
    world = World(args, folder, stack)
    ports = [harness.free_port() for _ in range(4)]
    path = os.path.join(folder, "haproxy.cfg")
    with open(path, "w", encoding="utf-8") as out:
        out.write(HAPROXY.format(*ports, plain=world.plain, secure=world.secure))
    process = harness.Process(folder, "haproxy", [program, "-db", "-f", path])
    stack.callback(process.stop)
    for scheme, port in zip(("http", "http", "https", "https"), ports):
        harness.wait_for("HAProxy", lambda port=port: harness.connects(port))
        for protocol in ("--http1.1", "--http2" if scheme == "https" else "--http2-prior-knowledge"):
            answer = world.curl(protocol, "--interface", "127.0.0.5", f"{scheme}://127.0.0.1:{port}/")
            assert b"X-Forwarded-For: 127.0.0.5\r\n" in answer, (scheme, protocol, answer)
            assert b"Via: 2 sluice" in answer if "2" in protocol else b"Via: 1.1 sluice" in answer, answer


def forwarded(args, folder, stack):
    """proxies by their networks: theirs is believed, a stranger's is replaced, over HTTP/1 and HTTP/2; Forwarded"""
    world = World(args, folder, stack, "trust: {proxies: [127.0.0.2, 203.0.113.0/24]}\nforwarded: on")
    url = f"http://127.0.0.1:{world.plain}/"
    spoof = ["-H", "X-Forwarded-For: 6.6.6.6, 198.51.100.9, 203.0.113.8", "-H", "X-Forwarded-Proto: https", "-H", "Forwarded: for=6.6.6.6"]
    for protocol in ("--http1.1", "--http2-prior-knowledge"):
        believed = world.curl(protocol, "--interface", "127.0.0.2", *spoof, url)
        assert b"X-Forwarded-For: 198.51.100.9, 203.0.113.8, 127.0.0.2\r\n" in believed, believed
        assert b"\r\nForwarded: for=127.0.0.2;by=_sluice;proto=http;host=\"127.0.0.1:%d\"\r\n" % world.plain in believed, believed
        replaced = world.curl(protocol, "--interface", "127.0.0.3", *spoof, url)
        assert b"X-Forwarded-For: 127.0.0.3\r\n" in replaced and b"6.6.6.6" not in replaced and b"-Proto: https" not in replaced, replaced
    with open(os.path.join(folder, "access.log"), encoding="utf-8") as log:
        lines = harness.wait_for("the log", lambda: log.seek(0) == 0 and (lines := log.readlines()) and len(lines) >= 4 and lines)
    # Two workers write them: the order is theirs.
    assert sorted(line.split()[0] for line in lines) == ["127.0.0.3"] * 2 + ["198.51.100.9"] * 2, lines


def ids(args, folder, stack):
    """an id for each request, in the access log too; spoofed ones go, also from trailers; traces pass"""
    world = World(args, folder, stack, "trust: {proxies: [127.0.0.2]}\nrequest_id: {header: X-Request-Id, keep: proxies}")
    trace = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntraceparent: odd\r\n"
    spoof = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + trace + b"X-Request-Id: mine\r\nX_Request_ID: mine\r\n\r\n"
    seen = set()
    for _ in range(3):
        answer = world.talk(spoof, source="127.0.0.3")
        assert trace in answer and b"mine" not in answer, answer
        seen.add(answer.split(b"X-Request-Id: ")[1].split(b"\r\n")[0].decode())
    assert len(seen) == 3 and all(len(one) == 32 for one in seen), seen
    kept = world.curl("--interface", "127.0.0.2", "--http2-prior-knowledge", "-H", "x-request-id: from-proxy.1", f"http://127.0.0.1:{world.plain}/")
    assert b"X-Request-Id: from-proxy.1\r\n" in kept, kept
    trailer = world.talk(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Request-Id\r\n\r\n"
                         b"1\r\na\r\n0\r\nX-Request-Id: mine\r\n\r\n", source="127.0.0.3")
    assert trailer.startswith(b"HTTP/1.1 200"), trailer
    with open(os.path.join(folder, "access.log"), encoding="utf-8") as log:
        text = harness.wait_for("the log", lambda: log.seek(0) == 0 and (text := log.read()) and text.count("\n") >= 5 and text)
    assert all(one in text for one in seen | {"from-proxy.1"}) and "mine" not in text, text


def certificates(args, folder, stack):
    """services are told of a client's certificate, which is its unit; nobody else can say so, by any listener, protocol or spelling"""
    subprocess.run([args.binary, "certificate", "ann.example", "--out", os.path.join(folder, "ann")], check=True, stdout=subprocess.DEVNULL)
    open_port, certain = harness.free_port(), harness.free_port()
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    subprocess.run([args.binary, "certificate", "shop.example", "127.0.0.1", "--out", os.path.join(folder, "a")], check=True, stdout=subprocess.DEVNULL)
    sluice = harness.Sluice(folder, args.binary, f"""
journal: @FOLDER@/sluice.db
listen:
  - "127.0.0.1:{open_port}"
  - address: "127.0.0.1:{certain}"
    tls:
      certificate: a.pem
      key: a.key
      client_ca: ann.pem
      clients: optional
      client_headers: [X-Client-Subject, {{header: X-Client-Names, value: names}}, {{header: X-Client-Id, value: fingerprint}}]
admin: {{address: "@ADMIN@"}}
services: {{shop: {{versions: {{v1: ["127.0.0.1:{origin.port}"]}}, stable: v1, unit: {{header: X-Client-Subject}}}}}}
""")
    stack.callback(sluice.stop)
    with open(os.path.join(folder, "ann.pem"), encoding="utf-8") as pem:
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.read())).hexdigest().encode()
    spoof = ["-H", "X-Client-Subject: CN=root", "-H", "x_client_names: DNS:root", "-H", "X-CLIENT-ID: root"]
    ann = ["--cert", os.path.join(folder, "ann.pem"), "--key", os.path.join(folder, "ann.key")]
    curl = [harness.find_program("curl"), "-sS", "--max-time", "10", "--cacert", os.path.join(folder, "a.pem")]

    def ask(*argv):
        return subprocess.run([*curl, *argv], capture_output=True, check=True).stdout
    for protocol in ("--http1.1", "--http2"):
        told = ask(protocol, *ann, *spoof, f"https://127.0.0.1:{certain}/")
        assert b"\nX-Client-Subject: CN=ann.example\r\n" in told and b"\nX-Client-Names: DNS:ann.example\r\n" in told, told
        assert b"\nX-Client-Id: " + fingerprint + b"\r\n" in told and b"root" not in told, told
        for url in (f"https://127.0.0.1:{certain}/", f"http://127.0.0.1:{open_port}/"):
            nobody = ask(protocol, *spoof, url)
            assert b"root" not in nobody and b"lient" not in nobody and nobody.startswith(b"GET / HTTP/1.1"), nobody
    with socket.create_connection(("127.0.0.1", open_port), 10) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Client-Subject, X-Sum\r\n\r\n"
                    b"1\r\na\r\n0\r\nX-Client-Subject: CN=root\r\nX-Sum: 1\r\n\r\n")
        answer = b""
        while more := raw.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert not origin.bad, origin.bad


def upgraded(args, folder, stack):
    """TLS sessions are resumed behind a header; the process that takes over wants the same headers, also of who waited for it"""
    world = World(args, folder, stack, options=("--supervise",))
    told, v1 = b"X-Forwarded-For: 203.0.113.7\r\n", b"PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n"
    context, session = ssl.create_default_context(cafile=os.path.join(folder, "a.pem")), None
    for resumed in (False, True):
        with socket.create_connection(("127.0.0.1", world.secure), 10) as raw:
            raw.sendall(v1)
            with context.wrap_socket(raw, server_hostname="shop.example", session=session) as connection:
                connection.sendall(GET)
                while connection.recv(65536):
                    session = connection.session
                assert connection.session_reused == resumed
    answers, over = [], threading.Event()

    def go_on():
        while not over.is_set():
            answers.append((told in world.talk(v1 + GET), told in world.talk(GET)))

    asking = threading.Thread(target=go_on)
    asking.start()
    done = subprocess.run([args.binary, "upgrade", "--admin", f"127.0.0.1:{world.sluice.admin}"], capture_output=True, text=True, timeout=80, check=False)
    over.set()
    asking.join()
    assert done.returncode == 0, done.stderr
    # The process before closes connections that have said nothing for a while: on a busy machine a client may be as slow as that.
    lost = len(answers) - answers.count((True, False))
    assert not any(strange for _, strange in answers) and lost <= 2, (lost, len(answers))
    assert told in world.talk(v1 + GET, secure=None) and told in world.talk(GET, secure=v1)


def units(args, folder, stack):
    """clients are told apart by their certificates: each stays on its version, whatever it says of itself"""
    names = [f"client{i}.example" for i in range(16)]
    for name in (*names, "shop.example"):
        subprocess.run([args.binary, "certificate", name, "127.0.0.1", "--out", os.path.join(folder, name)], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "all.pem"), "w", encoding="ascii") as everybody:
        for name in names:
            with open(os.path.join(folder, name + ".pem"), encoding="ascii") as one:
                everybody.write(one.read())
    port, origins = harness.free_port(), {version: harness.free_port() for version in ("v1", "v2")}
    for version, at in origins.items():
        stack.callback(harness.Nginx(folder, version, f'server {{ listen 127.0.0.1:{at}; location / {{ return 200 "{version}"; }} }}', at).stop)
    sluice = harness.Sluice(folder, args.binary, f"""
journal: @FOLDER@/sluice.db
listen:
  - address: "127.0.0.1:{port}"
    tls: {{certificate: shop.example.pem, key: shop.example.key, client_ca: all.pem, client_headers: [X-Client-Subject]}}
admin: {{address: "@ADMIN@"}}
services:
  shop:
    unit: {{header: X-Client-Subject}}
    versions: {{v1: ["127.0.0.1:{origins['v1']}"], v2: ["127.0.0.1:{origins['v2']}"]}}
    stable: v1
rollouts: {{ship: {{service: shop, to: v2, stages: [{{weight: 50%, for: 1h}}, {{weight: 100%}}], checks: {{latency: off}}}}}}
""")
    stack.callback(sluice.stop)
    sluice.command("ship", "start")
    sluice.wait_state("ship", "Shifting", 20, report=False)
    curl = [harness.find_program("curl"), "-sS", "--max-time", "10", "--cacert", os.path.join(folder, "shop.example.pem")]

    def ask(name, *argv):
        own = [os.path.join(folder, name + end) for end in (".pem", ".key")]
        done = subprocess.run([*curl, "--cert", own[0], "--key", own[1], *argv, f"https://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
        return done.stdout

    versions = {name: ask(name, "--http1.1") for name in names}
    assert set(versions.values()) == {"v1", "v2"}, versions # one in 32 768 that all draw the same
    for name in names:
        other = names[0] if versions[name] != versions[names[0]] else next(n for n in names if versions[n] != versions[name])
        assert ask(name, "--http2", "-H", f"X-Client-Subject: CN={other}") == versions[name], (name, versions)


def origins(args, folder, stack):
    """HAProxy as the origin, told whose each request is by PROXY headers of both versions, in the clear and before TLS; checks have them too"""
    program = harness.find_program("haproxy")
    world = World(args, folder, stack)
    ports = {name: harness.free_port() for name in ("v1", "v2", "v1_tls", "v2_tls")}
    path, pem = os.path.join(folder, "accepts.cfg"), os.path.join(folder, "both.pem")
    with open(pem, "w", encoding="ascii") as both:
        for part in ("a.pem", "a.key"):
            with open(os.path.join(folder, part), encoding="ascii") as one:
                both.write(one.read())
    with open(path, "w", encoding="utf-8") as out:
        out.write("global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n")
        for name, port in ports.items():
            tls = f" ssl crt {pem}" if "tls" in name else ""
            out.write(f"listen {name}\n  bind 127.0.0.1:{port} accept-proxy{tls}\n  http-request set-header X-Seen %[src]\n"
                      f"  server s 127.0.0.1:{world.origin.port}\n")
    process = harness.Process(folder, "accepts", [program, "-db", "-f", path])
    stack.callback(process.stop)
    for port in ports.values():
        harness.wait_for("HAProxy", lambda port=port: harness.connects(port))
    listener = harness.free_port()
    inner = os.path.join(folder, "inner")
    os.mkdir(inner)
    versions = ", ".join(f'{name}: {{endpoints: ["127.0.0.1:{port}"], proxy_protocol: {name[:2]}, '
                         f'tls: {"{ca: " + folder + "/a.pem}" if "tls" in name else "false"}}}' for name, port in ports.items())
    sluice = harness.Sluice(inner, args.binary, f"""
journal: @FOLDER@/sluice.db
listen: ["127.0.0.1:{listener}"]
admin: {{address: "@ADMIN@"}}
trust: {{networks: [127.0.0.0/8]}}
services: {{shop: {{health: {{http: /, every: 100ms, fall: 1, initially: unhealthy}}, versions: {{{versions}}}, stable: v1}}}}
""")
    stack.callback(sluice.stop)
    harness.wait_for("checks that pass", lambda: sluice.request("GET", "/metrics")[1].count("sluice_endpoint_healthy{") == len(ports)
                     and not re.search(r"sluice_endpoint_healthy\{.*\} 0", sluice.request("GET", "/metrics")[1]))
    for turn in range(12):
        client = f"127.0.0.{5 + turn % 3}"
        for name in ports:
            protocol = "--http1.1" if turn % 2 else "--http2-prior-knowledge"
            answer = world.curl(protocol, "--interface", client, "-H", f"X-Sluice-Version: {name}", f"http://127.0.0.1:{listener}/")
            assert b"x-seen: " + client.encode() + b"\r\n" in answer.lower(), (name, client, answer)


def hostile(args, folder, stack):
    """no header, a bad one, a long one, a slow one, two, and one of a stranger: none reaches the origin, all are counted"""
    world = World(args, folder, stack)
    told = b"PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n"
    bad = [GET, b"PROXY TCP4 203.0.113.7 192.0.2.1 40001\r\n" + GET, b"PROXY UNKNOWN " + b"x" * 200, b"PROXY TCP4 203",
           SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x12\x00\x0c" + b"x" * 12 + GET, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    for count, text in enumerate(bad, 1):
        assert world.talk(text) == b"", text
        assert world.count("proxy_headers_refused") == count, text
    assert world.talk(told + told + GET).startswith(b"HTTP/1.1 400 ")
    for header in (told, header_v2("203.0.113.7")):
        assert world.talk(header + GET, source="127.0.0.9").startswith(b"HTTP/1.1 400 "), header
    try:
        answer = world.talk(GET, source="127.0.0.9", secure=told)
        raise AssertionError(f"a stranger's header before TLS: {answer}")
    except (ssl.SSLError, ConnectionError):
        pass
    assert world.origin.count() == 0
    assert b"X-Forwarded-For: 127.0.0.9\r\n" in world.talk(GET, source="127.0.0.9")
    assert "malformed PROXY header" in world.sluice.output()


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (headers, haproxy, forwarded, ids, certificates, upgraded, units, origins, hostile)}
    arguments = harness.options(only="")
    harness.run([f for name, f in ALL.items() if arguments.only in ("", name)], arguments, at_once=3)
