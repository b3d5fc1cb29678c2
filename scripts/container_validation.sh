#!/usr/bin/env bash
# Starts the image with everything taken away, and looks from outside at what has become of it.
#
#   scripts/container_validation.sh [--binary FILE] [--engine podman|compose|docker]...
#
# First podman with runc, then deploy/compose.yaml by podman-compose, then a Docker Engine that this script starts for itself: with a read-only root, no capability, no
# new privileges, the shipped seccomp profile, limits on memory and processes, no network but its own loopback, and
# `serve --init --sandbox container`. Held to be so: it answers, also to its own health check inside; every thread of it is
# user 1001 without capabilities, behind a filter and without new privileges; nothing of its root can be written; there is
# no shell; audit lines appear on the volume; and SIGTERM lets an open request finish. Each check is first shown a process
# that does not pass it.
#
# Docker Engine is that of the machine, else Debian's package, unpacked below target/ and not installed; where neither
# can be had, that half is skipped aloud. Needs root, runc, podman, nsenter and curl. The stores of images, the daemon, the
# containers and the data are its own, and gone at the end.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname -- "$here")

binary=$root/target/x86_64-unknown-linux-musl/release/quantonium
engines=()
while (($# > 0)); do
    case $1 in
    --binary) binary=${2:?--binary needs a file} && shift 2 ;;
    --engine) engines+=("${2:?--engine needs a name}") && shift 2 ;;
    *) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 64 ;;
    esac
done
((${#engines[@]} > 0)) || engines=(podman compose docker)
for tool in runc buildah skopeo jq nsenter curl pgrep readelf; do
    command -v "$tool" >/dev/null || exec "$here/skip" "container_validation: $tool is not installed"
done
(($(id -u) == 0)) || exec "$here/skip" "container_validation: not root"

work=$(mktemp -d)
name=quantonium-validation-$$
daemon=
engine=

# The engine at hand, with stores of its own.
run() {
    case $engine in
    podman | compose) podman "$@" ;;
    docker) docker --host "unix://$work/docker.sock" "$@" ;;
    esac
}

# shellcheck disable=SC2317 # called by the trap
clean() {
    local status=$?
    exec 3>&- 4>&- || true
    if [[ -n $engine ]]; then
        run rm --force --volumes "$name" >/dev/null 2>&1 || true
    fi
    stop_docker
    rm -rf -- "$work"
    # Whatever it started has this directory among its arguments.
    if pgrep -af -- "$work" >&2; then
        echo "container_validation: these are left" >&2
        status=1
    fi
    exit "$status"
}

stop_docker() {
    [[ -n $daemon ]] || return 0
    # It ends its containerd; its mounts go with their namespace.
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    daemon=
}
trap clean EXIT

fail() {
    printf 'container_validation: %s: %s\n' "${engine:-start}" "$1" >&2
    [[ -z $engine ]] || run logs "$name" >&2 2>&1 || true
    [[ ! -s $work/dockerd.log || $engine != docker ]] || tail -n 5 "$work/dockerd.log" >&2
    exit 1
}

ok() { printf '  %-7s %s\n' "$engine" "$1"; }

# -- What is looked at: each prints what is wrong and fails, or says nothing. --

# Every thread: user, groups, capabilities, new privileges, filter, as proc_pid_status(5) has them.
confined() { # PID
    local thread status line read=0
    for thread in "/proc/$1/task/"*; do
        status=$(cat "$thread/status" 2>/dev/null) || continue
        read=$((read + 1))
        for line in $'Uid:\t1001\t1001\t1001\t1001' $'Gid:\t1001\t1001\t1001\t1001' $'CapInh:\t0000000000000000' \
            $'CapPrm:\t0000000000000000' $'CapEff:\t0000000000000000' $'CapBnd:\t0000000000000000' \
            $'CapAmb:\t0000000000000000' $'NoNewPrivs:\t1' $'Seccomp:\t2'; do
            grep -qxF "$line" <<<"$status" || { echo "thread ${thread##*/} has not ${line//$'\t'/ }" && return 1; }
        done
    done
    ((read > 0)) || { echo "there is no process $1" && return 1; }
}

# The root as the process sees it, tried by one who may everything.
unwritable() { # PID
    if touch "/proc/$1/root/probe-$$" 2>/dev/null; then
        rm -f -- "/proc/$1/root/probe-$$"
        echo "a file can be made in its root"
        return 1
    fi
    awk '$5 == "/" { options = $6 } END { exit options !~ /(^|,)ro(,|$)/ }' "/proc/$1/mountinfo" || { echo "its root is not mounted read-only" && return 1; }
}

# Whatever is in the root beside the one program and what engines write there: names of users and hosts.
alone() { # PID
    local found
    found=$(find "/proc/$1/root/" -xdev \( -path "/proc/$1/root/data" -o -path "/proc/$1/root/run/secrets" \) -prune -o -type f -size +0 -print 2>/dev/null |
        sed "s|^/proc/$1/root/||" | grep -vxE 'quantonium|etc/(passwd|group|hosts|hostname|resolv\.conf)|run/\.containerenv|\.dockerenv' | head -n 3) || true
    [[ -z $found ]] || { echo "it holds $found" && return 1; }
}

limited() { # PID MEMORY TASKS
    local pid=$1 file memory tasks
    local group=/sys/fs/cgroup
    if [[ -e $group/cgroup.controllers ]]; then
        file=$group$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
        memory=$(cat "$file/memory.max") tasks=$(cat "$file/pids.max")
    else
        memory=$(cat "$group/memory$(sed -n 's/^[0-9]*:memory://p' "/proc/$pid/cgroup")/memory.limit_in_bytes")
        tasks=$(cat "$group/pids$(sed -n 's/^[0-9]*:pids://p' "/proc/$pid/cgroup")/pids.max")
    fi
    [[ $memory == "$2" && $tasks == "$3" ]] || { echo "memory $memory, tasks $tasks" && return 1; }
}

expect() { # WHAT COMMAND...
    local what=$1 said
    shift
    said=$("$@") || fail "$what: $said"
    ok "$what"
}

# The test of the tests: this shell, which is not confined at all.
for check in confined unwritable alone; do
    if "$check" $$ >/dev/null; then
        fail "the check '$check' passes a process of the machine's root"
    fi
done
# No process has no thread that is not confined.
if confined none >/dev/null; then
    fail "the check 'confined' passes a process that is not there"
fi
if limited $$ 134217728 64 >/dev/null 2>&1; then
    fail "the check 'limited' passes a process without limits"
fi

with_compose() {
    local tools=$root/target/container/compose
    export PATH=$PATH:$tools/bin
    command -v podman-compose >/dev/null && return
    "$here/python-packages" "$tools" "$here/container_validation.txt" --only-binary=:all: >"$work/install" 2>&1
}

start_docker() {
    local unpacked=$root/target/container/docker
    if ! command -v dockerd >/dev/null && [[ ! -x $unpacked/usr/sbin/dockerd ]]; then
        mkdir -p -- "$work/packages" "$unpacked"
        chmod 0777 "$work/packages"
        # A mirror that does not answer is asked again.
        for round in 1 2 3; do
            (cd -- "$work/packages" && apt-get download -qq -o Acquire::Retries=5 docker.io containerd) >"$work/download" 2>&1 && break
            ((round < 3)) || return 1
        done
        for package in "$work/packages"/*.deb; do
            dpkg-deb --extract "$package" "$unpacked" || return 1
        done
    fi
    export PATH=$PATH:$unpacked/usr/bin:$unpacked/usr/sbin
    ! ldd "$(command -v dockerd)" | grep 'not found' >"$work/download" || return 1
    # No bridge and no rules of a firewall; its mounts are its own.
    unshare --mount dockerd --host "unix://$work/docker.sock" --data-root "$work/docker" --exec-root "$work/docker-exec" --pidfile "$work/docker.pid" \
        --iptables=false --ip6tables=false --ip-masq=false --bridge=none --oom-score-adjust 0 --storage-driver vfs >"$work/dockerd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 1200); do
        docker --host "unix://$work/docker.sock" version >/dev/null 2>&1 && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 3 "$work/dockerd.log"
    return 1
}

state() { run inspect --format "{{.State.$1}}" "$name" | tr -d '\r'; }

# Read as a whole first: whoever closes a pipe early has the engine fail that writes to it.
says() { # TEXT
    local log
    log=$(run logs "$name" 2>&1) || return
    [[ $log == *"$1"* ]]
}

# Whether a command succeeds within two minutes, on however slow a machine.
soon() {
    for _ in $(seq 1200); do
        "$@" && return
        sleep 0.1
    done
    return 1
}

# In the server's own network, which has nothing but its loopback.
inside() {
    local pid=$1
    shift
    nsenter --net="/proc/$pid/ns/net" -- "$@"
}

# A request whose body stops half-way, SIGTERM, and then the rest of the body.
drains() { # PID KEY
    local pid=$1 key=$2 body='{"input":"AAAA"}' reply
    : >"$work/reply"
    exec 3> >(inside "$pid" bash -c 'exec 5<>/dev/tcp/127.0.0.1/8080; cat <&5 & cat >&5; wait' >"$work/reply" 2>&1)
    printf 'POST /api/hash HTTP/1.1\r\nHost: q\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %s\r\n\r\n' "$key" "${#body}" >&3
    # It is open for the server once that has asked for the body.
    soon grep -q '100 Continue' "$work/reply" || { echo "no 100 Continue: $(cat "$work/reply")" && return 1; }
    printf '%s' "${body:0:8}" >&3
    run kill --signal TERM "$name" >/dev/null 2>&1
    soon says 'draining: ' || { echo "it does not say that it drains" && return 1; }
    [[ $(state Running) == true ]] || { echo "it ended with a request open" && return 1; }
    printf '%s' "${body:8}" >&3
    soon grep -q '"sum"' "$work/reply" || { echo "the open request got: $(cat "$work/reply")" && return 1; }
    exec 3>&-
    reply=$(tr -d '\r' <"$work/reply")
    [[ $reply == *'HTTP/1.1 200'*'"sum"'* ]] || { echo "the open request got: $reply" && return 1; }
    [[ $(run wait "$name" 2>/dev/null | tr -d '\r') == 0 ]] || { echo "it ended with $(state ExitCode)" && return 1; }
    soon says 'drained: every request was answered' || { echo "it does not say that it drained" && return 1; }
}

image=localhost/quantonium:$(sed -n '/^\[package\]/,/^\[/s/^version *= *"\(.*\)"$/\1/p' "$root/Cargo.toml")
load() { run load --quiet --input "$work/image/quantonium-amd64.tar" >/dev/null; }

# A drain, and the pause of a request that it waits for, in which the engine is asked several times.
patient=(--drain-timeout-ms 120000 --body-timeout-ms 120000 --body-gap-timeout-ms 120000)

validate() {
    local -a more=("$@")
    local data=$work/data-$engine key pid log line
    mkdir -m 0700 "$data"
    (umask 077 && head -c 32 /dev/urandom >"$work/key-$engine")
    chown 1001:1001 "$data" "$work/key-$engine"
    chmod 0711 "$work"
    load
    run run --detach --name "$name" --network none --read-only --cap-drop ALL --security-opt no-new-privileges \
        --security-opt "seccomp=$root/deploy/docker-seccomp.json" --pids-limit 64 --memory 128m --health-interval 1s \
        "${more[@]}" -v "$data:/data" -v "$work/key-$engine:/run/secrets/quantonium-master-key:ro" \
        "$image" serve --init --sandbox container "${patient[@]}" >"$work/run" 2>&1 || { cat "$work/run" >&2 && fail "it cannot be started"; }
    soon says 'listening on' || fail 'the server does not come up'
    pid=$(state Pid)
    # The two streams of the server come by two ways.
    soon says 'every thread is locked in' || fail 'its log does not say that every thread is locked in'
    log=$(run logs "$name" 2>&1)
    key=$(sed -n 's/^admin API key .*: \(qk_[^ ]*\)$/\1/p' <<<"$log" | tr -d '\r')
    [[ -n $key ]] || fail 'it printed no admin key'

    line=$(inside "$pid" curl --silent --show-error --fail http://127.0.0.1:8080/api/health) || fail "GET /api/health: $line"
    [[ $(jq -r .status <<<"$line") == ok ]] || fail "GET /api/health: $line"
    ok 'GET /api/health is 200, ok'
    expect 'every thread: 1001, no capability, no new privileges, a filter' confined "$pid"
    expect 'its root cannot be written' unwritable "$pid"
    expect 'its root holds the binary alone' alone "$pid"
    expect 'memory and tasks are limited' limited "$pid" 134217728 64
    for line in no-new-privs capability-sets landlock self-check key-memory; do
        grep -qF "\"module\":\"sandbox\",\"msg\":\"$line: done\"" <<<"$log" || fail "its log does not say: $line: done"
    done
    grep -qF '"msg":"every thread is locked in' <<<"$log" || fail 'its log does not say that every thread is locked in'
    ok 'its own lock-down stands beneath'
    soon run exec "$name" /quantonium healthcheck || fail 'the health check inside fails'
    ! run exec "$name" /quantonium healthcheck --url http://127.0.0.1:9/ >/dev/null 2>&1 || fail 'the health check never fails'
    ok 'quantonium healthcheck inside: 0, and 1 for a closed port'
    ! run exec "$name" /bin/sh -c true >/dev/null 2>&1 || fail 'there is a shell in it'
    ok 'no shell can be executed'
    inside "$pid" curl --silent --show-error --fail --header "X-API-Key: $key" --data '{"name":"validation"}' http://127.0.0.1:8080/api/keys >/dev/null ||
        fail 'a key cannot be made'
    grep -hqs '"event":"key.create".*"validation"' "$data"/audit/*.jsonl || fail "no audit line on the volume: $(ls -R "$data")"
    ok 'audit lines appear on the mounted volume'
    healthy
    (umask 077 && printf '%s\n' "$key" >"$work/admin-$engine")
    inside "$pid" "$here/smoke_test" http://127.0.0.1:8080 "$work/admin-$engine" >"$work/smoke" 2>&1 || fail "$(tail -n 1 "$work/smoke")"
    ok "$(tail -n 1 "$work/smoke")"
    attacked "$pid" "$data"
    expect 'SIGTERM lets an open request finish, exit code 0' drains "$pid" "$key"
    run rm --volumes "$name" >/dev/null 2>&1
}

# With an intruder where it is worst: on the data volume, executed as the server's own user.
attacked() { # PID DATA
    local -a intruder=() shell=(podman exec "$name")
    [[ $engine == podman ]] || shell=(docker --host "unix://$work/docker.sock" exec "$name")
    if command -v busybox >/dev/null && ! readelf -l "$(command -v busybox)" | grep INTERP >/dev/null; then
        install -m 0755 "$(command -v busybox)" "$2/busybox"
        intruder=(--busybox /data/busybox)
    else
        "$here/skip" "container_validation: no static busybox for the intruder (Debian: busybox-static)"
    fi
    inside "$1" "$here/pentest.sh" --url http://127.0.0.1:8080 --pid "$1" "${intruder[@]}" -- "${shell[@]}" >"$work/attacks" 2>&1 ||
        { cat "$work/attacks" >&2 && fail 'an attack succeeded'; }
    rm -f -- "$2/busybox"
    cp -- "$work/attacks" "$root/target/container/attacks-$engine"
    ok "$(tail -n 1 "$work/attacks")"
}

is_healthy() { [[ $(state Health.Status) == healthy ]]; }

# The file as it is shipped, but for the network, which stays that of the container.
composed() {
    local project=$work/compose pid data
    mkdir "$project"
    cp -- "$root/deploy/compose.yaml" "$root/deploy/docker-seccomp.json" "$project/"
    (umask 077 && head -c 32 /dev/urandom >"$project/master.key")
    chown 1001:1001 "$project/master.key"
    printf 'services:\n  quantonium:\n    network_mode: none\n    container_name: %s\n    ports: !reset []\n' "$name" >"$project/here.yaml"
    load
    (cd -- "$project" && QUANTONIUM_IMAGE=$image podman-compose -f compose.yaml -f here.yaml up -d) >"$work/run" 2>&1 || { cat "$work/run" >&2 && fail 'it cannot be started'; }
    soon says 'listening on' || fail 'the server does not come up'
    pid=$(state Pid)
    expect 'compose.yaml: every thread: 1001, no capability, no new privileges, a filter' confined "$pid"
    expect 'compose.yaml: its root cannot be written' unwritable "$pid"
    expect 'compose.yaml: memory and tasks are limited' limited "$pid" 134217728 64
    soon run exec "$name" /quantonium healthcheck || fail 'the health check inside fails'
    data=$(podman volume inspect --format '{{.Mountpoint}}' quantonium_logs)
    grep -hqs '"event":"server.start"' "$data"/*.jsonl || fail "no audit line in the volume for logs: $(ls "$data")"
    ok 'compose.yaml: healthy, audit lines in the volume for logs'
    (cd -- "$project" && QUANTONIUM_IMAGE=$image podman-compose -f compose.yaml -f here.yaml down --volumes) >"$work/run" 2>&1 || { cat "$work/run" >&2 && fail 'it cannot be ended'; }
}

# The engine's own look at the image's HEALTHCHECK.
healthy() {
    case $engine in
    podman)
        # Its timer is systemd's; here it is asked by hand.
        soon podman healthcheck run "$name" >/dev/null || fail 'podman finds it unhealthy'
        ;;
    docker)
        soon is_healthy || fail "the engine's own timer finds it $(state Health.Status)"
        ;;
    esac
    ok "the engine's health check: healthy"
}

mkdir -p "$root/target/container"
"$here/image" --out "$work/image" "$binary" >"$work/image.log" || { cat "$work/image.log" && exit 1; }

held=()
for engine in "${engines[@]}"; do
    case $engine in
    podman | compose)
        if ! command -v podman >/dev/null; then
            engine=
            "$here/skip" "container_validation: podman is not installed"
            continue
        fi
        if [[ $engine == compose ]] && ! with_compose; then
            engine=
            "$here/skip" "container_validation: podman-compose is not there (PyPI): $(tail -n 1 "$work/install")"
            continue
        fi
        # Everything of podman's below $work; limits that a machine without CAP_SYS_RESOURCE can give.
        cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = "$work/podman/static"
tmp_dir = "$work/podman/tmp"
volume_path = "$work/podman/volumes"
CONF
        printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/podman/store" "$work/podman/run" >"$work/storage.conf"
        export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
        if [[ $engine == compose ]]; then composed; else validate --read-only-tmpfs=false; fi
        ;;
    docker)
        # Not in a subshell: the daemon's number must be known at the end.
        if ! start_docker >"$work/start" 2>&1; then
            engine=
            stop_docker
            "$here/skip" "container_validation: no Docker Engine: $(cat "$work/start" "$work/download" 2>/dev/null | tail -n 1)"
            continue
        fi
        validate
        stop_docker
        ;;
    *) fail "no such engine: $engine" ;;
    esac
    held+=("$engine")
done
# Without an engine nothing was started, and nothing held.
((${#held[@]} > 0)) || exec "$here/skip" "container_validation: no container was started"
echo "container_validation: all held (${held[*]})"
