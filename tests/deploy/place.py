"""Makes of rendered manifests what a pod's container sees: its configuration and files, in a folder, and its environment.

usage: place.py MANIFESTS FOLDER SPARE    prints NAME=VALUE lines: the container's environment

Files that the configuration names lie where volumes of the pod put them: from the ConfigMaps and Secrets among the
manifests, else, for Secrets that the manifests expect to be there, copied from the folder SPARE by their base names. A file
that no volume brings is a fault. Paths in the configuration are moved below FOLDER.
"""
import base64
import json
import pathlib
import shutil
import sys

import yaml

ETC = "/etc/portolan/"


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def main(manifests, folder, spare):
    folder, spare = pathlib.Path(folder), pathlib.Path(spare)
    with open(manifests, encoding="utf-8") as text:
        objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}
    members = [each for (kind, _), each in objects.items() if kind in ("StatefulSet", "Deployment")]
    if len(members) != 1:
        sys.exit(f"{len(members)} sets of members")
    workload = members[0]
    pod = workload["spec"]["template"]["spec"]
    container = pod["containers"][0]

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if mounts.keys() != volumes.keys():
        sys.exit(f"volumes {sorted(volumes)} are mounted as {sorted(mounts)}")
    expected = set()  # mount paths of what is to be there already
    for name, volume in volumes.items():
        inside = folder / mounts[name].removeprefix("/")
        inside.mkdir(parents=True)
        if "configMap" in volume:
            found = objects.get(("ConfigMap", volume["configMap"]["name"]), {}).get("data")
        else:
            found = objects.get(("Secret", volume["secret"]["secretName"]), {}).get("data")
            found = found and {key: base64.b64decode(value).decode() for key, value in found.items()}
        if found is None:
            expected.add(mounts[name])
        for key, value in (found or {}).items():
            (inside / key).write_text(value, encoding="utf-8")

    command, path = container["args"]
    if command != "serve":
        sys.exit(f"the container is told {container['args']}")
    config = folder / path.removeprefix("/")
    text = config.read_text(encoding="utf-8")
    for named in strings(json.loads(text)):
        if not named.startswith(ETC):
            continue
        there = folder / named.removeprefix("/")
        if there.parent.as_posix().removeprefix(folder.as_posix()) in expected:
            shutil.copy(spare / there.name, there)
        if not there.is_file():
            sys.exit(f"{named}: no volume brings it")
    config.write_text(text.replace(ETC, f"{folder}{ETC}"), encoding="utf-8")

    fields = {
        "metadata.name": f"{workload['metadata']['name']}-0",
        "metadata.namespace": "registry",
        "status.podIP": "192.0.2.7",
    }
    environment = {}
    for each in container["env"]:
        value = each.get("value")
        if value is None:
            source = each["valueFrom"]
            value = fields[source["fieldRef"]["fieldPath"]] if "fieldRef" in source else "secret"
        for name, known in environment.items():
            value = value.replace(f"$({name})", known)
        environment[each["name"]] = value
    for name, value in environment.items():
        print(f"{name}={value}")


main(*sys.argv[1:])
