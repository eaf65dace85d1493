#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves the guards: each bug of tests/planted/*.bugs is put into a copy of its file, compiled beside the tree and linked
before the libraries of the test that must catch it, which must then fail. Before that, each of these tests must pass
without any bug. Nothing outside build/planted is written.
  scripts/planted.py              the modules that changed since tests/planted/PROVEN was written
  scripts/planted.py --all        all of them
  scripts/planted.py --record     all, and writes tests/planted/PROVEN when every bug was caught
  scripts/planted.py NAME...      these bugs only

A file of bugs:
  bug NAME
  why WHAT GOES WRONG WITH IT, in a line of at least 20 characters
  test SUITE                      a file of tests/unit without its _test.c
  file src/...
  -OLD LINES                      these must stand exactly once in the file
  +NEW LINES                      and become these; none: they are taken out
Further edits of the same file follow after a line "also", of other files after another "file"."""
import concurrent.futures
import contextlib
import glob
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "planted")
PROVEN = os.path.join(ROOT, "tests/planted/PROVEN")
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
SECONDS = 120
WHY_MIN = 20


class Edit:
    def __init__(self, path, line):
        self.path, self.line, self.old, self.new = path, line, [], []


class Bug:
    def __init__(self, name, line):
        self.name, self.line, self.why, self.test, self.edits = name, line, "", "", []


def list_files():
    return sorted(glob.glob(os.path.join(ROOT, "tests/planted/*.bugs")))


def read_file(path, complain):
    """The bugs of one file. complain(path, line, message) is called for each that cannot be used."""
    bugs, edit = [], None
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        word, _, rest = line.partition(" ")
        if line[:1] in ("-", "+") and edit is not None:
            if line[0] == "-" and edit.new:
                complain(path, number, "old lines after new ones: put 'also' between two edits")
            (edit.old if line[0] == "-" else edit.new).append(line[1:])
        elif word == "bug":
            bugs.append(Bug(rest.strip(), number))
            edit = None
        elif bugs and word == "why":
            bugs[-1].why = rest.strip()
        elif bugs and word == "test":
            bugs[-1].test = rest.strip()
        elif bugs and word == "file" or word == "also" and edit is not None:
            edit = Edit(rest.strip() if word == "file" else edit.path, number)
            bugs[-1].edits.append(edit)
        elif line and not line.startswith("#"):
            complain(path, number, f"cannot read: {line}")
    for bug in bugs:
        if len(bug.why) < WHY_MIN:
            complain(path, bug.line, f"{bug.name}: 'why' tells in a sentence what goes wrong for whom")
        if not bug.test or not bug.edits or not all(e.old and e.old != e.new for e in bug.edits):
            complain(path, bug.line, f"{bug.name}: wants test, file, and old lines that differ from the new ones")
        elif not os.path.exists(os.path.join(ROOT, f"tests/unit/{bug.test}_test.c")):
            complain(path, bug.line, f"{bug.name}: there is no tests/unit/{bug.test}_test.c")
    return bugs


def count(text, old):
    """How often whole lines `old` stand in the text."""
    return ("\n" + text).count("\n" + "\n".join(old) + "\n")


def run(argv, **kwargs):
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", **kwargs)


def must(argv, **kwargs):
    result = run(argv, **kwargs)
    if result.returncode != 0:
        sys.exit(f"planted: {' '.join(argv)[:200]} failed:\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result.stdout


def read_modules():
    """The folder of each module, and the names of those that it includes."""
    out = {}
    with open(os.path.join(ROOT, "MODULES"), encoding="utf-8") as f:
        for line in f:
            match = re.match(r"([a-z0-9_]+) +([a-z0-9_/]+)(?: +pure)? *:([^;]*)", line)
            if match:
                out[match.group(1)] = match.group(2), match.group(3).split()
    return out


def digest(module, bugs):
    """Of all that decides whether the module's bugs are caught: the bugs, their tests with what these share, and every
    module that the tests link."""
    modules, linked = read_modules(), set()

    def link(name):
        if name not in linked:
            linked.add(name)
            for other in modules[name][1]:
                link(other)

    for bug in bugs:
        link(bug.test.split("_")[0])
    paths = {os.path.join(ROOT, f"tests/planted/{module}.bugs"), os.path.join(ROOT, "tests/CMakeLists.txt")}
    paths |= set(glob.glob(os.path.join(ROOT, "tests/*.[ch]"))) | set(glob.glob(os.path.join(ROOT, "tests/unit/*.h")))
    paths |= {p for p in glob.glob(os.path.join(ROOT, "tests/unit/*.c")) if not p.endswith("_test.c")}
    paths |= {os.path.join(ROOT, f"tests/unit/{bug.test}_test.c") for bug in bugs}
    for name in linked:
        paths |= set(glob.glob(os.path.join(ROOT, "src", modules[name][0], "*.[ch]")))
    total = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as f:
            total.update(os.path.relpath(path, ROOT).encode() + b"\0" + hashlib.sha256(f.read()).digest())
    return total.hexdigest()[:32]


def read_proven():
    if not os.path.exists(PROVEN):
        return {}
    with open(PROVEN, encoding="utf-8") as f:
        return dict(line.split()[:2] for line in f if line.strip() and not line.startswith("#"))


def write_proven(digests):
    with open(PROVEN, "w", encoding="utf-8") as f:
        f.write("# Written by scripts/planted.py --record when every planted bug was caught: a module, and the digest of its\n"
                "# files, its tests and its bugs at that time. A module whose digest still holds is left out by `make check`.\n")
        f.writelines(f"{module} {digests[module]}\n" for module in sorted(digests))


class Tree:
    """Texts of the sources, and how each is compiled and each test program linked."""

    def __init__(self, programs):
        self.texts = {}
        for path in glob.glob(os.path.join(ROOT, "src/**/*.[ch]"), recursive=True):
            with open(path, encoding="utf-8") as f:
                self.texts[os.path.relpath(path, ROOT)] = f.read()
        with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as f:
            self.commands = {os.path.relpath(e["file"], ROOT): e["command"] for e in json.load(f)}
        self.links = {program: self.link_command(program) for program in programs}
        self.modules = {folder: name for name, (folder, _) in read_modules().items()}

    def is_linked(self, path, program):
        """Whether the program has the module of a source; a header is used in more modules than one test links."""
        module = self.modules[os.path.dirname(os.path.relpath(path, "src"))]
        return any(word.endswith(f"libsluice_{module}.a") for word in self.links[program])

    def users(self, path):
        """The sources to compile anew when path changes: itself, or all that include the header, however far."""
        if path.endswith(".c"):
            return {path}
        include = f'#include "{os.path.relpath(path, "src")}"'
        return {user for p, t in self.texts.items() if include in t for user in self.users(p)}

    @staticmethod
    def link_command(program):
        """As ninja would link the test: its last command, without the shell around it."""
        line = must(["ninja", "-C", BUILD, "-t", "commands", "-s", f"tests/{program}"]).strip().splitlines()[-1]
        words = shlex.split(line)
        begin = next(i for i, word in enumerate(words) if re.search(r"(^|/)(cc|gcc|clang)(-\d+)?$", word))
        end = words.index("&&", begin) if "&&" in words[begin:] else len(words)
        return words[begin:end]


def program_of(test):
    """A module's suites are one program; those that tests/CMakeLists.txt calls ALONE are one each."""
    with open(os.path.join(ROOT, "tests/CMakeLists.txt"), encoding="utf-8") as f:
        alone = re.search(r"set\(ALONE ([^)]*)\)", f.read()).group(1).split()
    return (test if test in alone else test.split("_")[0]) + "_test"


def run_test(program, test):
    """How it ended, and its last words. Tests run from the root, where they find examples and documents."""
    # In a session of its own, so that what a test with a bug started and left behind ends with it; into a file, because
    # that might also hold a pipe open.
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen([program, test], stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            out.write(f"no end within {SECONDS} s")
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # A test that was killed, or failed, leaves its files behind.
            for left in glob.glob(f"/dev/shm/sluice-*-{process.pid}-*") + glob.glob(f"/tmp/sluice-*-{process.pid}-*"):
                os.unlink(left)
        out.seek(0)
        return code, out.read()[-3000:]


def edited(tree, bug):
    """The bug's files with the bug in them, by path."""
    texts = {}
    for path in {edit.path for edit in bug.edits}:
        text = "\n" + tree.texts[path]
        places = []
        for edit in bug.edits:
            if edit.path != path:
                continue
            if count(text[1:], edit.old) != 1:
                return None
            old = "\n" + "\n".join(edit.old) + "\n"
            places.append((text.index(old) + 1, len(old) - 1, "".join(line + "\n" for line in edit.new)))
        # From the end, so that one edit does not move the places of the others.
        for at, length, new in sorted(places, reverse=True):
            text = text[:at] + new + text[at + length:]
        texts[path] = text[1:]
    return texts


def plant(tree, bug):
    folder = os.path.join(BUILD, "bugs", bug.name)
    texts = edited(tree, bug)
    if texts is None:
        return f"{bug.name}: its lines are not in the source (make tidy says which)"
    for path, text in texts.items():
        copy = os.path.join(folder, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(copy, "w", encoding="utf-8") as f:
            f.write(text)
    objects = []
    users = {user for path in texts for user in tree.users(path)}
    for i, path in enumerate(sorted(user for user in users if tree.is_linked(user, program_of(bug.test)))):
        command = shlex.split(tree.commands[path])
        object_file = os.path.join(folder, f"{i}.o")
        command[command.index("-o") + 1] = object_file
        if path in texts:
            command[command.index("-c") + 1] = os.path.join(folder, path)
        # The copies of headers are found before the tree's own.
        first = next(j for j, word in enumerate(command) if word.startswith("-I"))
        command.insert(first, f"-I{folder}/src")
        result = run(command + ["-w"], cwd=BUILD)
        if result.returncode != 0:
            return f"{bug.name} does not compile:\n{result.stderr[-2000:]}"
        objects.append(object_file)
    link = list(tree.links[program_of(bug.test)])
    program = os.path.join(folder, bug.test)
    link[link.index("-o") + 1] = program
    # Objects come before the libraries, so that the linker never looks for the healthy ones there.
    first = next(i for i, word in enumerate(link) if word.endswith(".o"))
    result = run(link[:first] + objects + link[first:], cwd=BUILD)
    if result.returncode != 0:
        return f"{bug.name} does not link with {program_of(bug.test)}:\n{result.stderr[-2000:]}"
    code, _ = run_test(program, bug.test)
    os.unlink(program)
    return None if code != 0 else f"{bug.name} is NOT caught by {bug.test}"


def choose(words):
    """The bugs to plant, and the digests of all modules."""
    problems, bugs, digests, proven = [], [], {}, read_proven()
    for path in list_files():
        module = os.path.basename(path)[:-5]
        found = read_file(path, lambda p, line, text: problems.append(f"{os.path.relpath(p, ROOT)}:{line}: {text}"))
        digests[module] = digest(module, found) if not problems else ""
        named = [bug for bug in found if bug.name in words]
        if words and not words[0].startswith("-"):
            bugs += named
        elif words or proven.get(module) != digests[module]:
            bugs += found
        else:
            print(f"planted: {module} is as it was when its {len(found)} bugs were last caught", flush=True)
    if problems:
        sys.exit("\n".join(problems))
    return bugs, digests


def run_healthy(tests):
    """What to say of each test that fails without any bug. One that fails beside others is run once more alone: a test
    that only then passes is not sound either, but no bug's catcher is in doubt."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        first = list(pool.map(lambda t: run_test(os.path.join(BUILD, "tests", program_of(t)), t), tests))
    for test, (code, said) in zip(tests, first):
        if code == 0:
            continue
        code, said_alone = run_test(os.path.join(BUILD, "tests", program_of(test)), test)
        how = "fails without any bug, also alone" if code != 0 else "failed without any bug once, beside others, and passed alone"
        yield code != 0, f"{test} {how}", f"{said}\n---- alone:\n{said_alone}"


def main():
    words = sys.argv[1:]
    if "-h" in words or "--help" in words or any(w.startswith("-") and w not in ("--all", "--record") for w in words):
        print(__doc__)
        return 0 if "-h" in words or "--help" in words else 2
    bugs, digests = choose(words)
    if not bugs:
        if words:
            sys.exit("planted: no such bug is listed")
        print("planted: nothing changed since all were caught")
        return 0
    tests = sorted({bug.test for bug in bugs})
    programs = sorted({program_of(test) for test in tests})
    must(["cmake", "--preset", "planted", "--log-level=WARNING"], cwd=ROOT)
    must(["ninja", "-C", BUILD, "-j", str(JOBS), "--quiet", *programs])
    tree = Tree(programs)
    missed = caught = 0
    told = []  # once more at the end, where a reader of the log looks
    for unhealthy, line, said in run_healthy(tests):
        print(f"planted: {line}:\n{said}", flush=True)
        told.append(line)
        missed += unhealthy
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        jobs = {pool.submit(plant, tree, bug): bug for bug in bugs}
        for job in concurrent.futures.as_completed(jobs):
            problem = job.result()
            print(f"planted: {problem or f'{jobs[job].name} is caught by {jobs[job].test}'}", flush=True)
            missed += problem is not None
            caught += problem is None
            told += [problem] if problem is not None else []
    for line in told:
        print(f"planted: {line}")
    print(f"planted: {caught} caught, {missed} missed")
    if words == ["--record"] and not missed:
        write_proven(digests)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
