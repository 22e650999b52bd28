"""Validates rendered manifests against schemas that refuse what they don't know.

usage: validate.py MANIFESTS CRDS...    one line on standard output: how many objects there are, and of which kinds

Kubernetes' own kinds by the schemas that travel with kubernetes-validate, of the oldest version that the chart says it is for
and the newest there is; others by the given files of custom resource definitions.
"""
import collections
import copy
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ("1.25", kubernetes_validate.latest_version())


def strict(schema):
    """The schema of a custom resource, which prunes unknown fields, as one that refuses them."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not keeps:
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    return schema


def custom(files):
    """Schemas by apiVersion and kind."""
    found = {}
    for file in files:
        with open(file, encoding="utf-8") as text:
            definition = yaml.safe_load(text)
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(copy.deepcopy(version["schema"]["openAPIV3Schema"]))
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def main(manifests, *crds):
    known = custom(crds)
    kinds = collections.Counter()
    names = set()
    with open(manifests, encoding="utf-8") as text:
        objects = [each for each in yaml.safe_load_all(text) if each]
    for each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        try:
            if (each["apiVersion"], kind) in known:
                jsonschema.validate(each, known[each["apiVersion"], kind])
            else:
                for version in VERSIONS:
                    kubernetes_validate.validate(each, version, strict=True)
        except jsonschema.ValidationError as error:
            path = ".".join(str(step) for step in error.absolute_path)
            sys.exit(f"{kind} {name}: {path}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            sys.exit(f"{kind} {name}: {error.message}")
        if len(name) > 63 or (kind, name) in names:
            sys.exit(f"{kind} {name}: the name is too long, or there twice")
        names.add((kind, name))
        kinds[kind] += 1
    if not objects:
        sys.exit("nothing was rendered")
    print(len(objects), "objects:", ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))


main(*sys.argv[1:])
