# SPDX-License-Identifier: Apache-2.0
"""A strict little HTTP/1.1 origin in a thread: answers every request with what it received, and keeps the raw
bytes of every connection, so that a test can see exactly what a proxy let through."""
import socket
import threading


class EchoOrigin:
    def __init__(self, port, status=b"200 OK"):
        self.port = port
        self.status = status  # said to whatever is asked
        self.lock = threading.Lock()
        self.requests = []   # raw head bytes, in order of arrival
        self.bodies = []
        self.bad = []        # connections whose bytes were no HTTP
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.stopping = False
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self.stopping = True
        self.listener.close()

    def count(self):
        with self.lock:
            return len(self.requests)

    def _accept(self):
        while not self.stopping:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(30)
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, data = data.split(b"\r\n\r\n", 1)
                body, data = self._body(connection, head, data)
                with self.lock:
                    self.requests.append(head)
                    self.bodies.append(body)
                self._answer(connection, head, body)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError):
                with self.lock:
                    self.bad.append(str(error))
        finally:
            connection.close()

    @staticmethod
    def _body(connection, head, data):
        fields = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
        names = {k.strip().lower(): v.strip() for k, v in fields}

        def read(n):
            nonlocal data
            while len(data) < n:
                more = connection.recv(65536)
                if not more:
                    raise ValueError("body cut short")
                data += more
            out, data = data[:n], data[n:]
            return out

        def line():
            nonlocal data
            while b"\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    raise ValueError("chunk line cut short")
                data += more
            out, data = data.split(b"\r\n", 1)
            return out

        if b"expect" in names:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"transfer-encoding" in names:
            body = b""
            while True:
                size = int(line().split(b";")[0], 16)
                if size == 0:
                    while line():
                        pass
                    return body, data
                body += read(size)
                if read(2) != b"\r\n":
                    raise ValueError("chunk without end")
        return read(int(names.get(b"content-length", b"0"))), data

    def _answer(self, connection, head, body):
        method = head.split(b" ", 1)[0]
        status = self.status
        extra = b""
        if method == b"OPTIONS":
            extra = b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n"
        elif method not in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"):
            status = b"405 Method Not Allowed"
            extra = b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n"
        text = head + b"\r\n\r\n" + body
        answer = (b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n" + extra +
                  b"Content-Length: %d\r\n\r\n" % len(text))
        connection.sendall(answer if method == b"HEAD" else answer + text)
