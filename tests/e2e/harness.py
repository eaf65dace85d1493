# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test needs: private peers on loopback, started and ended by the test itself, and the
real binary. Nothing here listens on a fixed port, and nothing is left behind."""
import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP = 77


def log(text):
    print(text, flush=True)


def skip(why):
    """A missing peer skips loudly on a desk and fails where CI is set."""
    log(f"SKIPPED: {why}")
    sys.exit(1 if os.environ.get("CI") else SKIP)


def find_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        skip(f"{name} is not installed (make check installs it)")
    return path


def find_shared(variable, folder):
    for path in (os.environ.get(variable), os.path.join(ROOT, "..", "shared", folder)):
        if path and os.path.isdir(path):
            return path
    return None


_ports_given = set()
_port_share = (0, 1)  # of cases that run side by side each takes its own every n-th pair of ports; Linux gives but one of a pair


def free_port():
    while True:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in _ports_given and port // 2 % _port_share[1] == _port_share[0]:
            _ports_given.add(port)
            return port


def wait_for(what, condition, seconds=10.0, pause=0.02):
    """Waits until condition() is truthy and returns it; a readable failure otherwise."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(pause)


def connects(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def cpu_seconds(pid):
    """User and system time of a process and all its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid):
    out = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                out += [int(x) for x in f.read().split()]
    return out


def rss_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    return 0


class Process:
    """A child with its output in a file of the test's folder; ended by its own id."""

    def __init__(self, folder, name, argv, **kwargs):
        self.name = name
        self.log_path = os.path.join(folder, name + ".log")
        self.log_file = open(self.log_path, "ab")
        self.popen = subprocess.Popen(argv, stdout=self.log_file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **kwargs)
        self.pid = self.popen.pid

    def output(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            self.popen.send_signal(number)

    def stop(self, seconds=10):
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.log_file.close()
        return self.popen.returncode

    def kill(self):
        if self.running():
            self.popen.kill()
        self.popen.wait()
        self.log_file.close()


class Nginx(Process):
    """A private nginx. `http` is the body of its http block."""

    def __init__(self, folder, name, http, port, workers=1, prefix=()):
        self.port = port
        module = next((p for p in ("/usr/lib/nginx/modules/ngx_http_echo_module.so",) if os.path.exists(p)), None)
        if module is None and "echo" in http:
            skip("nginx's echo module is not installed (package nginx-light)")
        home = os.path.join(folder, name)
        os.makedirs(home, exist_ok=True)
        temp = "".join(f"{k}_temp_path {home}/{k};\n" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = os.path.join(home, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write((f"load_module {module};\n" if module else "") +
                    f"daemon off;\nuser root;\nworker_processes {workers};\npid {home}/pid;\nerror_log {home}/error.log;\n"
                    "events { worker_connections 4096; }\n"
                    f"http {{\naccess_log off;\nkeepalive_requests 100000000;\nkeepalive_timeout 120s;\n{temp}{http}\n}}\n")
        super().__init__(folder, name, [*prefix, find_program("nginx"), "-c", conf, "-p", home])
        wait_for(f"nginx {name} on port {port}", lambda: connects(port) or not self.running())
        if not self.running():
            raise AssertionError(f"nginx {name} did not start: {self.output()}")

    def stop(self, seconds=10):
        self.signal(signal.SIGTERM)
        return super().stop(seconds)


class Sluice(Process):
    """The daemon on a file, with helpers for its admin address."""

    def __init__(self, folder, binary, config, name="sluice", admin=None, wait_ready=True, env=None, prefix=(), preexec_fn=None, options=()):
        self.binary = binary
        self.folder = folder
        self.config_path = os.path.join(folder, name + ".yaml")
        self.admin = admin or free_port()
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(config.replace("@ADMIN@", f"127.0.0.1:{self.admin}").replace("@FOLDER@", folder))
        super().__init__(folder, name, [*prefix, binary, "serve", *options, self.config_path],
                         env={**os.environ, **(env or {})}, preexec_fn=preexec_fn)
        if wait_ready:
            wait_for("sluice ready", lambda: not self.running() or self.request("GET", "/readyz")[0] == 200, 20)
            if not self.running():
                raise AssertionError(f"sluice did not start: {self.output()}")

    def request(self, method, path, body=None):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
            headers = {"Content-Type": "application/json"} if method == "POST" else {}
            connection.request(method, path, body=json.dumps(body) if body is not None else ("{}" if method == "POST" else None),
                               headers=headers)
            answer = connection.getresponse()
            data = answer.read().decode("utf-8", "replace")
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def rollout(self, name):
        status, body = self.request("GET", f"/v1/rollouts/{name}")
        assert status == 200, f"GET rollout {name}: {status} {body}"
        return body

    def command(self, name, word):
        status, body = self.request("POST", f"/v1/rollouts/{name}/{word}")
        assert status == 200, f"POST {word}: {status} {body}"
        return body

    def wait_state(self, name, states, seconds, report=True):
        states = [states] if isinstance(states, str) else states
        last = None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            body = self.rollout(name)
            seen = (body["state"], body.get("stage"))
            if report and seen != last:
                log(f"  {name}: {body['state']} stage {body.get('stage')}")
            last = seen
            if body["state"] in states:
                return body
            time.sleep(0.1)
        raise AssertionError(f"{name} did not reach {states} within {seconds} s; it is {json.dumps(self.rollout(name))[:1500]}")

    def journal(self):
        return os.path.join(self.folder, "sluice.db")

    def replay(self):
        return subprocess.run([self.binary, "replay", self.journal()], capture_output=True, text=True, timeout=120)


def options(**extra):
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=os.path.join(ROOT, "build", "release", "sluice"))
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs")
    for name, default in extra.items():
        parser.add_argument("--" + name, type=type(default), default=default)
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    if not os.path.exists(args.binary):
        log(f"no binary at {args.binary}: run make first")
        sys.exit(1)
    return args


@contextlib.contextmanager
def folder(keep=False):
    path = tempfile.mkdtemp(prefix="sluice-e2e-")
    try:
        yield path
    except BaseException:
        for name in sorted(os.listdir(path)):
            if name.endswith(".log"):
                with open(os.path.join(path, name), encoding="utf-8", errors="replace") as f:
                    tail = f.read()[-3000:]
                log(f"---- {name}\n{tail}")
        raise
    finally:
        if keep:
            log(f"kept: {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)


def passes(case, args):
    """Runs a case function (args, folder, stack) and prints how it went."""
    began = time.monotonic()
    log(f"== {case.__name__}: {(case.__doc__ or '').strip().splitlines()[0] if case.__doc__ else ''}")
    try:
        with folder(args.keep) as path, contextlib.ExitStack() as stack:
            case(args, path, stack)
    except Exception as error:
        log(f"   FAILED after {time.monotonic() - began:.1f} s: {type(error).__name__}: {error}")
        return False
    log(f"   passed in {time.monotonic() - began:.1f} s")
    return True


def fork_case(case, args, out):
    """The case in a process of its own that writes to the file `out`; it exits with 0, 1 or SKIP."""
    pid = os.fork()
    if pid != 0:
        return pid
    code = 1
    try:
        os.dup2(out.fileno(), 1)
        code = 0 if passes(case, args) else 1
    except SystemExit as leaving:
        code = leaving.code
    finally:
        os._exit(code)


def run(cases, args, at_once=1):
    """Runs the cases, `at_once` of them side by side; prints the counts that a runner reads. A failing case keeps no other from
    running."""
    global _port_share
    waiting, running, codes = list(enumerate(cases)), {}, []
    while waiting or running:
        while waiting and len(running) < at_once:
            index, case = waiting.pop(0)
            _port_share = (index, len(cases))
            out = tempfile.TemporaryFile("w+", errors="replace")
            running[fork_case(case, args, out)] = out
        pid, status = os.wait()
        codes.append(os.waitstatus_to_exitcode(status))
        with running.pop(pid) as out:
            out.seek(0)
            log(out.read().rstrip())
    skipped = codes.count(SKIP)
    failed = len(codes) - codes.count(0) - skipped
    log(f"{codes.count(0)} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else SKIP if skipped else 0)
