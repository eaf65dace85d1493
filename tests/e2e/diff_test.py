#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the answers of two versions differ: the real daemon mirrors requests to a second process of a JSON service (Node) whose
answers have ids, times, shuffled arrays and floats.

  found      a price that is wrong in some answers is told, with examples, and nothing else is
  identical  of two equal versions nothing is told
  rounds     --rounds N: both N times at 1 % of answers, beside thresholds as Diffy has them, on the same answers (by hand)"""
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import http.client

import harness

FILE = """
journal: @FOLDER@/sluice.db
workers: 1
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}
    stable: v1
    mirror: {{to: v2, share: 100%, secondary: 100%}}
"""
WRONG = "body.items[].price"
# Diffy's defaults: more differences between versions than within one by 20 % of both, and 0.03 % of all.
RELATIVE, ABSOLUTE = 0.2, 0.0003
NODE = harness.find_program("node")


def start_service(folder, stack, name, wrong):
    port = harness.free_port()
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "diff_service.js")
    process = harness.Process(folder, name, [NODE, script, str(port), str(wrong)])
    stack.callback(process.kill)
    harness.wait_for(f"service {name}", lambda: harness.connects(port), 20)
    return port


def start(args, folder, stack, wrong):
    ports = [start_service(folder, stack, name, share) for name, share in (("v1", 0), ("v2", wrong))]
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, FILE.format(port=port, v1=ports[0], v2=ports[1]))
    stack.callback(sluice.stop)
    sluice.port = port
    return sluice


def ask(port, count, secret):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for i in range(count):
        connection.request("GET", f"/cart?id={i}&api_key={secret}", headers={"Authorization": "Bearer " + secret})
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        answer.read()
    connection.close()


def send(sluice, count, secret="s3cret"):
    threads = [threading.Thread(target=ask, args=(sluice.port, count // 4, secret)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def counted(sluice, family):
    lines = sluice.request("GET", "/metrics")[1].splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(f"sluice_mirror_{family}_total"))


def report(sluice, selected):
    """The report when all that was mirrored is compared: then the counts of both add up. Some is dropped, where a machine is slow."""
    def look():
        status, found = sluice.request("GET", "/v1/services/shop/diff")
        sent = counted(sluice, "sent")
        if status != 200 or counted(sluice, "selected") != selected or sent + counted(sluice, "dropped") != selected:
            return None
        counts = found["counts"]
        return found if counts["sent"] == sent == counts["compared"] + sum(counts["uncompared"].values()) else None
    return harness.wait_for("all that was sent is compared", look, 60)


def told(found, verdict="different"):
    return sorted(row["path"] for row in found["rows"] if row["verdict"] == verdict)


def by_thresholds(found):
    out = []
    for row in found["rows"]:
        new, old = row["both"] + row["candidate_alone"], row["both"] + row["secondary_alone"]
        if new > old and new + old > 0 and (new - old) / (new + old) > RELATIVE and (new - old) / found["counts"]["with_secondary"] > ABSOLUTE:
            out.append(row["path"])
    return sorted(out)


def run(args, *words):
    return subprocess.run([args.binary, "diff", *words], capture_output=True, text=True, timeout=20)


def until_found(sluice, step, most):
    sent = 0
    while sent < most:
        send(sluice, step)
        sent += step
        found = report(sluice, sent)
        if told(found):
            break
    return found, sent


def found(args, folder, stack):
    sluice = start(args, folder, stack, 0.1)
    admin = f"127.0.0.1:{sluice.admin}"
    before = run(args, "shop", "--admin", admin)
    assert before.returncode == 4, (before.returncode, before.stdout, before.stderr)
    seen, sent = until_found(sluice, 200, 3000)
    assert told(seen) == [WRONG], seen
    harness.log(f"found after {sent} requests; noise: {', '.join(told(seen, 'noisy'))}")
    done = run(args, "shop", "--admin", admin, "--examples")
    assert done.returncode == 1, done
    for words in (f"v2 answers {WRONG} otherwise in ", "GET /cart?id=", "api_key=(redacted)", "v1: ", "v2: ", "Noise, because"):
        assert words in done.stdout, (words, done.stdout)
    everything = json.dumps(seen) + done.stdout
    for secret in ("s3cret", "sid="):
        assert secret not in everything, secret
    one = run(args, "shop", "--admin", admin, "--path", "body.request", "--json")
    assert [row["path"] for row in json.loads(one.stdout)["rows"]] == ["body.request"], one.stdout
    assert run(args, "nothing", "--admin", admin).returncode == 4


def identical(args, folder, stack):
    sluice = start(args, folder, stack, 0)
    send(sluice, 1200)
    seen = report(sluice, 1200)
    assert told(seen) == [], [row["words"] for row in seen["rows"]]
    assert not any(row["path"] in ("body.at", "body.session.issued") for row in seen["rows"]), "clocks are left out"
    for path in ("body.request", "body.score", "body.session.token"):
        assert path in told(seen, "noisy"), told(seen, "noisy")
    done = run(args, "shop", "--admin", f"127.0.0.1:{sluice.admin}")
    assert done.returncode == 0, done


def rounds(args):
    """Counts of both rules over fresh daemons. One look after each 400 requests, 4 000 at most."""
    totals = {}
    for wrong in (0.01, 0):
        ours, thresholds = {"found": 0, "false": 0, "after": []}, {"found": 0, "false": 0, "after": []}
        for i in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                sluice = start(args, folder, stack, wrong)
                first, bad = {}, set()
                for sent in range(400, 4001, 400):
                    send(sluice, 400)
                    seen = report(sluice, sent)
                    for name, paths in (("ours", told(seen)), ("thresholds", by_thresholds(seen))):
                        if wrong > 0 and WRONG in paths:
                            first.setdefault(name, sent)
                        if any(path != WRONG or wrong == 0 for path in paths):
                            bad.add(name)
                    if wrong > 0 and len(first) == 2:
                        break
                for name, total in (("ours", ours), ("thresholds", thresholds)):
                    total["false"] += name in bad
                    if name in first:
                        total["found"] += 1
                        total["after"].append(first[name])
        totals[wrong] = (ours, thresholds)
        for name, total in (("ours", ours), ("thresholds", thresholds)):
            after = sorted(total["after"])
            print(f"{wrong:.0%} wrong, {name}: found in {total['found']} of {args.rounds} runs"
                  f"{f', after {after[len(after) // 2]} requests (median)' if after else ''}; something false in {total['false']}", flush=True)


def main():
    parser = harness.argparse.ArgumentParser(description=__doc__, formatter_class=harness.argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(harness.ROOT, "build/release/sluice"))
    parser.add_argument("--rounds", type=int, default=0)
    args = parser.parse_args()
    if args.rounds > 0:
        rounds(args)
        return
    for case in (found, identical):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            case(args, folder, stack)
            harness.log(f"ok: {case.__name__}")


if __name__ == "__main__":
    sys.exit(main())
