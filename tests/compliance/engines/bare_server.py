"""The fork server without the heavy libraries, which no poison needs."""

import sys

from compliance import fork_server

if __name__ == "__main__":
    fork_server.HEAVY = ()
    sys.exit(fork_server.main())
