"""Queries of dashboards and rules.

usage: queries.py check METRICS_MD RULES DASHBOARD...     names are exported or recorded, alerts are tested and say what to do
       queries.py rules DASHBOARD...                      the dashboards' queries as recording rules, for promtool to parse
       queries.py run PROMETHEUS JOB RULES DASHBOARD...   asks a Prometheus all of them; what must have an answer has one
"""
import json
import pathlib
import re
import sys
import urllib.parse
import urllib.request

import yaml

# Grafana's variables, as it fills them in.
FILLED = {"$__rate_interval": "1m", "$instance": ".+"}


def dashboard_queries(files):
    for file in files:
        dashboard = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield panel["title"], target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["name"], re.match(r"label_values\((.*), \w+\)$", variable["definition"])[1]


def filled(query, job="portolan"):
    for name, value in {**FILLED, "$job": job}.items():
        query = query.replace(name, value)
    return query


def rules_of(file):
    groups = yaml.safe_load(pathlib.Path(file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check(metrics, file, *dashboards):
    exported = set()
    for name, kind in re.findall(r"^\| `(portolan_\w+)` \| (\w+) \|", pathlib.Path(metrics).read_text("utf-8"), re.M):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        exported |= {name + suffix for suffix in suffixes}
    if len(exported) < 20:
        sys.exit(f"{metrics} has a table of {sorted(exported)}")
    rules = rules_of(file)
    recorded = {rule["record"] for rule in rules if "record" in rule}
    queries = list(dashboard_queries(dashboards)) + [(rule.get("alert", rule.get("record")), rule["expr"]) for rule in rules]
    faults = []
    for where, query in queries:
        for name in re.findall(r"[\w:]*portolan_[\w:]*", query):
            if name not in exported | recorded:
                faults.append(f"{where}: {name} is neither exported nor recorded")
    used = " ".join(query for _, query in queries)
    cases = pathlib.Path(file).with_name("tests.yaml").read_text(encoding="utf-8")
    for rule in rules:
        if "record" in rule and f"expr: {rule['record']}" not in cases:
            faults.append(f"{rule['record']} has no test")
        if "alert" in rule and f'alertname="{rule["alert"]}", alertstate="firing"' not in cases:
            faults.append(f"{rule['alert']} has no test in which it fires")
        if "alert" in rule and not all(rule["annotations"].get(each) for each in ("summary", "action")):
            faults.append(f"{rule['alert']} doesn't say what is wrong and what to do")
    for name in sorted({re.sub("_(bucket|sum|count)$", "", name) for name in exported}):
        if name not in used:
            faults.append(f"{name} is in no dashboard and no rule")
    if faults:
        sys.exit("\n".join(faults))
    print(len(queries), "queries of", len(exported), "names")


def as_rules(*dashboards):
    rules = [{"record": f"query:{n}", "expr": filled(query)} for n, (_, query) in enumerate(dashboard_queries(dashboards))]
    print(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))


def ask(prometheus, query):
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def run(prometheus, job, file, *dashboards):
    queries = [(title, filled(query, job)) for title, query in dashboard_queries(dashboards)]
    queries += [(rule["record"], rule["expr"]) for rule in rules_of(file) if "record" in rule]
    empty = [title for title, query in queries if not ask(prometheus, query)]
    firing = sorted({each["metric"]["alertname"] for each in ask(prometheus, 'ALERTS{alertstate="firing"}')})
    print(f"{len(queries) - len(empty)} of {len(queries)} queries have an answer; none: {', '.join(empty)}; firing: {firing}")
    # What nothing has happened of yet has no series. The first round of upkeep comes within ten minutes of the start.
    rare = {"Turned away (429)", "Offers refused, unreachable, broken", "job:portolan_requests_turned_away:ratio_rate5m",
            "Rows by kind and outcome", "Oldest overdue", "Leases", "Answered with 5xx", "job:portolan_request_errors:ratio_rate5m",
            "job_store:portolan_store_failures:ratio_rate5m", "Certificates end in"}
    # Of members that mirror other registries, which those of the compose file don't.
    mirrors = {"Mirrored content by outcome", "Requests to other registries"}
    # Likewise.
    caches = {"Blobs read where there is a cache"}
    scrubs = {"Since all content was read"}
    replicates = {"Changes carried to other registries", "Bytes carried to other registries"}
    missing = [title for title in empty if title not in rare | mirrors | caches | scrubs | replicates]
    if missing or firing:
        sys.exit(f"no answer: {missing}")


{"check": check, "rules": as_rules, "run": run}[sys.argv[1]](*sys.argv[2:])
