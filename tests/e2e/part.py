"""What the parts of tests/e2e share: where the binary is, and who speaks.

Owns no state. Invariants: a part ends with another code than 0, and one line that says why, if anything does not hold.
"""

import contextlib
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/scripts")
sys.dont_write_bytecode = True

from serving import BINARY, SERVER_USER, Failed, Lost, end_by_signal, serving  # noqa: E402 (found by the path above)


def say(what):
    print(f"  {what}", flush=True)


def binary():
    return os.environ.get("QUANTONIUM_BIN", BINARY)


def chown(*paths):
    """Gives files to the server's user, where a start as root becomes that."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, SERVER_USER, SERVER_USER)


@contextlib.contextmanager
def told():
    """Says in one line what did not hold."""
    end_by_signal()
    try:
        yield
    except (Failed, Lost) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")


@contextlib.contextmanager
def scene(**more):
    """A server that was made and not started."""
    with told(), serving(binary=binary(), **more) as server:
        yield server
