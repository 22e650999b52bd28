"""As much of a Kubernetes API as helm's `lookup` of Secrets asks for.

usage: cluster.py PORT MANIFESTS RELEASE    serves the Secrets among the manifests, as installed by that release
"""
import http.server
import json
import re
import sys

import yaml

with open(sys.argv[2], encoding="utf-8") as manifests:
    OBJECTS = [each for each in yaml.safe_load_all(manifests) if each]
SECRETS = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "Secret"}
for secret in SECRETS.values():
    release = {"meta.helm.sh/release-name": sys.argv[3], "meta.helm.sh/release-namespace": "registry"}
    secret["metadata"].setdefault("annotations", {}).update(release)
GROUPS = sorted({each["apiVersion"] for each in OBJECTS if "/" in each["apiVersion"]})


def resources(version):
    kinds = sorted({each["kind"] for each in OBJECTS if each["apiVersion"] == version})
    listed = [{"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in kinds]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


def group(version):
    preferred = {"groupVersion": version, "version": version.split("/")[1]}
    return {"name": version.split("/")[0], "versions": [preferred], "preferredVersion": preferred}


ANSWERS = {
    "/version": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(version) for version in GROUPS]},
    "/api/v1": resources("v1"),
    **{f"/apis/{version}": resources(version) for version in GROUPS},
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0]
        status, answer = 200, ANSWERS.get(path)
        if named := re.fullmatch(r"/api/v1/namespaces/registry/secrets/([a-z0-9-]+)", path):
            answer = SECRETS.get(named[1])
        if answer is None:
            status = 404
            answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
