//! Any order of crashes, restarts, silences and pauses: no lease is started twice for one award or top-up, no live one is stopped, and once the faults
//! stop, everything comes to rest.

use proptest::prelude::*;

use super::*;

const LEASES: u8 = 3;
const START_BY: Millis = Millis::from_secs(60);
const LIMIT: Millis = Millis::from_secs(120);
const SPENT: Phase = Phase::Paused { left: Millis::ZERO };
/// The lease whose job pauses when its funds are used up; those of the others end.
const PAUSES: u8 = 2;

#[derive(Clone, Debug)]
enum Op {
    /// The ledger awards, takes back or ends a lease.
    Award(u8),
    Preempt(u8),
    End(u8),
    /// Its funds run out, or are added to.
    Pause(u8),
    TopUp(u8),
    /// The agent hears from the ledger, from a node that lags behind, or not at all.
    Answer,
    LaggingAnswer,
    Silence,
    /// The agent does the n-th thing that the core asks for; it is killed after that many of its parts.
    Act {
        which: usize,
        killed_after: usize,
    },
    /// The agent is killed and comes back.
    Restart,
    /// The workload ends, its shim dies, or its folder is wiped.
    Exit(u8),
    ShimDies(u8),
    Wipe(u8),
    /// Time passes.
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..LEASES;
    prop_oneof![
        3 => n.clone().prop_map(Op::Award),
        1 => n.clone().prop_map(Op::Preempt),
        1 => n.clone().prop_map(Op::End),
        2 => n.clone().prop_map(Op::Pause),
        2 => n.clone().prop_map(Op::TopUp),
        6 => Just(Op::Answer),
        1 => Just(Op::LaggingAnswer),
        1 => Just(Op::Silence),
        20 => (0_usize..4, 0_usize..8).prop_map(|(which, killed_after)| Op::Act { which, killed_after }),
        2 => Just(Op::Restart),
        1 => n.clone().prop_map(Op::Exit),
        1 => n.clone().prop_map(Op::ShimDies),
        1 => n.prop_map(Op::Wipe),
        4 => (1_u64..30_000).prop_map(Op::Wait),
    ]
}

/// The truth, and one machine in it.
struct World {
    now: Timestamp,
    height: u64,
    ledger: BTreeMap<LeaseId, Wanted>,
    containers: BTreeMap<LeaseId, Status>,
    starts: BTreeMap<LeaseId, u32>,
    /// The restarts that the runtime has made.
    rounds: BTreeMap<LeaseId, u32>,
    disk: Book,
    book: Book,
    view: View,
    seen: Seen,
    /// Whether the ledger took the last ready report.
    ready_taken: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: Timestamp::from_unix_millis(1_000_000),
            height: 1,
            ledger: BTreeMap::new(),
            containers: BTreeMap::new(),
            starts: BTreeMap::new(),
            rounds: BTreeMap::new(),
            disk: Book::new(),
            book: Book::new(),
            view: View::unknown(),
            seen: Seen::NotYet,
            ready_taken: false,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Award(n) => {
                let phase = Phase::Awarded {
                    start_by: self.now.after(START_BY),
                };
                self.set_if(*n, phase, |before| before.is_none());
            }
            Op::Preempt(n) => {
                let (limit, stop_by) =
                    (self.now.after(LIMIT), self.now.after(Millis::from_secs(20)));
                let phase = Phase::Preempting { limit, stop_by };
                self.set_if(*n, phase, |p| matches!(p, Some(Phase::Running { .. })));
            }
            Op::End(n) => self.set_if(*n, Phase::Ended, |p| p.is_some()),
            Op::Pause(n) => self.set_if(*n, SPENT, |p| matches!(p, Some(Phase::Running { .. }))),
            Op::TopUp(n) => {
                let added = Phase::Paused { left: LIMIT };
                self.set_if(*n, added, |p| matches!(p, Some(Phase::Paused { .. })));
            }
            Op::Answer => self.answer(),
            Op::LaggingAnswer => {
                // A node that is behind what this machine has heard may deny everything.
                let leases = self.book.keys().map(|lease| (*lease, None)).collect();
                if let Some(height) = self.view.height.number().checked_sub(1) {
                    let height = market::Height::from_number(height);
                    self.view.learn(Answer { height, leases }, self.now);
                }
            }
            Op::Silence => self.view.lose_sight(self.now),
            Op::Act {
                which,
                killed_after,
            } => self.act(*which, *killed_after),
            Op::Restart => self.restart(),
            Op::Exit(n) => self.change(*n, |started_at_ms, now| {
                Status::Exited(Exit {
                    code: 0,
                    signal: None,
                    oom: false,
                    started_at_ms,
                    ended_at_ms: now,
                    reason: None,
                    stats: runtime::Stats::default(),
                })
            }),
            Op::ShimDies(n) => self.change(*n, |started, _| Status::Lost {
                alive: true,
                started_at_ms: Some(started),
            }),
            Op::Wipe(n) => {
                self.containers.remove(&id(*n));
                self.look();
            }
            Op::Wait(ms) => self.now = self.now.after(Millis::from_millis(*ms)),
        }
    }

    fn set_if(&mut self, n: u8, phase: Phase, allowed: impl FnOnce(Option<Phase>) -> bool) {
        let before = self.ledger.get(&id(n)).map(|w| w.phase);
        if allowed(before) {
            self.height += 1;
            let wanted = Wanted {
                phase,
                duration_max: LIMIT,
                affords: Millis::MAX,
                notice: Millis::from_secs(30),
                pause_after: None,
            };
            self.ledger.insert(id(n), wanted);
        }
    }

    /// Tells of every live lease, and of those of which something is left here.
    fn answer(&mut self) {
        let live = self
            .ledger
            .iter()
            .filter(|(_, w)| w.phase != Phase::Ended)
            .map(|(lease, _)| lease);
        let here = self
            .book
            .keys()
            .chain(self.containers.keys())
            .chain(self.view.leases.keys());
        let asked = live.chain(here);
        let leases = asked
            .map(|lease| (*lease, self.ledger.get(lease).copied()))
            .collect();
        let height = market::Height::from_number(self.height);
        self.view.learn(Answer { height, leases }, self.now);
        for record in self.book.values_mut() {
            record.unsure = false;
        }
        self.look();
    }

    fn look(&mut self) {
        self.seen = Seen::Listed(self.containers.clone());
    }

    fn change(&mut self, n: u8, to: impl FnOnce(u64, u64) -> Status) {
        if let Some(Status::Running { started_at_ms }) = self.containers.get(&id(n)) {
            let status = to(*started_at_ms, self.now.unix_millis());
            self.containers.insert(id(n), status);
            self.look();
        }
    }

    /// What is not on disk is lost.
    fn restart(&mut self) {
        self.book = self.disk.clone();
        self.view.lose_sight(self.now);
        self.seen = Seen::NotYet;
    }

    fn act(&mut self, which: usize, killed_after: usize) {
        let plan = reconcile(&self.view, &self.seen, &self.book, self.now);
        if plan.actions.is_empty() {
            return;
        }
        let action = plan.actions[which % plan.actions.len()];
        self.check(&action);
        let parts = Self::parts(&action);
        for part in 0..parts.min(killed_after) {
            self.part(&action, part);
        }
        if killed_after < parts {
            self.restart();
        }
        if self.seen != Seen::NotYet {
            self.look();
        }
    }

    /// What must never happen, whatever came before.
    fn check(&self, action: &Action) {
        let lease = action.lease();
        let truth = self.ledger.get(&lease).map(|w| w.phase);
        let over = truth == Some(Phase::Ended);
        match action {
            Action::Stop { why, .. } => {
                let started = match self.containers.get(&lease) {
                    Some(Status::Running { started_at_ms }) => {
                        Timestamp::from_unix_millis(*started_at_ms)
                    }
                    _ => return,
                };
                let spent = self.now.since(started) >= LIMIT;
                let noticed = matches!(truth, Some(Phase::Preempting { .. }));
                let paused = matches!(truth, Some(Phase::Paused { .. }));
                assert!(
                    over || spent || noticed || paused,
                    "stopped a live workload: {why:?}"
                );
            }
            Action::Remove { .. } | Action::Forget { .. } => assert!(over, "removed a live lease"),
            Action::Start { .. } => assert!(
                !self.starts.contains_key(&lease)
                    || self.containers.get(&lease) == Some(&Status::Created),
                "started again"
            ),
            _ => {}
        }
    }

    /// How many parts an action has in the driver; it may be killed between any two.
    fn parts(action: &Action) -> usize {
        match action {
            Action::FetchManifest { .. } | Action::Prepare { .. } | Action::Remove { .. } => 1,
            Action::Start { .. } => 4,
            Action::Restart { .. } | Action::Report { .. } => 3,
            Action::Stop { .. } | Action::Forget { .. } => 2,
            Action::Abandon { .. } | Action::Look { .. } => 0,
        }
    }

    /// Does one part of an action.
    fn part(&mut self, action: &Action, part: usize) {
        let (lease, now) = (action.lease(), self.now);
        match (action, part) {
            (Action::FetchManifest { .. }, _) => {
                self.record(lease, |r| r.step_done(Step::FetchManifest));
            }
            (Action::Prepare { .. }, _) => self.record(lease, |r| r.step_done(Step::Prepare)),
            (Action::Start { .. }, 0) => {
                self.containers.entry(lease).or_insert(Status::Created);
            }
            (Action::Start { .. }, 1) => self.keep(lease, |r| r.kept.started = Some(now)),
            (Action::Start { .. }, 2) => self.start(lease),
            (Action::Start { .. }, _) => self.record(lease, |r| r.step_done(Step::Start)),
            (Action::Restart { round, .. }, 0) => {
                let phase = self.view.leases.get(&lease).map(|w| w.phase);
                let unheard = matches!(phase, Some(Phase::Paused { .. } | Phase::Awarded { .. }));
                self.keep(lease, |r| {
                    if *round > r.kept.round {
                        r.restart(now, unheard);
                    }
                });
            }
            (Action::Restart { round, .. }, 1) => self.start_anew(lease, *round),
            (Action::Restart { .. }, _) => self.record(lease, |r| r.step_done(Step::Restart)),
            (Action::Report { report, .. }, part) => self.report(lease, *report, part),
            (Action::Stop { why, .. }, 0) => self.keep(lease, |r| match why {
                StopWhy::Pause => {
                    r.kept.resting = true;
                    r.rest_until = (r.kept.round > 0).then(|| now.after(RESUME_AGAIN));
                }
                _ => r.kept.stop = r.kept.stop.or(Some(StopMark { at: now })),
            }),
            (Action::Stop { .. }, _) => self.stop(lease),
            (Action::Remove { .. }, _) => drop(self.containers.remove(&lease)),
            (Action::Forget { .. }, 0) => drop(self.disk.remove(&lease)),
            (Action::Forget { .. }, _) => {
                self.book.remove(&lease);
                self.view.forget(lease);
            }
            (Action::Abandon { .. } | Action::Look { .. }, _) => {}
        }
    }

    /// First what is written down, then what the ledger makes of it, then its answer.
    fn report(&mut self, lease: LeaseId, report: Report, part: usize) {
        let n = lease.to_bytes()[0];
        match (report, part) {
            (Report::Ready { .. }, 0) => {}
            (Report::Ready { .. }, 1) => self.take_ready(lease),
            (Report::Ready { .. }, _) => {
                let taken = std::mem::take(&mut self.ready_taken);
                self.keep(lease, |r| {
                    r.kept.ready_settled = true;
                    r.unsure = !taken;
                });
                if taken {
                    let height = market::Height::from_number(self.height);
                    let known = self.view.resumed(lease, height, self.now);
                    self.record(lease, |r| r.unsure = !known);
                }
            }
            (Report::Ended { at, outcome }, 0) => {
                self.keep(lease, |r| r.kept.ended = Some((at, outcome)));
            }
            (Report::Ended { outcome, .. }, 1) => self.set_if(
                n,
                match outcome {
                    Outcome::LimitReached if n == PAUSES => SPENT,
                    _ => Phase::Ended,
                },
                // A paused lease is ended by its machine only when that has lost it.
                |p| match p {
                    Some(Phase::Paused { .. }) => outcome == Outcome::Lost,
                    phase => phase.is_some(),
                },
            ),
            (Report::Ended { .. }, _) => self.keep(lease, |r| r.kept.ended_settled = true),
        }
    }

    fn record(&mut self, lease: LeaseId, change: impl FnOnce(&mut Record)) {
        change(self.book.entry(lease).or_default());
    }

    /// Changes what is remembered of a lease, and writes it to disk.
    fn keep(&mut self, lease: LeaseId, change: impl FnOnce(&mut Record)) {
        self.record(lease, change);
        let kept = self.book[&lease].kept;
        self.disk.insert(lease, Record::restored(kept));
    }

    fn start_anew(&mut self, lease: LeaseId, round: u32) {
        let made = self.rounds.entry(lease).or_default();
        if *made < round && matches!(self.containers.get(&lease), Some(Status::Exited(_))) {
            *made = round;
            let started_at_ms = self.now.unix_millis();
            self.containers
                .insert(lease, Status::Running { started_at_ms });
            *self.starts.entry(lease).or_default() += 1;
        }
    }

    fn start(&mut self, lease: LeaseId) {
        if self.containers.get(&lease) == Some(&Status::Created) {
            let started_at_ms = self.now.unix_millis();
            self.containers
                .insert(lease, Status::Running { started_at_ms });
            *self.starts.entry(lease).or_default() += 1;
        }
    }

    fn stop(&mut self, lease: LeaseId) {
        let now = self.now.unix_millis();
        let status = match self.containers.get(&lease) {
            Some(Status::Running { started_at_ms }) => Status::Exited(Exit {
                code: 143,
                signal: Some(15),
                oom: false,
                started_at_ms: *started_at_ms,
                ended_at_ms: now,
                reason: None,
                stats: runtime::Stats::default(),
            }),
            Some(Status::Created) => Status::Failed {
                blame: Blame::Tenant,
                reason: "stopped".to_owned(),
            },
            Some(Status::Lost { started_at_ms, .. }) => Status::Lost {
                alive: false,
                started_at_ms: *started_at_ms,
            },
            _ => return,
        };
        self.containers.insert(lease, status);
    }

    fn take_ready(&mut self, lease: LeaseId) {
        let n = lease.to_bytes()[0];
        let limit = self.now.after(LIMIT);
        self.ready_taken = false;
        let before = self.height;
        self.set_if(n, Phase::Running { limit }, |p| match p {
            Some(Phase::Awarded { .. }) => true,
            Some(Phase::Paused { left }) => left >= RESUME_MIN,
            _ => false,
        });
        self.ready_taken = self.height > before;
    }

    fn at_rest(&self) -> bool {
        reconcile(&self.view, &self.seen, &self.book, self.now)
            .actions
            .is_empty()
    }
}

fn id(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

#[test]
fn a_top_up_of_which_only_the_report_tells_stops_nothing() {
    let act = |killed_after| Op::Act {
        which: 0,
        killed_after,
    };
    let ops = [
        Op::Award(1),
        Op::Answer,
        act(1),
        act(1),
        act(4),
        // Killed before it noted that the ledger took its ready report, which it then makes again.
        act(2),
        Op::Pause(1),
        Op::Answer,
        Op::TopUp(1),
        act(3),
        act(0),
    ];
    let mut world = World::new();
    for op in &ops {
        world.run(op);
    }
    let status = world.containers.get(&id(1));
    assert!(matches!(status, Some(Status::Running { .. })), "{status:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_interleaving_starts_twice_or_stops_a_live_workload(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            for (lease, starts) in &world.starts {
                let rounds = world.rounds.get(lease).copied().unwrap_or_default();
                prop_assert!(*starts <= 1 + rounds, "{lease} was started {starts} times");
            }
        }
        for _ in 0..2 {
            for _ in 0..60 {
                world.run(&Op::Answer);
                world.run(&Op::Act { which: 0, killed_after: usize::MAX });
            }
            world.run(&Op::Wait(RESUME_AGAIN.millis()));
        }
        for _ in 0..60 {
            world.run(&Op::Answer);
            world.run(&Op::Act { which: 0, killed_after: usize::MAX });
        }
        world.run(&Op::Answer);
        prop_assert!(world.at_rest(), "does not come to rest");
        for (lease, wanted) in &world.ledger {
            let (status, record) = (world.containers.get(lease), world.book.get(lease));
            match wanted.phase {
                Phase::Ended => prop_assert!(status.is_none() && record.is_none(), "{lease} left something behind"),
                Phase::Paused { .. } => {
                    let rests = matches!(status, Some(Status::Exited(_)));
                    // What ended by itself in the moment of the pause stays so: the ledger ends the lease in time.
                    let over = record.is_some_and(|r| r.kept.ended.is_some());
                    prop_assert!(rests || over, "{lease} is {wanted:?} with {status:?} and {record:?}");
                    prop_assert!(over || wanted.phase == SPENT, "{lease} could go on: {record:?}");
                }
                _ => prop_assert!(
                    matches!(status, Some(Status::Running { .. })),
                    "{lease} is {wanted:?} with {status:?} and {record:?}"
                ),
            }
        }
    }
}
