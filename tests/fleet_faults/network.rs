//! What lies between three members of etcd and three servers, and how it fails.
//!
//! Owns network namespaces, one for each of the six, on a bridge; or, for who may not make them, a proxy between each server and each
//! member. Invariants: names and addresses are this process's own; whatever happens to the test, they go with it; a cut is silent: what is sent is lost, and
//! nobody is told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};

use crate::etcd::{Etcd, Site};
use crate::proxy::Proxy;
use crate::server::{free_address, skip};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
const SERVER_PORT: u16 = 8080;
/// The one interface of a namespace besides loopback.
const INTERFACE: &str = "eth0";
/// What a slow link does to what is sent over it; the first that the kernel has.
const SLOW: [&[&str]; 2] = [
    &["netem", "delay", "60ms", "40ms", "loss", "5%"],
    &["tbf", "rate", "400kbit", "burst", "4kb", "latency", "300ms"],
];

/// One of the six.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Member(usize),
    Server(usize),
}

impl Node {
    pub(crate) const ALL: [Self; 6] = [
        Self::Member(0),
        Self::Member(1),
        Self::Member(2),
        Self::Server(0),
        Self::Server(1),
        Self::Server(2),
    ];

    /// From 1 on.
    fn number(self) -> u8 {
        Self::ALL.iter().zip(1..).find(|(node, _)| **node == self).map_or(0, |(_, number)| number)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(number) => write!(out, "member {number}"),
            Self::Server(number) => write!(out, "server {number}"),
        }
    }
}

/// What lies between the six.
pub(crate) enum Network {
    Spaces(Spaces),
    Ways(Ways),
}

impl Network {
    /// The best that can be had here, with the members of etcd in it.
    pub(crate) fn start(folder: &Path) -> Option<(Self, Vec<Etcd>)> {
        match Spaces::make() {
            Ok(spaces) => {
                let sites = [0, 1, 2].map(|number| Site {
                    host: spaces.host(Node::Member(number)),
                    before: spaces.before(Node::Member(number)),
                    ports: Some((CLIENT_PORT, PEER_PORT)),
                });
                let members = Etcd::start_three_at(folder, &sites, &[])?;
                Some((Self::Spaces(spaces), members))
            }
            Err(reason) => {
                skip(&format!("{NO_NETWORK}: {reason}"));
                let members = Etcd::start_three(folder)?;
                let ways = Ways::to(&members);
                Some((Self::Ways(ways), members))
            }
        }
    }

    /// Whether members of etcd can be cut from one another.
    pub(crate) const fn parts_members(&self) -> bool {
        matches!(self, Self::Spaces(_))
    }

    /// How a server names the members.
    pub(crate) fn endpoints(&self, server: usize) -> String {
        let all: Vec<String> = match self {
            Self::Spaces(spaces) => {
                (0..3).map(|number| format!("{}:{CLIENT_PORT}", spaces.host(Node::Member(number)))).collect()
            }
            Self::Ways(ways) => ways.ways[server].iter().map(|way| way.address().to_string()).collect(),
        };
        all.join(",")
    }

    /// Where a server listens.
    pub(crate) fn address(&self, server: usize) -> SocketAddr {
        match self {
            Self::Spaces(spaces) => (spaces.host(Node::Server(server)), SERVER_PORT).into(),
            Self::Ways(ways) => ways.servers[server],
        }
    }

    /// The command that runs `program` where this server is.
    pub(crate) fn command(&self, server: usize, program: &Path) -> Command {
        let before = match self {
            Self::Spaces(spaces) => spaces.before(Node::Server(server)),
            Self::Ways(_) => Vec::new(),
        };
        let Some((first, words)) = before.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(words).arg(program);
        command
    }

    /// Loses all that one sends to the other, from now on. Without namespaces the other direction is lost too.
    pub(crate) fn cut(&mut self, from: Node, to: Node) {
        match (self, from, to) {
            (Self::Spaces(spaces), ..) => spaces.cut(from, to),
            (Self::Ways(ways), Node::Server(server), Node::Member(member))
            | (Self::Ways(ways), Node::Member(member), Node::Server(server)) => {
                ways.ways[server][member].cut(true);
            }
            _ => {}
        }
    }

    pub(crate) fn cut_both(&mut self, one: Node, other: Node) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Makes what one sends slow, and loses some of it; whether the kernel can do that.
    pub(crate) fn slow(&mut self, node: Node) -> bool {
        match self {
            Self::Spaces(spaces) => spaces.slow(node),
            Self::Ways(_) => false,
        }
    }

    /// Undoes all of it.
    pub(crate) fn mend(&mut self) {
        match self {
            Self::Spaces(spaces) => spaces.mend(),
            Self::Ways(ways) => ways.ways.iter().flatten().for_each(|way| way.cut(false)),
        }
    }
}

/// How the reason begins for which there are no namespaces.
const NO_NETWORK: &str = crate::server::NO_NETWORK;

/// Six namespaces on a bridge.
pub(crate) struct Spaces {
    /// The first address; the six have the next ones, the bridge one behind them.
    net: Ipv4Addr,
    cuts: Vec<(Node, Node)>,
    slowed: Vec<Node>,
}

impl Spaces {
    fn make() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        sweep()?;
        let net = free_net()?;
        // From here on what was made goes when this is dropped.
        let spaces = Self { net, cuts: Vec::new(), slowed: Vec::new() };
        let bridge = bridge(std::process::id());
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/28", spaces.at(7)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in Node::ALL {
            let (space, outer) = (space(std::process::id(), node), outer(std::process::id(), node));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", INTERFACE, "netns", &space])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let inside = |words: &[&str]| ip(&[&["-n", &space], words].concat());
            inside(&["addr", "add", &format!("{}/28", spaces.host(node)), "dev", INTERFACE])?;
            inside(&["link", "set", INTERFACE, "up"])?;
            inside(&["link", "set", "lo", "up"])?;
            // The rule that all local addresses are taken at is the first one; those that lose what comes from a node go before it.
            inside(&["rule", "add", "pref", "100", "lookup", "local"])?;
            inside(&["rule", "del", "pref", "0"])?;
        }
        Ok(spaces)
    }

    fn at(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net) + u32::from(number))
    }

    fn host(&self, node: Node) -> Ipv4Addr {
        self.at(node.number())
    }

    #[expect(clippy::unused_self, reason = "the namespaces are there as long as this is")]
    fn before(&self, node: Node) -> Vec<String> {
        let space = space(std::process::id(), node);
        ["ip", "netns", "exec", &space].iter().map(|word| (*word).to_owned()).collect()
    }

    fn rule(&self, verb: &str, from: Node, to: Node) {
        let (space, from) = (space(std::process::id(), to), self.host(from).to_string());
        let words = ["-n", &space, "rule", verb, "pref", "10", "from", &from, "iif", INTERFACE, "blackhole"];
        ip(&words).expect("a rule");
    }

    fn cut(&mut self, from: Node, to: Node) {
        if !self.cuts.contains(&(from, to)) {
            self.rule("add", from, to);
            self.cuts.push((from, to));
        }
    }

    fn slow(&mut self, node: Node) -> bool {
        let space = space(std::process::id(), node);
        let able = SLOW.iter().any(|how| {
            let words = [&["-n", &space, "qdisc", "replace", "dev", INTERFACE, "root"], *how].concat();
            Command::new("tc").args(words).output().is_ok_and(|output| output.status.success())
        });
        if able {
            self.slowed.push(node);
        }
        able
    }

    fn mend(&mut self) {
        for (from, to) in std::mem::take(&mut self.cuts) {
            self.rule("del", from, to);
        }
        for node in std::mem::take(&mut self.slowed) {
            let space = space(std::process::id(), node);
            let words = ["-n", &space, "qdisc", "del", "dev", INTERFACE, "root"];
            let output = Command::new("tc").args(words).output().expect("tc");
            assert!(output.status.success(), "{output:?}");
        }
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        remove(std::process::id());
    }
}

fn space(pid: u32, node: Node) -> String {
    format!("{SPACE}{pid}-{}", node.number())
}

/// How names of namespaces begin; then come the process and the node.
const SPACE: &str = "quantonium-test-";

fn bridge(pid: u32) -> String {
    format!("qb{pid}")
}

/// The end of a node's line that is on the bridge.
fn outer(pid: u32, node: Node) -> String {
    format!("qv{pid}x{}", node.number())
}

fn ip(words: &[&str]) -> Result<Output, String> {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Takes away what a process has made. What is not there cannot be taken away.
fn remove(pid: u32) {
    for node in Node::ALL {
        let _ = ip(&["link", "del", &outer(pid, node)]);
        let _ = ip(&["netns", "del", &space(pid, node)]);
    }
    let _ = ip(&["link", "del", &bridge(pid)]);
}

/// Takes away what tests have left that were killed, with the processes in it.
fn sweep() -> Result<(), String> {
    let listed = ip(&["netns", "list"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in listed.lines().filter_map(|line| line.split(' ').next()) {
        let pid = name.strip_prefix(SPACE).and_then(|rest| rest.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if Path::new("/proc").join(pid.to_string()).exists() {
            continue;
        }
        let inside = ip(&["netns", "pids", name]).map(|output| output.stdout).unwrap_or_default();
        for process in String::from_utf8_lossy(&inside).lines().filter_map(|line| line.parse().ok()) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(process),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        remove(pid);
    }
    Ok(())
}

/// Sixteen addresses of those that are for tests of networks (RFC 2544), which no interface has.
fn free_net() -> Result<Ipv4Addr, String> {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let taken = ip(&["-4", "route", "show"])?;
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    let nets = (0..8192).map(|step| Ipv4Addr::from(first + (std::process::id() + step) % 8192 * 16));
    let free = |net: &Ipv4Addr| !taken.lines().any(|line| line.starts_with(&format!("{net}/")));
    nets.into_iter().find(free).ok_or_else(|| "no addresses".to_owned())
}

/// A proxy between each server and each member.
pub(crate) struct Ways {
    /// Of each server, its ways to the members.
    ways: Vec<Vec<Proxy>>,
    servers: Vec<SocketAddr>,
}

impl Ways {
    fn to(members: &[Etcd]) -> Self {
        let of_one = |_| members.iter().map(|member| Proxy::to(member.port())).collect();
        Self { ways: (0..3).map(of_one).collect(), servers: (0..3).map(|_| free_address()).collect() }
    }
}

/// Whether an address is one of this machine alone.
pub(crate) const fn is_loopback(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address.is_loopback(),
    }
}
