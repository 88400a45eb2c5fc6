//! Every rule of the core, as a table: a state, and the one action that follows.

use super::*;

const START: u64 = 1_000_000;

fn lease() -> LeaseId {
    LeaseId::from_bytes([1; 16])
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_millis(ms)
}

fn wanted(phase: Phase) -> Wanted {
    Wanted {
        phase,
        duration_max: Millis::from_secs(3_600),
        affords: Millis::from_secs(600),
        notice: Millis::from_secs(30),
        pause_after: None,
    }
}

fn awarded() -> Phase {
    Phase::Awarded {
        start_by: at(START + 60_000),
    }
}

fn running_phase() -> Phase {
    Phase::Running {
        limit: at(START + 600_000),
    }
}

fn runs() -> Status {
    Status::Running {
        started_at_ms: START,
    }
}

fn exited(code: u8, ended_at_ms: u64) -> Status {
    Status::Exited(Exit {
        code,
        signal: None,
        oom: false,
        started_at_ms: START,
        ended_at_ms,
        reason: None,
        stats: runtime::Stats::default(),
    })
}

fn started() -> Record {
    let kept = Kept {
        started: Some(at(START - 3)),
        ready_settled: true,
        ..Kept::default()
    };
    // The ledger has answered since.
    Record {
        unsure: false,
        ..Record::restored(kept)
    }
}

#[test]
fn after_a_crash_a_pause_that_may_be_over_stops_nothing_until_the_ledger_answers() {
    let restored = Record::restored(started().kept);
    let remembered = |record| {
        let (phase, seen) = (Some(paused(0)), Some(runs()));
        plan(phase, Freshness::Stale, seen, Some(record), START + 5).actions
    };
    assert_eq!(remembered(restored), []);
    let rests = actions(paused(0), Some(runs()), started(), START + 5);
    let why = StopWhy::Pause;
    assert!(
        matches!(rests[..], [Action::Stop { why: said, .. }] if said == why),
        "{rests:?}"
    );
}

/// Plans for one lease.
fn plan(
    phase: Option<Phase>,
    freshness: Freshness,
    seen: Option<Status>,
    record: Option<Record>,
    now: u64,
) -> Plan {
    let leases = phase.map(|p| (lease(), wanted(p))).into_iter().collect();
    let mut view = View::remembered(leases, market::Height::ZERO);
    view.freshness = freshness;
    let seen = Seen::Listed(seen.map(|s| (lease(), s)).into_iter().collect());
    let book = record.map(|r| (lease(), r)).into_iter().collect();
    reconcile(&view, &seen, &book, at(now))
}

fn actions(phase: Phase, seen: Option<Status>, record: Record, now: u64) -> Vec<Action> {
    plan(Some(phase), Freshness::Fresh, seen, Some(record), now).actions
}

fn ended(at: u64, outcome: Outcome) -> Vec<Action> {
    let at = Timestamp::from_unix_millis(at);
    let report = Report::Ended { at, outcome };
    vec![Action::Report {
        lease: lease(),
        report,
    }]
}

#[test]
fn an_award_is_brought_up_one_step_at_a_time() {
    let lease = lease();
    let mut record = Record::default();
    assert_eq!(
        actions(awarded(), None, record, START),
        [Action::FetchManifest { lease }]
    );
    record.busy = Some(Step::FetchManifest);
    assert_eq!(actions(awarded(), None, record, START), []);
    record.step_done(Step::FetchManifest);
    assert_eq!(
        actions(awarded(), None, record, START),
        [Action::Prepare { lease }]
    );
    record.step_done(Step::Prepare);
    assert_eq!(
        actions(awarded(), None, record, START),
        [Action::Start { lease }]
    );
    // After a restart the manifest is gone, but what is laid out needs only its start.
    let fresh = Record::default();
    assert_eq!(
        actions(awarded(), Some(Status::Created), fresh, START),
        [Action::Start { lease }]
    );
    let report = Report::Ready { at: at(START) };
    let seen = Some(runs());
    assert_eq!(
        actions(awarded(), seen, record, START + 9),
        [Action::Report { lease, report }]
    );
}

#[test]
fn nothing_is_concluded_before_the_runtime_was_asked() {
    let leases = [(lease(), wanted(running_phase()))].into();
    let mut view = View::remembered(leases, market::Height::ZERO);
    view.freshness = Freshness::Fresh;
    let book = [(lease(), started())].into();
    assert_eq!(
        reconcile(&view, &Seen::NotYet, &book, at(START)),
        Plan::default()
    );
    let unsure = Record {
        look: true,
        ..started()
    };
    assert_eq!(
        actions(running_phase(), None, unsure, START),
        [Action::Look { lease: lease() }]
    );
}

#[test]
fn what_was_started_and_is_gone_is_lost_and_never_started_again() {
    let alive = Record {
        alive_at: Some(at(START + 50)),
        ..started()
    };
    for phase in [awarded(), running_phase()] {
        assert_eq!(
            actions(phase, None, alive, START + 90),
            ended(START + 50, Outcome::Lost)
        );
        assert_eq!(
            actions(phase, None, started(), START + 90),
            ended(START - 3, Outcome::Lost)
        );
    }
    // The folder was lost: the ledger says that it ran, this machine knows nothing of it.
    let nothing = Record::default();
    assert_eq!(
        actions(running_phase(), None, nothing, START),
        ended(START, Outcome::Lost)
    );
}

#[test]
fn a_start_under_way_is_not_taken_for_a_loss() {
    let starting = Record {
        busy: Some(Step::Start),
        ..started()
    };
    assert_eq!(actions(awarded(), None, starting, START), []);
}

#[test]
fn silence_of_the_ledger_stops_nothing_until_the_limit() {
    for phase in [Some(running_phase()), Some(awarded()), None] {
        let plan = plan(
            phase,
            Freshness::Stale,
            Some(runs()),
            Some(started()),
            START + 300_000,
        );
        assert_eq!(plan.actions, [], "{phase:?}");
    }
    let quiet = plan(
        Some(running_phase()),
        Freshness::Stale,
        Some(runs()),
        Some(started()),
        START + 1,
    );
    assert_eq!(quiet.wake_at, Some(at(START + 600_000)));
    // Also where the ledger never heard that it was ready: by the terms of the award.
    for phase in [running_phase(), awarded()] {
        let plan = plan(
            Some(phase),
            Freshness::Stale,
            Some(runs()),
            Some(started()),
            START + 600_000,
        );
        let lease = lease();
        let why = StopWhy::Limit;
        assert_eq!(
            plan.actions,
            [Action::Stop {
                lease,
                grace: END_GRACE,
                why
            }],
            "{phase:?}"
        );
    }
}

#[test]
fn the_limit_is_reported_to_the_millisecond() {
    let late = exited(143, START + 600_080);
    assert_eq!(
        actions(running_phase(), Some(late), started(), START + 600_090),
        ended(START + 600_000, Outcome::LimitReached)
    );
    let out_of_memory = false;
    let just_before = exited(0, START + 599_999);
    assert_eq!(
        actions(
            running_phase(),
            Some(just_before),
            started(),
            START + 600_090
        ),
        ended(
            START + 599_999,
            Outcome::Exited {
                code: 0,
                out_of_memory
            }
        )
    );
}

#[test]
fn a_container_whose_lease_is_over_is_stopped_removed_and_forgotten() {
    let lease = lease();
    for seen in [runs(), Status::Created, Status::Starting] {
        let why = StopWhy::LedgerEnded;
        let stop = Action::Stop {
            lease,
            grace: END_GRACE,
            why,
        };
        assert_eq!(actions(Phase::Ended, Some(seen), started(), START), [stop]);
    }
    let gone = exited(143, START);
    assert_eq!(
        actions(Phase::Ended, Some(gone), started(), START),
        [Action::Remove { lease }]
    );
    assert_eq!(
        actions(Phase::Ended, None, started(), START),
        [Action::Forget { lease }]
    );
    let fetching = Record {
        busy: Some(Step::FetchManifest),
        ..Record::default()
    };
    assert_eq!(
        actions(Phase::Ended, None, fetching, START),
        [Action::Abandon { lease }]
    );
}

#[test]
fn a_notice_that_lasts_is_cut_short_when_the_lease_is_over() {
    let mut waiting = Record {
        busy: Some(Step::Stop),
        stopping: Some(StopWhy::Notice),
        ..started()
    };
    let abandon = Action::Abandon { lease: lease() };
    assert_eq!(
        actions(Phase::Ended, Some(runs()), waiting, START),
        [abandon]
    );
    waiting.stopping = Some(StopWhy::LedgerEnded);
    assert_eq!(actions(Phase::Ended, Some(runs()), waiting, START), []);
}

#[test]
fn a_container_of_which_the_ledger_said_nothing_stays() {
    let plan = plan(None, Freshness::Fresh, Some(runs()), None, START);
    assert_eq!(plan, Plan::default());
}

#[test]
fn blame_decides_how_a_failed_start_ends() {
    let failed = |blame| Status::Failed {
        blame,
        reason: "x".to_owned(),
    };
    let table = [
        (Blame::Tenant, Outcome::ImageError),
        (Blame::Provider, Outcome::Lost),
        (Blame::Transient, Outcome::Lost),
    ];
    for (blame, outcome) in table {
        assert_eq!(
            actions(awarded(), Some(failed(blame)), Record::default(), START),
            ended(START, outcome)
        );
        let mut record = Record::default();
        record.step_failed(Step::Prepare, blame, at(START));
        let next = actions(awarded(), None, record, START);
        if blame == Blame::Transient {
            assert_eq!(next, [], "it waits for the next try");
            assert_eq!(
                actions(awarded(), None, record, START + 50),
                [Action::FetchManifest { lease: lease() }]
            );
        } else {
            assert_eq!(next, ended(START, outcome));
        }
    }
}

#[test]
fn transient_failures_are_tried_again_a_bounded_number_of_times() {
    let mut record = Record::default();
    let mut image = Record {
        manifest: true,
        ..Record::default()
    };
    for _ in 0..=book::TRIES_MAX {
        assert_eq!((record.verdict, image.verdict), (None, None));
        record.step_failed(Step::FetchManifest, Blame::Transient, at(START));
        image.step_failed(Step::Prepare, Blame::Transient, at(START));
    }
    assert_eq!(
        actions(awarded(), None, image, START),
        ended(START, Outcome::Lost)
    );
    // The tenant chose who keeps the manifest. Only a ledger that answers can say where that is.
    assert_eq!(
        actions(awarded(), None, record, START),
        ended(START, Outcome::ImageError)
    );
    let phase = Some(awarded());
    let silent = plan(phase, Freshness::Stale, None, Some(record), START);
    assert_eq!(silent.actions, []);
}

#[test]
fn an_end_that_came_before_ready_was_reported_waits_for_that_report() {
    let lease = lease();
    let mut record = started();
    record.kept.ready_settled = false;
    let done = exited(3, START + 4);
    let report = Report::Ready { at: at(START) };
    assert_eq!(
        actions(awarded(), Some(done.clone()), record, START + 9),
        [Action::Report { lease, report }]
    );
    record.reporting = true;
    assert_eq!(
        actions(awarded(), Some(done.clone()), record, START + 9),
        []
    );
    record.reporting = false;
    record.kept.ready_settled = true;
    let outcome = Outcome::Exited {
        code: 3,
        out_of_memory: false,
    };
    assert_eq!(
        actions(awarded(), Some(done), record, START + 9),
        ended(START + 4, outcome)
    );
}

#[test]
fn a_report_is_repeated_as_it_was_until_the_ledger_answers() {
    let mut record = started();
    record.kept.ended = Some((at(START + 5), Outcome::Lost));
    assert_eq!(
        actions(running_phase(), None, record, START + 900),
        ended(START + 5, Outcome::Lost)
    );
    record.report_again_at = Some(at(START + 1_000));
    let plan = plan(
        Some(running_phase()),
        Freshness::Fresh,
        None,
        Some(record),
        START + 900,
    );
    assert_eq!(
        (plan.actions, plan.wake_at),
        (vec![], record.report_again_at)
    );
    record.kept.ended_settled = true;
    assert_eq!(actions(running_phase(), None, record, START + 9_000), []);
}

#[test]
fn notice_is_given_in_time_and_the_end_is_reported_as_stopped() {
    let lease = lease();
    let stop_by = at(START + 100_000);
    let phase = Phase::Preempting {
        limit: at(START + 600_000),
        stop_by,
    };
    let early = plan(
        Some(phase),
        Freshness::Fresh,
        Some(runs()),
        Some(started()),
        START,
    );
    assert_eq!(
        (early.actions, early.wake_at),
        (vec![], Some(at(START + 70_000)))
    );
    let stop = Action::Stop {
        lease,
        grace: Duration::from_secs(29),
        why: StopWhy::Notice,
    };
    assert_eq!(
        actions(phase, Some(runs()), started(), START + 70_000),
        [stop]
    );
    let mut marked = started();
    marked.kept.stop = Some(StopMark {
        at: at(START + 70_000),
    });
    let after = exited(143, START + 70_500);
    assert_eq!(
        actions(phase, Some(after), marked, START + 71_000),
        ended(START + 70_500, Outcome::Stopped)
    );
    // It ended by itself before the notice arrived.
    let before = exited(0, START + 69_000);
    let outcome = Outcome::Exited {
        code: 0,
        out_of_memory: false,
    };
    assert_eq!(
        actions(phase, Some(before), marked, START + 71_000),
        ended(START + 69_000, outcome)
    );
}

#[test]
fn a_dead_shim_is_reported_and_what_is_left_is_ended() {
    let orphan = Status::Lost {
        alive: true,
        started_at_ms: Some(START),
    };
    let mut record = started();
    assert_eq!(
        actions(running_phase(), Some(orphan.clone()), record, START + 9),
        ended(START - 3, Outcome::Lost)
            .iter()
            .map(|_| {
                Action::Report {
                    lease: lease(),
                    report: Report::Ended {
                        at: at(START),
                        outcome: Outcome::Lost,
                    },
                }
            })
            .collect::<Vec<_>>()
    );
    record.kept.ended = Some((at(START), Outcome::Lost));
    record.kept.ended_settled = true;
    let why = StopWhy::Over;
    let stop = Action::Stop {
        lease: lease(),
        grace: END_GRACE,
        why,
    };
    assert_eq!(
        actions(running_phase(), Some(orphan), record, START + 9),
        [stop]
    );
}

#[test]
fn a_view_takes_no_older_answer_and_believes_a_denial_only_when_it_is_repeated() {
    let mut view = View::unknown();
    let answer = |height, wanted| Answer {
        height: market::Height::from_number(height),
        leases: [(lease(), wanted)].into(),
    };
    view.learn(answer(9, Some(wanted(running_phase()))), at(START));
    assert_eq!(view.freshness, Freshness::Fresh);
    view.learn(answer(8, None), at(START + 100_000));
    assert_eq!(
        (view.freshness, view.leases[&lease()].phase),
        (Freshness::Stale, running_phase())
    );
    view.learn(answer(9, None), at(START + 200_000));
    view.learn(answer(10, None), at(START + 204_999));
    assert_eq!(view.leases[&lease()].phase, running_phase());
    view.learn(answer(10, None), at(START + 205_000));
    assert_eq!(view.leases[&lease()].phase, Phase::Ended);
}

#[test]
fn a_ready_report_that_is_owed_holds_beats_back_but_not_for_ever() {
    let leases = [(lease(), wanted(awarded()))].into();
    let view = View::remembered(leases, market::Height::ZERO);
    let seen = Seen::Listed([(lease(), runs())].into());
    let owed = |refusals, ready_settled| {
        let mut record = started();
        record.kept.ready_settled = ready_settled;
        record.refusals = refusals;
        ready_is_owed(&view, &seen, &[(lease(), record)].into())
    };
    assert!(owed(0, false) && owed(READY_REFUSALS_MAX - 1, false));
    assert!(
        !owed(READY_REFUSALS_MAX, false),
        "the other leases live by its beats"
    );
    assert!(!owed(0, true));
    let nothing = Seen::Listed(BTreeMap::new());
    assert!(!ready_is_owed(&view, &nothing, &Book::new()));
}

fn paused(left_ms: u64) -> Phase {
    Phase::Paused {
        left: Millis::from_millis(left_ms),
    }
}

fn resting(round: u32) -> Record {
    let mut record = started();
    record.kept.resting = true;
    record.kept.round = round;
    record.round_made = round;
    record
}

#[test]
fn a_lease_whose_funds_ran_out_rests_and_goes_on_when_they_are_added_to() {
    let lease = lease();
    let stop = Action::Stop {
        lease,
        grace: END_GRACE,
        why: StopWhy::Pause,
    };
    let restart = Action::Restart { lease, round: 1 };
    let over = Some(exited(143, START + 50));
    assert_eq!(actions(paused(0), Some(runs()), started(), START), [stop]);
    // Neither its end nor its folder is touched while it rests.
    assert_eq!(actions(paused(0), over.clone(), resting(0), START), []);
    assert_eq!(actions(paused(999), over.clone(), resting(0), START), []);
    assert_eq!(
        actions(paused(1_000), over.clone(), resting(0), START),
        [restart]
    );
    // The limit that this machine reported itself is a pause as well, once the ledger has made it one.
    let mut at_limit = started();
    at_limit.kept.ended = Some((at(START + 50), Outcome::LimitReached));
    assert_eq!(
        actions(paused(1_000), over.clone(), at_limit, START),
        ended(START + 50, Outcome::LimitReached)
    );
    at_limit.kept.ended_settled = true;
    assert_eq!(actions(paused(0), over.clone(), at_limit, START), []);
    assert_eq!(
        actions(paused(1_000), over.clone(), at_limit, START),
        [restart]
    );
    // Funds are of no use while the ledger cannot be asked.
    let stale = plan(
        Some(paused(1_000)),
        Freshness::Stale,
        over.clone(),
        Some(resting(0)),
        START,
    );
    assert_eq!(stale.actions, []);
    // What exited by itself has ended, whatever was paid since.
    let mut done = started();
    done.kept.ended = Some((
        at(START),
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    ));
    done.kept.ended_settled = true;
    assert_eq!(actions(paused(1_000), over.clone(), done, START), []);
    assert_eq!(
        actions(Phase::Ended, over, resting(0), START),
        [Action::Remove { lease }]
    );
}

#[test]
fn a_restarted_workload_is_reported_ready_again_and_rests_where_that_is_refused() {
    let lease = lease();
    let mut record = resting(0);
    record.restart(at(START), true);
    assert_eq!((record.kept.round, record.kept.ready_settled), (1, false));
    // A crash between mark and start: the same round is asked for again, and the old end is not taken for the new.
    let again = [Action::Restart { lease, round: 1 }];
    assert_eq!(
        actions(paused(5_000), Some(exited(143, START - 1)), record, START),
        again
    );
    record.step_done(Step::Restart);
    let report = Report::Ready { at: at(START) };
    let ready = [Action::Report { lease, report }];
    assert_eq!(actions(paused(5_000), Some(runs()), record, START), ready);
    record.refusals = READY_REFUSALS_MAX;
    let both = actions(paused(5_000), Some(runs()), record, START);
    assert!(
        matches!(
            both[1],
            Action::Stop {
                why: StopWhy::Pause,
                ..
            }
        ),
        "{both:?}"
    );
    record.refusals = 0;
    record.kept.ready_settled = true;
    record.unsure = true;
    assert_eq!(
        actions(paused(5_000), Some(runs()), record, START),
        [],
        "it may run for the ledger"
    );
    record.unsure = false;
    assert!(matches!(
        actions(paused(5_000), Some(runs()), record, START)[..],
        [Action::Stop { .. }]
    ));
    // Not at once again: its devices may be another's.
    let mut later = resting(1);
    later.rest_until = Some(at(START + 30_000));
    let seen = Some(exited(143, START));
    let plan = plan(
        Some(paused(5_000)),
        Freshness::Fresh,
        seen,
        Some(later),
        START,
    );
    assert_eq!(
        (plan.actions, plan.wake_at),
        (vec![], Some(at(START + 30_000)))
    );
}

#[test]
fn a_silent_ledger_makes_a_job_rest_that_says_so_and_only_that() {
    let lease = lease();
    let wanted = Wanted {
        pause_after: Some(Millis::from_secs(60)),
        ..wanted(running_phase())
    };
    let mut view = View::remembered([(lease, wanted)].into(), market::Height::ZERO);
    view.lose_sight(at(START));
    view.lose_sight(at(START + 50_000));
    let seen = Seen::Listed([(lease, runs())].into());
    let book: Book = [(lease, started())].into();
    let planned = |now: u64| reconcile(&view, &seen, &book, at(now));
    let before = planned(START + 59_999);
    assert_eq!(
        (before.actions, before.wake_at),
        (vec![], Some(at(START + 60_000)))
    );
    let after = planned(START + 60_000).actions;
    assert!(
        matches!(
            after[..],
            [Action::Stop {
                why: StopWhy::Pause,
                ..
            }]
        ),
        "{after:?}"
    );
    // Nothing is started into the silence either.
    let still: Book = [(lease, resting(0))].into();
    let ended_seen = Seen::Listed([(lease, exited(143, START + 60_000))].into());
    let mut unheard = View::remembered([(lease, wanted)].into(), market::Height::ZERO);
    unheard.freshness = Freshness::Fresh;
    unheard.fall_silent(at(START));
    assert_eq!(
        reconcile(&unheard, &ended_seen, &still, at(START + 61_000)).actions,
        []
    );
    // The ledger is back, and the lease is still alive: it goes on without being ready anew.
    let over = Some(exited(143, START + 60_000));
    let on = actions(running_phase(), over.clone(), resting(0), START + 70_000);
    assert_eq!(on, [Action::Restart { lease, round: 1 }]);
    let mut record = resting(0);
    record.restart(at(START), false);
    assert!(record.kept.ready_settled);
    assert_eq!(
        actions(Phase::Ended, over, record, START),
        [Action::Remove { lease }]
    );
}
