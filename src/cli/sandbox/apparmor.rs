//! The profile of AppArmor.
//!
//! Owns its text. Invariant: it allows what every start may need, as root with namespaces too, since AppArmor cannot tell a start
//! from what follows, and of mounts what `sandbox::root` does and nothing else; our own filters and Landlock take the rest away before the first client is served.

/// The profile, for `/etc/apparmor.d/`.
pub(super) fn profile() -> String {
    PROFILE.to_owned()
}

const PROFILE: &str = r#"# Made by `quantonium sandbox profile apparmor`.
#
#   install -m 0644 apparmor-quantonium /etc/apparmor.d/quantonium
#   apparmor_parser -r -W /etc/apparmor.d/quantonium
#
# It applies to /usr/local/bin/quantonium with its data below /var/lib/quantonium and its keys and certificates below
# /etc/quantonium; other places go into /etc/apparmor.d/local/quantonium. In a container:
#   docker run --security-opt apparmor=quantonium ...

abi <abi/3.0>,

include <tunables/global>

@{QUANTONIUM_DATA} = /var/lib/quantonium /data
@{QUANTONIUM_CONF} = /etc/quantonium /run/secrets /run/credentials/quantonium.service

profile quantonium /{usr/local/bin/,}quantonium flags=(attach_disconnected,mediate_deleted) {
  # The program itself. It starts no other; `supervise` starts it again.
  /{usr/local/bin/,}quantonium mrix,

  # A start as root: the data directory is given to the user that serves, namespaces and an empty root are made, and all of
  # these are given up before the first client.
  capability chown,
  capability dac_override,
  capability fowner,
  capability ipc_lock,
  capability kill,
  capability net_bind_service,
  capability setgid,
  capability setpcap,
  capability setuid,
  capability sys_admin,
  # The empty root, and nothing else of mounts: none can be taken over, bound or made anywhere. A kernel that asks for more
  # refuses it; the step is skipped then, and told.
  mount options=(rw, make-rprivate) -> /,
  mount options=(rw, move) -> /,
  pivot_root oldroot=/ /,
  umount /,

  # Listeners; the health check and `apikey` connect to them. Nothing else of the network.
  network inet stream,
  network inet6 stream,
  unix (create, bind, listen, accept, connect, getattr, getopt, setopt, shutdown, send, receive) type=stream,
  # The service manager is told.
  unix (create, connect, getattr, send) type=dgram,
  /{,var/}run/systemd/notify w,
  /{,var/}run/quantonium/** rw,

  # Data directory, and below it journal and audit files.
  @{QUANTONIUM_DATA}/ rw,
  @{QUANTONIUM_DATA}/** rwk,

  # Master key, settings, certificates. Kubernetes' mounted secrets are links.
  @{QUANTONIUM_CONF}/ r,
  @{QUANTONIUM_CONF}/** r,

  # What the kernel says of this process, and what the machine allows it.
  / r,
  @{PROC}/@{pid}/ r,
  @{PROC}/@{pid}/cgroup r,
  @{PROC}/@{pid}/exe r,
  @{PROC}/@{pid}/{fd,fdinfo}/ r,
  @{PROC}/@{pid}/maps r,
  @{PROC}/@{pid}/mountinfo r,
  @{PROC}/@{pid}/{setgroups,uid_map,gid_map} rw,
  @{PROC}/@{pid}/status r,
  @{PROC}/@{pid}/task/ r,
  @{PROC}/@{pid}/task/@{tid}/status r,
  @{PROC}/sys/kernel/** r,
  @{PROC}/sys/net/core/somaxconn r,
  @{PROC}/sys/user/** r,
  @{PROC}/sys/vm/** r,
  @{sys}/devices/system/cpu/ r,
  @{sys}/devices/system/cpu/** r,
  @{sys}/fs/cgroup/ r,
  @{sys}/fs/cgroup/** r,
  @{sys}/kernel/mm/** r,
  /dev/sysgenid r,
  /dev/{null,urandom} rw,

  # Its own processes: `supervise`, and the lock-down of a child that `sandbox check` tries.
  signal (send, receive) peer=quantonium,
  signal (receive) peer=unconfined,
  deny ptrace,
  deny @{PROC}/*/mem rwklx,
  deny /{usr/,}{bin,sbin}/** x,

  include if exists <local/quantonium>
}
"#;
