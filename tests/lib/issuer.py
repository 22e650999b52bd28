"""Who issues tokens for workloads, for the tests: OpenID Connect's discovery and keys over TLS, and the tokens (RFC 7519).

usage: issuer.py serve ISSUER CERTIFICATE KEY SIGNING-KEY
       issuer.py token ISSUER SIGNING-KEY AUDIENCE SUBJECT SECONDS

Both keys are PEM, that of tokens of RSA, which openssl signs with. ISSUER is https://HOST:PORT.
"""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import time
import urllib.parse


def encoded(data):
    if not isinstance(data, bytes):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True, **more).stdout


def serve(issuer, certificate, key, signing_key):
    modulus = openssl("rsa", "-in", signing_key, "-noout", "-modulus").decode().strip().partition("=")[2]
    public = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}
    documents = {
        "/.well-known/openid-configuration": {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/keys",
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        },
        "/keys": {"keys": [public]},
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            document = documents.get(self.path)
            body = json.dumps(document or {}).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    at = urllib.parse.urlsplit(issuer)
    server = http.server.ThreadingHTTPServer((at.hostname, at.port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def token(issuer, signing_key, audience, subject, seconds):
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + int(seconds)}
    text = encoded({"alg": "RS256", "typ": "JWT", "kid": "one"}) + "." + encoded(claims)
    print(text + "." + encoded(openssl("dgst", "-sha256", "-sign", signing_key, input=text.encode())))


{"serve": serve, "token": token}[sys.argv[1]](*sys.argv[2:])
