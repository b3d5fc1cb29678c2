//! The policy module of SELinux, in CIL.
//!
//! Owns its text. Invariant: it names types of the reference policy that every distribution has, and no macro, so that
//! `semodule` needs no sources.

/// The module, for `semodule -i`.
pub(super) fn module() -> String {
    MODULE.to_owned()
}

const MODULE: &str = r#"; Made by `quantonium sandbox profile selinux`.
;
;   semodule -i quantonium.cil
;   restorecon -Rv /usr/local/bin/quantonium /etc/quantonium /var/lib/quantonium
;
; The domain quantonium_t is entered when systemd starts /usr/local/bin/quantonium. The server's port gets the type
; quantonium_port_t:
;
;   semanage port -a -t quantonium_port_t -p tcp 8080
;
; (where the port has a type already, as 8080 has: semanage port -m ...). To see first what it would refuse:
;
;   semanage permissive -a quantonium_t

(type quantonium_t)
(type quantonium_exec_t)
(type quantonium_conf_t)
(type quantonium_data_t)
(type quantonium_port_t)
(roletype system_r quantonium_t)
(roletype object_r quantonium_exec_t)
(roletype object_r quantonium_conf_t)
(roletype object_r quantonium_data_t)
(roletype object_r quantonium_port_t)
(typeattributeset domain (quantonium_t))
(typeattributeset file_type (quantonium_exec_t quantonium_conf_t quantonium_data_t))
(typeattributeset exec_type (quantonium_exec_t))
(typeattributeset port_type (quantonium_port_t))

; The domain is entered from systemd, and left by nothing: no other program can be executed.
(typetransition init_t quantonium_exec_t process quantonium_t)
(allow init_t quantonium_exec_t (file (read getattr map open execute)))
(allow init_t quantonium_t (process (transition signal sigkill noatsecure rlimitinh siginh)))
(allow quantonium_t init_t (fd (use)))
(allow quantonium_t init_t (process (sigchld)))
(allow quantonium_t quantonium_exec_t (file (read getattr map open execute entrypoint execute_no_trans)))

; Itself: threads, limits, capability sets; no ptrace, no execmem, no execheap, no execstack.
(allow quantonium_t self (process (fork getsched setsched getcap setcap getrlimit setrlimit signal sigchld)))
(allow quantonium_t self (capability (chown dac_override fowner ipc_lock kill net_bind_service setgid setpcap setuid sys_admin)))
(allow quantonium_t self (fifo_file (read write getattr)))
(allow quantonium_t self (dir (read getattr open search)))
(allow quantonium_t self (file (read getattr open)))
(allow quantonium_t self (lnk_file (read getattr)))
(allow quantonium_t self (unix_stream_socket (create bind listen accept connect read write getattr getopt setopt shutdown)))
(allow quantonium_t self (unix_dgram_socket (create connect read write getattr)))

; Sockets, its own and those that systemd holds.
(allow quantonium_t self (tcp_socket (create bind listen accept connect read write getattr getopt setopt shutdown)))
(allow quantonium_t node_t (tcp_socket (node_bind)))
(allow quantonium_t quantonium_port_t (tcp_socket (name_bind name_connect)))
(allow quantonium_t init_t (tcp_socket (listen accept read write getattr getopt setopt shutdown)))
(allow quantonium_t init_t (unix_stream_socket (listen accept read write getattr getopt setopt shutdown)))
(allow quantonium_t init_t (unix_dgram_socket (sendto)))
(allow quantonium_t init_var_run_t (dir (search getattr)))
(allow quantonium_t init_var_run_t (sock_file (write)))

; Journal and audit files; master key, settings and certificates.
(allow quantonium_t var_lib_t (dir (search getattr)))
(allow quantonium_t quantonium_data_t (dir (read write getattr open search add_name remove_name create setattr)))
(allow quantonium_t quantonium_data_t (file (read write append create getattr setattr open lock rename unlink)))
(allow quantonium_t quantonium_data_t (filesystem (getattr)))
(allow quantonium_t etc_t (dir (search getattr)))
(allow quantonium_t quantonium_conf_t (dir (read getattr open search)))
(allow quantonium_t quantonium_conf_t (file (read getattr open)))
(allow quantonium_t quantonium_conf_t (lnk_file (read getattr)))
; What LoadCredential= puts below /run/credentials: labelled by its directory, or as the ramfs or tmpfs that it lies in.
(allow quantonium_t init_var_run_t (file (read getattr open)))
(allow quantonium_t ramfs_t (dir (search getattr)))
(allow quantonium_t ramfs_t (file (read getattr open)))
(allow quantonium_t tmpfs_t (dir (search getattr)))
(allow quantonium_t tmpfs_t (file (read getattr open)))
(filecon "/usr/local/bin/quantonium" file (system_u object_r quantonium_exec_t ((s0) (s0))))
(filecon "/etc/quantonium(/.*)?" any (system_u object_r quantonium_conf_t ((s0) (s0))))
(filecon "/var/lib/quantonium(/.*)?" any (system_u object_r quantonium_data_t ((s0) (s0))))

; What the kernel says of it, and what the machine allows.
(allow quantonium_t root_t (dir (search getattr read open)))
(allow quantonium_t proc_t (dir (search getattr read open)))
(allow quantonium_t proc_t (file (read getattr open)))
(allow quantonium_t sysctl_t (dir (search)))
(allow quantonium_t sysctl_kernel_t (dir (search)))
(allow quantonium_t sysctl_kernel_t (file (read getattr open)))
(allow quantonium_t sysctl_net_t (dir (search)))
(allow quantonium_t sysctl_net_t (file (read getattr open)))
(allow quantonium_t sysfs_t (dir (search getattr read open)))
(allow quantonium_t sysfs_t (file (read getattr open)))
(allow quantonium_t cgroup_t (dir (search getattr)))
(allow quantonium_t cgroup_t (file (read getattr open)))
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_lets_it_make_memory_executable_or_trace() {
        let rules: String = MODULE.lines().filter(|line| !line.starts_with(';')).collect();
        for word in ["execmem", "execheap", "execstack", "execmod", "ptrace"] {
            assert!(!rules.contains(word), "{word}");
        }
        let depth =
            rules.chars().fold(0_i32, |depth, sign| depth + i32::from(sign == '(') - i32::from(sign == ')'));
        assert_eq!(depth, 0, "brackets");
    }
}
