# SPDX-License-Identifier: Apache-2.0
"""The daemon with its evaluation port, for tests of flags: asked over OFREP, and about its sources and refusals; and the
flags and files they give it."""
import http.client
import json
import os
import time

import harness

CONFIG = """
workers: 1
journal: @FOLDER@/{name}.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{port}
{flags}
"""


def text_flag(value, **more):
    return {"state": "ENABLED", "variants": {"one": value}, "defaultVariant": "one", **more}


def switch(default="off", **more):
    return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default, **more}


def as_text(flags):
    return flags if isinstance(flags, (str, bytes)) else json.dumps({"flags": flags})


def save(path, flags):
    """As an editor does it that writes a new file and renames it."""
    with open(path + "~", "wb") as f:
        text = as_text(flags)
        f.write(text if isinstance(text, bytes) else text.encode())
    os.rename(path + "~", path)


class Daemon(harness.Sluice):
    """The daemon with its evaluation port; `flags` is what stands under flags:, without listen."""

    def __init__(self, args, folder, flags, name="sluice", head="", **kwargs):
        self.port = harness.free_port()
        body = "".join(f"  {line}\n" for line in flags.strip("\n").split("\n"))
        super().__init__(folder, args.binary, head + CONFIG.format(name=name, port=self.port, flags=body), name=name, **kwargs)
        if kwargs.get("wait_ready", True):
            harness.wait_for("evaluation", lambda: harness.connects(self.port))

    def ask(self, path, body, headers=None, method="POST"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text), answer.headers
        except ValueError:
            return answer.status, text.decode("utf-8", "replace"), answer.headers

    def flag(self, key, context=None, headers=None):
        """The value of a flag, or its error code; None where the caller's default counts."""
        status, body, _ = self.ask(f"/ofrep/v1/evaluate/flags/{key}", {"context": {"targetingKey": "u"} | (context or {})}, headers)
        assert isinstance(body, dict), f"{key}: {status} {body}"
        return body.get("value") if status == 200 else body.get("errorCode", status)

    def becomes(self, key, value, what, seconds=1.0):
        """Waits until the served answer is this; returns how many milliseconds it took."""
        began = time.monotonic()
        harness.wait_for(f"{what}: {key} = {value!r} (it is {self.flag(key)!r})", lambda: self.flag(key) == value, seconds, 0.005)
        return (time.monotonic() - began) * 1000

    def state(self):
        status, body = self.request("GET", "/v1/flags")
        assert status == 200, f"{status} {body}"
        return body

    def source(self, name):
        found = [s for s in self.state()["sources"] if s["name"].endswith(name)]
        assert len(found) == 1, f"{name}: {self.state()['sources']}"
        return found[0]

    def refusal(self, *parts, seconds=3):
        """Waits for a refusal that names all these parts in /v1/flags, and checks that the log says the same."""
        def named():
            state = self.state()
            texts = [p["text"] for p in state["problems"] if p["error"]]
            return state["refused"] and next((t for t in texts if all(part in t for part in parts)), None)
        try:
            text = harness.wait_for(f"a refusal with {parts}", named, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.state())[:1500]}") from None
        # A line of the log keeps its own quotes apart from those of its values.
        assert text.replace('"', "'") in self.output(), f"not in the log: {text}: {self.output()[-800:]}"
        return text

    def accepted(self, what):
        harness.wait_for(f"{what}: taken up again", lambda: not self.state()["refused"], 3)


def start(args, folder, stack, flags, **kwargs):
    daemon = Daemon(args, folder, flags, **kwargs)
    stack.callback(daemon.stop)
    return daemon
