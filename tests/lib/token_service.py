"""A token service for the tests, by docker's token protocol (distribution's docs/spec/auth/token.md and oauth.md).

usage: token_service.py ADDRESS:PORT SERVICE KEY.pem POLICY.json

KEY.pem is an RSA private key, which openssl signs with. The policy is {USER: {"password": TEXT, "scopes": [PATTERN...]}}
with patterns such as "repository:team/*:pull,push"; the user "" is who comes without credentials. Whoever comes with
wrong ones gets 401. It prints a line for every token: user and granted scopes.
"""

import base64
import fnmatch
import http.server
import json
import subprocess
import sys
import time
import urllib.parse
import uuid

LIFE_SECONDS = 300


def encoded(data):
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims):
    text = encoded({"alg": "RS256", "typ": "JWT"}) + "." + encoded(claims)
    command = ["openssl", "dgst", "-sha256", "-sign", key]
    signature = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    return text + "." + encoded(signature)


def granted(scope, patterns):
    """What of a scope the user's patterns allow, as an entry of `access`."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    allowed = set()
    for pattern in patterns:
        pattern_kind, _, pattern_rest = pattern.partition(":")
        pattern_name, _, pattern_actions = pattern_rest.rpartition(":")
        if kind == pattern_kind and fnmatch.fnmatchcase(name, pattern_name):
            allowed |= set(actions.split(",")) & set(pattern_actions.split(","))
    return {"type": kind, "name": name, "actions": sorted(allowed)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """The first version: credentials in the header, everything else in the query."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        user, password = "", ""
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            user, _, password = base64.b64decode(value).decode().partition(":")
        self.answer(user, password, query)

    def do_POST(self):
        """OAuth2: everything in the body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        query = urllib.parse.parse_qs(body)
        one = lambda name: query.get(name, [""])[0]
        if one("grant_type") != "password":
            return self.reply(400, {"error": "unsupported_grant_type"})
        self.answer(one("username"), one("password"), query)

    def answer(self, user, password, query):
        known = policy.get(user)
        if known is None or known.get("password", "") != password:
            return self.reply(401, {"error": "invalid_client"})
        if query.get("service", [""])[0] != service:
            return self.reply(400, {"error": "invalid_request"})
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        access = [granted(scope, known["scopes"]) for scope in scopes]
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": user,
            "aud": service,
            "exp": now + LIFE_SECONDS,
            "nbf": now,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "access": access,
        }
        token = signed(claims)
        print(user or "-", *(f"{a['type']}:{a['name']}:{','.join(a['actions'])}" for a in access), flush=True)
        self.reply(200, {"token": token, "access_token": token, "expires_in": LIFE_SECONDS, "issued_at": issued(now)})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests carry passwords."""


def issued(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


address, service, key, policy_file = sys.argv[1:]
policy = json.load(open(policy_file))
host, _, port = address.rpartition(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
