"""As much of AWS as tells who asks: GetCallerIdentity. Everything else is answered with an error, as by an AWS that is down."""

import http.server
import threading

ACCOUNT = "222222222222"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802 (the name that http.server calls)
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        known = "Action=GetCallerIdentity" in asked
        body = (f"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/sfdata-agent/task</Arn>"
                f"<UserId>AROAEXAMPLE:task</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"
                "</GetCallerIdentityResponse>") if known else "<Error><Code>ServiceUnavailable</Code></Error>"
        self.send_response(200 if known else 503)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def serve(port=0):
    """Serves on loopback until the process ends; returns the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
