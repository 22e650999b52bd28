//! What goes wrong in a simulation: one or two things at a time, for a while.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    CLIENTS, Door,
    member::Member,
    network::Net,
    number,
    stores::{STORE, Shared},
    trace::Trace,
    upstream::{UPSTREAM, Upstream},
};
use crate::support::{
    client::{Ask as _, Request},
    content::Random,
    eventually,
};

/// Everything that can be broken.
pub(super) struct Chaos {
    members: Vec<Member>,
    net: Net,
    stores: Shared,
    upstream: Upstream,
    trace: Trace,
    random: Random,
    faults: usize,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Two members don't reach each other.
    Apart(usize, usize),
    /// A member doesn't reach the stores.
    NoStore(usize),
    /// Or the registry that it mirrors.
    NoUpstream(usize),
    /// A member reaches nothing but its clients, the stores and that registry.
    Alone(usize),
    /// A member reaches nothing.
    Gone(usize),
    /// kill -9, and a later start.
    Killed(usize),
    /// SIGSTOP, and a later SIGCONT.
    Stopped(usize),
}

impl Chaos {
    pub(super) fn new(
        members: Vec<Member>,
        net: Net,
        stores: Shared,
        upstream: Upstream,
        trace: Trace,
        seed: u64,
    ) -> Self {
        Self {
            members,
            net,
            stores,
            upstream,
            trace,
            random: Random::seeded(seed),
            faults: 0,
        }
    }

    /// Breaks things until `done`.
    pub(super) async fn reign(&mut self, done: &CancellationToken) {
        while !done.is_cancelled() {
            self.pause(done, 3_000).await;
            let count = 1 + self.random.below(2);
            let faults: Vec<Fault> = (0..count).map(|_| self.draw()).collect();
            for fault in &faults {
                self.begin(*fault).await;
            }
            let longest = *self.random.pick(&[500, 5_000, 25_000]);
            self.pause(done, longest).await;
            self.end_all().await;
        }
    }

    async fn pause(&mut self, done: &CancellationToken, longest_ms: u64) {
        let pause = Duration::from_millis(1 + self.random.below(longest_ms));
        let _ = done.run_until_cancelled(sleep(pause)).await;
    }

    fn draw(&mut self) -> Fault {
        let count = self.members.len() as u64;
        let member = self.random.below(count) as usize;
        match self.random.below(8) {
            0 | 1 => Fault::Apart(member, (member + 1) % count as usize),
            2 => Fault::NoStore(member),
            3 => Fault::Alone(member),
            4 => Fault::Gone(member),
            5 => Fault::Killed(member),
            6 => Fault::NoUpstream(member),
            _ => Fault::Stopped(member),
        }
    }

    async fn begin(&mut self, fault: Fault) {
        self.faults += 1;
        let host = |n: usize| self.members[n].door.ip();
        let others = |n: usize| {
            let others = self.members.iter().map(|member| member.door.ip());
            others.filter(move |other| *other != host(n))
        };
        let (what, on) = match fault {
            Fault::Apart(a, b) => {
                self.net.cut(host(a), host(b));
                ("apart", a)
            }
            Fault::NoStore(n) => {
                self.net.cut(host(n), STORE);
                ("no store", n)
            }
            Fault::NoUpstream(n) => {
                self.net.cut(host(n), UPSTREAM);
                ("no upstream", n)
            }
            Fault::Alone(n) => {
                others(n).for_each(|other| self.net.cut(host(n), other));
                ("alone", n)
            }
            Fault::Gone(n) => {
                let all = others(n).chain([STORE, CLIENTS, UPSTREAM]);
                all.for_each(|other| self.net.cut(host(n), other));
                ("gone", n)
            }
            Fault::Killed(n) => {
                self.members[n].kill().await;
                ("killed", n)
            }
            Fault::Stopped(n) => {
                self.members[n].stop();
                ("stopped", n)
            }
        };
        let host = self.members[on].door.ip();
        self.upstream.disturbed(host);
        self.trace.note(what, &[number(host)]);
    }

    async fn end_all(&mut self) {
        self.net.heal();
        for member in &mut self.members {
            member.go_on();
            self.upstream.disturbed(member.door.ip());
            if !member.is_running() {
                member.start(&self.net, &self.stores, &self.trace).await;
            }
        }
        self.trace.note("healed", &[]);
    }

    /// Ends all faults, and waits until every member is well.
    pub(super) async fn calm(&mut self, doors: &[Door]) {
        self.end_all().await;
        // Longer than a lease, and than anything that is still on its way.
        sleep(Duration::from_secs(60)).await;
        for door in doors {
            eventually("a member is ready", || async {
                let answer = door.ask(Request::get("/readyz")).await;
                answer.is_ok_and(|answer| answer.status == 200)
            })
            .await;
        }
    }

    /// Ends all members but one, for good until it is calm again: what the others left is that one's to do, and a simulation's time goes
    /// by much faster.
    pub(super) async fn leave_one(&mut self) {
        let left = self.random.below(self.members.len() as u64) as usize;
        for (n, member) in self.members.iter_mut().enumerate() {
            if n != left {
                member.kill().await;
            }
        }
    }

    /// Ends the members, and gives how many faults there were.
    pub(super) async fn end(mut self) -> usize {
        for member in &mut self.members {
            member.kill().await;
        }
        self.faults
    }
}
