"""Writes what clients were seen to do into the table of a document: clients_table.py DOCUMENT ROWS CLIENT...

ROWS has a line for each thing done: client, version, what, what was seen, what to know, between tabs. They take the place of
the rows that the document's table has of the same clients; the table has the order of the clients named.
"""

import sys

HEAD = ["client", "version", "did", "the mesh saw", "to know"]

document, rows, *order = sys.argv[1:]
with open(rows) as lines:
    new = [line.rstrip("\n").split("\t") for line in lines]
with open(document) as lines:
    text = lines.read().split("\n")

first = text.index("| " + " | ".join(HEAD) + " |") + 2
last = first
while last < len(text) and text[last].startswith("|"):
    last += 1
old = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text[first:last]]
ran = {row[0] for row in new}
kept = [row for row in old if row[0] not in ran] + new
kept.sort(key=lambda row: order.index(row[0]))
text[first:last] = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in kept]
with open(document, "w") as out:
    out.write("\n".join(text))
