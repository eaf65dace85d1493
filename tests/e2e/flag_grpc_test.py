#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""flagd's services over gRPC against the real daemon: flagd's own OpenFeature provider, asking for each evaluation and evaluating by itself
what it is sent, and gRPC's own client for what no provider does: odd messages, limits, deadlines, and clients that mean no good."""
import base64
import json
import os
import time

import flag_sdk_test as sdk
import harness
import protobuf
from flag_sdk_test import FLAGS, check, make_tokens, save, switch

EVALUATION, SYNC = "/flagd.evaluation.v1.Service/", "/flagd.sync.v1.FlagSyncService/"
USER = {"targetingKey": "user-1"}
OK, UNKNOWN, INVALID_ARGUMENT, DEADLINE, NOT_FOUND, DENIED, EXHAUSTED = 0, 2, 3, 4, 5, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16


def start(args, folder, stack, more=""):
    daemon, app = sdk.start(args, folder, stack, "grpc.mjs", more)
    return daemon, app


def text(message):
    return base64.b64encode(message).decode()


def question(key, context=None):
    return protobuf.field(1, key) + (protobuf.field(2, protobuf.encode_struct(context)) if context is not None else b"")


def ask(daemon, app, method, message=b"", **words):
    return app("call", port=daemon.port, path=method, body=text(message), **words)


def raw(daemon, app, method, body, **words):
    return app("raw", port=daemon.port, path=method, body=text(body), **words)


def answer_of(found):
    assert found["code"] == OK, found
    return protobuf.fields(base64.b64decode(found["answer"]))


def failed(found):
    """The status of a raw call that failed without a message: in the head, which ends the answer."""
    head = found["headers"]
    assert head and head["ended"] and head[":status"] == 200 and head["content-type"] == "application/grpc", found
    return int(head["grpc-status"])


# ---- flagd's provider ----

def provider_rpc(args, folder, stack):
    """flagd's provider, asking: every type, variants, reasons, error codes, metadata, selectors; its cache hears of each change"""
    daemon, app = start(args, folder, stack)
    app("connect", domain="d", port=daemon.port, resolverType="rpc", cache="disabled")
    for kind, key, fallback, context, wanted in (
            ("boolean", "bool", False, USER, {"value": True, "variant": "on", "reason": "STATIC", "error": None}),
            ("string", "text", "x", USER, {"value": "hello", "variant": "hello", "reason": "DEFAULT"}),
            ("string", "text", "x", USER | {"country": "it"}, {"value": "ciao", "variant": "ciao", "reason": "TARGETING_MATCH"}),
            ("number", "number", 1, USER, {"value": 9007199254740991, "reason": "DEFAULT"}),
            ("number", "number", 1, USER | {"size": "small"}, {"value": 0.125, "variant": "small", "reason": "TARGETING_MATCH"}),
            ("number", "number", 1, USER | {"size": "minus"}, {"value": -3}),
            ("object", "object", {}, USER, {"value": FLAGS["object"]["variants"]["one"], "variant": "one", "reason": "STATIC"}),
            ("boolean", "odd key/ü", False, USER, {"value": True, "variant": "on"}),
            ("boolean", "target", False, {"targetingKey": "ann"}, {"value": True, "reason": "TARGETING_MATCH"}),
            ("boolean", "killed", True, USER, {"value": False, "variant": "off", "reason": "DISABLED"}),
            ("boolean", "disabled", True, USER, {"value": True, "reason": "DISABLED", "error": None}),
            ("boolean", "bare", True, USER, {"value": True, "reason": "DEFAULT", "error": None}),
            ("boolean", "none", True, USER, {"value": True, "reason": "ERROR", "error": "FLAG_NOT_FOUND"}),
            ("string", "bool", "mine", USER, {"value": "mine", "reason": "ERROR", "error": "TYPE_MISMATCH"}),
            ("boolean", "faulty", True, USER, {"value": True, "reason": "ERROR", "error": "PARSE_ERROR"})):
        found = app.ask(kind, key, fallback, context, domain="d")
        check(found, f"{key} for {context}", **wanted)
    check(app.ask("boolean", "bool", False, USER, domain="d"), "metadata",
          metadata={"flagSetId": "test", "version": "7", "team": "shop", "ticket": 7, "risky": False})
    shape = USER | {"country": "it", "deep": {"list": [1, 2.5, None, True, {"x": "€"}]}, "empty": {}}
    check(app.ask("string", "text", "x", shape, domain="d"), "a context of every shape", value="ciao")
    app("connect", domain="other", port=daemon.port, resolverType="rpc", cache="disabled", selector="flagSetId=none")
    check(app.ask("boolean", "bool", False, USER, domain="other"), "another selector", value=False, error="FLAG_NOT_FOUND")


def provider_cache(args, folder, stack):
    """flagd's provider keeps what is static until EventStream names the flag; without a daemon it says so, and comes back"""
    daemon, app = start(args, folder, stack)
    app("connect", domain="d", port=daemon.port, resolverType="rpc", cache="lru", maxCacheSize=100)
    live = {"domain": "d", "kind": "boolean", "key": "live", "fallback": False, "context": USER}
    for turn in range(4):
        check(app("until", value=turn % 2 == 1, seconds=2, **live), "before the change")
        check(app("evaluate", **live), "from the cache", reason="CACHED", value=turn % 2 == 1)
        save(folder, FLAGS | {"live": switch("on" if turn % 2 == 0 else "off")})
        event = app("event", seconds=3)
        # How large a kill's share is nobody but its rollout knows: such a flag is named at every change.
        assert sorted(event["flags"]) == ["killed", "live"], event
        check(app("evaluate", **live), "after the event", reason="STATIC", value=turn % 2 == 0)


def provider_in_process(args, folder, stack):
    """flagd's provider evaluates by itself what SyncFlags sends, hears of changes, and stays within its selector"""
    daemon, app = start(args, folder, stack)
    app("connect", domain="d", port=daemon.port, resolverType="in-process")
    check(app.ask("string", "text", "x", USER | {"country": "it"}, domain="d"), "in process", value="ciao", reason="TARGETING_MATCH")
    check(app.ask("boolean", "bool", False, USER, domain="d"), "in process", value=True, variant="on", reason="STATIC")
    before = daemon.count("sluice_evaluation_requests_total")
    live = {"domain": "d", "kind": "boolean", "key": "live", "fallback": False, "context": USER}
    for turn in range(4):
        save(folder, FLAGS | {"live": switch("on" if turn % 2 == 0 else "off")})
        app("until", value=turn % 2 == 0, seconds=3, **live)
        assert "live" in app("event", seconds=3)["flags"]
    assert daemon.count("sluice_evaluation_requests_total") == before, "evaluation asked the daemon"


# ---- by hand ----

def answers(args, folder, stack):
    """each procedure by hand: values, the zero of a type, all flags at once, definitions, health; what is not there"""
    daemon, app = start(args, folder, stack)
    def resolve(kind, key, context=None):
        return dict(answer_of(ask(daemon, app, EVALUATION + "Resolve" + kind, question(key, context))))
    assert resolve("Boolean", "bool")[1] == 1 and resolve("Boolean", "live")[1] == 0
    assert resolve("Int", "number")[1] == 9007199254740991
    assert resolve("Int", "number", {"size": "minus"})[1] == 2**64 - 3
    assert resolve("Float", "number", {"size": "small"})[1] == 0.125
    assert resolve("String", "text", {"country": "it"})[1] == b"ciao"
    assert protobuf.decode_struct(resolve("Object", "object")[1]) == FLAGS["object"]["variants"]["one"]
    assert 1 not in resolve("Boolean", "disabled")
    found = answer_of(ask(daemon, app, EVALUATION + "ResolveAll", protobuf.field(1, protobuf.encode_struct({"country": "it"}))))
    flags = {entry[1].decode(): dict(protobuf.fields(entry[2])) for entry in (dict(protobuf.fields(e)) for n, e in found if n == 1)}
    assert set(flags) == set(FLAGS) and flags["text"][4] == b"ciao" and flags["bool"][3] == 1 and flags["number"][5] == 9007199254740991.0, flags
    assert flags["faulty"][1] == b"ERROR" and protobuf.decode_struct(dict(found)[2])["flagSetId"] == "test"
    definitions = json.loads(dict(answer_of(ask(daemon, app, SYNC + "FetchAllFlags")))[1])
    assert set(definitions["flags"]) == set(FLAGS)
    for service, wanted in (("", OK), ("flagd.evaluation.v1.Service", OK), ("nobody", NOT_FOUND)):
        found = ask(daemon, app, "/grpc.health.v1.Health/Check", protobuf.field(1, service))
        assert found["code"] == wanted and (wanted or dict(answer_of(found)) == {1: 1}), found
    for path in (EVALUATION + "None", "/no.such.Service/Resolve", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
        assert ask(daemon, app, path)["code"] == UNIMPLEMENTED, path
    found = ask(daemon, app, EVALUATION + "ResolveBoolean", question("100% ü"))
    assert found["code"] == NOT_FOUND and found["details"].startswith("FLAG_NOT_FOUND"), found


def refusals(args, folder, stack):
    """messages that are broken, too large, compressed or late, and media types: each with the status that gRPC has for it"""
    daemon, app = start(args, folder, stack)
    resolve = EVALUATION + "ResolveBoolean"
    good = protobuf.envelope(question("bool"))
    for what, body, fields, wanted in (
            ("no message", b"", {}, UNIMPLEMENTED),
            ("two messages", good + good, {}, UNIMPLEMENTED),
            ("half an envelope", good[:3], {}, INTERNAL),
            ("half a message", good[:-1], {}, INTERNAL),
            ("a length of 4 GiB", b"\0\xff\xff\xff\xff" + good[5:], {}, EXHAUSTED),
            ("unknown flags", b"\4" + good[1:], {}, INTERNAL),
            ("compressed", b"\1" + good[1:], {"grpc-encoding": "gzip"}, UNIMPLEMENTED),
            ("compressed without a word", b"\1" + good[1:], {}, INTERNAL),
            ("no field", protobuf.envelope(b"\x0a\x05bo"), {}, INTERNAL),
            ("no UTF-8", protobuf.envelope(b"\x0a\x01\xff"), {}, INTERNAL),
            ("no Struct", protobuf.envelope(question("bool") + b"\x12\x02\x0a\x05"), {}, INVALID_ARGUMENT),
            ("no time", good, {"grpc-timeout": "1x"}, INVALID_ARGUMENT),
            ("time is over", good, {"grpc-timeout": "0S"}, DEADLINE),
            ("too large", protobuf.envelope(bytes(1 << 20)), {}, EXHAUSTED)):
        found = raw(daemon, app, resolve, body, fields=fields)
        assert failed(found) == wanted, f"{what}: {found}"
        assert (found["headers"].get("grpc-accept-encoding") == "identity") == (what == "compressed"), f"{what}: {found}"
    large = ask(daemon, app, resolve, bytes(3 << 20))
    assert large["code"] == EXHAUSTED, large
    for kind in ("application/grpc", "application/grpc+proto"):
        found = raw(daemon, app, resolve, good, fields={"content-type": kind, "grpc-encoding": "gzip", "grpc-timeout": "5S"})
        assert found["trailers"]["grpc-status"] == "0" and not found["headers"]["ended"] and found["headers"][":status"] == 200, found
        assert "content-length" not in found["headers"] and base64.b64decode(found["bytes"])[:1] == b"\0", found
    for kind in ("application/grpc-web", "application/grpc+json", "text/plain"):
        assert raw(daemon, app, resolve, good, fields={"content-type": kind})["headers"][":status"] == 415, kind
    deep = {"targetingKey": "u"}
    for _ in range(70):
        deep = {"in": deep}
    assert ask(daemon, app, resolve, question("bool", deep))["code"] == INVALID_ARGUMENT
    many = ask(daemon, app, resolve, question("bool", {"many": [None] * 200000}))
    assert many["code"] == EXHAUSTED, many
    daemon_is_well(daemon, app)


def tokens(args, folder, stack):
    """without a token UNAUTHENTICATED, definitions with a read token PERMISSION_DENIED, beyond the rate RESOURCE_EXHAUSTED; health is open"""
    token = make_tokens(args, folder)
    daemon, app = start(args, folder, stack, "  tokens: @FOLDER@/tokens\n  rate: 5\n  burst: 20")
    given = {"authorization": "Bearer " + token}
    resolve = EVALUATION + "ResolveBoolean"
    assert ask(daemon, app, resolve, question("bool"))["code"] == UNAUTHENTICATED
    assert ask(daemon, app, resolve, question("bool"), fields={"authorization": "Bearer sluice_wrong"})["code"] == UNAUTHENTICATED
    assert ask(daemon, app, resolve, question("bool"), fields=given)["code"] == OK
    assert ask(daemon, app, SYNC + "FetchAllFlags", fields=given)["code"] == DENIED
    assert ask(daemon, app, "/grpc.health.v1.Health/Check")["code"] == OK
    app("open", name="s", port=daemon.port, path=SYNC + "SyncFlags", body="", fields=given)
    assert app("stream", name="s", seconds=5)["status"]["code"] == DENIED
    codes = {ask(daemon, app, resolve, question("bool"), fields=given)["code"] for _ in range(60)}
    assert codes == {OK, EXHAUSTED}, codes


# ---- streams ----

def events_of(found):
    out = []
    for message in found["messages"]:
        parts = dict(protobuf.fields(base64.b64decode(message)))
        out.append((parts[1].decode(), protobuf.decode_struct(parts[2]) if 2 in parts else None))
    return out


def streams(args, folder, stack):
    """EventStream and SyncFlags: first message, each change, the deadline of a stream, and how all end when the daemon does"""
    daemon, app = start(args, folder, stack)
    for name, path in (("events", EVALUATION + "EventStream"), ("again", "/flagd.evaluation.v2.Service/EventStream"), ("sync", SYNC + "SyncFlags")):
        app("open", name=name, port=daemon.port, path=path, body="")
        app("stream", name=name, messages=1, seconds=5)
    app("open", name="short", port=daemon.port, path=EVALUATION + "EventStream", body="", seconds=1)
    save(folder, {name: flag for name, flag in FLAGS.items() if name != "bare"} | {"live": switch("on"), "fresh": switch()})
    changes = {"flags": {"live": {"type": "update"}, "fresh": {"type": "write"}, "bare": {"type": "delete"},
                         "killed": {"type": "update"}}}
    for name in ("events", "again"):
        assert events_of(app("stream", name=name, messages=2, seconds=5)) == [("provider_ready", None), ("configuration_change", changes)]
    first, second = (json.loads(dict(protobuf.fields(base64.b64decode(m)))[1]) for m in app("stream", name="sync", messages=2, seconds=5)["messages"])
    assert set(first["flags"]) == set(FLAGS) and "fresh" in second["flags"] and "bare" not in second["flags"]
    assert app("stream", name="short", seconds=5)["status"]["code"] == DEADLINE
    # Not the client's own clock: one that gives the time and waits.
    late = raw(daemon, app, EVALUATION + "EventStream", protobuf.envelope(b""), fields={"grpc-timeout": "300m"})
    assert late["trailers"]["grpc-status"] == "4", late
    app("cancel", name="again")
    harness.wait_for("the streams that are left", lambda: daemon.count("sluice_evaluation_streams") == 2)
    daemon.stop()
    for name in ("events", "sync"):
        status = app("stream", name=name, seconds=5)["status"]
        assert status == {"code": UNAVAILABLE, "details": "the stream ends here"}, status


def daemon_is_well(daemon, app):
    assert dict(answer_of(ask(daemon, app, EVALUATION + "ResolveBoolean", question("bool"))))[1] == 1


def hostile(args, folder, stack):
    """clients that break off, never read, or open streams without end: bounded memory, and everybody else is answered"""
    os.environ["ASAN_OPTIONS"] = "quarantine_size_mb=16"  # of the sanitizer, if there is one: what is free is no growth
    big = {f"flag-{i:05}": switch("on", metadata={"note": "x" * 200}) for i in range(2000)}
    save(folder, FLAGS | big)
    daemon, app = start(args, folder, stack)
    envelope = protobuf.envelope(b"")
    # Half a message, and the stream reset.
    for _ in range(20):
        raw(daemon, app, EVALUATION + "ResolveBoolean", b"\0\0\x0f\xff\xff" + bytes(1000), half=True)
    daemon_is_well(daemon, app)
    # Nobody reads: what waits for them stays within what all answers may take.
    before = harness.rss_bytes(daemon.pid)
    for _ in range(4):
        assert app("deaf", port=daemon.port, path=SYNC + "SyncFlags", body=text(envelope), count=50) == 50
    for turn in range(3):
        save(folder, FLAGS | big | {"live": switch("on" if turn % 2 == 0 else "off")})
        app("until", domain="d", value=turn % 2 == 0, seconds=5, kind="boolean", key="live", fallback=False, context=USER) if turn else app(
            "connect", domain="d", port=daemon.port, resolverType="rpc", cache="disabled")
        time.sleep(0.2)
    grown = harness.rss_bytes(daemon.pid) - before
    daemon_is_well(daemon, app)
    # Broken off as fast as they can be made.
    storm = app("storm", port=daemon.port, path=EVALUATION + "ResolveBoolean", body=text(envelope), most=100000)
    assert storm["over"] == 11 and storm["made"] < 5000, storm
    daemon_is_well(daemon, app)
    harness.log(f"   200 streams of {len(json.dumps(big)) >> 10} KiB that nobody reads: {grown >> 20} MiB; a storm ended after {storm['made']} requests")
    assert grown < 250 << 20, grown


if __name__ == "__main__":
    sdk.installed(sdk.HERE)
    harness.run([provider_rpc, provider_cache, provider_in_process, answers, refusals, tokens, streams, hostile], harness.options())
