//! What fails, when, and for how long: all of it follows from a seed.
//!
//! Owns the kinds and the order. Invariants: the first kind of a schedule is that of its seed, so that as many seeds as there are kinds try each; whatever
//! was done is undone before the next step.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::etcd::Etcd;
use crate::history::{History, What};
use crate::load::{admitted, knock, pause, revoke};
use crate::network::Node;
use crate::plant::{Plant, STALENESS};
use crate::server::client::{Client, Request};

/// Longer than a lease (10 s), and than what servers may go on without news.
const LONG: Duration = Duration::from_secs(12);
/// Between two steps, for all to work together again.
const REST: Duration = Duration::from_secs(1);
/// How long steps are begun.
const WHOLE: Duration = Duration::from_secs(11);
/// How long one may wait for what a running server has to answer.
const MOMENT: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KillLeader,
    CutServer,
    CutServerFromSome,
    LeaderWithOneServer,
    CutFollower,
    Ring,
    CutAllMembers,
    DeafLeader,
    DeafServer,
    MuteServer,
    StopServer,
    StopMember,
    StopLeader,
    RestartAll,
    KillBroker,
    KillServer,
    EndServer,
    KillMajority,
    Flutter,
    SlowLink,
}

impl Kind {
    const ALL: [Self; 20] = [
        Self::KillLeader,
        Self::CutServer,
        Self::StopServer,
        Self::LeaderWithOneServer,
        Self::RestartAll,
        Self::DeafServer,
        Self::Ring,
        Self::KillBroker,
        Self::CutServerFromSome,
        Self::CutFollower,
        Self::CutAllMembers,
        Self::DeafLeader,
        Self::MuteServer,
        Self::StopMember,
        Self::StopLeader,
        Self::KillServer,
        Self::EndServer,
        Self::KillMajority,
        Self::Flutter,
        Self::SlowLink,
    ];

    /// Whether two members have to be cut from one another for it.
    const fn parts_members(self) -> bool {
        matches!(
            self,
            Self::LeaderWithOneServer
                | Self::CutFollower
                | Self::Ring
                | Self::CutAllMembers
                | Self::DeafLeader
                | Self::SlowLink
        )
    }

    /// Whether it may happen while another one does.
    const fn goes_with_others(self) -> bool {
        !matches!(self, Self::StopServer | Self::RestartAll)
    }
}

/// A linear congruential generator (Knuth, MMIX).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        dice.roll(2);
        dice
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).expect("few sides")
    }

    fn millis(&mut self, least: usize, most: usize) -> Duration {
        Duration::from_millis((least + self.roll(most - least)) as u64)
    }

    /// All six in any order.
    fn order(&mut self) -> [Node; 6] {
        let mut all = Node::ALL;
        for left in (1..all.len()).rev() {
            all.swap(left, self.roll(left + 1));
        }
        all
    }
}

/// Lets one thing after the other fail.
pub(crate) fn run(seed: u64, plant: &mut Plant, history: &History) {
    let mut dice = Dice::of(seed);
    let begun = Instant::now();
    let mut first = Some(Kind::ALL[usize::try_from(seed % Kind::ALL.len() as u64).expect("few")]);
    while begun.elapsed() < WHOLE {
        let kind = first.take().unwrap_or_else(|| Kind::ALL[dice.roll(Kind::ALL.len())]);
        // As many numbers are taken from the dice whatever the network can do.
        let other = (dice.roll(3) == 0).then(|| Kind::ALL[dice.roll(Kind::ALL.len())]);
        let (last, order) = (dice.millis(1_500, 4_000), dice.order());
        let mut fault = Fault { plant: &mut *plant, dice: &mut dice, history };
        let both =
            other.filter(|other| *other != kind && kind.goes_with_others() && other.goes_with_others());
        for kind in [Some(kind), both].into_iter().flatten() {
            if fault.plant.network.parts_members() || !kind.parts_members() {
                fault.begin(kind);
            }
        }
        if kind.goes_with_others() {
            pause(last);
        }
        plant.mend(&order, history);
        history.note(0, 0, What::Fault { text: "mended".to_owned() });
        pause(REST);
    }
}

struct Fault<'a> {
    plant: &'a mut Plant,
    dice: &'a mut Dice,
    history: &'a History,
}

impl Fault<'_> {
    fn begin(&mut self, kind: Kind) {
        let (server, member) = (self.dice.roll(3), self.dice.roll(3));
        self.history.note(
            server,
            0,
            What::Fault { text: format!("{kind:?}, server {server}, member {member}") },
        );
        match kind {
            Kind::KillLeader => {
                let leader = self.leader(member);
                self.plant.members[leader].kill();
            }
            Kind::KillMajority => {
                self.plant.members[member].kill();
                self.plant.members[(member + 1) % 3].kill();
            }
            Kind::StopMember => self.stop_member(member),
            Kind::StopLeader => {
                let leader = self.leader(member);
                self.stop_member(leader);
            }
            Kind::KillServer => self.plant.end(server, Signal::SIGKILL),
            Kind::EndServer => self.plant.end(server, Signal::SIGTERM),
            Kind::KillBroker => self.plant.kill_broker(server),
            Kind::StopServer => self.stop_server(server),
            Kind::RestartAll => self.end_all(),
            Kind::Flutter => self.flutter(server),
            Kind::SlowLink => {
                let node = Node::ALL[self.dice.roll(6)];
                let able = self.plant.network.slow(node);
                self.history.note(server, 0, What::Fault { text: format!("{node} is slow: {able}") });
            }
            _ => self.cut(kind, server, member),
        }
    }

    fn cut(&mut self, kind: Kind, server: usize, member: usize) {
        let followers = |leader: usize| [(leader + 1) % 3, (leader + 2) % 3];
        let leader = self.leader(member);
        let network = &mut self.plant.network;
        match kind {
            Kind::CutServer => {
                (0..3).for_each(|member| network.cut_both(Node::Server(server), Node::Member(member)));
            }
            Kind::CutServerFromSome => {
                network.cut_both(Node::Server(server), Node::Member(leader));
                if member != leader {
                    network.cut_both(Node::Server(server), Node::Member(member));
                }
            }
            Kind::LeaderWithOneServer => {
                for follower in followers(leader) {
                    network.cut_both(Node::Member(leader), Node::Member(follower));
                    network.cut_both(Node::Server(server), Node::Member(follower));
                }
            }
            Kind::CutFollower => {
                let alone = followers(leader)[member % 2];
                for other in followers(alone) {
                    network.cut_both(Node::Member(alone), Node::Member(other));
                }
            }
            Kind::Ring => {
                (0..3).for_each(|from| network.cut(Node::Member(from), Node::Member((from + 1) % 3)));
            }
            Kind::CutAllMembers => {
                (0..3).for_each(|from| network.cut_both(Node::Member(from), Node::Member((from + 1) % 3)));
            }
            Kind::DeafLeader => {
                for follower in followers(leader) {
                    network.cut(Node::Member(follower), Node::Member(leader));
                }
            }
            Kind::DeafServer => {
                (0..3).for_each(|member| network.cut(Node::Member(member), Node::Server(server)));
            }
            _ => (0..3).for_each(|member| network.cut(Node::Server(server), Node::Member(member))),
        }
    }

    /// The leader, or this one if nobody says.
    fn leader(&self, otherwise: usize) -> usize {
        let leads = |member: &Etcd| member.runs() && member.leads();
        self.plant.members.iter().position(leads).unwrap_or(otherwise)
    }

    fn stop_member(&self, member: usize) {
        if self.plant.members[member].runs() {
            self.plant.members[member].signal(Signal::SIGSTOP);
        }
    }

    /// A server stands still for longer than its lease, and than it may go on without news. Meanwhile an API key is revoked that it knows; somebody knocks with that, and
    /// waits for the answer.
    fn stop_server(&mut self, server: usize) {
        let other = (server + 1) % 3;
        let with_broker = self.dice.roll(2) == 0;
        let (history, plant) = (self.history, &*self.plant);
        let address = plant.network.address(server);
        let life = plant.life(server).load(std::sync::atomic::Ordering::SeqCst);
        let admitted = self.admit(other);
        std::thread::scope(|scope| {
            let admitted = admitted.filter(|(_, secret)| is_known(address, secret));
            let connected = Client::try_connect(address).ok();
            plant.stop(server, with_broker, history);
            if let (Some((id, secret)), Some(mut client)) = (admitted, connected) {
                self.change(other, &revoke(&id), What::Revoke { id: id.clone() });
                scope.spawn(move || {
                    history.ask(&mut client, (server, life), &knock(&secret), What::Knock { id }, |_, _| {});
                });
            }
            pause(LONG.max(STALENESS + REST));
            plant.go_on(server, history);
        });
    }

    /// A new API key: its id and its secret.
    fn admit(&self, server: usize) -> Option<(String, String)> {
        let name = format!("stopped-{}", self.history.now());
        let request = Request::post("/api/auth/keys", format!(r#"{{"name":"{name}","scopes":["hash"]}}"#));
        let reply = self.change(server, &request, What::Admit { name, id: String::new() })?;
        (reply.status == 201).then(|| (reply.member("id"), reply.member("api_key")))
    }

    fn change(&self, server: usize, request: &Request, what: What) -> Option<crate::server::client::Reply> {
        let mut client = Client::try_connect(self.plant.network.address(server)).ok()?;
        let life = self.plant.life(server).load(std::sync::atomic::Ordering::SeqCst);
        let request = request.clone().key(&self.plant.admin);
        self.history.ask(&mut client, (server, life), &request, what, admitted)
    }

    /// All six end, in any order; `mend` starts them again, in another one.
    fn end_all(&mut self) {
        for node in self.dice.order() {
            match node {
                Node::Member(member) => self.plant.members[member].kill(),
                Node::Server(server) => {
                    let signal = if self.dice.roll(2) == 0 { Signal::SIGKILL } else { Signal::SIGTERM };
                    self.plant.end(server, signal);
                }
            }
            pause(self.dice.millis(1, 300));
        }
    }

    /// Lines come and go: what was sent arrives late, in pieces, or again.
    fn flutter(&mut self, server: usize) {
        for _ in 0..8 {
            let from = Node::ALL[self.dice.roll(6)];
            let member = Node::Member(self.dice.roll(3));
            if from != member {
                self.plant.network.cut(from, member);
            }
            self.plant.network.cut(Node::Member(self.dice.roll(3)), Node::Server(server));
            pause(self.dice.millis(100, 500));
            self.plant.network.mend();
            pause(self.dice.millis(20, 200));
        }
    }
}

/// Whether a server takes an API key soon.
fn is_known(address: std::net::SocketAddr, secret: &str) -> bool {
    for _ in 0..100 {
        let Ok(mut client) = Client::try_connect(address) else { return false };
        if client.attempt(&knock(secret)).is_some_and(|reply| reply.status == 200) {
            return true;
        }
        pause(MOMENT);
    }
    false
}
