"""Reads the conformance suite's junit.xml: prints every test that did not pass, then `PASSED FAILED SKIPPED`.

The outcome of a test is only in the `status` attribute of its testcase: a reader that looks for <failure> elements finds none.
"""

import collections
import sys
import xml.etree.ElementTree

PASSED, SKIPPED = "passed", "skipped"
SHOWN_TESTS = 25
SHOWN_LINES = 40

counts = collections.Counter()
failed = 0
for case in xml.etree.ElementTree.parse(sys.argv[1]).iter("testcase"):
    status = case.get("status")
    counts[status] += 1
    if status in (PASSED, SKIPPED):
        continue
    failed += 1  # failure, error, and whatever a later version may call it
    print(f"  FAIL  {case.get('name')} ({status})")
    if failed > SHOWN_TESTS:
        continue
    # First what was wrong, then the requests and responses that led to it.
    output = "\n".join(text.strip() for text in case.itertext() if text.strip())
    for line in output.splitlines()[:SHOWN_LINES]:
        print(f"        {line[:300]}")

print(counts[PASSED], failed, counts[SKIPPED])
