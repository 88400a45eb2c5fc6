//! Any order of crashes, restarts and silences: no lease is started twice, no live one is stopped, and once the faults
//! stop, everything comes to rest.

use proptest::prelude::*;

use super::*;

const LEASES: u8 = 3;
const START_BY: Millis = Millis::from_secs(60);
const LIMIT: Millis = Millis::from_secs(120);

#[derive(Clone, Debug)]
enum Op {
    /// The ledger awards, takes back or ends a lease.
    Award(u8),
    Preempt(u8),
    End(u8),
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
    disk: Book,
    book: Book,
    view: View,
    seen: Seen,
}

impl World {
    fn new() -> Self {
        Self {
            now: Timestamp::from_unix_millis(1_000_000),
            height: 1,
            ledger: BTreeMap::new(),
            containers: BTreeMap::new(),
            starts: BTreeMap::new(),
            disk: Book::new(),
            book: Book::new(),
            view: View::unknown(),
            seen: Seen::NotYet,
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
            Op::Answer => self.answer(),
            Op::LaggingAnswer => {
                // A node that is behind what this machine has heard may deny everything.
                let leases = self.book.keys().map(|lease| (*lease, None)).collect();
                if let Some(height) = self.view.height.number().checked_sub(1) {
                    let height = market::Height::from_number(height);
                    self.view.learn(Answer { height, leases }, self.now);
                }
            }
            Op::Silence => self.view.lose_sight(),
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
        self.view.lose_sight();
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
        let killed = killed_after < parts.len();
        for part in parts.into_iter().take(killed_after) {
            part(self, action.lease());
        }
        if killed {
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
                assert!(over || spent || noticed, "stopped a live workload: {why:?}");
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

    /// The parts of an action in the driver's order; it may be killed between any two.
    fn parts(action: &Action) -> Vec<fn(&mut Self, LeaseId)> {
        match action {
            Action::FetchManifest { .. } => {
                vec![|w, l| w.record(l, |r| r.step_done(Step::FetchManifest))]
            }
            Action::Prepare { .. } => vec![|w, l| w.record(l, |r| r.step_done(Step::Prepare))],
            Action::Start { .. } => vec![
                |w, l| {
                    w.containers.entry(l).or_insert(Status::Created);
                },
                |w, l| {
                    let now = w.now;
                    w.record(l, |r| r.kept.started = Some(now));
                    w.save(l);
                },
                |w, l| w.start(l),
                |w, l| w.record(l, |r| r.step_done(Step::Start)),
            ],
            Action::Report {
                report: Report::Ready { .. },
                ..
            } => vec![|w, l| w.take_ready(l), |w, l| {
                w.record(l, |r| r.kept.ready_settled = true);
                w.save(l);
            }],
            Action::Report {
                report: Report::Ended { .. },
                ..
            } => vec![
                |w, l| {
                    let now = w.now;
                    w.record(l, |r| {
                        r.kept.ended = r.kept.ended.or(Some((now, Outcome::Lost)));
                    });
                    w.save(l);
                },
                |w, l| {
                    let n = l.to_bytes()[0];
                    w.set_if(n, Phase::Ended, |p| p.is_some());
                },
                |w, l| {
                    w.record(l, |r| r.kept.ended_settled = true);
                    w.save(l);
                },
            ],
            Action::Stop { .. } => vec![
                |w, l| {
                    let now = w.now;
                    w.record(l, |r| {
                        r.kept.stop = r.kept.stop.or(Some(StopMark { at: now }));
                    });
                    w.save(l);
                },
                |w, l| w.stop(l),
            ],
            Action::Remove { .. } => vec![|w, l| drop(w.containers.remove(&l))],
            Action::Forget { .. } => vec![
                |w, l| {
                    w.disk.remove(&l);
                },
                |w, l| {
                    w.book.remove(&l);
                    w.view.forget(l);
                },
            ],
            Action::Abandon { .. } | Action::Look { .. } => vec![],
        }
    }

    fn record(&mut self, lease: LeaseId, change: impl FnOnce(&mut Record)) {
        change(self.book.entry(lease).or_default());
    }

    fn save(&mut self, lease: LeaseId) {
        self.disk
            .insert(lease, Record::restored(self.book[&lease].kept));
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
        self.set_if(n, Phase::Running { limit }, |p| {
            matches!(p, Some(Phase::Awarded { .. }))
        });
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_interleaving_starts_twice_or_stops_a_live_workload(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            for (lease, starts) in &world.starts {
                prop_assert!(*starts <= 1, "{lease} was started {starts} times");
            }
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
                _ => prop_assert!(
                    matches!(status, Some(Status::Running { .. })),
                    "{lease} is {wanted:?} with {status:?} and {record:?}"
                ),
            }
        }
    }
}
