//! The unit of systemd and its socket.
//!
//! Owns their text. Invariants: what the unit takes away is not needed by a start, so that the server is the same with and without
//! it; the unit is the container: the server starts with `--sandbox container`, which leaves namespaces and root to it and takes
//! every other step.

use super::oci;
use crate::sandbox::UNPRIVILEGED_ID;

/// Calls of a start as root, and of the commands, that a unit with a user of its own need not allow: where the start tries
/// them to prove that it cannot, it wants to be refused.
/// A unit has `Nice=` in the place of the last.
const OF_ROOT: [&str; 6] = ["fchown", "fchownat", "setgroups", "setresgid", "setresuid", "setpriority"];
/// What systemd itself calls between its filter and the program.
const OF_SYSTEMD: [&str; 1] = ["execveat"];
/// How many columns a list of calls may take.
const WIDTH_COLUMNS: usize = 120;

/// `quantonium.service`.
pub(super) fn service() -> String {
    SERVICE.replace("@ID@", &UNPRIVILEGED_ID.to_string()).replace("@CALLS@", &allowed())
}

/// `quantonium.socket`.
pub(super) fn socket() -> String {
    SOCKET.to_owned()
}

/// Lines of calls: a directive that is repeated adds to the list.
fn allowed() -> String {
    let mut calls = oci::calls();
    calls.extend(OF_SYSTEMD);
    calls.retain(|call| !OF_ROOT.contains(call));
    let mut lines = vec![String::new()];
    for call in calls {
        let full = lines.last().is_some_and(|line| line.len() + call.len() + 1 > WIDTH_COLUMNS);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "SystemCallFilter=" } else { " " });
            line.push_str(call);
        }
    }
    lines.join("\n")
}

const SERVICE: &str = "\
# Made by `quantonium sandbox profile systemd`. systemd 248 or newer; what an older one does not know it ignores.
#
#   install -m 0755 quantonium /usr/local/bin/quantonium
#   groupadd --gid @ID@ quantonium; useradd --uid @ID@ --gid @ID@ --no-create-home --shell /usr/sbin/nologin quantonium
#   install -d -m 0700 /etc/quantonium
#   install -d -m 0700 -o @ID@ -g @ID@ /var/lib/quantonium
#   (umask 077; head -c 32 /dev/urandom > /etc/quantonium/master.key)
#   install -m 0644 quantonium.service quantonium.socket /etc/systemd/system/
#   systemctl daemon-reload && systemctl enable --now quantonium.socket
#
# The first start makes the store and prints the admin key once, into the journal; to keep it out of there run
# `quantonium init` before, as user @ID@. Addresses stand in quantonium.socket: this service has no network of its own.
#
# The unit's isolation takes the place of the server's own namespaces and root (--sandbox container); every other step the
# server takes itself, and its filters, one for each kind of thread, are narrower than the list below.
#
# Linux 6.12 or newer gives every step whole. On an older one Landlock holds less (before 6.7 no TCP, before 6.12 no signals), and
# keys lie in locked memory that root can read (before 6.5 without secretmem.enable=1): the server says `partial` and serves.
# Without any Landlock (before 5.13, or left out of the kernel's lsm= list), or where no memory may be locked, it ends with exit
# code 78 until that is accepted by one more line below [Service], with the names of what is missing:
# Environment=QUANTONIUM_SANDBOX_ALLOW_MISSING=landlock,key-memory

[Unit]
Description=Quantonium, cryptography as a service
Requires=quantonium.socket
After=quantonium.socket

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=10
ExecStart=/usr/local/bin/quantonium serve --init --sandbox container
Restart=on-failure
RestartPreventExitStatus=64 65 78
TimeoutStopSec=30
# Settings that are not flags; QUANTONIUM_* variables and `quantonium help` name the others.
Environment=QUANTONIUM_DATA_DIR=/var/lib/quantonium
LoadCredential=quantonium-master-key:/etc/quantonium/master.key

# Who.
User=@ID@
Group=@ID@
StateDirectory=quantonium
StateDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
SecureBits=noroot noroot-locked
SupplementaryGroups=
LockPersonality=yes
KeyringMode=private

# What it sees of the machine. Its own /proc stays: the server checks there what the kernel says of it. With PrivateUsers=yes
# a peer of a Unix socket is nobody that it knows: take that line out where API keys have the identity unix-user or unix-group.
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateUsers=yes
PrivateIPC=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
DevicePolicy=closed
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
MemoryDenyWriteExecute=yes
NoExecPaths=/
ExecPaths=/usr/local/bin/quantonium

# Connections come through the sockets that systemd holds; the server makes none. AF_INET: a socket that is connected to
# nobody is its reserve for the moment when descriptors run out.
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX AF_INET
IPAddressDeny=any

# Every call that a start and a serving thread make. The start proves that it cannot become another user by trying: those calls
# are not listed, and refused as the kernel would.
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
@CALLS@

# No core file; enough descriptors for connections; keys in locked memory.
LimitCORE=0
LimitNOFILE=20000
LimitMEMLOCK=8M
TasksMax=128
MemorySwapMax=0

[Install]
WantedBy=multi-user.target
";

const SOCKET: &str = "\
# Made by `quantonium sandbox profile systemd-socket`: where quantonium.service listens. It is bound once, so that a restart
# refuses no connection. FileDescriptorName says what is spoken there: http, https (with QUANTONIUM_TLS_CERT and _KEY in the
# service) or redirect. Plain HTTP on an address that is not loopback needs QUANTONIUM_INSECURE_HTTP=true in the service.

[Unit]
Description=Where Quantonium listens
PartOf=quantonium.service

[Socket]
ListenStream=127.0.0.1:8080
FileDescriptorName=http
Backlog=1024
NoDelay=yes

[Install]
WantedBy=sockets.target
";
