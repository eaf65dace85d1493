#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The completions as each shell completes them. A shell that is not installed is skipped."""
import os
import pty
import re
import select
import shutil
import subprocess
import time

import harness

# What is typed, words that must be offered, and words that must not.
CASES = [
    ("sluice ro", ["rollout"], ["status"]),
    ("sluice rollout st", ["start"], ["abort"]),
    ("sluice rollout start --", ["--who", "--help"], ["--variant", "promote"]),
    ("sluice flag off --", ["--variant"], ["--context"]),
    ("sluice serve --su", ["--supervise"], ["--rate"]),
    ("sluice rollout start s", [], ["start", "abort"]),
    ("sluice completion ", ["bash", "zsh", "fish"], ["status"]),
    ("sluice help ro", ["rollout"], ["status"]),
]


def completion(args, shell):
    return subprocess.run([args.binary, "completion", shell], check=True, capture_output=True, text=True).stdout


def need(shell):
    if shutil.which(shell) is None:
        harness.log(f"SKIPPED: {shell} is not installed")
        raise SystemExit(harness.SKIP)


def expect(typed, offered, wanted, unwanted):
    words = set(re.findall(r"[\w-]+", offered))
    assert words.issuperset(wanted), (typed, wanted, offered)
    assert not words.intersection(unwanted), (typed, unwanted, offered)


def bash(args, folder, stack):
    """bash offers what may follow"""
    need("bash")
    for typed, wanted, unwanted in CASES:
        words = typed.split(" ")
        script = (completion(args, "bash") + f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); "
                  f"COMP_CWORD={len(words) - 1}; _sluice; echo \"${{COMPREPLY[@]}}\"")
        expect(typed, subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True,
                                     cwd=folder).stdout, wanted, unwanted)


def fish(args, folder, stack):
    """fish offers what may follow"""
    need("fish")
    env = {**os.environ, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder}
    for typed, wanted, unwanted in CASES:
        script = completion(args, "fish") + f"complete -C '{typed}'"
        out = subprocess.run(["fish", "-c", script], check=True, capture_output=True, text=True, cwd=folder, env=env)
        assert out.stderr == "", out.stderr
        expect(typed, "\n".join(line.split("\t")[0] for line in out.stdout.splitlines()), wanted, unwanted)


class Zsh:
    """An interactive zsh on a terminal, because only there it completes."""

    def __init__(self, folder):
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "% ", "HOME": folder})

    def stop(self):
        os.close(self.handle)
        os.waitpid(self.pid, 0)

    def until(self, word):
        seen, end = "", time.monotonic() + 20
        while word not in seen:
            assert time.monotonic() < end, (word, seen)
            if select.select([self.handle], [], [], 0.2)[0]:
                seen += os.read(self.handle, 65536).decode(errors="replace")
        return seen

    def type(self, keys):
        os.write(self.handle, keys.encode())


def zsh(args, folder, stack):
    """zsh offers what may follow, found on its path of functions"""
    need("zsh")
    os.mkdir(os.path.join(folder, "functions"))
    with open(os.path.join(folder, "functions", "_sluice"), "w") as file:
        file.write(completion(args, "zsh"))
    shell = Zsh(folder)
    stack.callback(shell.stop)
    # A key that lists, another that says in a line of its own that the list is over.
    shell.type("fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D; unsetopt beep; LISTMAX=1000; "
               "over() { zle -M over''done }; zle -N over; bindkey '^Xo' over; bindkey '^Xl' list-choices; "
               "PS1=; echo rea''dy\n")
    shell.until("ready")
    for typed, wanted, unwanted in CASES:
        shell.type("\x15" + typed + "\x18l\x18o")
        offered = shell.until("overdone")
        expect(typed, offered.replace(typed, " "), wanted, unwanted)


if __name__ == "__main__":
    harness.run([bash, fish, zsh], harness.options())
