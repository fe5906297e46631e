#!/usr/bin/env python3
"""Decide what waits for people, one by one; or `list`, `watch`, `show ID`, `approve ID` …"""

import sys

import _venv

_venv.ensure()

from coordinator.cli import main
from coordinator.cli.approvals import app

arguments = sys.argv[1:]
if not arguments or (arguments[0].startswith("-") and "--help" not in arguments):
    arguments = ["review", *arguments]

if __name__ == "__main__":
    sys.exit(main(arguments, app=app, name="approve.py"))
