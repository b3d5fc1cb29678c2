"""The faults of scripts/soak: what is done to the server while it is used, and what it has to come to.

Owns the small disk of the audit log, which is unmounted whatever happens. Invariants: each fault waits until the server is what it was
again, or fails; what cannot be done on a machine is named with the reason.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time

from bench_servers import memory_kib
from serving import SERVER_USER, Lost, comes, must
from soak_load import MixedTls

MEBIBYTE = 1 << 20
# What the audit log of a minute takes, generously.
AUDIT_MINUTE_BYTES = 24 * MEBIBYTE
PAUSE_SECONDS = 2.5
AHEAD_SECONDS = 1_000_000


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return (done.stdout + done.stderr).strip() if done.returncode else None


class Faults:
    """What can be done here, and what was done, and when."""

    def __init__(self, server, ledger, minutes, seed):
        self.server, self.ledger, self.random = server, ledger, random.Random(f"{seed}-faults")
        self.done, self.missing, self.begin = [], {}, time.monotonic()
        self.audit, self.size = f"{server.data}/audit", int((4 + minutes) * AUDIT_MINUTE_BYTES)
        self.is_small = self._mount()
        self.ahead = shutil.which("unshare") and run("unshare", "--time", "--fork", "--boottime", "1", "true") is None
        if not self.ahead:
            self.missing["clock ahead"] = "no time namespace can be made"
        self.missing["wall clock"] = "to step it needs CAP_SYS_TIME, and would step every process of the machine"

    def _mount(self):
        if os.geteuid() != 0:
            self.missing["full audit disk"] = "no file system can be mounted here: it needs root"
            return False
        # What `init` has written stays the log's first part.
        first = {}
        for name in os.listdir(self.audit):
            with open(f"{self.audit}/{name}", "rb") as file:
                first[name] = file.read()
        said = run("mount", "-t", "tmpfs", "-o", f"size={self.size},mode=0700,uid={SERVER_USER},gid={SERVER_USER}", "quantonium-soak", self.audit)
        if said:
            self.missing["full audit disk"] = f"no file system can be mounted here: {said}"
            return False
        for name, content in first.items():
            with open(f"{self.audit}/{name}", "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content)
            os.chown(f"{self.audit}/{name}", SERVER_USER, SERVER_USER)
        return True

    def unmount(self):
        if self.is_small:
            run("umount", "--lazy", self.audit)

    def restarts(self):
        """Faults that end the process."""
        return [self.kill, self.end] + ([self.step] if self.ahead else [])

    def others(self):
        """Faults that it lives through."""
        return [self.certificate, self.bad_certificate, self.pause] + ([self.full_disk] if self.is_small else [])

    def do(self, fault):
        name = fault.__doc__.split(".")[0].split("\n")[0]
        at = time.monotonic() - self.begin
        print(f"soak: {at:6.1f} s  {name}", flush=True)
        fault()
        self.serves()
        self.done.append((at, name))

    def serves(self):
        """Until an audited request is answered again."""
        client = self.server.client()

        def is_so():
            try:
                return client.get("/api/auth/profile").status == 200 and client.get("/api/health").json()["status"] == "ok"
            except Lost:
                return False

        comes(is_so, "a server that serves")
        client.close()

    def kill(self):
        """killed"""
        self.server.stop(signal.SIGKILL)
        self.server.start()

    def end(self):
        """ended in order"""
        code = self.server.stop()
        must(code == 0, f"SIGTERM: exit code {code}")
        self.server.start()

    def step(self):
        """killed, clock stepped"""
        # The clock since the boot is ahead for this process, and back again for the next.
        self.server.stop(signal.SIGKILL)
        offset = str(self.random.randrange(1, AHEAD_SECONDS))
        self.server.start(before=["unshare", "--time", "--fork", "--kill-child", "--boottime", offset, "--monotonic", offset])

    def shown(self):
        """The certificate that a new connection is shown."""
        client = self.server.client(tls=True)
        client.connect()
        peer = client.peer
        client.close()
        return peer

    def certificate(self):
        """new certificate"""
        new = self.server.certify(MixedTls.known.add)
        self.server.send(signal.SIGHUP)
        comes(lambda: self.shown() == new, "the new certificate")

    def bad_certificate(self):
        """half a certificate"""
        before = self.shown()
        told = self.server.told().count("tls")
        with open(self.server.cert, "r+b") as file:
            file.truncate(100)
        self.server.send(signal.SIGHUP)
        comes(lambda: self.server.told().count("tls") > told, "a word about the certificate that is none")
        must(self.shown() == before, "half a certificate changed what clients are shown")
        self.certificate()

    def pause(self):
        """stopped and continued"""
        # For the process this is a step of every clock.
        self.server.send(signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        self.server.send(signal.SIGCONT)

    def full_disk(self):
        """full audit disk"""
        client = self.server.client()
        with self.ledger.windows.announced("audit_unavailable"):
            try:
                self._resize(0)
                comes(lambda: client.get("/api/auth/profile").code() == "audit_unavailable", "a refusal for want of room for audit lines")
                time.sleep(1)
            finally:
                self._resize(self.size)
            self.serves()
        client.close()

    def _resize(self, size):
        """Gives the disk so much room, or no more than it has used."""
        def is_resized():
            used = os.statvfs(self.audit)
            wanted = size or (used.f_blocks - used.f_bfree) * used.f_frsize
            # It may have grown meanwhile: then it is refused, and tried again.
            return run("mount", "-o", f"remount,size={wanted}", self.audit) is None

        comes(is_resized, "another size of the small disk")


class Samples(threading.Thread):
    """What the process takes, every second: time, resident memory, descriptors, which process."""

    def __init__(self, server, begin):
        super().__init__(daemon=True)
        self.server, self.begin, self.found, self.ending = server, begin, [], threading.Event()

    def run(self):
        while not self.ending.wait(1):
            pid = self.server.pid
            with contextlib.suppress(OSError, StopIteration, ProcessLookupError):
                memory = memory_kib(pid, "VmRSS")
                descriptors = None
                with contextlib.suppress(PermissionError):
                    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
                if pid == self.server.pid:
                    self.found.append((time.monotonic() - self.begin, memory, descriptors, self.server.starts))

    def of_last(self):
        """Those of the process that runs at the end."""
        last = self.found[-1][3] if self.found else 0
        return [sample for sample in self.found if sample[3] == last]
