#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The commands as an operator types them, against the running daemon or none: what they print, what they leave, and their
exit codes."""
import os
import re
import socket
import subprocess

import harness
from echo_origin import EchoOrigin

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  echo:
    versions:
      v1: {{endpoints: [127.0.0.1:{origin}]}}
      v2: {{endpoints: [127.0.0.1:{origin}]}}
    stable: v1
rollouts:
  echo-v2: {{service: echo, to: v2, stages: [{{weight: 20%, for: 10m}}, {{weight: 100%}}]}}
"""


def start(args, folder, stack, config=CONFIG):
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, config.format(port=port, origin=origin.port))
    stack.callback(sluice.stop)
    return sluice, port, origin


def run(args, *words, admin=None, **kwargs):
    """The command's (exit code, standard output, standard error)."""
    env = {**os.environ, "SLUICE_ADMIN": f"127.0.0.1:{admin or 1}"}
    done = subprocess.run([args.binary, *words], capture_output=True, text=True, timeout=30, env=env, stdin=subprocess.DEVNULL, **kwargs)
    return done.returncode, done.stdout, done.stderr


def send(port, text, wanted=b"HTTP/1.1 "):
    """Sends one request as it stands; the answer's head must hold what is wanted."""
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(text.encode())
        answer = s.recv(65536)
    assert wanted in answer, answer


def edit(sluice, was, now):
    with open(sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    assert was in text, was
    with open(sluice.config_path, "w", encoding="utf-8") as f:
        f.write(text.replace(was, now))


def reload_tells(args, folder, stack):
    """reload waits for the outcome: in force, in force but for a restart, or refused with every reason"""
    sluice, _, _ = start(args, folder, stack)
    assert run(args, "reload", admin=sluice.admin) == (0, "The file is in force.\n", "")
    edit(sluice, "stable: v1", "stable: v1\n  other: {versions: {v1: {endpoints: [127.0.0.1:9]}}, stable: v1, routes: [{path: /other}]}")
    assert run(args, "reload", admin=sluice.admin)[0] == 0
    names = [service["name"] for service in sluice.request("GET", "/v1/table")[1]["services"]]
    assert names == ["echo", "other"], names
    edit(sluice, "workers: 1", "workers: 2")
    code, out, _ = run(args, "reload", admin=sluice.admin)
    assert code == 0 and out == "The file is in force.\nonly when the daemon is started again: workers\n", out


def reload_refused(args, folder, stack):
    """a file with errors is refused with their places, and nothing changes; so is one that cannot be read"""
    sluice, _, _ = start(args, folder, stack)
    before = sluice.request("GET", "/v1/table")
    edit(sluice, "stable: v1", "stabel: v3\n    bogus: 1")
    code, out, err = run(args, "reload", admin=sluice.admin)
    assert (code, out) == (1, ""), (code, out)
    assert "the file is not valid and changes nothing" in err and "sluice.yaml:12:5" in err and "'stable'" in err and "bogus" in err, err
    assert sluice.request("GET", "/v1/table") == before
    os.unlink(sluice.config_path)
    code, _, err = run(args, "reload", admin=sluice.admin)
    assert code == 1 and "sluice.yaml" in err, err
    sluice.stop()
    code, _, err = run(args, "reload", admin=sluice.admin)
    assert code == 3 and "no daemon answers" in err, err


def init_answers(args, folder, stack):
    """init by options: what it writes is accepted; nothing is overwritten; a wrong address is named"""
    path = os.path.join(folder, "shop.yaml")
    words = ["init", "--listen", "8080", "--stable", "app.internal:80", "--next", "[::1]:9002", path]
    code, out, err = run(args, *words)
    assert (code, err) == (0, "") and f"sluice serve {path}" in out, (code, out, err)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert 'listen: ["0.0.0.0:8080"]' in text and 'v1: ["app.internal:80"]' in text and 'v2: ["[::1]:9002"]' in text, text
    assert run(args, "check", "--no-ask", path)[0] == 0
    code, _, err = run(args, "init", "--listen", "9999", path)
    assert code == 1 and "exists already" in err, err
    with open(path, encoding="utf-8") as f:
        assert f.read() == text
    assert run(args, "init", "--force", "--listen", "9999", path)[0] == 0
    with open(path, encoding="utf-8") as f:
        assert "0.0.0.0:9999" in f.read()
    for wrong in ("nonsense", "127.0.0.1:0", '1.2.3.4:5"]\nworkers: ["1', "x" * 300):
        code, _, err = run(args, "init", "--stable", wrong, os.path.join(folder, "other.yaml"))
        assert code == 2 and ("address" in err or "nobody can connect" in err), (wrong, code, err)
    assert not os.path.exists(os.path.join(folder, "other.yaml"))


def init_asks(args, folder, stack):
    """init on a terminal: three questions, a wrong answer is asked for again, an empty one is the default"""
    leader, follower = os.openpty()
    done = subprocess.Popen([args.binary, "init"], cwd=folder, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(leader, b"8081\nnonsense\n10.0.0.5:80\n\n")
    out, err = done.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert done.returncode == 0 and err.count("?") == 4 and "nonsense" in err, (done.returncode, err)
    with open(os.path.join(folder, "sluice.yaml"), encoding="utf-8") as f:
        text = f.read()
    assert "0.0.0.0:8081" in text and "10.0.0.5:80" in text and "127.0.0.1:9002" in text, text


def paths_beside_the_file(args, folder, stack):
    """paths are relative to the file; one that only the working directory has keeps its meaning, with a warning"""
    home, elsewhere = os.path.join(folder, "home"), os.path.join(folder, "elsewhere")
    os.mkdir(home)
    os.mkdir(elsewhere)
    port, admin = harness.free_port(), harness.free_port()
    with open(os.path.join(home, "sluice.yaml"), "w", encoding="utf-8") as f:
        f.write(f"workers: 1\njournal: sluice.db\nlisten: ['unix:in.sock', '127.0.0.1:{port}']\nadmin: 127.0.0.1:{admin}\n"
                "services: {a: {versions: {v1: ['unix:app.sock']}, stable: v1}}\nflags: {sources: [flags.json]}\n")
    with open(os.path.join(home, "flags.json"), "w", encoding="utf-8") as f:
        f.write('{"flags": {}}')

    def serve(name):
        daemon = harness.Process(folder, name, [args.binary, "serve", "../home/sluice.yaml"], cwd=elsewhere)
        stack.callback(daemon.stop)
        harness.wait_for("the daemon", lambda: harness.connects(port) or not daemon.running())
        assert daemon.running(), daemon.output()
        return daemon

    serve("beside").stop()
    assert {"sluice.db", "in.sock"} <= set(os.listdir(home)) and os.listdir(elsewhere) == [], (os.listdir(home), os.listdir(elsewhere))
    code, _, err = run(args, "check", "--no-ask", "../home/sluice.yaml", cwd=elsewhere)
    assert (code, err) == (0, ""), err
    # As an earlier version left it: the journal is where the daemon was started.
    for name in [name for name in os.listdir(home) if name.startswith("sluice.db")]:
        os.rename(os.path.join(home, name), os.path.join(elsewhere, name))
    warning = "'sluice.db' is not beside the file that names it, and is taken from the working directory"
    code, _, err = run(args, "check", "--no-ask", "../home/sluice.yaml", cwd=elsewhere)
    assert code == 0 and f"warning: {warning}" in err, err
    daemon = serve("working_directory")
    code, out, _ = run(args, "reload", admin=admin)
    assert code == 0 and warning in out, out
    daemon.stop()
    assert warning in daemon.output() and "sluice.db" not in os.listdir(home), daemon.output()


LOGGED = CONFIG + "log: {{access: access.log}}\n"


def lines_of(path, count):
    """The file's lines, once there are so many."""
    def read():
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        return lines if len(lines) >= count else None

    return harness.wait_for(f"{count} lines in {path}", read)


def access_log(args, folder, stack):
    """a line for every request in the combined format, whoever answered it; another file once the old one was moved away"""
    sluice, port, _ = start(args, folder, stack, LOGGED.replace("stable: v1", "stable: v1\n    routes: [{{path: /shop}}]"))
    path = os.path.join(folder, "access.log")
    send(port, "GET /shop/cart?id=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: a \"b\"\r\nReferer: http://x/\r\n\r\n")
    send(port, "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    send(port, "GET /\r\n\r\n")
    lines = lines_of(path, 3)
    stamp = r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    assert re.fullmatch(stamp + r'"GET /shop/cart\?id=1 HTTP/1\.1" 200 \d+ "http://x/" "a \\x22b\\x22" "shop\.example" echo v1 \d+\.\d{3}', lines[0]), lines
    assert re.fullmatch(stamp + r'"POST /nowhere HTTP/1\.1" 404 0 "-" "-" "h" - - 0\.000', lines[1]), lines
    assert re.fullmatch(stamp + r'"-" 400 0 "-" "-" "-" - - 0\.000', lines[2]), lines
    os.rename(path, path + ".1")
    assert run(args, "reload", admin=sluice.admin)[0] == 0
    harness.wait_for("the new file", lambda: os.path.exists(path))
    send(port, "GET /shop HTTP/1.1\r\nHost: h\r\n\r\n")
    assert '"GET /shop HTTP/1.1" 200' in lines_of(path, 1)[0] and len(lines_of(path + ".1", 3)) == 3
    # What it wrote, load reads.
    code, out, err = run(args, "load", "--replay", path, "--rate", "20", "--duration", "200ms", f"http://127.0.0.1:{port}")
    assert code == 0, out + err
    # What is not read out yet when it stops is written, too.
    for _ in range(20):
        send(port, "GET /shop/last HTTP/1.1\r\nHost: h\r\n\r\n")
    sluice.stop()
    with open(path, encoding="utf-8") as f:
        assert f.read().count("/shop/last") == 20


def access_log_full(args, folder, stack):
    """a disk that is full costs lines, which are counted, and no request"""
    sluice, port, _ = start(args, folder, stack, CONFIG + "log: {{access: /dev/full, format: json}}\n")
    send(port, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    harness.wait_for("the count", lambda: "sluice_access_log_lost_total 1" in sluice.request("GET", "/metrics")[1])
    harness.wait_for("the word", lambda: "lines of the access log cannot be written and are lost" in sluice.output())


def errors_logged(args, folder, stack):
    """an origin's 5xx is in the log with what was asked and who answered"""
    sluice, port, origin = start(args, folder, stack)
    origin.status = b"503 Service Unavailable"
    send(port, "GET /cart?id=1 HTTP/1.1\r\nHost: shop.example\r\n\r\n", b" 503 ")
    harness.wait_for("the line", lambda: "an origin answered with an error" in sluice.output())
    line = next(line for line in sluice.output().splitlines() if "an origin answered with an error" in line)
    for part in ("status=503", "method=GET", "host=shop.example", "path=/cart ", "version=v1", "ms="):
        assert part in line, line


def status_codes(args, folder, stack):
    """status names what was taken back, and calls somebody only as long as the file has it; history has dates"""
    sluice, _, _ = start(args, folder, stack)
    code, out, _ = run(args, "status", admin=sluice.admin)
    assert code == 0 and out.splitlines()[0].startswith("ROLLOUT ") and re.match(r"echo-v2 +Pending ", out.splitlines()[1]), out
    sluice.command("echo-v2", "start")
    sluice.command("echo-v2", "abort")
    sluice.wait_state("echo-v2", "RolledBack", 40)
    code, out, _ = run(args, "status", admin=sluice.admin)
    assert code == 11 and re.match(r"echo-v2 +RolledBack +1/2 +0 % ", out.splitlines()[1]), out
    code, out, _ = run(args, "rollout", "history", "echo-v2", admin=sluice.admin)
    assert code == 0 and re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +\d+  run 1  ", out), out
    edit(sluice, "rollouts:\n  echo-v2: {service: echo, to: v2, stages: [{weight: 20%, for: 10m}, {weight: 100%}]}\n", "")
    assert run(args, "reload", admin=sluice.admin)[0] == 0
    assert run(args, "status", admin=sluice.admin)[0] == 0


def load_stopped(args, folder, stack):
    """load that is told to end prints what it has"""
    origin = EchoOrigin(harness.free_port())
    stack.callback(origin.stop)
    load = harness.Process(folder, "load", [args.binary, "load", "--rate", "50", "--duration", "5m", f"http://127.0.0.1:{origin.port}/"])
    stack.callback(load.stop)
    harness.wait_for("requests", lambda: origin.count() >= 5, 30)
    assert load.stop() == 0 and re.search(r"^\d+ requests in ", load.output(), re.M), load.output()


if __name__ == "__main__":
    harness.run([reload_tells, reload_refused, init_answers, init_asks, paths_beside_the_file, access_log, access_log_full, errors_logged, status_codes, load_stopped], harness.options())
