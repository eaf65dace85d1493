#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make install` as a packager calls it, with nothing of the library built before: every file arrives below DESTDIR,
the program runs from there, and `make uninstall` takes all of it away."""
import argparse
import glob
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WANTED = ["bin/sluice", "include/sluice_flags.h", "share/man/man1/sluice.1", "share/man/man3/libsluice-flags.3",
          "share/bash-completion/completions/sluice", "share/zsh/site-functions/_sluice",
          "share/fish/vendor_completions.d/sluice.fish", "share/sluice/sluice.schema.json",
          "share/doc/sluice/examples/minimal.yaml", "share/doc/sluice/examples/full.yaml"]


def make(build, *words):
    done = subprocess.run(["make", "-s", *words, f"RELEASE={os.path.relpath(build, ROOT)}", "JOBS=1", "PREFIX=/usr"],
                          cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"FAILED: make {words[0]}\n{done.stdout}{done.stderr}")


def expect(what, condition, shown=""):
    if not condition:
        sys.exit(f"FAILED: {what}\n{shown}")
    print(f"ok: {what}")


def files_below(folder):
    return [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    build = parser.parse_args().build
    for built in glob.glob(os.path.join(build, "**/libsluice-flags.*"), recursive=True):
        os.remove(built)
    with tempfile.TemporaryDirectory() as stage:
        make(build, "install", f"DESTDIR={stage}")
        root = os.path.join(stage, "usr")
        missing = [path for path in WANTED if not os.path.isfile(os.path.join(root, path))]
        expect("every file is there", not missing, missing)
        expect("the library too", [path for path in files_below(root) if path.endswith("libsluice-flags.a")])
        shown = subprocess.run([os.path.join(root, "bin/sluice"), "check", "--no-ask", os.path.join(root, "share/doc/sluice/examples/minimal.yaml")],
                               capture_output=True, text=True, timeout=60)
        expect("the installed program accepts the installed example", shown.returncode == 0, shown.stdout + shown.stderr)
        expect("nothing lies beside the prefix", os.listdir(stage) == ["usr"], os.listdir(stage))
        make(build, "uninstall", f"DESTDIR={stage}")
        expect("uninstall leaves nothing", not files_below(stage), files_below(stage))


if __name__ == "__main__":
    main()
