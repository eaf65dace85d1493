#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything malformed that can be said to the flags of the real daemon over the wire: sets, rules, changes, contexts and
bodies of every bad kind. Each is answered with the code or the place that fits, and the daemon goes on."""
import http.client
import json
import os
import re
import socket
import time

import harness
from flag_daemon import as_text, save, start, switch, text_flag


def nested(depth, core="1"):
    return '{"!":[' * depth + core + "]}" * depth


def bad_sets(args, folder, stack):
    """every malformed set is refused with its place, every malformed rule is told, and the good stay served"""
    path = os.path.join(folder, "flags.json")
    good = {"good": text_flag("good")}
    save(path, good)
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json]")
    before = harness.rss_bytes(daemon.pid)

    def flags_with(definition):
        return '{"flags": {\n  "good": ' + json.dumps(text_flag("new")) + ',\n  "bad": ' + definition + "}}"

    # Refused whole: what it is, and what the refusal must name.
    refused = {
        "nothing": b"", "no JSON": b"flags: {}", "a list": b"[]", "cut short": b'{"flags": {"a": ', "a NUL": b'{"flags": {"a\0": 1}}',
        "invalid UTF-8": b'{"flags": {"\xff\xfe": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a"}}}',
        "half a surrogate": b'{"flags": {"\\ud800": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a"}}}',
        "nested deeply": b'{"flags": ' + b'{"a":' * 100000 + b"1" + b"}" * 100000 + b"}",
        "a list nested deeply": b"[" * 3000000,
        "mixed variants": flags_with('{"state": "ENABLED", "variants": {"a": 1, "b": "x"}, "defaultVariant": "a"}'),
        "no variants": flags_with('{"state": "ENABLED", "variants": {}, "defaultVariant": "a"}'),
        "a default that is no variant": flags_with('{"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "b"}'),
        "no state": flags_with('{"variants": {"a": 1}, "defaultVariant": "a"}'),
        "a state that is none": flags_with('{"state": true, "variants": {"a": 1}, "defaultVariant": "a"}'),
        "a flag that is none": flags_with("[]"),
        "a number beyond all": flags_with('{"state": "ENABLED", "variants": {"a": 1e999999}, "defaultVariant": "a"}'),
        "a prerequisite of itself": flags_with(json.dumps(switch(**{"x-sluice": {"prerequisites": [{"flag": "bad", "variant": "on"}]}}))),
        "a prerequisite that is not there": flags_with(json.dumps(switch(**{"x-sluice": {"prerequisites": [{"flag": "none", "variant": "on"}]}}))),
        "a circle of prerequisites": as_text({f"p{i}": switch(**{"x-sluice": {"prerequisites": [{"flag": f"p{(i + 1) % 3}", "variant": "on"}]}}) for i in range(3)}),
        "a word of ours that is none": flags_with(json.dumps(switch(**{"x-sluice": {"kil": True}}))),
        "a target that is no variant": flags_with(json.dumps(switch(**{"x-sluice": {"targets": {"none": ["u"]}}}))),
        "a schedule that is no time": flags_with(json.dumps(switch(**{"x-sluice": {"schedule": {"from": "tomorrow"}}}))),
        "a generation that is none": json.dumps({"flags": good, "x-sluice": {"fractional": 4}}),
    }
    said = {}
    for what, text in refused.items():
        save(path, text)
        said[what] = daemon.refusal(re.escape("flags.json").replace("\\", ""))
        assert re.search(r"flags\.json:\d+:\d+: ", said[what]), f"{what}: no place: {said[what]}"
        assert daemon.flag("good") == "good" and daemon.flag("bad") == "FLAG_NOT_FOUND", what
        save(path, good)
        daemon.accepted(what)
    # The flag alone: refused too, or it answers PARSE_ERROR. Never a silent default.
    rules = {
        "an operator that is none": '{"nosuch": [1]}', "two operators": '{"==": [1, 1], "!=": [1, 1]}', "a reference to nothing": '{"$ref": "none"}',
        "nested too deeply": nested(200), "a share below zero": '{"fractional": [["on", -1], ["off", 2]]}',
        "a share that is a word": '{"fractional": [["on", "half"], ["off", 1]]}', "shares beyond all": '{"fractional": [["on", 2147483647], ["off", 2147483647]]}',
        "shares of nothing": '{"fractional": [["on", 0], ["off", 0]]}', "no shares": '{"fractional": []}', "a share of no variant": '{"fractional": [["none", 1]]}',
        "a variant that is none": '{"if": [true, "none"]}', "a version test of two": '{"sem_ver": [1, 2]}', "a version that is none": '{"if": [{"sem_ver": ["x", "=", "y"]}, "on"]}',
        "a prefix of one": '{"if": [{"starts_with": ["x"]}, "on"]}', "a number as a variant": "1", "a list as a variant": '["on"]',
    }
    outcome, silent = {}, []
    for what, rule in rules.items():
        save(path, flags_with(json.dumps(switch())[:-1] + f', "targeting": {rule}}}'))

        def settled():
            return daemon.state()["refused"] or daemon.flag("good") == "new"
        harness.wait_for(f"{what}: taken or refused", settled, 3)
        state = daemon.state()
        told = [p["text"] for p in state["problems"]]
        assert all(re.search(r"flags\.json:3:\d+: ", text) for text in told), f"{what}: no place: {told}"
        if state["refused"]:
            outcome[what] = "refused"
            assert daemon.flag("good") == "good", what
        else:
            status, body, _ = daemon.ask("/ofrep/v1/evaluate/flags/bad", {"context": {"targetingKey": "u"}})
            told = told or ([body["errorDetails"]] if status == 400 else [])
            assert status == 200 and body["reason"] or status == 400 and body["errorCode"] and body["errorDetails"], f"{what}: {status} {body}"
            outcome[what] = f"{body.get('errorCode') or body['reason']}" + (f" ({body['errorDetails']})" if "errorDetails" in body else "")
        if not told and what != "shares of nothing":  # in which nothing is malformed
            silent.append(what)
        outcome[what] += "; " + (told[0].split("flag 'bad': ", 1)[-1] if told else "")
        save(path, good)
        harness.wait_for(f"{what}: the good one again", lambda: not daemon.state()["refused"] and daemon.flag("good") == "good", 3)
    for what, came in outcome.items():
        harness.log(f"   {what}: {came}")
    # As in flagd, an operator of wrong arguments gives nothing and the default variant answers: then a problem is told with its place.
    assert not silent, f"neither an error nor a problem is told for: {silent}"
    # Circles and billion laughs of references.
    circles = {
        "a circle of references": {"a": {"$ref": "b"}, "b": {"$ref": "a"}},
        "a reference to itself": {"a": {"!": [{"$ref": "a"}]}, "b": 1},
        "references that multiply": {f"r{i}": {"or": [{"$ref": f"r{i + 1}"}] * 10} for i in range(12)} | {"r12": False, "a": {"$ref": "r0"}},
    }
    for what, evaluators in circles.items():
        began = time.monotonic()
        save(path, json.dumps({"$evaluators": evaluators, "flags": {"good": text_flag("new"), "bad": switch(targeting={"$ref": "a"})}}))
        harness.wait_for(f"{what}: taken or refused", lambda: daemon.state()["refused"] or daemon.flag("good") == "new", 10)
        if not daemon.state()["refused"]:
            # What multiplies is cut off by the limit of steps, which is no fault of the text.
            assert daemon.flag("bad") in ("PARSE_ERROR", "GENERAL"), f"{what}: {daemon.flag('bad')}"
        harness.log(f"   {what}: {'refused' if daemon.state()['refused'] else daemon.flag('bad')} after {1000 * (time.monotonic() - began):.0f} ms: "
                    + next((p["text"] for p in daemon.state()["problems"]), "")[:110])
        save(path, good)
        harness.wait_for(f"{what}: the good one again", lambda: not daemon.state()["refused"] and daemon.flag("good") == "good", 5)
    # Shares need no particular sum: they are relative.
    save(path, {"share": switch(targeting={"fractional": [["on", 30], ["off", 30]]}), "third": switch(targeting={"fractional": [["on"], ["off", 2]]})})
    daemon.becomes("good", "FLAG_NOT_FOUND", "relative shares")
    counts = {k: sum(daemon.flag(k, {"targetingKey": f"user-{n}"}) is True for n in range(600)) for k in ("share", "third")}
    assert abs(counts["share"] - 300) < 5 * 12.3 and abs(counts["third"] - 200) < 5 * 11.6, counts
    save(path, good)
    daemon.becomes("good", "good", "the good one again")
    after = harness.rss_bytes(daemon.pid)
    harness.log(f"   {len(refused)} sets refused with their place; resident {before >> 20} MiB before, {after >> 20} MiB after")
    for what in ("mixed variants", "a circle of prerequisites", "invalid UTF-8", "nested deeply"):
        harness.log(f"   {what}: {said[what][:140]}")
    assert sanitized(daemon) or after < before + (64 << 20), f"{before} {after}"
    assert "ERROR: AddressSanitizer" not in daemon.output() and "runtime error" not in daemon.output(), daemon.output()[-2000:]


def sanitized(daemon):
    with open(f"/proc/{daemon.pid}/maps", encoding="ascii", errors="replace") as f:
        return "libasan" in f.read()


def bad_changes(args, folder, stack):
    """what cannot be set at runtime is refused in words before it is kept, whatever it is"""
    daemon = start(args, folder, stack, "define: {k: {state: ENABLED, variants: {one: good}, defaultVariant: one}}")

    def put(key, body, method="PUT", tail=""):
        connection = http.client.HTTPConnection("127.0.0.1", daemon.admin, timeout=20)
        try:
            connection.request(method, f"/v1/flags/{key}{tail}", body if isinstance(body, bytes) else json.dumps(body).encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    whole = json.dumps(switch())[:-1].encode()
    for what, key, body, status in (
            ("nothing", "x", b"", 400), ("no JSON", "x", b"{", 400), ("a list", "x", [], 400), ("invalid UTF-8", "x", whole + b', "metadata": {"a": "\xff"}}', 400),
            ("mixed variants", "x", {"state": "ENABLED", "variants": {"a": 1, "b": "x"}, "defaultVariant": "a"}, 400),
            ("a prerequisite of itself", "x", switch(**{"x-sluice": {"prerequisites": [{"flag": "x", "variant": "on"}]}}), 400),
            ("nested deeply", "x", whole + b', "targeting": ' + b'{"!":[' * 50000 + b"1" + b"]}" * 50000 + b"}", 400),
            ("a list nested deeply", "x", b"[" * 500000, 400), ("a definition too large", "x", whole + b', "metadata": {"a": "' + b"x" * (600 << 10) + b'"}}', (400, 413)),
            ("ten MiB", "x", b" " * (10 << 20), 413), ("a key of a mile", "x" * 300, switch(), 400), ("a key that is no UTF-8", "%ff%fe", switch(), 400),
            ("a key with a broken escape", "%zz", switch(), (400, 404))):
        came, text = put(key, body)
        assert came in (status if isinstance(status, tuple) else (status,)), f"{what}: {came} {text[:300]}"
        # What is refused before it is read is refused in plain words.
        assert came == 413 and text or json.loads(text)["error"]["message"], f"{what}: {came} {text[:300]}"
    for what, body in (("no such variant", {"variant": "none"}), ("a number", {"variant": 1}), ("a list", [])):
        came, text = put("k", body, "POST", "/off")
        assert came == 400 and json.loads(text)["error"]["message"], f"{what}: {came} {text}"
    for what, body in (("a context that is none", {"context": 1}), ("a type that is none", {"type": "colour"}), ("nested deeply", b'{"context": ' + b"[" * 100000)):
        came, text = put("k", body, "POST", "/eval")
        assert came == 400 and json.loads(text)["error"]["message"], f"{what}: {came} {text[:300]}"
    state = daemon.state()
    assert [f["key"] for f in state["flags"]] == ["k"] and daemon.flag("k") == "good" and daemon.flag("x") == "FLAG_NOT_FOUND", state
    # A circle that closes only with what is set already.
    for key, other in (("a", "b"), ("b", "c"), ("c", "a")):
        came, text = put(key, switch() if key == "a" else switch(**{"x-sluice": {"prerequisites": [{"flag": "a" if key == "b" else "b", "variant": "on"}]}}))
        assert came == 200, f"{key}: {text}"
    came, text = put("a", switch(**{"x-sluice": {"prerequisites": [{"flag": "c", "variant": "on"}]}}))
    assert came in (400, 409) and "prerequisites" in text, f"a circle was kept: {came} {text}"
    harness.log("   " + json.loads(text)["error"]["message"][:150])
    assert not daemon.state()["refused"] and daemon.flag("a") is False


def bad_bodies(args, folder, stack):
    """every malformed context and body over the wire gets the code that fits, and the daemon goes on"""
    split = {"fractional": [{"var": "targetingKey"}, ["on", 1], ["off", 1]]}
    save(os.path.join(folder, "flags.json"), {
        "k": text_flag("fine"), "split": switch(targeting={"fractional": [["on", 1], ["off", 1]]}), "by": switch(targeting=split),
        "deep": switch(targeting={"if": [{"==": [{"var": "a.a.a"}, 1]}, "on"]}), "number": switch(targeting={"if": [{">": [{"var": "n"}, 10]}, "on"]}),
        "faulty": switch(targeting={"nosuch": []}), "disabled": {**switch(), "state": "DISABLED"}, "bare": {"state": "ENABLED", "variants": {"on": True}}})
    daemon = start(args, folder, stack, "sources: [@FOLDER@/flags.json]")
    before = harness.rss_bytes(daemon.pid)
    context = '{"context": {"targetingKey": "u", "a": %s}}'
    huge = b'{"context": {"targetingKey": "u", "pad": "' + b"x" * (10 << 20) + b'"}}'
    single = [
        # what, flag, body, status, code
        ("a plain question", "k", {"context": {"targetingKey": "u"}}, 200, None),
        ("no flag", "none", {"context": {}}, 404, "FLAG_NOT_FOUND"),
        ("no targeting key where it is not needed", "k", {"context": {}}, 200, None),
        ("no targeting key where it is", "split", {"context": {}}, 400, "TARGETING_KEY_MISSING"),
        # As flagd's scenarios have it: with anything else in the context the default variant answers, and says so.
        ("no targeting key, but a context", "split", {"context": {"plan": "gold"}}, 200, None),
        ("a targeting key that is a number", "split", {"context": {"targetingKey": 7}}, (200, 400), (None, "INVALID_CONTEXT", "TARGETING_KEY_MISSING")),
        ("a faulty rule", "faulty", {"context": {"targetingKey": "u"}}, 400, "PARSE_ERROR"),
        ("an empty body", "k", b"", 400, "PARSE_ERROR"),
        ("no JSON", "k", b"context=1", 400, "PARSE_ERROR"),
        ("cut short", "k", b'{"context": {"a', 400, "PARSE_ERROR"),
        ("more than one", "k", b'{"context": {}}{}', 400, "PARSE_ERROR"),
        ("a list", "k", b"[]", 400, "INVALID_CONTEXT"),
        ("no context", "k", b"{}", 400, "INVALID_CONTEXT"),
        ("a context that is none", "k", b'{"context": "x"}', 400, "INVALID_CONTEXT"),
        ("null", "k", b'{"context": null}', 400, "INVALID_CONTEXT"),
        ("invalid UTF-8", "k", b'{"context": {"targetingKey": "\xff\xc0\x80"}}', 400, "PARSE_ERROR"),
        ("half a surrogate", "k", b'{"context": {"targetingKey": "\\ud800"}}', 400, "PARSE_ERROR"),
        ("a NUL in a string", "k", b'{"context": {"targetingKey": "a\0b"}}', 400, "PARSE_ERROR"),
        ("nested deeply", "deep", (context % ('{"a":' * 50000 + "1" + "}" * 50000)).encode(), 400, "PARSE_ERROR"),
        ("a list nested deeply", "deep", (context % ("[" * 400000)).encode(), 400, "PARSE_ERROR"),
        ("a number beyond all", "number", b'{"context": {"n": 1e400}}', (200, 400), (None, "PARSE_ERROR")),
        ("a number of a thousand digits", "number", b'{"context": {"n": ' + b"9" * 1000 + b"}}", (200, 400), (None, "PARSE_ERROR")),
        ("a number with a zero before it", "number", b'{"context": {"n": 012}}', 400, "PARSE_ERROR"),
        ("NaN", "number", b'{"context": {"n": NaN}}', 400, "PARSE_ERROR"),
        ("ten MiB", "k", huge, 413, None),
        ("too many values", "k", (context % ("[" + "1," * 200000 + "1]")).encode(), 413, None),
        ("a disabled flag", "disabled", {"context": {}}, 200, None),
        ("a flag without a default", "bare", {"context": {}}, 200, None),
        ("a key of a mile", "x" * 3000, {"context": {}}, (400, 414, 431), ("PARSE_ERROR", None)),
        ("a key with a broken escape", "%zz", {"context": {}}, 400, "PARSE_ERROR"),
    ]
    for what, key, body, status, code in single:
        began = time.monotonic()
        came, answer, _ = daemon.ask(f"/ofrep/v1/evaluate/flags/{key}", body)
        took = time.monotonic() - began
        wanted = status if isinstance(status, tuple) else (status,)
        codes = code if isinstance(code, tuple) else (code,)
        assert came in wanted, f"{what}: {came} {str(answer)[:300]}, wanted {status}"
        assert isinstance(answer, dict) or came in (413, 414, 431), f"{what}: no JSON: {str(answer)[:200]}"
        if isinstance(answer, dict):
            assert answer.get("errorCode") in codes, f"{what}: {answer}"
            if came == 200:
                assert answer.get("reason") and "errorCode" not in answer, f"{what}: an answer without a reason: {answer}"
            else:
                assert answer.get("errorDetails"), f"{what}: an error without a word: {answer}"
        assert took < 2, f"{what} took {took:.1f} s"
    for what, body, status, code in (("no JSON", b"x", 400, "PARSE_ERROR"), ("no context", b"{}", 400, "INVALID_CONTEXT"), ("ten MiB", huge, 413, None)):
        came, answer, _ = daemon.ask("/ofrep/v1/evaluate/flags", body)
        assert came == status and (not isinstance(answer, dict) or answer.get("errorCode") == code), f"bulk, {what}: {came} {str(answer)[:200]}"
    # In a bulk answer a flag that cannot be evaluated has its own error; the others have their values.
    came, answer, _ = daemon.ask("/ofrep/v1/evaluate/flags", {"context": {}})
    by = {f["key"]: f for f in answer["flags"]}
    assert came == 200 and by["k"]["value"] == "fine" and by["split"]["errorCode"] == "TARGETING_KEY_MISSING" and by["faulty"]["errorCode"] == "PARSE_ERROR", by
    assert by["disabled"]["reason"] == "DISABLED" and "value" not in by["disabled"] and "value" not in by["bare"], by
    # The RPC has its own words for the same.
    for method, body, status, code in (("ResolveBoolean", {"flagKey": "none", "context": {}}, 404, "not_found"), ("ResolveBoolean", {"flagKey": "k", "context": {}}, 400, "invalid_argument"),
                                       ("ResolveBoolean", b"{", 400, "invalid_argument"), ("ResolveNothing", {}, 404, "unimplemented"), ("ResolveString", huge, (413, 429), None)):
        came, answer, _ = daemon.ask(f"/flagd.evaluation.v1.Service/{method}", body)
        assert came in (status if isinstance(status, tuple) else (status,)), f"{method}: {came} {str(answer)[:200]}"
        assert code is None or answer["code"] == code, f"{method}: {answer}"
    # A body larger than it says, smaller than it says, sent a byte at a time, and never sent.
    held = []
    for raw in (b"POST /ofrep/v1/evaluate/flags/k HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999999999999\r\n\r\n{}",
                b"POST /ofrep/v1/evaluate/flags/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
                b"POST /ofrep/v1/evaluate/flags/k HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                b"POST /ofrep/v1/evaluate/flags/k\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, b"GET " + b"/a" * 50000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", daemon.port), 10) as s:
            s.sendall(raw)
            data = s.recv(65536)
            assert data == b"" or re.match(rb"HTTP/1\.[01] 4\d\d", data), f"{raw[:80]}: {data[:100]}"
    for _ in range(50):
        s = socket.create_connection(("127.0.0.1", daemon.port), 10)
        s.sendall(b"POST /ofrep/v1/evaluate/flags/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        held.append(s)
    assert daemon.flag("k") == "fine", "slow senders keep others waiting"
    for s in held:
        s.close()
    for _ in range(20):
        assert daemon.ask("/ofrep/v1/evaluate/flags/k", huge)[0] == 413
    assert daemon.flag("k") == "fine" and daemon.running() and daemon.request("GET", "/readyz")[0] == 200
    after = harness.rss_bytes(daemon.pid)
    harness.log(f"   {len(single)} bodies answered with the code that fits; resident {before >> 20} MiB before, {after >> 20} MiB after twenty contexts of ten MiB")
    assert sanitized(daemon) or after < before + (96 << 20), f"{before} {after}"
    assert "ERROR: AddressSanitizer" not in daemon.output() and "runtime error" not in daemon.output(), daemon.output()[-2000:]


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (bad_sets, bad_changes, bad_bodies)}
    ARGS = harness.options(only="")
    harness.run([ALL[n] for n in ARGS.only.split(",")] if ARGS.only else list(ALL.values()), ARGS)
