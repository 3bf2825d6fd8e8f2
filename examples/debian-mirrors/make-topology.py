#!/usr/bin/env python3
"""Writes topology.toml from debian-mirrors.tsv; both lie beside this script.

A continent becomes a domain (/eu), a country its subdomain (/eu/de), a mirror a host in its country's domain with
a manager of type `mirror`. Run it without arguments. It refuses a table that does not make one tree: a host named
twice, or a country under two continents.
"""

import csv
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE / "debian-mirrors.tsv"
TOPOLOGY = HERE / "topology.toml"
COLUMNS = ["continent", "country", "host", "port"]

# The letters that a domain's or a host's name may have; nothing among them needs an escape in TOML.
PLACE = re.compile(r"[a-z]{2}")
HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")
PORT = re.compile(r"[1-9][0-9]{0,4}")

HEADER = """\
# Made by make-topology.py from debian-mirrors.tsv: change those, not this file.

format = 1
framework = "debian-mirrors"
"""

HOST_ENTRY = """
[[host]]
name = "{host}"
domain = "/{continent}/{country}"
packages = ["mirror:{port}"]
"""


def main():
    rows = read_table(TABLE)
    check_unique(rows)
    rows.sort(key=lambda row: (row["continent"], row["country"], row["host"]))
    entries = [HOST_ENTRY.format(**row) for row in rows]
    TOPOLOGY.write_text(HEADER + "".join(entries), encoding="utf-8")
    countries = {row["country"] for row in rows}
    continents = {row["continent"] for row in rows}
    print(f"{TOPOLOGY.name}: {len(rows)} hosts in {len(countries)} countries on {len(continents)} continents")


def read_table(path):
    """The rows of the table, each with its line number; exits on a row that is not as it should be."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if reader.fieldnames != COLUMNS:
            fail(1, f"the columns must be {', '.join(COLUMNS)}")
        rows = [dict(row, line=reader.line_num) for row in reader]
    for row in rows:
        check_row(row)
    return rows


def check_row(row):
    line = row["line"]
    if None in row or None in row.values():
        fail(line, f"a row has {len(COLUMNS)} columns")
    for column in ("continent", "country"):
        if not PLACE.fullmatch(row[column]):
            fail(line, f"{column} {row[column]!r} is not a code of two small letters")
    if not HOST.fullmatch(row["host"]):
        fail(line, f"host {row['host']!r} is not a DNS name in small letters")
    if not (PORT.fullmatch(row["port"]) and int(row["port"]) < 65536):
        fail(line, f"port {row['port']!r} is not a number from 1 to 65535")


def check_unique(rows):
    """Exits where the table does not make one tree with unique hosts."""
    hosts, countries = {}, {}
    for row in rows:
        first = hosts.setdefault(row["host"], row)
        if first is not row:
            fail(row["line"], f"host {row['host']} is already on line {first['line']}")
        first = countries.setdefault(row["country"], row)
        if first["continent"] != row["continent"]:
            fail(
                row["line"],
                f"country {row['country']} is in {row['continent']} here"
                f" and in {first['continent']} on line {first['line']}",
            )


def fail(line, message):
    sys.exit(f"{TABLE.name}:{line}: {message}; {TOPOLOGY.name} was not written")


if __name__ == "__main__":
    main()
