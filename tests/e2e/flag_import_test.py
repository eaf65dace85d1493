#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Imported flags against the vendors' own SDKs: random exports of Unleash and LaunchDarkly are converted, then both sides are asked for
the same people. Where the answers differ, the importer must have named the flag; and whatever it named, no flag may be on that was off.
  flag_import_test.py --binary sluice [--cases N] [--seed N] [--system unleash,launchdarkly]    a case is one flag for one person"""
import json
import os
import random
import subprocess

import flag_daemon
import flag_sdk_test
import harness

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vendors")
FLAGS, PEOPLE = 100, 50  # of one export
TEXTS = ["", " ", "a", "A", "ab", "abc", " a", "a ", "b", "é", "10", "1.0", "12abc", "0", "-1", "true", "x.y", "1e3", "x@example.com"]
VERSIONS = ["1.2.3", "1.2.4", "2.0.0", "v1.2.3", "1.2", "2", "2-rc", "2.0-rc", "2.0.0-rc", "2.0.0-rc.1", "1.2.3+b", "=1.2.3", " 1.2.3", "01.2.3", "x"]
NUMBERS = [0, 1, 2, 10, -1, 1.5, 0.1, 1e21, 9007199254740991]
SHARES = ["their members", "has other members", "drawn once"]  # words of findings: a share has others here than there
VERSIONS_DIFFER = ["fewer than three parts", "a version with spaces"]


def some(r, pool, most=3):
    return [r.choice(pool) for _ in range(r.randint(0, most))]


def value_of(r):
    return r.choice([r.choice(TEXTS), r.choice(VERSIONS), r.choice(NUMBERS), r.random() < 0.5])


# ---- Unleash ----

FIELDS = ["userId", "sessionId", "city", "n", "v"]
UNLEASH_OPERATORS = ["IN", "NOT_IN", "STR_CONTAINS", "STR_STARTS_WITH", "STR_ENDS_WITH", "NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE", "SEMVER_EQ",
                     "SEMVER_GT", "SEMVER_LT", "SEMVER_GTE", "REGEX", "NOBODY_KNOWS"]


def unleash_constraint(r):
    operator = r.choice(UNLEASH_OPERATORS)
    made = {"contextName": r.choice(FIELDS), "operator": operator}
    if operator.startswith(("NUM", "SEMVER", "REGEX")):
        pool = VERSIONS if operator.startswith("SEMVER") else ["^$", "^a", "b$", "^ab$", "a.*b", "", "x\\.y"] if operator == "REGEX" else TEXTS + ["7", "1.5", " 5 ", "0x10"]
        made["value"] = r.choice(pool)
    else:
        made["values"] = some(r, TEXTS)
    for word in ("inverted", "caseInsensitive"):
        if r.random() < 0.2:
            made[word] = True
    return made


def unleash_strategy(r):
    name = r.choice(["default", "default", "userWithId", "flexibleRollout", "gradualRolloutUserId", "gradualRolloutSessionId", "remoteAddress", "custom"])
    parameters = {}
    if name == "userWithId":
        parameters["userIds"] = r.choice([",", ", ", " ,"]).join(some(r, TEXTS))
    elif name == "remoteAddress":
        parameters["IPs"] = r.choice(["10.0.0.1", "10.0.0.0/8, 192.168.1.1", "10.0.0.0/9", "", "192.168.0.0/16,1.1.1.1"])
    elif name != "default":
        share = r.choice(["0", "100", 100, "0.5", "101", "-1", "50"])
        parameters = {"rollout": share, "percentage": share, "stickiness": r.choice(["default", "userId", "sessionId", "city", "n", ""]), "groupId": r.choice(["g", ""])}
    made = {"name": name, "parameters": parameters, "constraints": [unleash_constraint(r) for _ in range(r.randint(0, 2))]}
    if r.random() < 0.2:
        made["segments"] = [r.choice([1, 2, 3])]
    if r.random() < 0.15:
        made["variants"] = unleash_variants(r)
    return made


def unleash_variants(r):
    made = [{"name": r.choice(["red", "blue"]), "weight": r.choice([1000, 1000, 0]), "stickiness": r.choice(["default", "userId"])}]
    if r.random() < 0.4:
        made[0]["overrides"] = [{"contextName": r.choice(FIELDS), "values": some(r, TEXTS)}]
    return made


def unleash_export(r):
    features = []
    for i in range(FLAGS):
        made = {"name": f"f{i}", "enabled": r.random() < 0.85, "strategies": [unleash_strategy(r) for _ in range(r.randint(0, 3))]}
        if r.random() < 0.2:
            made["variants"] = unleash_variants(r)
        if i > 3 and r.random() < 0.25:
            made["dependencies"] = [{"feature": f"f{r.randrange(i)}"}]
            if r.random() < 0.4:
                made["dependencies"][0]["enabled"] = False
            elif r.random() < 0.3:
                made["dependencies"][0]["variants"] = some(r, ["red", "blue"])
        features.append(made)
    segments = [{"id": i, "constraints": [unleash_constraint(r) for _ in range(r.randint(0, 2))]} for i in (1, 2)]
    return {"version": 2, "features": features, "segments": segments}, [f"f{i}" for i in range(FLAGS)]


def unleash_person(r):
    made = {"properties": {name: value_of(r) for name in ("city", "n", "v") if r.random() < 0.7}}
    for name, pool in (("userId", TEXTS), ("sessionId", TEXTS), ("remoteAddress", ["10.0.0.1", "10.200.3.4", "192.168.1.1", "1.1.1.1"])):
        if r.random() < 0.7:
            made[name] = r.choice(pool)
    ours = {**made["properties"], **{k: v for k, v in made.items() if k not in ("properties", "userId")}}
    return made, ours | ({"targetingKey": made["userId"]} if "userId" in made else {})


def unleash_same(flag, theirs, ours):
    return ours.get(flag, {}).get("value") is theirs["on"] and ours.get(f"{flag}.variant", {}).get("variant") == theirs["variant"]


def unleash_on(_export, flag, theirs, ours):
    on = ours.get(flag, {}).get("value") is True or ours.get(f"{flag}.variant", {}).get("variant") is not None
    return on and not theirs["on"]


# ---- LaunchDarkly ----

LD_OPERATORS = ["in", "in", "startsWith", "endsWith", "contains", "matches", "lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual", "semVerEqual",
                "semVerLessThan", "semVerGreaterThan", "segmentMatch", "before", "nobodyKnows"]
ATTRIBUTES = ["key", "anonymous", "city", "n", "v", "roles", "/key", "/city", "/roles/0", "/a~b", "/address/town", "/a~1b", "name"]


def ld_clause(r, deep=True):
    op = r.choice(LD_OPERATORS if deep else [o for o in LD_OPERATORS if o != "segmentMatch"])
    attribute = r.choice(ATTRIBUTES)
    made = {"op": op, "attribute": "" if op == "segmentMatch" else attribute, "negate": r.random() < 0.25}
    if op == "segmentMatch":
        made["values"] = [r.choice(["s0", "s1", "s1 (wide)", "gone"])]
    elif op.startswith("semVer"):
        made["values"] = some(r, VERSIONS)
    elif op == "matches":
        made["values"] = [r.choice(["^a", "b$", "^ab$", "a.*b", "x\\.y"])]
    else:
        made["values"] = [value_of(r) for _ in range(r.randint(0, 3))]
    if attribute.startswith("/") or r.random() < 0.5:
        made["contextKind"] = r.choice(["user", "user", "org"])
    return made


def ld_served(r, variations):
    if r.random() < 0.8:
        return {"variation": r.randrange(variations)}
    rollout = {"variations": [{"variation": i, "weight": w} for i, w in zip(range(variations), r.choice([[100000, 0], [0, 100000], [50000, 50000]]))]}
    if r.random() < 0.5:
        rollout["bucketBy"] = r.choice(["n", "v", "roles", "city", "key"])
    return {"rollout": rollout}


def ld_flag(r, i):
    variations = r.choice([[True, False], [False, True], ["a", "b"], [1, 2]])
    made = {"key": f"f{i}", "version": 1, "on": r.random() < 0.85, "variations": variations, "salt": "s", "targets": [], "prerequisites": [],
            "offVariation": r.choice([0, 1, 1, None]), "fallthrough": ld_served(r, 2), "rules": []}
    for k in range(r.randint(0, 3)):
        made["rules"].append({"id": f"r{k}", "clauses": [ld_clause(r) for _ in range(r.randint(0, 2))], **ld_served(r, 2)})
    if r.random() < 0.3:
        made["targets"] = [{"variation": r.randrange(2), "values": some(r, ["u1", "u2", "a"])}]
    if r.random() < 0.15:
        made["contextTargets"] = [{"contextKind": r.choice(["org", "user"]), "variation": r.randrange(2), "values": some(r, ["o1", "u1"])}]
    if i > 3 and r.random() < 0.25:
        made["prerequisites"] = [{"key": f"f{r.randrange(i)}", "variation": r.randrange(2)}]
    return made


def ld_segment(r, name, deep):
    made = {"key": name, "version": 1, "included": some(r, ["u1", "u2"]), "excluded": some(r, ["u2", "a"]), "salt": "s", "rules": []}
    for _ in range(r.randint(0, 2)):
        rule = {"clauses": [ld_clause(r, deep) for _ in range(r.randint(0, 2))]}
        if r.random() < 0.2:
            rule |= {"weight": r.choice([0, 100000, 50000]), "bucketBy": r.choice(["key", "n"])}
        made["rules"].append(rule)
    return made


def launchdarkly_export(r):
    flags = {f"f{i}": ld_flag(r, i) for i in range(FLAGS)}
    segments = {name: ld_segment(r, name, False) for name in ("s0", "s1", "s1 (wide)")}
    return {"flags": flags, "segments": segments}, list(flags)


def ld_attributes(r):
    made = {name: value_of(r) for name in ("city", "n", "v", "a/b") if r.random() < 0.7}
    if r.random() < 0.5:
        made["roles"] = some(r, TEXTS + NUMBERS)
    if r.random() < 0.4:
        made["address"] = r.choice([{"town": r.choice(TEXTS)}, {"town": [r.choice(TEXTS)]}, "nowhere"])
    if r.random() < 0.4:
        made["anonymous"] = r.random() < 0.5
    if r.random() < 0.3:
        made["name"] = r.choice(TEXTS)
    return made


def launchdarkly_person(r):
    user = {"key": r.choice(["u1", "u2", "a", "abc", "10"]), **ld_attributes(r)}
    org = {"key": r.choice(["o1", "o2"]), **ld_attributes(r)}
    kind = r.random()
    if kind < 0.7:
        return {"kind": "user", **user}, {**{k: v for k, v in user.items() if k != "key"}, "targetingKey": user["key"]}
    if kind < 0.8:
        return {"kind": "org", **org}, {"org": org}
    return ({"kind": "multi", "user": user, "org": org},
            {**{k: v for k, v in user.items() if k != "key"}, "targetingKey": user["key"], "org": org})


def launchdarkly_same(flag, theirs, ours):
    value = ours.get(flag, {}).get("value")
    return type(value) is type(theirs["value"]) and value == theirs["value"]


def launchdarkly_on(export, flag, theirs, ours):
    """Where a flag that is off gives true, true is the safe side."""
    definition = export["flags"][flag]
    off = definition["offVariation"]
    return ours.get(flag, {}).get("value") is True and theirs["value"] is False and (off is None or definition["variations"][off] is not True)


# ---- both ----

class Oracle:
    def __init__(self, folder):
        home = os.path.join(folder, "oracle")
        os.makedirs(home)
        with open(os.path.join(HERE, "oracle.mjs"), "rb") as f, open(os.path.join(home, "oracle.mjs"), "wb") as copy:
            copy.write(f.read())
        os.symlink(os.path.join(flag_sdk_test.installed(HERE), "node_modules"), os.path.join(home, "node_modules"))
        self.popen = subprocess.Popen([harness.find_program("node"), "oracle.mjs"], cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order):
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, f"the oracle has ended with {self.popen.wait(5)}"
        return json.loads(line)

    def stop(self):
        self.popen.stdin.close()
        self.popen.wait(20)
        self.popen.stdout.close()


def convert(args, path, system, out):
    """The findings of each flag."""
    ran = subprocess.run([args.binary, "flag", "import", path, "--from", system, "-o", out], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = {}
    for line in ran.stderr.splitlines():
        word, _, rest = line.partition(" ")
        key, colon, text = rest.strip().partition(": ")
        if word in ("LOST", "differs") and colon:
            found.setdefault(key, []).append((word, text))
    return found


def words_of(export, key, found):
    """The findings of the flag and of those it depends on."""
    flags = {f["name"]: f for f in export["features"]} if "features" in export else export["flags"]
    words, due, seen = [], [key], set()
    while due:
        key = due.pop()
        if key in seen:
            continue
        seen.add(key)
        words += found.get(key, []) + found.get(key + ".variant", [])
        due += [d["feature"] for d in flags[key].get("dependencies", [])] + [d["key"] for d in flags[key].get("prerequisites", [])]
    return words


def has(words, parts):
    return any(part in text for _, text in words for part in parts)


def one_export(args, folder, oracle, system, seed):
    """Counts (cases, differences that were named) of one export."""
    r = random.Random(f"{system} {seed}")
    export, keys = globals()[f"{system}_export"](r)
    people = [globals()[f"{system}_person"](r) for _ in range(PEOPLE)]
    home = os.path.join(folder, f"{system}-{seed}")
    os.makedirs(home)
    path, out = os.path.join(home, "export.json"), os.path.join(home, "flags.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(export, f)
    found = convert(args, path, system, out)
    refused = [text for words in found.values() for _, text in words if text.startswith("refused")]
    assert not refused, f"{system}, seed {seed}: the importer cannot read its own rule: {refused[0]}"
    answers = oracle.ask(system=system, path=path, keys=keys, contexts=[theirs for theirs, _ in people])
    daemon = flag_daemon.Daemon(args, home, f"sources: [{out}]")
    named = 0
    try:
        for (person, context), row in zip(people, answers):
            status, body, _ = daemon.ask("/ofrep/v1/evaluate/flags", {"context": {"x": 1, **context}})
            assert status == 200, body
            ours = {flag["key"]: flag for flag in body["flags"]}
            for key, theirs in zip(keys, row):
                words = words_of(export, key, found)
                where = f"{system}, seed {seed}: {key} for {json.dumps(person)}\ntheirs {theirs}\nours {ours.get(key)} {ours.get(key + '.variant')}\n{words}\n"
                where += json.dumps(export["features"][keys.index(key)] if system == "unleash" else export["flags"][key])
                shares = has(words, SHARES)
                assert shares or not globals()[f"{system}_on"](export, key, theirs, ours), f"it was off and is on: {where}"
                if not globals()[f"{system}_same"](key, theirs, ours):
                    named += 1
                    lost = any(word == "LOST" for word, _ in found.get(key, []) + found.get(key + ".variant", []))
                    assert lost or shares or has(words, VERSIONS_DIFFER), f"another answer without a word: {where}"
    finally:
        daemon.stop()
    return len(keys) * len(people), named


def against(system):
    def test(args, folder, stack):
        oracle = Oracle(folder)
        stack.callback(oracle.stop)
        cases = named = 0
        while cases < args.cases:
            more, differences = one_export(args, folder, oracle, system, args.seed + cases // (FLAGS * PEOPLE))
            cases, named = cases + more, named + differences
        harness.log(f"   {cases} cases from seed {args.seed}: 0 differences without a word, {named} that the importer named")
    test.__name__ = system
    test.__doc__ = f"{system}: every answer is the vendor's SDK's, or the importer has named the flag"
    return test


if __name__ == "__main__":
    ARGS = harness.options(cases=10000, seed=1, system="unleash,launchdarkly")
    harness.run([against(system) for system in ARGS.system.split(",")], ARGS)
