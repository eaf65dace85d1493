#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Journals that earlier versions wrote: each is replayed to the same decisions, a daemon starts from it, and answers what the
version that wrote it answered. journal_N.sqlite stands beside its file journal_N.yaml, the sources in flags/, and the answers in
journal_N.json (written with --record by that version)."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import harness  # noqa: E402

# What tells of this process or of the present moment, wherever it stands in an answer.
PRESENT = ["journal", "version", "requests_per_second", "change", "changed_ms", "compile_us", "source", "sources", "read_ms", "evaluations",
           "last_evaluated_ms", "stale", "usage", "unused", "first_seen_ms", "note"]
# Of a run that an older rule of decision began: its evidence is gathered afresh from the takeover on.
AFRESH = ["evidence", "stage_since_ms", "stage_canary", "stage_requests", "measured", "share"]
PATHS = ["/v1/rollouts", "/v1/flags", "/v1/flags/fresh", "/v1/flags/plain", "/v1/flags/other", "/v1/flags/banner", "/v1/flags/history"]


def lasting(value, passing=tuple(PRESENT)):
    if isinstance(value, dict):
        return {key: lasting(member, passing) for key, member in value.items() if key not in passing}
    return [lasting(item, passing) for item in value] if isinstance(value, (list, tuple)) else value


def journals():
    return sorted(name[:-len(".sqlite")] for name in os.listdir(HERE) if name.endswith(".sqlite"))


def copy(name, folder):
    path = os.path.join(folder, "sluice.db")
    shutil.copy(os.path.join(HERE, name + ".sqlite"), path)
    return path


def replay(args, path):
    return subprocess.run([args.binary, "replay", "--json", path], capture_output=True, text=True, timeout=60)


def answers(args, name, folder, stack):
    """All that is asked of the replay, and of a daemon that goes on from the journal."""
    path = copy(name, folder)
    shutil.copytree(os.path.join(HERE, "flags"), os.path.join(folder, "flags"))
    result = replay(args, path)
    assert result.returncode == 0, result.stdout + result.stderr
    told = {"replay": json.loads(result.stdout)}
    with open(os.path.join(HERE, name + ".yaml"), encoding="utf-8") as f:
        text = f.read()
    for mark in ("@PORT@", "@GOOD@", "@BAD@"):
        text = text.replace(mark, str(harness.free_port()))
    sluice = harness.Sluice(folder, args.binary, text)
    stack.callback(sluice.stop)
    for rollout in sluice.request("GET", "/v1/rollouts")[1]["rollouts"]:
        told[rollout["name"]] = [sluice.rollout(rollout["name"]), sluice.request("GET", f"/v1/rollouts/{rollout['name']}/history")]
    # What a completed rollout promoted is stable, whichever rule completed it; what was taken back is not.
    stable = {service["name"]: service["stable"] for service in sluice.request("GET", "/v1/status")[1]["services"]}
    for rollout in sluice.request("GET", "/v1/rollouts")[1]["rollouts"]:
        if "flag" not in rollout and rollout["service"] in stable:
            wanted = rollout["to"] if rollout["state"] == "Completed" and rollout["weight"]["wanted"] == 1 else rollout["from"]
            assert stable[rollout["service"]] == wanted, (rollout["name"], rollout["state"], stable)
    for where in PATHS:
        told[where] = sluice.request("GET", where)
    for flag in ("fresh", "plain", "other", "theme", "banner", "ring"):
        for email in ("ann@example.com", "bob@elsewhere.example"):
            for key in ("a", "b", "c"):
                body = {"context": {"targetingKey": key, "email": email}}
                told[f"{flag} {email} {key}"] = sluice.request("POST", f"/v1/flags/{flag}/eval", body)
    sluice.stop()
    after = sluice.replay()
    assert after.returncode == 0, after.stdout + after.stderr
    return lasting(told)


def holds(told, wanted):
    """The same; an object of a later version may have more members."""
    if isinstance(wanted, dict) and isinstance(told, dict):
        return all(name in told and holds(told[name], value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(told, list):
        return len(told) == len(wanted) and all(map(holds, told, wanted))
    return told == wanted


def says_what_it_said(args, folder, stack):
    """Every journal that is kept gives the answers of the version that wrote it."""
    for name in journals():
        place = os.path.join(folder, name)
        os.makedirs(place)
        with open(os.path.join(HERE, name + ".json"), encoding="utf-8") as f:
            wanted = json.load(f)
        told = json.loads(json.dumps(answers(args, name, place, stack)))
        older = told["replay"].pop("decisions_of_older_rules")
        if older > 0:
            told["replay"]["decisions"] += older
            wanted, told = lasting(wanted, AFRESH), lasting(told, AFRESH)
        for what in sorted(wanted.keys() | told.keys()):
            assert holds(told.get(what), wanted.get(what)), f"{name}, {what}:\n  wanted {wanted.get(what)}\n  told   {told.get(what)}"
        harness.log(f"  {name}: {wanted['replay']['decisions']} decisions ({older} under an older rule), {len(told)} answers are the same")


def a_journal_of_the_future_is_refused(args, folder, _):
    """A file of a later layout is not read, and the reason is said; nothing in it is changed."""
    path = copy(journals()[-1], folder)
    database = sqlite3.connect(path)
    version = database.execute("PRAGMA user_version").fetchone()[0] + 1
    database.execute(f"PRAGMA user_version={version}")
    database.commit()
    database.close()
    before = open(path, "rb").read()
    result = replay(args, path)
    assert result.returncode != 0 and f"has version {version}" in result.stderr and "use a newer one" in result.stderr, result.stderr
    assert open(path, "rb").read() == before
    harness.log("  " + result.stderr.strip())


if __name__ == "__main__":
    if "--record" in sys.argv:
        sys.argv.remove("--record")
        options = harness.options()
        with harness.folder() as place, harness.contextlib.ExitStack() as exits:
            newest = journals()[-1]
            with open(os.path.join(HERE, newest + ".json"), "w", encoding="utf-8") as out:
                json.dump(answers(options, newest, place, exits), out, indent=1, sort_keys=True)
                out.write("\n")
    else:
        harness.run([says_what_it_said, a_journal_of_the_future_is_refused], harness.options())
