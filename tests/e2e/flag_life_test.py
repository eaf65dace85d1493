#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flags over the life of the daemon: the first answer after a start is as good as the last one before it, and a reload takes
nothing away that it does not name."""
import http.client
import json
import os
import signal
import subprocess
import time

import harness

CONFIG = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{ofrep}
  exposures: @FOLDER@/seen.jsonl
  sources: [@FOLDER@/flags.json]
"""
WITHOUT = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
listen: [127.0.0.1:{port}]
services: {{shop: {{versions: {{v1: [127.0.0.1:9]}}}}}}
"""


def switch():
    return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}


def start(args, folder, stack, text, **kwargs):
    sluice = harness.Sluice(folder, args.binary, text, **kwargs)
    stack.callback(sluice.stop)
    return sluice


def ask(port, key, targeting_key="ann"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", f"/ofrep/v1/evaluate/flags/{key}", json.dumps({"context": {"targetingKey": targeting_key}}),
                       {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def rewrite(sluice, text):
    """Another file in its place, and word of it; returns when the log tells what became of it."""
    before = sluice.output().count("the file was read again")
    with open(sluice.config_path, "w", encoding="utf-8") as f:
        f.write(text)
    sluice.signal(signal.SIGHUP)
    harness.wait_for("the reload", lambda: sluice.output().count("the file was read again") > before, 5)


def the_first_answer_knows_all(args, folder, stack):
    """Ten thousand flags take a while: what was switched off is never seen alive, not even by the first who asks."""
    many = {f"flag-{i}": {**switch(), "targeting": {"if": [{"in": ["x", {"var": "email"}]}, "on"]}} for i in range(10000)}
    with open(os.path.join(folder, "flags.json"), "w", encoding="utf-8") as f:
        json.dump({"flags": many}, f)
    port = harness.free_port()
    text = CONFIG.format(ofrep=port)
    sluice = start(args, folder, stack, text)
    assert sluice.request("POST", "/v1/flags/flag-1/off", {"variant": "off"})[0] == 200
    assert sluice.request("PUT", "/v1/flags/fresh", switch())[0] == 200
    harness.wait_for("the definition", lambda: ask(port, "fresh").get("variant") == "on", 5)
    sluice.kill()
    again = subprocess.Popen([args.binary, "serve", sluice.config_path], stderr=subprocess.DEVNULL)
    stack.callback(again.wait)
    stack.callback(again.terminate)
    harness.wait_for("the port", lambda: harness.connects(port), 20, 0.001)
    first = ask(port, "flag-1"), ask(port, "fresh")
    assert first[0]["variant"] == "off" and first[1].get("variant") == "on", first


def a_reload_takes_nothing_away(args, folder, stack):
    """Without the word `flags` flags stay as they are until the next start; the file of exposures is opened anew."""
    with open(os.path.join(folder, "flags.json"), "w", encoding="utf-8") as f:
        json.dump({"flags": {"one": switch()}}, f)
    port = harness.free_port()
    text = CONFIG.format(ofrep=port)
    sluice = start(args, folder, stack, text)
    good = open(sluice.config_path, encoding="utf-8").read()
    path = os.path.join(folder, "seen.jsonl")
    ask(port, "one", "first")
    harness.wait_for("an exposure", lambda: "first" in open(path, encoding="utf-8").read(), 5)
    os.rename(path, path + ".1")
    rewrite(sluice, good)
    ask(port, "one", "second")
    harness.wait_for("a new file", lambda: os.path.exists(path) and "second" in open(path, encoding="utf-8").read(), 5)
    assert "second" not in open(path + ".1", encoding="utf-8").read()
    without = WITHOUT.format(port=harness.free_port()).replace("@FOLDER@", folder).replace("@ADMIN@", f"127.0.0.1:{sluice.admin}")
    rewrite(sluice, without)
    time.sleep(0.5)
    assert ask(port, "one")["variant"] == "on"
    assert "setting=flags" in sluice.output()


def check_tells_of_rollouts(args, folder, stack):
    """`sluice check` says when a rollout moves what is not there."""
    with open(os.path.join(folder, "flags.json"), "w", encoding="utf-8") as f:
        json.dump({"flags": {"one": switch()}}, f)
    path = os.path.join(folder, "check.yaml")
    for flag, to, says in (("one", "blue", 'no variant "blue"'), ("two", "on", 'no flag "two"'), ("one", "on", None)):
        with open(path, "w", encoding="utf-8") as f:
            f.write(f'flags: {{sources: [{folder}/flags.json]}}\nrollouts: {{r: {{flag: {flag}, from: "off", to: "{to}"}}}}\n')
        result = subprocess.run([args.binary, "check", path], capture_output=True, text=True, timeout=20)
        assert result.returncode == 0, result
        assert (says in result.stderr) if says else result.stderr == "", result


if __name__ == "__main__":
    harness.run([the_first_answer_knows_all, a_reload_takes_nothing_away, check_tells_of_rollouts], harness.options(), at_once=3)
