#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Routes that people write, by real requests through the real daemon, over http and https.

  guide         every file of docs/guide/routes.md is valid, and what it says of its requests is so
  way           matching, rewriting and headers: what the service gets, and what the client
  own           redirects and fixed answers, at routes and at a listener
  smuggled      rules cannot be got round by how a path, a host or a header is written
  reload        a reload takes routes up, and requests on their way keep theirs
  told          check --route says what the daemon does; the access log names the route
  vocabulary    the words of Kubernetes' HTTPRoute that have a counterpart here are taken"""
import json
import os
import re
import socket
import ssl
import subprocess

import echo_origin
import harness

FILE = """
journal: @FOLDER@/sluice.db
listen:
  - address: 127.0.0.1:{http}
  - {{address: 127.0.0.1:{https}, tls: {{certificate: @FOLDER@/shop.pem, key: @FOLDER@/shop.key}}}}
  - {{address: 127.0.0.1:{plain}, redirect: https}}
admin: {{address: "@ADMIN@"}}
log: {{access: @FOLDER@/access.log, format: json}}
routes:
  - {{name: health, path: {{exact: /health}}, answer: {{status: 200, headers: {{content-type: application/json}}, body: '{{"ok": true}}'}}}}
  - {{name: secure, host: secure.example, redirect: https}}
  - {{name: old, host: old.example, path: {{template: "/p/{{id}}"}}, redirect: {{status: 301, host: shop.example, path: "/products/{{id}}"}}}}
  - {{name: closed, host: shop.example, path: /admin, answer: 403}}
services:
  shop:
    routes:
      - host: shop.example
      - name: items
        host: shop.example
        path: {{template: "/orders/{{id}}/items"}}
        methods: [GET]
        rewrite: {{path: "/v2/{{id}}", host: inner.example}}
        request_headers: {{set: {{X-Order: "{{id}}", X-By: "{{scheme}}"}}, remove: [X-Debug]}}
        response_headers: {{set: {{Cache-Control: no-store}}, remove: [X-Internal]}}
      - {{name: small, host: shop.example, path: /small, request_body: 10B}}
      - {{host: secure.example}}
    versions: {{v1: [127.0.0.1:{shop}]}}
  beta:
    routes:
      - {{host: shop.example, headers: {{x-beta: "yes"}}}}
      - {{host: shop.example, query: {{beta: present}}}}
      - {{host: "*.shop.example"}}
    versions: {{v1: [127.0.0.1:{beta}]}}
"""


class Shop:
    """The daemon before two origins that say what they were asked."""

    def __init__(self, args, folder, stack):
        self.args, self.folder = args, folder
        self.ports = {name: harness.free_port() for name in ("http", "https", "plain", "shop", "beta")}
        self.origins = {name: echo_origin.EchoOrigin(self.ports[name]) for name in ("shop", "beta")}
        for origin in self.origins.values():
            stack.callback(origin.stop)
        subprocess.run([args.binary, "certificate", "shop.example", "secure.example", "--out", os.path.join(folder, "shop")],
                       check=True, stdout=subprocess.DEVNULL)
        self.sluice = harness.Sluice(folder, args.binary, FILE.format(**self.ports))
        stack.callback(self.sluice.stop)

    def raw(self, text, port="http"):
        """All that comes back until the connection ends."""
        connection = socket.create_connection(("127.0.0.1", self.ports[port]), timeout=10)
        if port == "https":
            context = ssl.create_default_context(cafile=os.path.join(self.folder, "shop.pem"))
            context.check_hostname = False
            connection = context.wrap_socket(connection, server_hostname="shop.example")
        with connection:
            connection.sendall(text.encode())
            answer = b""
            while True:
                more = connection.recv(65536)
                if not more:
                    return answer.decode()
                answer += more

    def ask(self, target, host="shop.example", fields="", method="GET", port="http"):
        """The status, the fields by lower-case name, and the body."""
        answer = self.raw(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n", port)
        head, _, body = answer.partition("\r\n\r\n")
        lines = head.split("\r\n")
        return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}, body

    def got(self, name):
        """The last head that the origin got."""
        origin = self.origins[name]
        with origin.lock:
            return origin.requests[-1].decode() if origin.requests else ""

    def serves(self, name, *question, **more):
        before = {n: o.count() for n, o in self.origins.items()}
        status = self.ask(*question, **more)[0]
        assert status == 200, (question, more, status)
        for n, o in self.origins.items():
            assert o.count() - before[n] == (n == name), (question, more, n)

    def check(self, request, *more):
        done = subprocess.run([self.args.binary, "check", self.sluice.config_path, "--route", request, *more],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout


def way(args, folder, stack):
    """what a request asks for decides its service and what that gets"""
    shop = Shop(args, folder, stack)
    shop.serves("shop", "/x")
    shop.serves("beta", "/x", fields="X-Beta: yes\r\n")
    shop.serves("shop", "/x", fields="X-Beta: no\r\n")
    shop.serves("beta", "/x?a&%62eta=1")
    shop.serves("beta", "/x", host="eu.Shop.Example")
    shop.serves("shop", "/orders/5/items?q=1", fields="X-Debug: 1\r\nX-Order: forged\r\n", port="https")
    got = shop.got("shop")
    assert got.startswith("GET /v2/5?q=1 HTTP/1.1\r\nHost: inner.example\r\n"), got
    assert "X-Order: 5" in got and "X-By: https" in got and "X-Forwarded-Host: shop.example" in got, got
    assert "forged" not in got and "X-Debug" not in got, got
    assert shop.ask("/orders/5/items")[1]["cache-control"] == "no-store"
    shop.serves("shop", "/orders/5/items", method="DELETE")
    assert shop.got("shop").startswith("DELETE /orders/5/items "), shop.got("shop")
    assert shop.ask("/small", method="POST", fields="Content-Length: 11\r\n")[0] == 413
    assert shop.ask("/x", host="other.example")[0] == 404


def own(args, folder, stack):
    """what no service gets"""
    shop = Shop(args, folder, stack)
    status, fields, body = shop.ask("/health", host="any.example")
    assert (status, fields["content-type"], body) == (200, "application/json", '{"ok": true}')
    status, fields, body = shop.ask("/health", host="any.example", method="HEAD")
    assert (status, fields["content-length"], body) == (200, "12", "")
    status, fields, _ = shop.ask("/a?b=c", host="secure.example")
    assert (status, fields["location"]) == (308, "https://secure.example/a?b=c")
    shop.serves("shop", "/a", host="secure.example", port="https")
    status, fields, _ = shop.ask("/p/7?x", host="old.example")
    assert (status, fields["location"]) == (301, "http://shop.example/products/7?x")
    status, fields, _ = shop.ask("//evil.example/%2e%2e", host="shop.example", port="plain")
    assert (status, fields["location"]) == (308, "https://shop.example/"), fields
    assert shop.ask("/x", host="nobody.example", port="plain")[0] == 308


def smuggled(args, folder, stack):
    """/admin is closed in every spelling that an origin could read as it"""
    shop = Shop(args, folder, stack)
    for target in ("/admin", "/admin/", "/admin/x", "/%61dmin", "/x/../admin", "/x/%2e%2E/admin", "//admin", "/.//admin", "/admin;x",
                   "/admin;x/y", "/admin/;x", "/..;/admin", "/x/..;/admin", "/;x/admin", "/x//../admin", "/./admin", "/admin//", "/x/%%32E%%32E/admin"):
        before = shop.origins["shop"].count()
        status = shop.ask(target)[0]
        assert status in (403, 404), (target, status)
        assert shop.origins["shop"].count() == before, target
    for host in ("SHOP.example", "shop.example.", "shop.example:8080"):
        assert shop.ask("/admin", host=host)[0] == 403, host
    assert shop.ask("http://shop.example/admin", host="other.example")[0] == 403
    shop.serves("shop", "/administrator")
    # A header that a route takes out does not come back by another spelling.
    shop.ask("/orders/5/items", fields="X_Debug: 1\r\nx-debug: 2\r\nX_Order: 3\r\n")
    assert "ebug" not in shop.got("shop") and "X_Order" not in shop.got("shop"), shop.got("shop")


def reload(args, folder, stack):
    """routes come and go with a reload; a bad file changes nothing"""
    shop = Shop(args, folder, stack)
    text = open(shop.sluice.config_path, encoding="utf-8").read()

    def save(changed):
        with open(shop.sluice.config_path, "w", encoding="utf-8") as file:
            file.write(changed)
        return subprocess.run([args.binary, "reload", "--admin", f"127.0.0.1:{shop.sluice.admin}"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)

    assert save(text.replace("answer: 403", "answer: 410")).returncode == 0
    harness.wait_for("the new answer", lambda: shop.ask("/admin")[0] == 410)
    bad = save(text.replace("remove: [X-Debug]", "remove: [Content-Length]"))
    assert bad.returncode != 0 and "Content-Length" in bad.stdout, bad
    assert shop.ask("/admin")[0] == 410
    assert save(text.replace(", redirect: https}", "}", 1)).returncode == 0
    harness.wait_for("the listener serves", lambda: shop.ask("/x", port="plain")[0] == 200)


def told(args, folder, stack):
    """what check --route says is what the daemon does"""
    shop = Shop(args, folder, stack)
    code, out = shop.check("GET http://shop.example/orders/5/items?q=1")
    assert code == 0 and out.startswith("shop by route 'items' at "), out
    assert "asked for /v2/5?q=1, host inner.example" in out and "its kind of path is more exact" in out, out
    code, out = shop.check("GET http://shop.example/x", "-H", "x-beta: yes", "-H", "a: b", "--json")
    told_of = json.loads(out)
    assert code == 0 and told_of["matches"][0]["service"] == "beta" and told_of["target"] == "/x", out
    assert told_of["matches"][1]["first_wins"] == "it has more conditions", out
    code, out = shop.check("GET http://old.example/p/5")
    assert code == 0 and "answered 301 by the proxy: go to http://shop.example/products/5" in out, out
    code, out = shop.check("GET https://nobody.example/")
    assert code == 1 and "no route: it is answered 404" in out, out
    for request in ("GET", "GET shop.example/x", "G,T https://a/", "GET https://a/ b", "GET https://a/\r\nX: 1"):
        assert shop.check(request)[0] in (1, 2), request
    assert shop.check("GET https://a/", "-H", "no header")[0] == 2
    shop.ask("/orders/5/items")
    shop.ask("/health", host="any.example")
    log = os.path.join(folder, "access.log")
    for route, service in (("items", "shop"), ("health", "")):
        line = harness.wait_for("a line of the log", lambda r=route: next(
            (json.loads(x) for x in open(log, encoding="utf-8") if f'"route":"{r}"' in x), None))
        assert line["service"] == service, line


def guide(args, folder, stack):
    """the guide's files are valid, and its questions have the answers that it shows"""
    del stack
    with open(os.path.join(harness.ROOT, "docs/guide/routes.md"), encoding="utf-8") as file:
        text = file.read()
    blocks = re.findall(r"```(yaml|console)\n(.*?)```", text, re.S)
    asked = 0
    for kind, body in blocks:
        if kind == "yaml":
            path = os.path.join(folder, "sluice.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(body if body.startswith("listen:") else "listen: [127.0.0.1:8080]\n" + body)
            done = subprocess.run([args.binary, "check", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert done.returncode == 0, (body, done.stdout)
            continue
        for command, shown in re.findall(r"^\$ sluice (.*)\n((?:(?!\$ ).*\n)*)", body, re.M):
            done = subprocess.run(f"{args.binary} {command}", shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)
            assert done.stdout == shown, (command, done.stdout, shown)
            asked += 1
    assert asked > 0


# Words of a HTTPRoute's schema that mean something else here, or nothing: the reasons stand in the guide.
NOT_HERE = {"RegularExpression": "a path or value by a regular expression"}


def vocabulary(args, folder, stack):
    """kinds of paths and values, methods and statuses of redirects in the schema of HTTPRoute"""
    del stack
    shared = harness.find_shared("SLUICE_CONFORMANCE", "conformance")
    schema = os.path.join(shared or "", "gateway-api", "httproutes.yaml")
    if shared is None or not os.path.exists(schema):
        harness.skip("the Gateway API's schemas are not there (SLUICE_CONFORMANCE)")
    with open(schema, encoding="utf-8") as file:
        text = file.read()
    match = {"Exact": "path: {{exact: /a{0}}}", "PathPrefix": "path: {{prefix: /a{0}}}"}
    header = {"Exact": "headers: {{x-a: v{0}}}"}

    def values(name, numbers=False):
        """The enumerations that stand under the word."""
        found = re.findall(r"\n +%s:\n(?:(?! +enum:| +\w+:\n).*\n)*? +enum:\n((?: +- .*\n)+)" % name, text)
        assert found, name
        return {x.strip()[2:] for block in found for x in block.splitlines() if x.strip()[2:].isdigit() == numbers}

    routes = []
    for method in values("method"):
        routes.append(f"methods: [{method}]")
    for kind in values("type"):
        assert kind in match or kind in header or kind in NOT_HERE or kind[0].isupper(), kind
        routes += [words[kind].format(len(routes)) for words in (match, header) if kind in words]
    own = [f"{{path: /r{status}, redirect: {{status: {status}, scheme: https, port: 443}}}}" for status in values("statusCode", True)]
    assert len(routes) >= 10 and own, (routes, own)
    path = os.path.join(folder, "sluice.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("listen: [127.0.0.1:8080]\nroutes: [" + ", ".join(own) + "]\nservices:\n  s:\n    versions: {v1: [127.0.0.1:1]}\n"
                   "    routes:\n" + "".join(f"      - {{{route}}}\n" for route in routes))
    done = subprocess.run([args.binary, "check", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, (done.stdout, open(path, encoding="utf-8").read())


if __name__ == "__main__":
    harness.run([guide, way, own, smuggled, reload, told, vocabulary], harness.options())
