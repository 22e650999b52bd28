"""A compose file as processes: each service has a loopback address of its own instead of its name and of 0.0.0.0.

usage: compose.py COMPOSE FOLDER    for each service a file FOLDER/NAME.sh that becomes it; prints NAME ADDRESS IMAGE lines

Volumes and bind mounts become folders and files below FOLDER, in which names are replaced as in commands and variables.
A script is run with the service's program before what the compose file calls its command.
"""
import pathlib
import re
import shlex
import sys

import yaml

KNOWN = {"image", "command", "environment", "restart", "volumes", "ports", "depends_on", "stop_grace_period",
         "read_only", "user", "cap_drop", "cap_add", "security_opt"}


def main(file, folder):
    file, folder = pathlib.Path(file), pathlib.Path(folder)
    compose = yaml.safe_load(file.read_text(encoding="utf-8"))
    services = compose["services"]
    addresses = {name: f"127.0.1.{n}" for n, name in enumerate(services, 1)}

    def replaced(text, own):
        names = "|".join(map(re.escape, addresses))
        text = re.sub(rf"(?<![\w.-])(?:(?<=//)|(?<!/))({names})(?![\w./-])", lambda match: addresses[match[1]], text)
        return text.replace("0.0.0.0", own)

    for name, service in services.items():
        if unknown := service.keys() - KNOWN:
            sys.exit(f"{name}: {sorted(unknown)}")
        own, paths = addresses[name], {}
        for each in service["volumes"]:
            source, target = each.split(":")[:2]
            if source.startswith("./"):
                there = folder / name / target.removeprefix("/")
                there.parent.mkdir(parents=True, exist_ok=True)
                origin = file.parent / source
                if origin.is_file():
                    there.write_text(origin.read_text(encoding="utf-8"), encoding="utf-8")
                else:
                    there.symlink_to((folder / source).resolve())
            else:
                if source not in compose["volumes"]:
                    sys.exit(f"{name}: there is no volume {source}")
                there = folder / "volumes" / source
                there.mkdir(parents=True, exist_ok=True)
            paths[target] = there
        if missing := set(service.get("depends_on", [])) - services.keys():
            sys.exit(f"{name} depends on {missing}")

        def moved(text):
            for target, there in sorted(paths.items(), key=lambda pair: -len(pair[0])):
                text = re.sub(rf"(?<![\w/.]){re.escape(target)}(?=[/\s\"']|$)", there.as_posix(), text)
            return replaced(text, own)

        for there in paths.values():
            if there.is_file():
                there.write_text(moved(there.read_text(encoding="utf-8")), encoding="utf-8")
        variables = [f"{key}={moved(value)}" for key, value in service.get("environment", {}).items()]
        command = [moved(each) for each in service["command"]]
        script = folder / f"{name}.sh"
        script.write_text(f'exec env {shlex.join(variables)} "$@" {shlex.join(command)}\n', encoding="utf-8")
        print(name, own, service["image"])


main(*sys.argv[1:])
