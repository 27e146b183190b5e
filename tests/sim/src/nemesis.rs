//! Everything that goes wrong in a run, and the restarts after it.
//!
//! Owns: the choice of faults, starts and ends of processes, changes of the membership. Called by: [`crate::run`].
//! Invariants: a member ends by itself only after a fault of its disk, its engine or a long stall, anything else is a
//! failure; a member that was removed never comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keelson_mvcc::engine::memory::MemoryOptions;
use keelson_raftstore::node::Begin;
use keelson_raftstore::{MemberId, NewMember};
use keelson_wal::disk::{Crash, Fault};
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use crate::life::Life;
use crate::machine::{Death, Machine, SYNC_US};
use crate::member::start_member;
use crate::plan::Kind;
use crate::random::{draw, percent};
use crate::watcher::Watcher;
use crate::world::{Running, World};

/// A start takes longer only if it hangs.
const START_MAX: Duration = Duration::from_secs(5);
/// How long a change of the membership may take.
pub(crate) const CHANGE_MAX: Duration = Duration::from_millis(400);
/// More members than this are not added.
const MEMBERS_MAX: usize = 5;

/// See the module.
pub(crate) struct Nemesis {
    world: Arc<World>,
    /// Members that were asked to be added, to be started.
    added: Arc<Mutex<Vec<MemberId>>>,
    removed: Arc<Mutex<BTreeSet<MemberId>>>,
    next_id: MemberId,
    /// Nothing goes wrong any more.
    calm: bool,
}

impl Nemesis {
    /// For the world of a run.
    pub(crate) fn new(world: Arc<World>) -> Self {
        let next_id = world.plan.members + 1;
        Nemesis { world, added: Arc::default(), removed: Arc::default(), next_id, calm: false }
    }

    /// Starts the first members.
    pub(crate) async fn bootstrap(&mut self) {
        for id in 1..=self.world.plan.members {
            self.start(id).await;
        }
    }

    /// All disturbances of a run.
    pub(crate) async fn run(&mut self) {
        for _ in 0..self.world.plan.steps {
            self.reap();
            let kinds = &self.world.plan.kinds;
            let kind = kinds[draw(kinds.len() as u64) as usize];
            self.disturb(kind).await;
            self.restart_some().await;
            let mut pause_us = draw(self.world.plan.step_max.as_micros() as u64);
            if kind == Kind::Partition && percent(50) {
                // Long enough for the others to elect another leader and serve clients beside the one that is cut off.
                pause_us += 200_000 + draw(300_000);
            }
            SimRuntime::sleep(Duration::from_micros(pause_us)).await;
            self.world.check_invariants();
            if !self.world.failures().is_empty() {
                return;
            }
        }
    }

    /// Ends all disturbances and starts everybody who is still a member.
    pub(crate) async fn heal(&mut self) {
        self.world.trace("everything heals");
        self.calm = true;
        self.world.network.heal();
        self.world.network.set_loss(0);
        self.world.network.set_delay_max(Duration::from_micros(500));
        for machine in self.world.machines.lock().values() {
            machine.set_sync_us(SYNC_US);
        }
        // Faults that wait for their operation end their members now, instead of later.
        for running in self.world.members() {
            if self.world.machines.lock()[&running.id].faulty {
                running.life.end();
            }
        }
        self.reap();
        let ids: Vec<_> = self.world.machines.lock().keys().copied().collect();
        for id in ids {
            self.restart(id).await;
        }
    }

    /// Starts who is a member and was never started, ends who is none any more.
    pub(crate) async fn follow_membership(&mut self, members: &[MemberId]) {
        for id in members {
            self.restart(*id).await;
        }
        for running in self.world.members() {
            if !members.contains(&running.id) {
                self.world.trace(format_args!("member {} is none any more", running.id));
                running.life.end();
                self.removed.lock().insert(running.id);
            }
        }
        self.reap();
    }

    async fn disturb(&mut self, kind: Kind) {
        let members = self.world.members();
        let any = members.get(draw(members.len().max(1) as u64) as usize);
        // Most promises are about what happens to a leader.
        let leader = members.iter().find(|member| member.node.status().is_leader).filter(|_| percent(35));
        let Some(running) = leader.or(any) else { return };
        let id = running.id;
        match kind {
            Kind::Crash => self.crash(id),
            Kind::TornWrite => self.inject(id, Fault::PowerCut),
            Kind::DiskError if percent(25) => {
                self.world.trace(format_args!("the engine of member {id} fails"));
                self.world.machines.lock().get_mut(&id).expect("runs on one").fail_engine();
            }
            Kind::DiskError => self.inject(id, Fault::Io),
            Kind::Stall => self.stall(id),
            Kind::Partition => self.partition(id),
            Kind::Loss => {
                let percent = if percent(50) { 0 } else { 1 + draw(4) as u32 };
                self.world.trace(format_args!("{percent} percent of the messages get lost"));
                self.world.network.set_loss(percent * 10_000);
            }
            Kind::Delay => {
                let delay = Duration::from_micros([100, 2_000, 15_000, 40_000][draw(4) as usize]);
                self.world.trace(format_args!("messages take up to {delay:?}"));
                self.world.network.set_delay_max(delay);
            }
            Kind::Transfer => self.transfer(running.clone()),
            Kind::Membership => self.change_membership(running.clone()),
            Kind::Stop => self.stop(running.clone()).await,
        }
    }

    fn crash(&mut self, id: MemberId) {
        // A second one beside it: a quorum may be gone, and what it acknowledged must not be.
        let mut victims = vec![id];
        if percent(25) {
            victims.extend(self.world.members().iter().map(|running| running.id).find(|other| *other != id));
        }
        for id in victims {
            let death = match draw(4) {
                0 => Death::Kill,
                1 => Death::Power(Crash::LoseAll),
                2 => Death::Power(Crash::KeepAll),
                _ => Death::Power(Crash::Seeded),
            };
            self.end(id, death);
        }
    }

    fn inject(&mut self, id: MemberId, fault: Fault) {
        let after = draw(12);
        self.world.trace(format_args!("disk of member {id}: {fault:?} after {after} operations"));
        self.world.machines.lock().get_mut(&id).expect("runs on one").inject(after, fault);
    }

    fn stall(&mut self, id: MemberId) {
        let sync_us = [SYNC_US, 3_000, 30_000, 250_000, 1_500_000][draw(5) as usize];
        self.world.trace(format_args!("syncs of member {id} take {sync_us} us"));
        let mut machines = self.world.machines.lock();
        let machine = machines.get_mut(&id).expect("runs on one");
        machine.set_sync_us(sync_us);
        // Beyond what a member puts up with.
        machine.faulty |= sync_us > 1_000_000;
    }

    fn partition(&mut self, id: MemberId) {
        let others: Vec<_> =
            self.world.machines.lock().keys().copied().filter(|other| *other != id).collect();
        let network = &self.world.network;
        match draw(5) {
            0 | 1 => {
                self.world.trace(format_args!("member {id} is cut off"));
                network.isolate(id, others);
            }
            2 => {
                self.world.trace(format_args!("member {id} hears, but is not heard"));
                others.into_iter().for_each(|other| network.cut(id, other));
            }
            3 => {
                self.world.trace(format_args!("member {id} is heard, but does not hear"));
                others.into_iter().for_each(|other| network.cut(other, id));
            }
            _ => {
                self.world.trace("the network is whole");
                network.heal();
            }
        }
    }

    fn transfer(&self, from: Running) {
        let members = self.world.members();
        let to = members[draw(members.len() as u64) as usize].id;
        let world = self.world.clone();
        drop(SimRuntime::spawn(async move {
            let result = from.life.during(from.node.transfer_leader(to, CHANGE_MAX)).await;
            world.trace(format_args!("member {} hands leadership to {to}: {result:?}", from.id));
        }));
    }

    fn change_membership(&mut self, asked: Running) {
        let members = asked.node.members().members;
        let learner = members.iter().find(|member| member.is_learner).map(|member| member.id);
        match learner {
            Some(id) if percent(70) => self.promote(asked, id),
            _ if members.len() > 3 && percent(50) => {
                let id = members[draw(members.len() as u64) as usize].id;
                self.remove(asked, id);
            }
            _ if members.len() < MEMBERS_MAX => self.add(asked),
            _ => {}
        }
    }

    fn add(&mut self, asked: Running) {
        let id = self.next_id;
        self.next_id += 1;
        let member = NewMember { id, peer_urls: crate::urls(id), learner: percent(50) };
        let (world, added) = (self.world.clone(), self.added.clone());
        drop(SimRuntime::spawn(async move {
            let learner = member.learner;
            let result = asked.life.during(asked.node.add_member(member, CHANGE_MAX)).await;
            world.trace(format_args!(
                "member {} adds {id}, learner {learner}: {:?}",
                asked.id,
                result.map(|result| result.map(|_| ()))
            ));
            // Also where the outcome is open: one that is no member waits for ever, and must disturb nobody.
            added.lock().push(id);
        }));
    }

    fn promote(&self, asked: Running, id: MemberId) {
        let world = self.world.clone();
        drop(SimRuntime::spawn(async move {
            let result = asked.life.during(asked.node.promote_member(id, CHANGE_MAX)).await;
            let result = result.map(|result| result.map(|_| ()));
            world.trace(format_args!("member {} promotes {id}: {result:?}", asked.id));
        }));
    }

    fn remove(&self, asked: Running, id: MemberId) {
        let (world, removed) = (self.world.clone(), self.removed.clone());
        drop(SimRuntime::spawn(async move {
            let result = asked.life.during(asked.node.remove_member(id, CHANGE_MAX)).await;
            if matches!(result, Some(Ok(_))) {
                removed.lock().insert(id);
            }
            let result = result.map(|result| result.map(|_| ()));
            world.trace(format_args!("member {} removes {id}: {result:?}", asked.id));
        }));
    }

    async fn stop(&mut self, running: Running) {
        self.world.trace(format_args!("member {} stops in good order", running.id));
        let stopped = SimRuntime::timeout(START_MAX, running.node.shutdown());
        if stopped.await.is_err() && !self.world.machines.lock()[&running.id].faulty {
            self.world.fail(format_args!("member {} does not stop", running.id));
        }
        self.end(running.id, Death::Kill);
    }

    async fn restart_some(&mut self) {
        let added = std::mem::take(&mut *self.added.lock());
        for id in added {
            self.restart(id).await;
        }
        let down: Vec<_> = {
            let running = self.world.running.lock();
            self.world.machines.lock().keys().copied().filter(|id| !running.contains_key(id)).collect()
        };
        for id in down {
            if percent(50) {
                self.restart(id).await;
            }
        }
    }

    async fn restart(&mut self, id: MemberId) {
        let runs = self.world.running.lock().contains_key(&id);
        if !runs && !self.removed.lock().contains(&id) {
            self.start(id).await;
        }
    }

    async fn start(&mut self, id: MemberId) {
        let torn = !self.calm && self.world.plan.kinds.contains(&Kind::TornWrite) && percent(15);
        let machine = {
            let world = &self.world;
            let mut machines = world.machines.lock();
            let moods = world.plan.engine_moods;
            let options = MemoryOptions { flush_every: moods, drop_every: moods, ..MemoryOptions::default() };
            let new = || {
                let auditor = Watcher::auditor(world.clone(), id);
                drop(SimRuntime::spawn(auditor.run()));
                Machine::new(id, world.plan.seed, options, world.bug)
            };
            let machine = machines.entry(id).or_insert_with(new);
            if torn {
                // Power goes again while the member is starting.
                machine.inject(draw(8), Fault::PowerCut);
            }
            machine.clone()
        };
        let life = Life::new(id, self.world.network.clone());
        let begin = match id <= self.world.plan.members {
            true => Begin::Bootstrap((1..=self.world.plan.members).map(|id| (id, crate::urls(id))).collect()),
            false => Begin::Join,
        };
        self.world.trace(format_args!("member {id} starts"));
        let starting = start_member(&self.world, id, &machine, begin, &life);
        let started = match SimRuntime::timeout(START_MAX, life.during(starting)).await {
            Ok(Some(started)) => started,
            Ok(None) => Err(life.cause().unwrap_or_default()),
            Err(_) => Err("it takes too long".into()),
        };
        match started {
            Ok(node) => {
                self.world.network.join(id, node.peer_service());
                self.world.running.lock().insert(id, Running { id, life, node });
            }
            Err(error) => {
                self.world.trace(format_args!("member {id} did not start: {error}"));
                if !machine.faulty {
                    self.world.fail(format_args!("member {id} did not start: {error}"));
                }
                life.end();
                let mut machines = self.world.machines.lock();
                let left = machine.after(Death::Power(Crash::Seeded));
                machines.insert(id, left);
            }
        }
    }

    /// Clears away members that ended by themselves.
    fn reap(&mut self) {
        let ended: Vec<_> = {
            let running = self.world.running.lock();
            running.values().filter(|running| running.life.ended()).cloned().collect()
        };
        for Running { id, life, .. } in ended {
            let faulty = self.world.machines.lock()[&id].faulty;
            if let Some(cause) = life.cause() {
                self.world.trace(format_args!("member {id} ended by itself: {cause}"));
                if !faulty {
                    self.world.fail(format_args!("member {id} ended by itself: {cause}"));
                }
            }
            let death = if percent(50) { Death::Kill } else { Death::Power(Crash::Seeded) };
            self.end(id, death);
        }
    }

    /// Ends a process, whatever state it is in, and leaves a machine for the next one.
    fn end(&mut self, id: MemberId, death: Death) {
        let Some(running) = self.world.running.lock().remove(&id) else { return };
        self.world.trace(format_args!("member {id} is gone: {death:?}"));
        running.life.end();
        let numbers = running.node.diagnostics();
        *self.world.snapshots.lock() += numbers.snapshots_installed;
        {
            let mut machines = self.world.machines.lock();
            let machine = machines.get_mut(&id).expect("ran on one");
            machine.durable_index = numbers.durable_index;
            *machine = machine.after(death);
        }
        // What is left of it in this process goes away; nothing of it is heard any more.
        drop(SimRuntime::spawn(async move { running.node.shutdown().await }));
    }
}
