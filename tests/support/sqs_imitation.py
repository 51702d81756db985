"""Moto's imitation of SQS behind a lock: its threads hand the same message to two who ask at once."""

import json
import threading
import time
from io import BytesIO

from moto.server import DomainDispatcherApplication, create_backend_app
from moto.sqs import models
from werkzeug.serving import WSGIRequestHandler, make_server


class OneAtATime:
    """Long polls wait here, outside the lock."""

    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        until = time.monotonic()
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".ReceiveMessage"):
            asked = json.loads(body)
            until += asked.pop("WaitTimeSeconds", 0)
            body = json.dumps(asked | {"WaitTimeSeconds": 0}).encode()
        environ["CONTENT_LENGTH"] = str(len(body))
        while True:
            told = []
            with self.lock:
                again = environ | {"wsgi.input": BytesIO(body)}
                answer = b"".join(self.app(again, lambda *status, told=told: told.append(status)))
            if b"Messages" in answer or time.monotonic() >= until:
                start_response(*told[0][:2])
                return [answer]
            time.sleep(0.1)  # a look costs moto some milliseconds


def make_quick() -> None:
    """Moto counts the whole queue for each message it gives, to see whether it is older than four days."""
    models.SQSBackend.is_message_valid_based_on_retention_period = lambda *_: True
    models.unix_time_millis = lambda: time.time() * 1000  # as its own, without three dates for each


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


class SqsImitation:
    """What it knows stays in this process when it stops."""

    def __init__(self, port: int) -> None:
        make_quick()
        create_backend_app(
            "sqs"
        )  # moto imports what it needs at the first request: not in a thread beside others
        app = OneAtATime(DomainDispatcherApplication(create_backend_app))
        self.server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet)
        self.server.daemon_threads = True

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
