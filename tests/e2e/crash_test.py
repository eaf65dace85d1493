#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments of a rollout under load. After each: the journal replays, the daemon starts again by itself in the
state the journal gives, and the table it routes by carries that state's weight."""
import random
import subprocess
import time

import harness
import rollout_test

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    routes: [{{path: /}}]
    versions:
      v1: {{endpoints: [127.0.0.1:{v1}]}}
      v2: {{endpoints: [127.0.0.1:{v2}]}}
    stable: v1
rollouts:
  shop-v2:
    service: shop
    to: v2
    warmup: 0s
    stages: [{{weight: 10%, for: 1s}}, {{weight: 30%, for: 1s}}, {{weight: 60%, for: 1s}}, {{weight: 100%, for: 1s, soak: 2s}}]
    checks: {{errors: {{negligible: 2%}}, latency: {{baseline: 200, margin: 2}}}}
"""


def weight_in_table(sluice):
    status, table = sluice.request("GET", "/v1/table")
    assert status == 200, table
    return next(s["weight"] for s in table["services"] if s["name"] == "shop")


def crash(args, folder, stack):
    """kill -9, a hundred times"""
    rng = random.Random(args.seed)
    v1, _ = rollout_test.start_origin(folder, stack, "v1")
    v2, _ = rollout_test.start_origin(folder, stack, "v2")
    port, admin = harness.free_port(), harness.free_port()
    config = CONFIG.format(port=port, v1=v1, v2=v2)
    load = rollout_test.Load(args, folder, port, rate=400, seconds=3600)
    stack.callback(load.kill)
    resumed = {}
    sluice = None
    for number in range(args.rounds):
        sluice = harness.Sluice(folder, args.binary, config, admin=admin)
        stack.callback(sluice.stop)
        body = sluice.rollout("shop-v2")
        assert abs(weight_in_table(sluice) - body["weight"]["wanted"]) < 1e-9, f"table and state differ: {weight_in_table(sluice)} and {body}"
        resumed[body["state"]] = resumed.get(body["state"], 0) + 1
        if body["state"] == "Completed":
            sluice.command("shop-v2", "undo")
        elif body["state"] in ("Pending", "RolledBack"):
            sluice.command("shop-v2", "start")
        time.sleep(rng.uniform(0.05, 1.5))
        before = sluice.rollout("shop-v2")
        sluice.kill()
        result = sluice.replay()
        assert result.returncode == 0, f"round {number}: replay: {result.stdout}{result.stderr}"
        again = subprocess.run([args.binary, "replay", sluice.journal()], capture_output=True, text=True, timeout=60)
        assert again.stdout == result.stdout, "two replays of one journal differ"
        if number % 10 == 9:
            harness.log(f"   {number + 1} kills; resumed in {resumed}; last seen {before['state']}")
    assert sum(resumed.values()) == args.rounds
    assert any(state not in ("Pending", "Completed") for state in resumed), f"never resumed in mid-rollout: {resumed}"


if __name__ == "__main__":
    harness.run([crash], harness.options(rounds=100, seed=1))
