#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check: floors, private headers, banned functions, pure modules,
sizes, licence lines, formatting. Prints every breach as file:line: message and exits 1 if there is one."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 70
BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "rand", "srand", "gets", "alloca", "strtok", "atoi", "atol"]
HEAP = ["malloc", "calloc", "realloc", "free", "strdup", "strndup", "aligned_alloc"]
# Symbols that give a pure module a heap, a clock, a thread or a file.
IMPURE = re.compile(
    r"^(malloc|calloc|realloc|free|aligned_alloc|posix_memalign|heap_\w+|time|clock|clock_gettime|gettimeofday|nanosleep|"
    r"pthread_\w+|open|openat|fopen|fopen64|read|write|close|socket|send|recv|getenv|printf|fprintf|puts|rand|random|getrandom)$")
breaches = []


def breach(path, line, message):
    breaches.append(f"{os.path.relpath(path, ROOT)}:{line}: {message}")


def sources():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"], cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout.split()
    return [os.path.join(ROOT, p) for p in out if os.path.exists(os.path.join(ROOT, p))]


def read_floors():
    floors, pure = {}, set()
    for line in open(os.path.join(ROOT, "FLOORS"), encoding="utf-8"):
        words = line.split("#")[0].split()
        if len(words) < 2:
            continue
        floors[words[1]] = int(words[0])
        if "pure" in words[2:]:
            pure.add(words[1])
    return floors, pure


def strip_comments(text):
    """Comments and literals become blanks; line numbers stay."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def check_includes(path, lines, floors):
    rel = os.path.relpath(path, ROOT).split(os.sep)
    if rel[0] != "src":
        return
    module = rel[1] if len(rel) > 2 else "main"
    if module not in floors:
        breach(path, 1, f"module '{module}' has no floor in FLOORS")
        return
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        other = target.split("/")[0]
        if "/" not in target or other not in floors:
            breach(path, number, f'include "{target}" is not "module/file.h"')
            continue
        if other == module:
            continue
        if floors[other] >= floors[module]:
            breach(path, number, f"{module} (floor {floors[module]}) may not include {other} (floor {floors[other]})")
        if target.endswith("_private.h"):
            breach(path, number, f"{target} is private to {other}")


def check_banned(path, code_lines):
    rel = os.path.relpath(path, ROOT)
    if not rel.startswith("src"):
        return
    names = list(BANNED)
    if rel.startswith("src") and not rel.startswith("src/base"):
        names += HEAP
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    for number, line in enumerate(code_lines, 1):
        match = pattern.search(line)
        if match:
            breach(path, number, f"{match.group(1)}() is banned here")


def check_sizes(path, lines, code_lines):
    if len(lines) > FILE_LINES_MAX:
        breach(path, FILE_LINES_MAX, f"{len(lines)} lines; at most {FILE_LINES_MAX}")
    start = None
    for number, line in enumerate(code_lines, 1):
        if line.startswith("{"):
            start = number
        if line.startswith("}") and start is not None:
            length = number - start
            before = "\n".join(lines[max(0, start - 12):start])
            if length > FUNCTION_LINES_MAX and "Long because" not in before:
                breach(path, start, f"function of {length} lines; at most {FUNCTION_LINES_MAX}, or say 'Long because ...' above it")
            start = None


def check_formatting(paths):
    if shutil.which("clang-format") is None:
        print("tidy: SKIPPED formatting: clang-format is not installed", file=sys.stderr)
        return
    for i in range(0, len(paths), 40):
        result = subprocess.run(["clang-format", "--dry-run", "-Werror", *paths[i:i + 40]], capture_output=True, text=True)
        for line in result.stderr.splitlines():
            match = re.match(r"(.+?):(\d+):\d+: error: (.*)", line)
            if match:
                breach(match.group(1), match.group(2), "formatting: run make format")


def check_pure(pure):
    """Compiles each file of a pure module alone and reads its undefined symbols."""
    compiler = shutil.which("cc") or "gcc"
    with tempfile.TemporaryDirectory() as folder:
        for module in sorted(pure):
            base = os.path.join(ROOT, "src", module)
            for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
                if not name.endswith(".c"):
                    continue
                path = os.path.join(base, name)
                obj = os.path.join(folder, "object.o")
                run = subprocess.run([compiler, "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-I" + os.path.join(ROOT, "src"), "-c", path, "-o", obj],
                                     capture_output=True, text=True)
                if run.returncode != 0:
                    breach(path, 1, "does not compile alone: " + run.stderr.splitlines()[0] if run.stderr else "does not compile")
                    continue
                for line in subprocess.run(["nm", "-u", obj], capture_output=True, text=True).stdout.splitlines():
                    symbol = line.split()[-1].split("@")[0]
                    if IMPURE.match(symbol):
                        breach(path, 1, f"pure module '{module}' uses {symbol}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-format", action="store_true", help="leave formatting out")
    args = parser.parse_args()
    floors, pure = read_floors()
    paths = sources()
    for path in paths:
        text = open(path, encoding="utf-8").read()
        lines = text.split("\n")
        code_lines = strip_comments(text).split("\n")
        if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
            breach(path, 1, "no SPDX line")
        check_includes(path, lines, floors)
        check_banned(path, code_lines)
        check_sizes(path, lines, code_lines)
    check_pure(pure)
    if not args.no_format:
        check_formatting(paths)
    for line in breaches:
        print(line)
    print(f"tidy: {len(paths)} files, {len(breaches)} breaches", file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
