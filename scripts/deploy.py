#!/usr/bin/env python3
"""Deploy the contracts on a test chain: the same as `coordinator deploy`."""

import sys

import _venv

_venv.ensure()

from coordinator.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
