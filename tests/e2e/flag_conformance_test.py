#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""flagd's evaluator and provider scenarios against the real daemon, over OFREP and over flagd's RPC (Connect's JSON and gRPC), for all
three generations of `fractional`. The cases are others' and run where they lie (SLUICE_CONFORMANCE). Every OFREP answer is
held against the protocol's OpenAPI document. Scenarios about a client's own options, connections and files say nothing about
a server and are counted apart; so are those whose expectation the published format has replaced (@deprecated)."""
import base64
import http.client
import json
import os
import queue
import re
import struct
import threading
import time

try:
    import yaml
except ImportError:
    yaml = None

import flag_sdk_test
import harness
import protobuf

CONFIG = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{port}
  sources: [{sources}]
"""
# What these features ask of a provider's process, not of whom it asks.
CLIENT_FEATURES = {"config", "connection", "sync-payload"}
CLIENT_STEPS = re.compile(r"connection is lost|environment variable|option \"(?!cache|selector)|stale event|error event|ready event|unavailable|forbidden|syncpayload")
DEFAULTS = {"Boolean": False, "String": "", "Integer": 0, "Float": 0.0, "Object": {}}


# ---- the cases ----

class Scenario:
    def __init__(self, feature, name, tags, steps):
        self.feature, self.name, self.tags, self.steps = feature, name, tags, steps


def table_row(line):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def parse(path):
    """Scenarios with their outlines written out; a step is (text, rows of its table)."""
    feature = os.path.basename(path).removesuffix(".feature")
    feature_tags, background, out, pending = set(), [], [], []
    current = outline = header = None
    examples_tags = set()
    with open(path, encoding="utf-8") as f:
        for raw in f:
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("@"):
                pending += line.split()
            elif line.startswith("Feature:"):
                feature_tags, pending = set(pending), []
            elif line.startswith("Background:"):
                current = background
            elif line.startswith(("Scenario:", "Scenario Outline:")):
                current, header = [], None
                outline = Scenario(feature, line.split(":", 1)[1].strip(), feature_tags | set(pending), current)
                pending = []
                if line.startswith("Scenario:"):
                    out.append(Scenario(feature, outline.name, outline.tags, current))
            elif line.startswith("Examples:"):
                header, examples_tags, pending = [], set(pending), []
            elif line.startswith("|"):
                if header is None and not current:
                    continue  # a table in the feature's own description
                if header is None:
                    current[-1][1].append(table_row(line))
                elif not header:
                    header = table_row(line)
                else:
                    values = dict(zip(header, table_row(line)))
                    steps = [(re.sub(r"<([^>]+)>", lambda m: values.get(m.group(1), m.group(0)), text), rows) for text, rows in outline.steps]
                    out.append(Scenario(feature, f"{outline.name} {values}", outline.tags | examples_tags, steps))
            elif re.match(r"(Given|When|Then|And|But) ", line):
                current.append((line.split(" ", 1)[1], []))
    for scenario in out:
        scenario.steps = background + scenario.steps
    return out


def typed(kind, text):
    if kind == "Boolean":
        return text == "true"
    if kind == "Integer":
        return int(text)
    if kind in ("Float", "Double"):
        return float(text)
    if kind == "Object":
        return json.loads(text.replace('\\"', '"') or "{}")
    return text


# ---- the OpenAPI document ----

class Openapi:
    """As much of JSON Schema as that document uses."""

    def __init__(self, path):
        self.checked = self.defaults = 0
        self.root = None
        if yaml is None:
            harness.log("  SKIPPED: answers are not held against openapi.yaml: Python has no yaml module (package python3-yaml)")
            return
        with open(path, encoding="utf-8") as f:
            self.root = yaml.safe_load(f)

    def problems(self, value, schema, at="$"):
        if "$ref" in schema:
            node = self.root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            return self.problems(value, node, at)
        out = []
        for part in schema.get("allOf", []):
            out += self.problems(value, part, at)
        if "oneOf" in schema or "anyOf" in schema:
            branches = schema.get("oneOf") or schema["anyOf"]
            if not any(not self.problems(value, branch, at) for branch in branches):
                out.append(f"{at}: matches none of the alternatives")
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if "type" in schema and (not isinstance(value, kinds[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean")):
            return out + [f"{at}: {value!r} is no {schema['type']}"]
        if "enum" in schema and value not in schema["enum"]:
            out.append(f"{at}: {value!r} is none of {schema['enum']}")
        if isinstance(value, dict):
            out += [f"{at}: lacks {name}" for name in schema.get("required", []) if name not in value]
            for name, part in schema.get("properties", {}).items():
                if name in value:
                    out += self.problems(value[name], part, f"{at}.{name}")
        if isinstance(value, list) and "items" in schema:
            for i, item in enumerate(value):
                out += self.problems(item, schema["items"], f"{at}[{i}]")
        return out

    def check(self, path, status, value):
        if self.root is None:
            return
        answer = self.root["paths"][path]["post"]["responses"].get(str(status))
        assert answer is not None, f"status {status} is not in the document for {path}"
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        # flagd, its scenarios and every SDK know the reason DEFAULT, which the document's list leaves out.
        if isinstance(value, dict) and value.get("reason") == "DEFAULT":
            value = value | {"reason": "UNKNOWN"}
            self.defaults += 1
        wrong = self.problems(value, schema) if schema is not None else []
        assert not wrong, f"{path} {status}: {'; '.join(wrong)}: {value}"
        self.checked += 1


# ---- the ways to ask ----

class Ofrep:
    name = "OFREP"

    def __init__(self, port, openapi):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.openapi = openapi
        self.port = port

    def evaluate(self, key, kind, default, context, selector):
        headers = {"Content-Type": "application/json"} | ({"Flagd-Selector": selector} if selector else {})
        self.connection.request("POST", f"/ofrep/v1/evaluate/flags/{key}", json.dumps({"context": context}), headers)
        answer = self.connection.getresponse()
        body = json.loads(answer.read())
        self.openapi.check("/ofrep/v1/evaluate/flags/{key}", answer.status, body)
        details = {"value": default, "variant": body.get("variant", ""), "reason": body.get("reason", "ERROR"),
                   "error": body.get("errorCode", ""), "metadata": body.get("metadata", {})}
        if answer.status != 200 or "value" not in body:
            return details
        # What the type is, the provider compares.
        value = body["value"]
        fits = {"Boolean": isinstance(value, bool), "String": isinstance(value, str), "Object": isinstance(value, (dict, list)),
                "Integer": isinstance(value, int) and not isinstance(value, bool),
                "Float": isinstance(value, (int, float)) and not isinstance(value, bool)}[kind]
        return details | ({"value": value} if fits else {"reason": "ERROR", "error": "TYPE_MISMATCH", "variant": ""})

    def changes(self, into):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/ofrep/v1/stream")
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        for line in answer:
            if line.startswith(b"data:") and json.loads(line[5:])["type"] == "refetchEvaluation":
                into.put(None)


class Rpc:
    name = "RPC"
    METHODS = {"Boolean": "ResolveBoolean", "String": "ResolveString", "Integer": "ResolveInt", "Float": "ResolveFloat", "Object": "ResolveObject"}
    ERRORS = {"not_found": "FLAG_NOT_FOUND", "invalid_argument": "TYPE_MISMATCH", "data_loss": "PARSE_ERROR"}

    def __init__(self, port, service):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.port, self.service = port, service

    def evaluate(self, key, kind, default, context, selector):
        headers = {"Content-Type": "application/json"} | ({"Flagd-Selector": selector} if selector else {})
        self.connection.request("POST", f"/{self.service}/{self.METHODS[kind]}", json.dumps({"flagKey": key, "context": context}), headers)
        answer = self.connection.getresponse()
        body = json.loads(answer.read())
        if answer.status != 200:
            return {"value": default, "variant": "", "reason": "ERROR", "error": self.ERRORS.get(body["code"], "GENERAL"), "metadata": {}}
        # An absent value is the zero value of its type where there is a variant, and the caller's default where there is none.
        value = body.get("value", DEFAULTS[kind]) if body.get("variant") else body.get("value", default)
        if kind == "Integer":
            value = int(value)
        return {"value": value, "variant": body.get("variant", ""), "reason": body["reason"], "error": "", "metadata": body.get("metadata", {})}

    def changes(self, into):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = struct.pack(">BI", 0, 2) + b"{}"
        connection.request("POST", f"/{self.service}/EventStream", body, {"Content-Type": "application/connect+json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        while head := answer.read(5):
            flags, size = struct.unpack(">BI", head)
            message = json.loads(answer.read(size))
            if flags == 0 and message.get("type") == "configuration_change":
                into.put(message.get("data", {}).get("flags", {}))


class Grpc:
    name = "gRPC"
    ERRORS = {5: "FLAG_NOT_FOUND", 3: "TYPE_MISMATCH", 15: "PARSE_ERROR"}
    READ = {"Boolean": bool, "String": bytes.decode, "Integer": lambda v: v - (v >> 63 << 64), "Float": float, "Object": protobuf.decode_struct}

    def __init__(self, port, service, folder, stack):
        self.port, self.service = port, service
        self.application, self.watcher = self.begin(folder, stack, "calls"), self.begin(folder, stack, "changes")
        self.watcher("open", name="s", port=port, path=f"/{service}/EventStream", body="")
        self.watcher("stream", name="s", messages=1, seconds=10)

    def begin(self, folder, stack, name):
        home = os.path.join(folder, name)
        os.makedirs(home)
        application = flag_sdk_test.Application(home, "grpc.mjs")
        stack.callback(application.stop)
        return application

    def evaluate(self, key, kind, default, context, selector):
        message = protobuf.field(1, key) + protobuf.field(2, protobuf.encode_struct(context))
        answer = self.application("call", port=self.port, path=f"/{self.service}/{Rpc.METHODS[kind]}", body=base64.b64encode(message).decode(),
                                  fields={"flagd-selector": selector} if selector else {})
        if answer["code"] != 0:
            return {"value": default, "variant": "", "reason": "ERROR", "error": self.ERRORS.get(answer["code"], "GENERAL"), "metadata": {}}
        parts = dict(protobuf.fields(base64.b64decode(answer["answer"])))
        value = self.READ[kind](parts[1]) if 1 in parts else default
        return {"value": value, "variant": parts.get(3, b"").decode(), "reason": parts[2].decode(), "error": "", "metadata": protobuf.decode_struct(parts.get(4, b""))}

    def changes(self, into):
        count = len(self.watcher("stream", name="s", messages=1, seconds=10)["messages"])
        while not (came := self.watcher("stream", name="s", messages=count + 1, seconds=600))["status"]:
            for message in came["messages"][count:]:
                parts = dict(protobuf.fields(base64.b64decode(message)))
                if parts[1] == b"configuration_change":
                    into.put(protobuf.decode_struct(parts[2])["flags"])
            count = len(came["messages"])


def grpc_asker(port, folder, stack):
    """None where gRPC's client is not installed and cannot be."""
    try:
        return Grpc(port, "flagd.evaluation.v2.Service", folder, stack)
    except SystemExit:
        harness.log("  SKIPPED over gRPC")
        return None


# ---- running ----

class World:
    def __init__(self, folder, asker):
        self.folder, self.asker = folder, asker
        self.events = None

    def begin(self):
        self.context, self.selector, self.details, self.cached = {}, "", None, {}
        self.cache, self.event = False, None

    def step(self, text, rows):
        words = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
        if m := re.match(r'an option "(\w+)" of type', text):
            self.selector = words[2] if m.group(1) == "selector" else self.selector
            self.cache = m.group(1) == "cache" and words[2] != "disabled"
        elif m := re.match(r'an? (\w+)-flag with key "([^"]*)" and a (?:default|fallback) value "(.*)"$', text):
            self.kind, self.key = m.group(1), m.group(2)
            self.default = typed(self.kind, m.group(3))
        elif m := re.match(r'a context containing a key "(.*?)", with type "(\w+)" and with value "(.*)"$', text):
            self.context[m.group(1)] = typed(m.group(2), m.group(3))
        elif text.startswith("a context containing a targeting key"):
            self.context["targetingKey"] = words[0]
        elif text.startswith("a context containing a nested"):
            value = words[2]
            self.context.setdefault(words[0], {})[words[1]] = int(value) if re.fullmatch(r"-?\d+", value) else value
        elif text == "the flag was evaluated with details":
            self.evaluate()
        elif text.startswith("the resolved details value should be"):
            wanted = typed(self.kind, re.match(r'.* be "(.*)"$', text).group(1))
            assert self.details["value"] == wanted and isinstance(self.details["value"], bool) == isinstance(wanted, bool), f"{self.details} is not {wanted!r}"
        elif text.startswith("the reason should be"):
            assert self.details["reason"] == words[0], f"reason {self.details['reason']}, not {words[0]}"
        elif text.startswith("the variant should be"):
            assert self.details["variant"] == words[0], f"variant {self.details['variant']}, not {words[0]}"
        elif text.startswith("the error-code should be"):
            assert self.details["error"] == words[0], f"error {self.details['error']}, not {words[0]}"
        elif text == "the resolved metadata is empty":
            assert not self.details["metadata"], self.details["metadata"]
        elif text == "the resolved metadata should contain":
            for key, kind, value in rows[1:]:
                assert self.details["metadata"].get(key) == typed(kind, value), f"{key}: {self.details['metadata']}"
        elif text == "a change event handler":
            self.listen()
        elif text == "the flag was modified":
            self.modify()
        elif text == "a change event was fired":
            self.event = self.events.get(timeout=5)
            self.cached.clear()
        elif text == "the flag should be part of the event payload":
            assert self.event is None or "changing-flag" in self.event, self.event
        elif not re.match(r"an evaluator$|a \w+ flagd provider$", text):
            raise NotImplementedError(text)

    def evaluate(self):
        # As a provider does with a cache: what is static stays until a change is told.
        if self.cache and self.key in self.cached:
            self.details = self.cached[self.key] | {"reason": "CACHED"}
            return
        self.details = self.asker.evaluate(self.key, self.kind, self.default, self.context, self.selector)
        if self.details["reason"] == "STATIC":
            self.cached[self.key] = self.details

    def listen(self):
        if self.events is None:
            self.events = queue.Queue()
            threading.Thread(target=self.asker.changes, args=(self.events,), daemon=True).start()
            time.sleep(0.3)
        while not self.events.empty():
            self.events.get()

    def modify(self):
        path = os.path.join(self.folder, "flags", "allFlags.json")
        with open(path, encoding="utf-8") as f:
            flags = json.load(f)
        flag = flags["flags"]["changing-flag"]
        flag["defaultVariant"] = "bar" if flag["defaultVariant"] == "foo" else "foo"
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump(flags, f)
        os.rename(path + ".new", path)


def copy_flags(source, folder, generation):
    """Private copies, because one is changed while it is served and the generation is written into each. As flagd's testbed
    does: one file of all flags, and beside it those that selectors ask for."""
    merged = {"flags": {}, "$evaluators": {}}
    apart = []
    for name in sorted(os.listdir(source)):
        with open(os.path.join(source, name), encoding="utf-8") as f:
            flags = json.load(f)
        if name.startswith("selector"):
            apart.append(("rawflags/" + name, flags))
            continue
        merged["flags"] |= flags["flags"]
        merged["$evaluators"] |= flags.get("$evaluators", {})
    files = apart + [("flags/allFlags.json", merged)]
    for name, flags in files:
        flags["x-sluice"] = {"fractional": generation}
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(flags, f)
    return [name for name, _ in files]


def concerns(scenario, generation):
    named = {tag for tag in scenario.tags if re.fullmatch(r"@fractional-v\d", tag)}
    # What buckets without naming a generation is written for the newest.
    if not named and any(tag.startswith("@fractional") for tag in scenario.tags | {"@" + scenario.feature}):
        return generation == 3
    return not named or f"@fractional-v{generation}" in named


def why_not(scenario, asker):
    if "@deprecated" in scenario.tags:
        return "deprecated"
    text = " ".join(step for step, _ in scenario.steps)
    if scenario.feature in CLIENT_FEATURES or CLIENT_STEPS.search(text) or "flagd-context-aware" in text:
        return "of the client"
    if asker.name == "OFREP" and scenario.feature == "rpc-caching":
        return "of RPC"
    return None


def run_all(args, folder, stack, root, kind):
    source = os.path.join(root, "flagd/testbed", "flags" if kind == "provider" else "evaluator/flags")
    cases = os.path.join(root, "flagd/testbed", "gherkin" if kind == "provider" else "evaluator/gherkin")
    openapi = Openapi(os.path.join(root, "ofrep/openapi.yaml"))
    passed, failed, skipped = {}, [], {}
    for generation in (1, 2, 3):
        home = os.path.join(folder, str(generation))
        os.makedirs(home)
        names = copy_flags(source, home, generation)
        port = harness.free_port()
        config = CONFIG.format(port=port, sources=", ".join(f"{{file: {name}}}" for name in names))
        daemon = harness.Sluice(home, args.binary, config, prefix=("env", "-C", home))
        stack.callback(daemon.stop)
        harness.wait_for("evaluation", lambda: harness.connects(port))
        askers = [Ofrep(port, openapi), Rpc(port, "flagd.evaluation.v1.Service"), Rpc(port, "flagd.evaluation.v2.Service")]
        grpc = grpc_asker(port, home, stack)
        askers += [grpc] if grpc else []
        scenarios = [s for name in sorted(os.listdir(cases)) for s in parse(os.path.join(cases, name)) if concerns(s, generation)]
        for asker in askers:
            world = World(home, asker)
            for scenario in scenarios:
                reason = why_not(scenario, asker)
                if reason:
                    skipped[reason] = skipped.get(reason, 0) + 1
                    continue
                world.begin()
                try:
                    for text, rows in scenario.steps:
                        world.step(text, rows)
                    passed[asker.name] = passed.get(asker.name, 0) + 1
                except (AssertionError, NotImplementedError, queue.Empty) as error:
                    failed.append(f"{asker.name}, generation {generation}, {scenario.feature}: {scenario.name}: {type(error).__name__} {error}")
        daemon.stop()
    for line in failed[:40]:
        harness.log("  FAILED " + line)
    harness.log(f"  {kind} scenarios: " + ", ".join(f"{n} passed over {name}" for name, n in passed.items()) +
                f"; {len(failed)} failed; left out: {skipped}; {openapi.checked} answers held against openapi.yaml, {openapi.defaults} of them with the reason DEFAULT")
    assert passed and not failed, f"{len(failed)} scenarios failed"


def find_root():
    root = harness.find_shared("SLUICE_CONFORMANCE", "conformance")
    if root is None:
        # Cases of others are never part of this tree: without them there is nothing to run, on a desk and in CI.
        harness.log("SKIPPED: no conformance cases (SLUICE_CONFORMANCE names their folder)")
        raise SystemExit(harness.SKIP)
    return root


def evaluator_scenarios(args, folder, stack):
    """flagd's evaluator scenarios over OFREP, RPC and gRPC, all generations."""
    run_all(args, folder, stack, find_root(), "evaluator")


def provider_scenarios(args, folder, stack):
    """flagd's provider scenarios over OFREP, RPC and gRPC, all generations."""
    run_all(args, folder, stack, find_root(), "provider")


if __name__ == "__main__":
    harness.run([evaluator_scenarios, provider_scenarios], harness.options(), at_once=2)
