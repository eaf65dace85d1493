#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libsluice-flags as a user meets it: installed into an empty prefix, found by pkg-config, linked shared and
static, the header read as C11 and as C++, nothing exported but sluice_flags_*, and the example run."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(what, condition, shown=""):
    if not condition:
        sys.exit(f"FAILED: {what}\n{shown}")
    print(f"ok: {what}")


def check_names(prefix):
    for path, words in (("lib/libsluice-flags.so.0", ["-D"]), ("lib/libsluice-flags.a", ["-g"])):
        names = [line.split()[-1] for line in run(["nm", *words, "--defined-only", os.path.join(prefix, path)]).splitlines()
                 if len(line.split()) == 3]
        strangers = [name for name in names if not name.startswith("sluice_flags_")]
        expect(f"{path} shows sluice_flags_* only", names and not strangers, strangers)
    shown = run(["readelf", "-d", os.path.join(prefix, "lib/libsluice-flags.so")])
    expect("soname is libsluice-flags.so.0", "[libsluice-flags.so.0]" in shown, shown)


def check_header(prefix, folder):
    text = "#include <sluice_flags.h>\nint main(void) { struct sluice_flags_details d = SLUICE_FLAGS_DETAILS_INIT; return (int)d.error; }\n"
    for name, compiler, words in (("c.c", os.environ.get("CC", "cc"), ["-std=c11", "-pedantic"]),
                                  ("cxx.cc", os.environ.get("CXX", "c++"), ["-std=c++11", "-pedantic"])):
        if shutil.which(compiler) is None:
            print(f"SKIPPED: no {compiler}")
            continue
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
        run([compiler, *words, "-Wall", "-Wextra", "-Werror", "-I" + os.path.join(prefix, "include"), "-fsyntax-only", os.path.join(folder, name)])
        print(f"ok: the header reads as {words[0][5:]}")


def check_answers(shown):
    expect("a rule decides", "new-checkout = true (variant 'on', TARGETING_MATCH)" in shown, shown)
    expect("a share decides", "button-color = blue" in shown or "button-color = green" in shown, shown)
    expect("an unknown flag says so", "not-there = fallback (variant '', ERROR, FLAG_NOT_FOUND)" in shown, shown)


def check_example(prefix, folder):
    example = os.path.join(folder, "flags-c")
    shutil.copytree(os.path.join(ROOT, "examples/flags-c"), example)
    env = {**os.environ, "PKG_CONFIG_PATH": os.path.join(prefix, "lib/pkgconfig"), "LD_LIBRARY_PATH": os.path.join(prefix, "lib"),
           "CFLAGS": "-O2 -Wall -Wextra -Werror"}
    run(["make", "-C", example, "flags-c", "flags-c-static"], env=env)
    for name in ("flags-c", "flags-c-static"):
        check_answers(run([os.path.join(example, name), os.path.join(example, "flags.json"), "user-1", "gold"], env=env))
    bare = run([os.path.join(example, "flags-c-static"), os.path.join(folder, "nothing")])
    expect("without a daemon the defaults come with their reason", "new-checkout = false (variant '', ERROR, PROVIDER_NOT_READY)" in bare, bare)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "prefix")
        run(["cmake", "--install", args.build, "--component", "flags", "--prefix", prefix])
        libdir = os.path.join(prefix, "lib")
        if not os.path.exists(os.path.join(libdir, "libsluice-flags.a")):
            # Distributions differ in where libraries go.
            found = [path for path, _, names in os.walk(prefix) if "libsluice-flags.a" in names]
            expect("the library is installed", found)
            os.symlink(found[0], libdir) if not os.path.exists(libdir) else sys.exit("an odd libdir: " + found[0])
        expect("the man page is installed", os.path.exists(os.path.join(prefix, "share/man/man3/libsluice-flags.3")))
        check_names(prefix)
        check_header(prefix, folder)
        check_example(prefix, folder)


if __name__ == "__main__":
    main()
