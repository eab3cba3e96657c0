"""A step with a long answer."""

import json
import sys

SIZE = 60_000_000

if __name__ == "__main__":
    sys.stdin.read()
    sys.stdout.write(json.dumps({"result": {"r": "x" * SIZE}}) + "\n")
