#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon is down, or hangs: a word that leads back is given to its journal and counts from the first request of the next
start; a journal that a daemon holds is never written beside it."""
import os
import shutil
import signal
import sqlite3

import flag_daemon
import harness
from stable_test import Shop


def entries(path):
    with sqlite3.connect(path) as journal:
        return journal.execute("SELECT count(*) FROM journal_entries").fetchone()[0]


def stands(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


class Down(Shop):
    """The shop, and commands to its journal."""

    @property
    def path(self):
        return f"{self.folder}/sluice.db"

    def say(self, *words, journal=None):
        return self.cli(*words, "--admin", f"127.0.0.1:{self.admin}", "--journal", journal or self.path, "--who", "ann")


def half(args, folder, stack):
    shop = Down(args, folder, stack)
    text = shop.file("v1", [("shop-v2", "v2")]).replace("for: 1s", "for: 1h")
    shop.start(text)
    shop.sluice.command("shop-v2", "start")
    harness.wait_for("both versions", lambda: shop.ask() == {"v1", "v2"})
    return shop, text


def abort_while_down(args, folder, stack):
    """an abort given while the daemon is down: the next start serves the stable version alone, from its first request"""
    shop, text = half(args, folder, stack)
    code, out = shop.cli("rollout", "abort", "shop-v2", "--admin", f"127.0.0.1:{harness.free_port()}")
    assert code == 3 and "--journal PATH" in out, (code, out)
    shop.sluice.kill()
    code, out = shop.say("rollout", "abort", "shop-v2")
    assert code == 0 and "no daemon answers" in out and "counts from the next start" in out and "ABORTED" in out, (code, out)
    code, out = shop.say("rollout", "abort", "shop-v2")
    assert code == 0 and "going back already" in out, (code, out)
    shop.start(text)
    for _ in range(5):
        assert shop.ask() == {"v1"}
    code, out = shop.cli("rollout", "history", "shop-v2", "--admin", f"127.0.0.1:{shop.admin}")
    assert code == 0 and "ABORTED" in out and "by ann from the journal, while no daemon ran" in out, out
    shop.replays()


def journal_in_use(args, folder, stack):
    """a daemon that hangs holds its journal: nothing is written, its process is named; once it is gone the word is taken"""
    shop, text = half(args, folder, stack)
    os.link(shop.path, shop.path + "-again")
    shop.sluice.signal(signal.SIGSTOP)
    harness.wait_for("the daemon to stand still", lambda: stands(shop.sluice.pid))
    before = entries(shop.path)
    elsewhere = ["rollout", "abort", "shop-v2", "--admin", f"127.0.0.1:{harness.free_port()}", "--journal"]
    code, out = shop.cli(*elsewhere, shop.path)
    assert code == 3 and f"process {shop.sluice.pid}" in out and "nothing was written" in out, (code, out)
    code, out = shop.cli(*elsewhere, shop.path + "-again")
    assert code == 3 and "under another name" in out, (code, out)
    assert entries(shop.path) == before
    shop.sluice.kill()
    code, out = shop.say("rollout", "abort", "shop-v2")
    assert code == 0, out
    shop.start(text)
    assert shop.ask() == {"v1"}
    shop.replays()


def nothing_there(args, folder, stack):
    """no journal, no such rollout, another file: each is said, nothing is made and nothing written"""
    shop, _ = half(args, folder, stack)
    shop.sluice.stop()
    missing = os.path.join(folder, "missing.db")
    code, out = shop.say("rollout", "abort", "shop-v2", journal=missing)
    assert code == 1 and "there is no journal" in out and not os.path.exists(missing), (code, out)
    before = entries(shop.path)
    code, out = shop.say("rollout", "abort", "shop-v3")
    assert code == 1 and "no run of a rollout" in out, (code, out)
    code, out = shop.say("rollout", "abort", "shop-v2", journal=shop.sluice.config_path)
    assert code == 4 and "no journal of Sluice" in out, (code, out)
    assert entries(shop.path) == before


def flag_off_while_down(args, folder, stack):
    """a flag that is switched off while the daemon is down is off from the first answer of the next start"""
    shop = Down(args, folder, stack)
    flag_daemon.save(os.path.join(folder, "flags.json"), {"sale": flag_daemon.switch("on")})
    text = shop.file("v1") + f"flags:\n  sources: [{{file: {folder}/flags.json}}]\n"
    shop.start(text)
    value = {"context": {"targetingKey": "a"}}
    assert shop.sluice.request("POST", "/v1/flags/sale/eval", value)[1]["value"] is True
    shop.sluice.stop()
    code, out = shop.say("flag", "off", "sale")
    assert code == 0 and "counts from the next start" in out, (code, out)
    shop.start(text)
    assert shop.sluice.request("POST", "/v1/flags/sale/eval", value)[1]["value"] is False
    code, out = shop.cli("flag", "history", "sale", "--admin", f"127.0.0.1:{shop.admin}")
    assert code == 0 and "ann" in out and "while no daemon ran" in out, out
    shop.replays()


def older_rule(args, folder, stack):
    """a run that an older rule of decision began is aborted in the journal too"""
    del stack
    path = os.path.join(folder, "sluice.db")
    shutil.copy(os.path.join(harness.ROOT, "tests/regress/journal_v1.sqlite"), path)
    shop = Down.__new__(Down)
    shop.args, shop.folder, shop.admin = args, folder, harness.free_port()
    code, out = shop.say("rollout", "abort", "ring-only")
    assert code == 0 and "ABORTED" in out, (code, out)
    code, out = shop.cli("replay", path)
    assert code == 0, out


if __name__ == "__main__":
    harness.run([abort_while_down, journal_in_use, nothing_there, flag_off_while_down, older_rule], harness.options())
