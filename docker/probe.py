"""Tells whether a service answers, for a health check: `probe.py URL`."""

import sys
import urllib.error
import urllib.request

SECONDS = 5.0

try:
    with urllib.request.urlopen(sys.argv[1], timeout=SECONDS):
        pass
except OSError as error:
    sys.exit(f"{sys.argv[1]} does not answer: {error}")
