#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check: which module includes which (MODULES), private headers, banned functions,
pure modules, sizes, licence lines, anchors of planted bugs, the glossary, formatting. Prints every breach as
file:line: message and exits 1 if there is one."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

import planted

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


class Module:
    def __init__(self, line, folder, pure, includes, libraries):
        self.line, self.folder, self.pure, self.includes, self.libraries = line, folder, pure, includes, libraries
        self.included = set()


def read_modules():
    """MODULES as a dict by name, in the order of the file: each module includes only what stands above it."""
    path, modules = os.path.join(ROOT, "MODULES"), {}
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.split("#")[0]
        if not line.strip():
            continue
        match = re.match(r"([a-z0-9_]+) +([a-z0-9_/]+)( +pure)? *:([^;]*)(?:;(.*))?$", line.rstrip())
        if not match:
            breach(path, number, "not: name folder [pure] : modules [; libraries]")
            continue
        name, folder, pure, includes, libraries = match.groups()
        for other in includes.split():
            if other not in modules:
                breach(path, number, f"{name} includes {other}, which does not stand above it")
        if not os.path.isdir(os.path.join(ROOT, "src", folder)):
            breach(path, number, f"there is no folder src/{folder}")
        modules[name] = Module(number, folder, bool(pure), set(includes.split()), (libraries or "").split())
    return modules


def strip_comments(text):
    """Comments and literals become blanks; line numbers stay."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def check_includes(path, lines, modules, names):
    """names: module names by folder."""
    rel = os.path.relpath(path, os.path.join(ROOT, "src"))
    if rel.startswith(".."):
        return
    folder = os.path.dirname(rel)
    if folder == "":
        return  # main.c is the program itself: it may use whatever it names
    if folder not in names:
        breach(path, 1, f"the folder src/{folder} is not in MODULES")
        return
    module = names[folder]
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        other = names.get(os.path.dirname(target))
        if other is None:
            breach(path, number, f'include "{target}" is not "folder of a module/file.h"')
            continue
        if other == module:
            continue
        modules[module].included.add(other)
        if other not in modules[module].includes:
            breach(path, number, f"MODULES does not let {module} include {other}")
        if target.endswith("_private.h"):
            breach(path, number, f"{target} is private to {other}")


def declared_by_module(modules, texts):
    """Functions and types of public headers, each with its module and header; those that two modules name are left out."""
    owners = {}
    for name, module in modules.items():
        for path, text in texts.items():
            if os.path.dirname(path) != f"src/{module.folder}" or not path.endswith(".h") or path.endswith("_private.h"):
                continue
            code = strip_comments(text)
            for match in re.finditer(r"^(?![\s_])[\w*() ,]*?\b(\w+)\([^;{]*\)\s*;|^((?:struct|enum) \w+) \{", code, re.M):
                owners.setdefault(match.group(1) or match.group(2), set()).add((name, path))
    return {word: next(iter(places)) for word, places in owners.items() if len({n for n, _ in places}) == 1}


def check_uses(path, code, modules, names, owners):
    """What a file calls, and the types it names, belong to modules that its own may include: not through others' headers."""
    module = names.get(os.path.relpath(os.path.dirname(path), os.path.join(ROOT, "src")))
    if module is None:
        return
    known = set(re.findall(r"^((?:struct|enum) \w+);", code, re.M))
    for match in re.finditer(r"(?<![.>\w])(\w+)\s*\(|\b((?:struct|enum) \w+)", code):
        word = match.group(1) or match.group(2)
        owner = owners.get(word, (module, ""))[0]
        if owner != module and word not in known and owner not in modules[module].includes:
            line = code.count("\n", 0, match.start()) + 1
            breach(path, line, f"{word} is of {owner}, which MODULES does not let {module} include")


def check_unused(modules):
    for name, module in modules.items():
        for other in sorted(module.includes - module.included):
            breach(os.path.join(ROOT, "MODULES"), module.line, f"{name} does not include {other}: take the word out")


def check_planted(texts):
    """Every anchor of a planted bug stands exactly once in its file."""
    for path in planted.list_files():
        for bug in planted.read_file(path, breach):
            for edit in bug.edits:
                text = texts.get(edit.path)
                if text is None:
                    breach(path, edit.line, f"{bug.name}: there is no file {edit.path}")
                    continue
                count = planted.count(text, edit.old)
                if count != 1:
                    breach(path, edit.line, f"{bug.name}: its lines stand {count} times in {edit.path}, not once")


def check_glossary(codes):
    """What docs/GLOSSARY.md names in backquotes is in src/; what stands there behind "Not" is part of no identifier."""
    path = os.path.join(ROOT, "docs/GLOSSARY.md")
    text = "\n".join(codes.values())
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        if not line.startswith("- **"):
            continue
        carried, _, forbidden = line.partition(" Not: ")
        carriers = re.findall(r"`([^`]+)`", carried)
        for word in carriers or [""]:
            end = r" \{" if word.startswith(("struct ", "enum ")) else r"\b"
            if not word or not re.search(rf"\b{word}{end}", text):
                breach(path, number, f"src/ has no `{word}`")
        for word in re.findall(r"`([^`]+)`", forbidden):
            pattern = re.compile(rf"(?<![a-z0-9]){word}(?![a-z0-9])", re.I)
            for file, code in codes.items():
                for at, code_line in enumerate(code.split("\n"), 1):
                    if pattern.search(code_line):
                        breach(os.path.join(ROOT, file), at, f"docs/GLOSSARY.md has another word for '{word}'")


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


def check_pure(modules):
    """Compiles each file of a pure module alone and reads its undefined symbols."""
    compiler = shutil.which("cc") or "gcc"
    with tempfile.TemporaryDirectory() as folder:
        for module in [name for name in modules if modules[name].pure]:
            base = os.path.join(ROOT, "src", modules[module].folder)
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
    modules = read_modules()
    names = {module.folder: name for name, module in modules.items()}
    paths, texts, codes = sources(), {}, {}
    for path in paths:
        text = open(path, encoding="utf-8").read()
        texts[os.path.relpath(path, ROOT)] = text
        lines = text.split("\n")
        code = strip_comments(text)
        code_lines = code.split("\n")
        if path.startswith(os.path.join(ROOT, "src")):
            codes[os.path.relpath(path, ROOT)] = code
        if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
            breach(path, 1, "no SPDX line")
        check_includes(path, lines, modules, names)
        check_banned(path, code_lines)
        check_sizes(path, lines, code_lines)
    check_unused(modules)
    owners = declared_by_module(modules, texts)
    for path in paths:
        check_uses(path, strip_comments(texts[os.path.relpath(path, ROOT)]), modules, names, owners)
    check_planted(texts)
    check_glossary(codes)
    check_pure(modules)
    if not args.no_format:
        check_formatting(paths)
    for line in breaches:
        print(line)
    print(f"tidy: {len(paths)} files, {len(breaches)} breaches", file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
