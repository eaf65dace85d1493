#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`sluice flag ...` as a person uses it, against the real daemon: what it prints, what it exits with, and that what it says is so."""
import json
import os
import signal
import subprocess
import threading

import harness

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{address: 127.0.0.1:@PORT@}]
admin: {address: "@ADMIN@"}
services:
  shop: {versions: {v1: ["127.0.0.1:9"]}, stable: v1}
segments:
  internal: {ends_with: [{var: email}, "@example.com"]}
flags:
  sources: [@FOLDER@/flags.json]
  define:
    theme:
      state: ENABLED
      variants: {light: light, dark: dark}
      defaultVariant: light
      targeting: {if: [{$ref: internal}, dark]}
"""

FLAGS = {"flags": {
    "fresh": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off",
              "targeting": {"if": [{"==": [{"var": "plan"}, "beta"]}, {"fractional": [["on", 100], ["off", 0]]}]}},
    "banner": {"state": "ENABLED", "variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"},
    "../odd key/%2F": {"state": "ENABLED", "variants": {"one": 1, "two": 2}, "defaultVariant": "one"},
}}


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text if isinstance(text, str) else json.dumps(text, indent=2))
    os.rename(path + ".new", path)


def start(args, folder, stack, wait_ready=True, config=CONFIG):
    path = os.path.join(folder, "flags.json")
    if not os.path.exists(path):
        write(path, FLAGS)
    config = config.replace("@PORT@", str(harness.free_port()))
    sluice = harness.Sluice(folder, args.binary, config, wait_ready=wait_ready)
    stack.callback(sluice.stop)
    return sluice


class Ran:
    def __init__(self, result):
        self.code, self.out, self.err = result.returncode, result.stdout, result.stderr

    def __repr__(self):
        return f"exit {self.code}\nout: {self.out}\nerr: {self.err}"


def flag(sluice, *words, stdin=None, code=0, out=None, err=None, admin=None):
    env = {**os.environ, "SLUICE_ADMIN": admin or f"127.0.0.1:{sluice.admin}"}
    ran = Ran(subprocess.run([sluice.binary, "flag", *words], capture_output=True, text=True, timeout=120, env=env,
                             input=stdin if stdin is not None else ""))
    assert ran.code == code, f"{words}: wanted exit {code}: {ran}"
    for wanted, text in ((out, ran.out), (err, ran.err)):
        for part in [wanted] if isinstance(wanted, str) else wanted or []:
            assert part in text, f"{words}: {part!r} is not in {ran}"
    assert "\033" not in ran.out + ran.err, f"{words}: escapes without a terminal: {ran}"
    return ran


def looking(args, folder, stack):
    """list, show and eval tell what is in force and why"""
    sluice = start(args, folder, stack)
    flag(sluice, "list", out=["banner", "fresh", "theme", "../odd key/%2F", "4 flags"])
    flag(sluice, "list", "ann", out="1 flag (4 in all")
    flag(sluice, "list", "--changed", out="No flag is like that")
    listed = json.loads(flag(sluice, "list", "--json").out)
    assert [f["key"] for f in listed["flags"]] == sorted(["../odd key/%2F", "banner", "fresh", "theme"])
    flag(sluice, "show", "fresh", out=["fresh: boolean, on", "off = false", "the default", '"targeting"', "flags.json"])
    flag(sluice, "show", "../odd key/%2F", out="one = 1")
    flag(sluice, "eval", "../odd key/%2F", out='(variant "one")')
    flag(sluice, "eval", "fresh", "-k", "u", "-c", '{"plan": "beta"}',
         out=["fresh = true", "targeting.if[1].fractional[0]", 'because  {"==":[{"var":"plan"},"beta"]}', 'bucket   ["on",100]'])
    flag(sluice, "eval", "theme", "--context", '{"email": "ann@example.com"}', out=["dark", '{"$ref":"internal"}'])
    context = os.path.join(folder, "context.json")
    write(context, {"email": "x@elsewhere", "targetingKey": "u"})
    flag(sluice, "eval", "theme", "--context", "@" + context, out='"light"')
    flag(sluice, "eval", "banner", "--type", "boolean", code=1, out="TYPE_MISMATCH")
    result = json.loads(flag(sluice, "eval", "fresh", "--json", "-k", "u", "-c", '{"plan": "beta"}').out)
    assert result["value"] is True and result["variant"] == "on" and result["reason"] == "TARGETING_MATCH", result


def wrong_words(args, folder, stack):
    """a slip is answered with what was meant"""
    sluice = start(args, folder, stack)
    flag(sluice, "show", "frehs", code=1, err="did you mean 'fresh'?")
    flag(sluice, "show", "anne", code=1, err="did you mean 'banner'?")
    flag(sluice, "off", "fresh", "-v", "of", code=1, err="it has 'on', 'off'")
    flag(sluice, "set", "banner", "--default", "bleu", code=1, err='did you mean "blue"?')
    flag(sluice, "set", "nothing", "--default", "on", code=1, err="there is no flag")
    flag(sluice, "eval", "nothing", code=1, err="there is no flag")
    flag(sluice, "unset", "banner", code=1, err="nothing was changed at runtime")
    flag(sluice, "lits", code=2, err='did you mean "list"?')
    flag(sluice, "list", code=3, err="no daemon answers", admin="127.0.0.1:1")
    flag(sluice, "set", "x", os.path.join(folder, "flags.json"), code=1, err="sluice flag import")
    assert flag(sluice, "history").out == "Nothing has been changed at runtime.\n"


def switching(args, folder, stack):
    """off, on and unset are in force when the command ends, and are kept"""
    sluice = start(args, folder, stack)
    beta = ("eval", "fresh", "-k", "u", "-c", '{"plan": "beta"}')
    for turn in range(5):
        flag(sluice, "off", "fresh", "--who", f"ann{turn}", out="in force")
        flag(sluice, *beta, out=["fresh = false", "DISABLED", "kill"])
        flag(sluice, "off", "banner", out="everybody gets the default in the caller's own code")
        flag(sluice, "eval", "banner", out=["the default in the caller's code", "DISABLED", "kill"])
        flag(sluice, "unset", "banner")
        flag(sluice, "off", "fresh", "--variant", "off", out='everybody gets "off"')
        flag(sluice, *beta, out=["fresh = false", "kill"])
        flag(sluice, "on", "fresh", out="in force")
        flag(sluice, *beta, out="fresh = true")
    flag(sluice, "list", "--changed", out=["fresh", "switched on at runtime", "1 flag (4 in all"])
    flag(sluice, "history", "fresh", out=["by ann0 from 127.0.0.1", "by ann4", '("off" for everybody)'])
    flag(sluice, "off", "banner", "-v", "blue")
    sluice.signal(signal.SIGKILL)
    sluice.stop()
    sluice = start(args, folder, stack)
    flag(sluice, "eval", "banner", out=["#00f", "kill"])
    flag(sluice, "list", "--changed", out=["banner", "KILLED"])
    flag(sluice, "unset", "banner", out=["in force", "flags.json says"])
    flag(sluice, "eval", "banner", out="#f00")


def two_sets(args, folder, stack):
    """off is off in every set, also where the variant named does not exist, and the command says who gets what"""
    names = {"yes": True, "no": False}
    for name, variants in (("a", {"on": True, "off": False}), ("b", names)):
        write(os.path.join(folder, f"set-{name}.json"), {"metadata": {"flagSetId": name}, "flags": {
            "x": {"state": "ENABLED", "variants": variants, "defaultVariant": next(iter(variants))}}})
    write(os.path.join(folder, "flags.json"), FLAGS)
    sluice = start(args, folder, stack, config=CONFIG.replace("sources: [", "sources: [@FOLDER@/set-b.json, @FOLDER@/set-a.json, "))
    flag(sluice, "off", "x", "--variant", "off", out=['x: off; everybody gets "off"  (in force)', 'but who asks with flagSetId=b gets "no"'])
    answer = json.loads(flag(sluice, "off", "x", "--json").out)
    assert answer["in_force"] and answer["kill_variant"] == "off", answer
    assert {"selector": "flagSetId=b", "kill_variant": "no"} in answer["elsewhere"], answer
    # A file that renames the variant does not lift the kill.
    flag(sluice, "off", "x", "--variant", "off")
    write(os.path.join(folder, "set-a.json"), {"metadata": {"flagSetId": "a"}, "flags": {
        "x": {"state": "ENABLED", "variants": names, "defaultVariant": "yes"}}})
    harness.wait_for("the new names", lambda: '(variant "no")' in flag(sluice, "eval", "x").out, 5)
    flag(sluice, "eval", "x", out=["x = false", "kill"])
    flag(sluice, "list", "x", out=["KILLED", '("no" for everybody)'], err="names no variant of the flag: 'off'")


def defining(args, folder, stack):
    """set checks, shows the place, keeps; another default; unset of what only the runtime knows"""
    sluice = start(args, folder, stack)
    good = os.path.join(folder, "new.json")
    write(good, {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"})
    flag(sluice, "set", "new/flag", good, out="in force")
    flag(sluice, "eval", "new/flag", out="new/flag = 1")
    flag(sluice, "set", "new/flag", "--default", "b", out='by default "b"')
    flag(sluice, "eval", "new/flag", out="new/flag = 2")
    flag(sluice, "set", "banner", "-", stdin='{"state":"ENABLED","variants":{"red":"#900"},"defaultVariant":"red"}')
    flag(sluice, "eval", "banner", out="#900")
    bad = os.path.join(folder, "bad.json")
    write(bad, '{\n  "state": "ENABLED",\n  "variants": {"a": 1, "b": "x"},\n  "defaultVariant": "a"\n}')
    ran = flag(sluice, "set", "new/flag", bad, code=1, err=["bad.json:3:", "one type", "| ", "^"])
    assert "}}" not in ran.err, f"what we wrapped around it is shown: {ran}"
    # What only the daemon knows is asked of it: a flag of a file is a prerequisite, an operator that nobody knows is refused.
    needs = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "x-sluice": {"prerequisites": [{"flag": "fresh", "variant": "on"}]}}
    flag(sluice, "set", "needs", "-", stdin=json.dumps(needs), out="in force")
    flag(sluice, "unset", "needs")
    for rule, why in (({"nosuch": [1]}, "unknown operator"), ({"$ref": "nobody"}, "$ref names no evaluator")):
        flag(sluice, "set", "broken", "-", stdin=json.dumps({**needs, "x-sluice": {}, "targeting": rule}), code=1, err=why)
    flag(sluice, "set", "x", "-", stdin='{"state": ', code=1, err="(standard input):1:")
    flag(sluice, "set", "x", os.path.join(folder, "nope.json"), code=4, err="cannot be read")
    flag(sluice, "unset", "new/flag", out="it is gone")
    flag(sluice, "show", "new/flag", code=1, err="there is no flag")


def sources(args, folder, stack):
    """a bad source is refused whole and said at the top of the list; a good one is taken up by itself"""
    sluice = start(args, folder, stack)
    path = os.path.join(folder, "flags.json")
    changed = json.loads(json.dumps(FLAGS))
    changed["flags"]["banner"]["defaultVariant"] = "blue"
    write(path, changed)
    harness.wait_for("the new file in force", lambda: "#00f" in flag(sluice, "eval", "banner").out, 5)
    write(path, '{"flags": {\n  "banner": {"state": "ON"}}}')
    harness.wait_for("the refusal", lambda: "REFUSED" in flag(sluice, "list").err, 5)
    ran = flag(sluice, "list", err=["REFUSED", "flags.json:2:"], out="banner")
    assert ran.out.count("banner") == 1, ran
    flag(sluice, "eval", "banner", out="#00f")
    # The kill switch works while a source is broken.
    flag(sluice, "off", "banner", "-v", "red", out="in force")
    flag(sluice, "eval", "banner", out="#f00")
    # A rule that was good is not broken by new content: what lint calls an error is refused.
    write(path, FLAGS)
    harness.wait_for("the file is good again", lambda: "REFUSED" not in flag(sluice, "list").err, 5)
    changed["flags"]["fresh"]["targeting"] = {"$ref": "nobody"}
    write(path, changed)
    flag(sluice, "lint", path, code=1, out="$ref names no evaluator")
    harness.wait_for("the refusal", lambda: "$ref names no evaluator" in flag(sluice, "list").err, 5)
    assert "BROKEN" not in flag(sluice, "list").out
    write(path, FLAGS)
    harness.wait_for("the file is good again", lambda: "REFUSED" not in flag(sluice, "list").err, 5)


def moving(args, folder, stack):
    """export, lint, import: what goes out comes in again"""
    sluice = start(args, folder, stack)
    out = os.path.join(folder, "out.json")
    flag(sluice, "off", "fresh")
    flag(sluice, "export", "-o", out, err="4 flags written")
    with open(out, encoding="utf-8") as f:
        exported = json.load(f)
    assert set(exported["flags"]) == set(FLAGS["flags"]) | {"theme"}, exported
    assert json.loads(flag(sluice, "export").out) == exported
    flag(sluice, "lint", out, out="nothing wrong")
    # The same answers offline as from the daemon.
    for words in (["fresh", "-k", "u", "-c", '{"plan":"beta"}'], ["theme", "-c", '{"email":"a@example.com"}'], ["banner"]):
        online = json.loads(flag(sluice, "eval", *words, "--json").out)
        offline = json.loads(flag(sluice, "eval", *words, "--json", "--file", out).out)
        for name in ("value", "variant", "reason", "has_value"):
            assert online[name] == offline[name], f"{words}: {online} against {offline}"
    flag(sluice, "import", out, "--apply", code=1, err=["4 of them exist already", "--yes"])
    flag(sluice, "import", out, "--apply", "--yes", out="4 flags set")
    flag(sluice, "eval", "theme", "-c", '{"email":"a@example.com"}', out='"dark"')
    flag(sluice, "lint", "--segments", sluice.config_path, os.path.join(folder, "flags.json"), out="nothing wrong")
    flag(sluice, "lint", "--stale", out, out="nothing wrong")
    old = os.path.join(folder, "old.json")
    write(old, {**FLAGS, "x-sluice": {"fractional": 1}})
    flag(sluice, "import", "--from", "flagd", old, "--apply", "--yes", code=1, err="older generation")
    features = [{"name": "f", "enabled": True, "strategies": [{"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "userId", "groupId": "f"}}]},
                {"name": "g", "enabled": False, "strategies": [{"name": "default"}]}]
    unleash = os.path.join(folder, "unleash.json")
    write(unleash, {"version": 2, "features": features})
    flag(sluice, "import", unleash, "--from", "unleash", "-o", out, err=["differs", "2 flags"])
    flag(sluice, "lint", out, out="2 flags, nothing wrong")
    flag(sluice, "eval", "f", "-k", "u", "--file", out, out="f = true")
    flag(sluice, "eval", "g", "-k", "u", "--file", out, out="DISABLED")
    token = json.loads(flag(sluice, "token", "--name", "web", "--json").out)
    assert token["token"].startswith("sluice_") and token["token"] not in token["line"], token


def many(args, folder, stack):
    """two thousand flags: pages, import in parts, a list that is whole"""
    sluice = start(args, folder, stack)
    path = os.path.join(folder, "many.json")
    flags = {f"many-{i:05d}": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"} for i in range(2000)}
    # The first asks for the last and the other way round through the middle: parts must not break at that.
    for asks, asked in ((0, 1999), (1999, 1000), (1500, 2)):
        flags[f"many-{asks:05d}"]["x-sluice"] = {"prerequisites": [{"flag": f"many-{asked:05d}", "variant": "on"}]}
    write(path, {"flags": flags})
    flag(sluice, "import", path, "--apply", "--yes", out="2000 flags set")
    listed = json.loads(flag(sluice, "list", "--json").out)["flags"]
    keys = [f["key"] for f in listed]
    assert keys == sorted(keys) and len(keys) == len(set(keys)) == 2004, len(keys)
    flag(sluice, "list", "many-0199", out="10 flags (2 004 in all")


def together(args, folder, stack):
    """many people at once: every change is kept, numbered and in force"""
    sluice = start(args, folder, stack)
    failures = []

    def person(i):
        try:
            for _ in range(5):
                flag(sluice, "off", "fresh", "--who", f"p{i}", out="in force")
                flag(sluice, "on", "fresh", "--who", f"p{i}", out="in force")
        except AssertionError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=person, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    changes = json.loads(flag(sluice, "history", "fresh", "--json").out)["changes"]
    assert len(changes) == 40, len(changes)
    numbers = [c["number"] for c in changes]
    assert numbers == sorted(set(numbers)), numbers


if __name__ == "__main__":
    harness.run([looking, wrong_words, switching, two_sets, defining, sources, moving, many, together],
                harness.options())
