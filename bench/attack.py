#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether one attacker moves a verdict: rollouts side by side, each under honest traffic of many users and under one attack. A good
version must not be taken back by it, a bad one must not complete. Prints a table of kinds with what the attacker spent; exits 1 when a
verdict moved that docs/THREATS.md says cannot. The kind `identities` may win: there is printed how many identities it took. Every
process has a time limit of its own, and with --state a run goes on where the last one ended."""
import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402

GOOD = {"ms": 3}
Kind = collections.namedtuple("Kind", "attack what unit v1 v2 wins")
STAGES = [{"weight": "25%", "for": "5s"}, {"weight": "50%", "for": "5s"}, {"weight": "100%", "for": "2s", "soak": "5s"}]
HALF = [{"weight": "50%", "for": "1h", "horizon": "2h"}, {"weight": "100%"}]
CHECKS = {"errors": {"budget": "2%"}, "latency": {"baseline": 300, "budget": "20%"}}
COOKIE = {"cookie": "sid"}
USERS = 20000
LARGE = b"x" * (1 << 18)
HONEST, ATTACKER = "127.0.0.1", "127.0.0.2"


# ---- the origin ----


class Origin(asyncio.Protocol):
    """One connection of one version. Every answer says its version; /broken fails in all, /ok in none."""

    def __init__(self, version, ms, fails=0):
        self.version, self.ms, self.fails, self.data = version, ms, fails, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17:].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            path = self.data.split(b" ", 2)[1]
            self.data = self.data[end + 4 + length:]
            wait = self.ms / 1000 * random.lognormvariate(0, 0.3)
            asyncio.get_running_loop().call_later(wait, self.answer, path)

    def answer(self, path):
        fails = path == b"/broken" or path != b"/ok" and random.random() < self.fails
        body = LARGE if path == b"/large" else b"well"
        self.transport.write(b"HTTP/1.1 %s\r\nX-Version: %s\r\nContent-Length: %d\r\n\r\n" %
                             (b"500 Broken" if fails else b"200 OK", self.version, len(body)) + body)


async def serve_origins(versions):
    loop = asyncio.get_running_loop()
    for v in versions:
        await loop.create_server(lambda v=v: Origin(v["version"].encode(), **v["as"]), "127.0.0.1", v["port"], backlog=512)
    await asyncio.Event().wait()


# ---- clients ----


class Peer(asyncio.Protocol):
    """A client's connection, one request at a time."""

    def connection_made(self, transport):
        self.transport, self.data, self.waiting = transport, b"", None

    def data_received(self, data):
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0 or self.waiting is None:
            return
        head = self.data[:end].lower()
        if len(self.data) >= end + 4 + int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]):
            waiting, self.waiting, self.data = self.waiting, None, b""
            if not waiting.done():
                waiting.set_result((int(head[9:12]), b"x-version: v2" in head))

    def connection_lost(self, error):
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("closed"))

    async def ask(self, raw, seconds=10):
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(raw)
        return await asyncio.wait_for(self.waiting, seconds)


class Client:
    """Connections from one address to one service; counts what it spends."""

    def __init__(self, port, host, address):
        self.port, self.host, self.address = port, host, address
        self.idle, self.requests, self.cookies = [], 0, set()

    def head(self, path, cookie=None, method="GET", length=0):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"Cookie: sid={cookie}"] if cookie else []
        lines += [f"Content-Length: {length}"] if method == "POST" else []
        self.requests += 1
        self.cookies.add(cookie)
        return "\r\n".join([*lines, "", ""]).encode()

    async def connect(self, kind=Peer):
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(kind, "127.0.0.1", self.port, local_addr=(self.address, 0)))[1]

    async def get(self, path, cookie=None):
        """The status, 0 when there was no answer, and whether v2 gave it."""
        try:
            peer = self.idle.pop() if self.idle else await self.connect()
            answer = await peer.ask(self.head(path, cookie))
            self.idle.append(peer)
            return answer
        except (OSError, asyncio.TimeoutError):
            return 0, False

    async def canary_cookie(self):
        """A fresh cookie that landed in the canary; found by asking for something that works."""
        while True:
            cookie = f"{random.getrandbits(64):016x}"
            if (await self.get("/", cookie))[1]:
                return cookie
            await asyncio.sleep(0.005)


async def honest(client, rate, keyed):
    """Many users, at random times, whatever the answers."""
    due, tasks = time.monotonic(), set()
    while True:
        due += random.expovariate(rate)
        await asyncio.sleep(max(0, due - time.monotonic()))
        task = asyncio.create_task(client.get("/", f"user{random.randrange(USERS)}" if keyed else None))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


# ---- attacks; each runs until it is cancelled ----


async def nothing(client):
    await client.canary_cookie()
    await asyncio.Event().wait()


async def on_many(count, work):
    await asyncio.gather(*(work() for _ in range(count)))


async def again(work):
    """A connection that the proxy ends is opened anew."""
    while True:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await work()
        await asyncio.sleep(0.02)


async def post_slowly(client, cookie, pieces, pause):
    peer = await client.connect()
    try:
        peer.transport.write(client.head("/", cookie, "POST", len(pieces)))
        for piece in pieces[:-1]:
            peer.transport.write(bytes([piece]))
            await asyncio.sleep(pause)
            if peer.transport.is_closing():
                return
        await peer.ask(pieces[-1:])
    finally:
        peer.transport.abort()


async def dripped(client):
    cookie = await client.canary_cookie()
    await on_many(4, lambda: again(lambda: post_slowly(client, cookie, b"x" * 20, 1)))


async def paused(client):
    cookies = [await client.canary_cookie() for _ in range(8)]
    await asyncio.gather(*(again(lambda c=c: post_slowly(client, c, b"ab", 0.25)) for c in cookies))


class SlowReader(asyncio.Protocol):
    """Reads on at once where the head is v1's, and a little now and then where it is v2's."""

    def connection_made(self, transport):
        self.transport, self.seen, self.slow = transport, 0, False
        self.over = asyncio.get_running_loop().create_future()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)

    def data_received(self, data):
        if self.seen == 0:
            self.slow = b"x-version: v2" in data.lower()
        self.seen += len(data)
        if self.slow:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.2, self.transport.resume_reading)
        if self.seen > len(LARGE) and not self.over.done():
            self.over.set_result(None)

    def connection_lost(self, error):
        if not self.over.done():
            self.over.set_result(None)


async def read_slowly(client):
    async def read():
        peer = await client.connect(SlowReader)
        peer.transport.write(client.head("/large"))
        await asyncio.wait([peer.over], timeout=8)
        peer.transport.abort()
    await on_many(3, lambda: again(read))


async def leave_early(client):
    async def leave():
        peer = await client.connect()
        peer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.transport.write(client.head("/", f"{random.getrandbits(64):016x}"))
        await asyncio.sleep(0.0005)
        peer.transport.abort()
    await on_many(4, lambda: again(leave))


async def dilute(client):
    cookie = await client.canary_cookie()

    async def ask():
        while True:
            await client.get("/ok", cookie)
    await on_many(4, ask)


async def identities(client):
    """A cookie is used a while after it was found: of one user's requests in a second only the first is judged."""
    client.found, cookies = 0, []
    while True:
        cookies.append(await client.canary_cookie())
        if len(cookies) > 2:
            await client.get("/broken", cookies.pop(0))
            client.found += 1
        await asyncio.sleep(1)


KINDS = {
    "nobody": Kind(nothing, "none", COOKIE, GOOD, GOOD, False),
    "dripped": Kind(dripped, "four POSTs at 1 byte/s under one canary cookie", COOKIE, GOOD, GOOD, False),
    "paused": Kind(paused, "bodies with a pause of 250 ms, under canary cookies", COOKIE, GOOD, GOOD, False),
    "readers": Kind(read_slowly, "three readers that are slow only when v2 answers", "request", GOOD, GOOD, False),
    "resets": Kind(leave_early, "resets 0.5 ms after sending; v2 is 20 × slower", COOKIE, GOOD, {"ms": 60}, False),
    "dilution": Kind(dilute, "one cookie, good requests only; v2 fails 10 %, v1 1 %", COOKIE, {"ms": 3, "fails": 0.01}, {"ms": 3, "fails": 0.1}, False),
    "identities": Kind(identities, "fresh canary cookies, one a second, ask for what fails in both", COOKIE, GOOD, GOOD, True),
}
QUICK = ("dripped", "resets", "dilution")


# ---- one try ----


class Try:
    """One service, its rollout, its honest traffic and its attacker."""

    def __init__(self, kind, number, rate):
        self.kind, self.name, self.rate = kind, f"{kind}{number}", rate
        self.ports = {"v1": harness.free_port(), "v2": harness.free_port()}

    def versions(self):
        kind = KINDS[self.kind]
        return [{"version": v, "port": self.ports[v], "as": getattr(kind, v)} for v in ("v1", "v2")]

    async def run(self, sluice, port, args):
        kind, rollout = KINDS[self.kind], self.name + "-v2"
        users, attacker = (Client(port, self.name + ".test", a) for a in (HONEST, ATTACKER))
        tasks = [asyncio.create_task(honest(users, self.rate, kind.unit == COOKIE))]
        await self.state(sluice, rollout, "start")
        await self.until(sluice, rollout, lambda b: b["state"] == "Shifting", 60)
        began = time.monotonic()
        tasks.append(asyncio.create_task(kind.attack(attacker)))
        body = await self.until(sluice, rollout, lambda b: b["state"] in ("Completed", "RolledBack", "RollingBack"), args.seconds)
        spent = time.monotonic() - began
        crashed = [t.exception() for t in tasks if t.done()]
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if crashed:
            raise AssertionError(f"{self.name}: {crashed}")
        return self.row(body, spent, attacker)

    @staticmethod
    async def state(sluice, rollout, word):
        return await asyncio.to_thread(sluice.command, rollout, word)

    @staticmethod
    async def until(sluice, rollout, condition, seconds):
        end, body = time.monotonic() + seconds, {"state": ""}
        while time.monotonic() < end and not condition(body):
            await asyncio.sleep(0.2)
            status, answer = await asyncio.to_thread(sluice.request, "GET", f"/v1/rollouts/{rollout}")
            body = answer if status == 200 else body  # on a machine with no time to spare an answer can be late
        return body

    def row(self, body, spent, attacker):
        good = KINDS[self.kind].v2["ms"] == GOOD["ms"] and "fails" not in KINDS[self.kind].v2
        back, verdict = body["state"].startswith("Roll"), body.get("verdict") or {}
        return {"kind": self.kind, "rate": self.rate, "state": body["state"], "moved": back if good else body["state"] == "Completed",
                "seconds": spent, "requests": attacker.requests, "cookies": len(attacker.cookies - {None}),
                "found": getattr(attacker, "found", 0), "verdict": verdict.get("text", ""), "failures": verdict.get("failures") or ""}


def configuration(tries, port, stages):
    """The file, as JSON, which is YAML too."""
    services, rollouts = {}, {}
    for t in tries:
        versions = {v: [f"127.0.0.1:{port}"] for v, port in t.ports.items()}
        services[t.name] = {"routes": [{"host": t.name + ".test"}], "versions": versions, "stable": "v1", "unit": KINDS[t.kind].unit}
        rollouts[t.name + "-v2"] = {"service": t.name, "to": "v2", "warmup": "1s", "drain": "1s", "stages": stages, "checks": CHECKS}
    return json.dumps({"journal": "@FOLDER@/sluice.db", "listen": [{"address": f"127.0.0.1:{port}"}], "admin": {"address": "@ADMIN@"},
                       "services": services, "rollouts": rollouts})


@contextlib.contextmanager
def daemon(args, tries, seconds, stages=STAGES):
    """The daemon and the origins of some tries."""
    limit = ["timeout", "--kill-after=5", str(seconds)]
    with harness.folder() as folder, contextlib.ExitStack() as stack:
        versions = json.dumps([v for t in tries for v in t.versions()])
        stack.callback(harness.Process(folder, "origins", [*limit, sys.executable, os.path.abspath(__file__), "--origins", versions]).stop)
        for t in tries:
            harness.wait_for("origins", lambda t=t: all(harness.connects(p) for p in t.ports.values()))
        port = harness.free_port()
        sluice = harness.Sluice(folder, args.binary, configuration(tries, port, stages), prefix=limit)
        stack.callback(sluice.stop)
        yield sluice, port


async def attack(args, tries, sluice, port):
    return await asyncio.gather(*(t.run(sluice, port, args) for t in tries))


def run_round(args, plan):
    """Tries of any kinds side by side, under one daemon."""
    tries = [Try(kind, n, rate) for n, (kind, rate) in enumerate(plan)]
    with daemon(args, tries, args.seconds + 120) as (sluice, port):
        return asyncio.run(attack(args, tries, sluice, port))


# ---- guessing ----


async def arms_of(port, host, cookies):
    client = Client(port, host, ATTACKER)
    return [(await client.get("/", c))[1] for c in cookies]


def guess(args):
    """Where the same cookies land in two daemons with the same file: what is public tells one nothing about the other."""
    arms, cookies = [], [f"user{n}" for n in range(400)]
    for _ in range(2):
        t = Try("dripped", 0, 0)
        with daemon(args, [t], 120, HALF) as (sluice, port):
            sluice.command("dripped0-v2", "start")

            async def measure(t=t, sluice=sluice, port=port):
                task = asyncio.create_task(honest(Client(port, t.name + ".test", HONEST), 200, True))
                await t.until(sluice, "dripped0-v2", lambda b: b["state"] == "Shifting", 60)
                out = await arms_of(port, t.name + ".test", cookies)
                task.cancel()
                return out
            arms.append(asyncio.run(measure()))
    return sum(a == b for a, b in zip(*arms))


# ---- the whole ----


def table(rows):
    lines = ["| attack | honest requests/s | tries | verdicts moved | attacker: requests | cookies | seconds | ended as |", "|---|---|---|---|---|---|---|---|"]
    for kind, rate in sorted({(r["kind"], r["rate"]) for r in rows}, key=lambda k: (list(KINDS).index(k[0]), k[1])):
        mine = [r for r in rows if (r["kind"], r["rate"]) == (kind, rate)]
        medians = [f"{statistics.median(r[word] for r in mine):.0f}" for word in ("requests", "cookies", "seconds")]
        states = ", ".join(f"{n} {s}" for s, n in collections.Counter(r["state"] for r in mine).most_common())
        lines.append(f"| {KINDS[kind].what} | {rate} | {len(mine)} | {sum(r['moved'] for r in mine)} | {' | '.join(medians)} | {states} |")
    return "\n".join(lines)


def names_attacker(row):
    return "GET /broken" in row["failures"] and ATTACKER in row["failures"]


def judge(rows, agreed):
    """What is wrong: verdicts that moved and may not, verdicts that do not say by whom."""
    wrong = [f"{r['kind']}: moved: {' '.join(r['verdict'].split())}" for r in rows if r["moved"] and not KINDS[r["kind"]].wins]
    wrong += [f"{r['kind']}: the verdict names not who made it: {r['failures']}" for r in rows if r["moved"] and KINDS[r["kind"]].wins and not names_attacker(r)]
    if agreed is not None and abs(agreed - 200) > 50:  # five standard deviations of 400 throws
        wrong.append(f"guess: {agreed} of 400 cookies land alike in two daemons with the same file; chance gives 200")
    return wrong


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog="Kinds: " + "; ".join(f"{k}: {v.what}" for k, v in KINDS.items()))
    parser.add_argument("--binary", default=os.path.join(harness.ROOT, "build", "release", "sluice"))
    parser.add_argument("--kind", action="append", choices=[*KINDS, "guess"], help="may be given again (default: all)")
    parser.add_argument("--tries", type=int, default=10, help="of each kind")
    parser.add_argument("--at-once", type=int, default=5, help="rollouts side by side")
    parser.add_argument("--rate", type=int, action="append", help="honest requests per second; may be given again (default: 150)")
    parser.add_argument("--seconds", type=int, default=90, help="of each attack at most")
    parser.add_argument("--state", help="file that keeps the results; a run with the same file goes on where the last one ended")
    parser.add_argument("--short", action="store_true", help="one try each of " + ", ".join(QUICK) + ", in less than a minute")
    parser.add_argument("--origins", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.binary, args.rate, args.kind = os.path.abspath(args.binary), args.rate or [150], args.kind or [*KINDS, "guess"]
    if args.short:
        args.kind, args.tries, args.seconds = QUICK, 1, 40
    return args


def run_all(args, rows):
    done = collections.Counter((r["kind"], r["rate"]) for r in rows)
    plan = [(k, rate) for k in args.kind if k in KINDS for rate in args.rate for _ in range(args.tries - done[k, rate])]
    for first in range(0, len(plan), args.at_once):
        fresh = run_round(args, plan[first:first + args.at_once])
        rows += fresh
        for r in fresh:
            harness.log(f"{r['kind']:10} {r['rate']:4}/s {r['state']} after {r['seconds']:.0f} s")
        if args.state:
            with open(args.state, "w", encoding="utf-8") as f:
                json.dump(rows, f, indent=1)


def main():
    args = arguments()
    if args.origins:
        asyncio.run(serve_origins(json.loads(args.origins)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is ended in order
    rows, agreed = [], None
    if args.state and os.path.exists(args.state):
        with open(args.state, encoding="utf-8") as f:
            rows = json.load(f)
    run_all(args, rows)
    if "guess" in args.kind:
        agreed = guess(args)
    print("\n" + table(rows))
    if agreed is not None:
        print(f"\nguess: {agreed} of 400 cookies land alike in two daemons with the same file; chance gives 200")
    for r in (r for r in rows if KINDS[r["kind"]].wins):
        print(f"{r['kind']}, {r['rate']}/s: {r['state']} after {r['found']} failing identities in {r['seconds']:.0f} s; {' '.join(r['failures'].split())}")
    wrong = judge(rows, agreed)
    print("\n".join(["", *wrong, f"{len(rows)} tries, {len(wrong)} wrong"]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
