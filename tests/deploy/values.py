"""The chart's README has a row for every value, with its default; or, for `config` and what is long, that it is in values.yaml.

usage: values.py CHART
"""
import json
import pathlib
import re
import sys

import yaml

LONGEST = 60


def leaves(value, name=""):
    if not isinstance(value, dict) or not value or name in ("config", "resources"):
        yield name, value
        return
    for key, each in value.items():
        yield from leaves(each, f"{name}.{key}" if name else key)


def main(chart):
    chart = pathlib.Path(chart)
    values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    expected = {}
    for name, value in leaves(values):
        text = f"`{json.dumps(value)}`"
        expected[name] = text if len(text) <= LONGEST else "values.yaml"
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", (chart / "README.md").read_text(encoding="utf-8"), re.M))
    faults = [f"{name}: {rows.get(name)} should be {text}" for name, text in expected.items() if rows.get(name) != text]
    faults += [f"{name}: there is no such value" for name in rows.keys() - expected.keys()]
    if faults:
        sys.exit("\n".join(faults))


main(*sys.argv[1:])
