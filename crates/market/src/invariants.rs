//! The specification in code: what holds after every block. Used by tests, the simulator and debug builds.

use std::collections::BTreeMap;

use crate::{
    ids::AccountId,
    index::Index,
    load::device_bits,
    records::{JobState, LeaseState, MachineState},
    rows::Tables,
    state::Market,
    timer::Timer,
    units::Money,
};

/// A sentence that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct Broken(String);

type Checked = Result<(), Broken>;

fn holds(is: bool, sentence: impl FnOnce() -> String) -> Checked {
    if is { Ok(()) } else { Err(Broken(sentence())) }
}

/// Checks everything; slow, it reads every record.
pub fn check(m: &Market) -> Checked {
    money(m)?;
    bonds(m)?;
    devices(m)?;
    jobs(m)?;
    references(m)?;
    exits(m)?;
    derived(m)
}

fn sum(amounts: impl Iterator<Item = Money>) -> u128 {
    amounts
        .map(|a| u128::from(a.micros()))
        .fold(0, u128::saturating_add)
}

fn by_account(amounts: impl Iterator<Item = (AccountId, Money)>) -> BTreeMap<AccountId, u128> {
    let mut sums: BTreeMap<AccountId, u128> = BTreeMap::new();
    for (account, amount) in amounts {
        let sum = sums.entry(account).or_default();
        *sum = sum.saturating_add(u128::from(amount.micros()));
    }
    sums
}

/// Everything issued is somewhere, and every balance equals the records that it sums up.
fn money(m: &Market) -> Checked {
    let s = m.system();
    let accounts = m
        .accounts()
        .flat_map(|a| [a.available, a.held, a.bonded, a.locked]);
    let all = sum(accounts.chain([s.fees, s.insurance]));
    holds(all == u128::from(s.issued.micros()), || {
        format!("{all} micro-dollars exist, {} were issued", s.issued)
    })?;
    let holdings = m.tables.holds.iter().map(|h| (h.tenant, h.amount));
    let redemptions = m.tables.redemptions.iter().map(|r| (r.account, r.amount));
    let held = by_account(holdings.chain(redemptions));
    let locked = by_account(m.tables.payables.iter().map(|p| (p.provider, p.amount)));
    for a in m.accounts() {
        let of = |sums: &BTreeMap<AccountId, u128>| sums.get(&a.id).copied().unwrap_or(0);
        holds(of(&held) == u128::from(a.held.micros()), || {
            format!(
                "account {} holds {}, its holds and redemptions sum to {}",
                a.id,
                a.held,
                of(&held)
            )
        })?;
        holds(of(&locked) == u128::from(a.locked.micros()), || {
            format!(
                "account {} has {} locked, its payables sum to {}",
                a.id,
                a.locked,
                of(&locked)
            )
        })?;
    }
    Ok(())
}

/// Reserved bond is the collateral of the live leases, and is there.
fn bonds(m: &Market) -> Checked {
    let live = m.leases().filter(|l| l.is_live());
    let reserved = by_account(live.map(|l| (l.provider, l.collateral)));
    for p in m.providers() {
        let of = reserved.get(&p.account).copied().unwrap_or(0);
        holds(of == u128::from(p.reserved.micros()), || {
            format!(
                "provider {} reserves {}, its leases {of}",
                p.account, p.reserved
            )
        })?;
        let bonded = m.account(p.account).map_or(Money::ZERO, |a| a.bonded);
        holds(p.reserved <= bonded, || {
            format!(
                "provider {} reserves {} of a bond of {bonded}",
                p.account, p.reserved
            )
        })?;
    }
    Ok(())
}

/// A device is in at most one lease that is live and not paused, and no machine gives more than it has.
fn devices(m: &Market) -> Checked {
    for machine in m.machines() {
        let mut used: u64 = 0;
        let (mut cpu, mut memory, mut disk): (u128, u128, u128) = (0, 0, 0);
        for lease in m.leases_on(machine.id) {
            disk = disk.saturating_add(u128::from(lease.disk.bytes()));
            if matches!(lease.state, LeaseState::Paused { .. }) {
                continue;
            }
            let bits = device_bits(&lease.devices);
            holds(used & bits == 0, || {
                format!("a device of {} is leased twice", machine.id)
            })?;
            used |= bits;
            cpu = cpu.saturating_add(u128::from(lease.cpu.milli()));
            memory = memory.saturating_add(u128::from(lease.memory.bytes()));
        }
        let spec = &machine.spec;
        let fits = cpu <= u128::from(spec.cpu.milli())
            && memory <= u128::from(spec.memory.bytes())
            && disk <= u128::from(spec.disk.bytes());
        holds(fits, || {
            format!("leases of {} take more than it has", machine.id)
        })?;
    }
    Ok(())
}

/// A job's money adds up: what was charged and what is held is its budget, and a lease's funds are what is held.
fn jobs(m: &Market) -> Checked {
    for job in m.tables.jobs.iter() {
        let hold = m.hold(job.id);
        let left = hold.map_or(Money::ZERO, |h| h.amount);
        let spent = job.charged.saturating_add(left);
        match job.state {
            JobState::Ended { .. } => {
                holds(hold.is_none(), || {
                    format!("ended job {} has a hold", job.id)
                })?;
                holds(job.charged <= job.spec.budget, || {
                    format!("job {} was charged more than its budget", job.id)
                })?;
            }
            JobState::Open { order } => {
                let known = m.order(order).is_some_and(|o| o.job == job.id);
                holds(known, || format!("open job {} has no order", job.id))?;
                holds(hold.is_some() && spent == job.spec.budget, || {
                    format!("open job {}: charged and held is not its budget", job.id)
                })?;
            }
            JobState::Running { lease } => {
                let lease = m.lease(lease).filter(|l| l.job == job.id && l.is_live());
                holds(lease.is_some_and(|l| l.funds == left), || {
                    format!("running job {} has no live lease with its funds", job.id)
                })?;
                holds(spent == job.spec.budget, || {
                    format!("running job {}: charged and held is not its budget", job.id)
                })?;
            }
        }
    }
    Ok(())
}

/// Every id that a record names is there.
fn references(m: &Market) -> Checked {
    for s in m.tables.signers.iter() {
        holds(m.account(s.account).is_some(), || {
            format!("{} signs for no account", s.key)
        })?;
    }
    for p in m.providers() {
        holds(m.account(p.account).is_some(), || {
            format!("provider {} has no account", p.account)
        })?;
    }
    for machine in m.machines() {
        let known =
            m.provider(machine.provider).is_some() && m.signer(&machine.keys.sign).is_some();
        holds(known, || {
            format!("machine {} lacks provider or key", machine.id)
        })?;
    }
    for o in m.offers() {
        let machine = m.machine(o.terms.machine);
        let known = machine.is_some_and(|machine| {
            let last = o.terms.devices.last().copied().map(usize::from);
            machine.provider == o.provider && last.is_some_and(|d| d < machine.spec.devices.len())
        });
        holds(known, || {
            format!("offer {} names no device of its provider", o.id)
        })?;
    }
    for o in m.orders_open() {
        let job = m.job(o.job).map(|j| j.state);
        let open = job == Some(JobState::Open { order: o.id });
        holds(open, || format!("order {} is not its job's", o.id))?;
    }
    for b in m.tables.bids.iter() {
        let known = m.order(b.terms.order).is_some() && m.machine(b.terms.machine).is_some();
        holds(known, || format!("bid {} lacks order or machine", b.id))?;
    }
    for l in m.leases() {
        let known = m.job(l.job).is_some()
            && m.machine(l.machine).is_some()
            && m.provider(l.provider).is_some()
            && m.account(l.tenant).is_some();
        holds(known, || {
            format!("lease {} lacks job, machine or party", l.id)
        })?;
        let running = m.job(l.job).map(|j| j.state) == Some(JobState::Running { lease: l.id });
        holds(running == l.is_live(), || {
            format!("lease {} and its job disagree", l.id)
        })?;
    }
    for h in m.tables.holds.iter() {
        holds(m.job(h.job).is_some(), || {
            format!("hold {} has no job", h.job)
        })?;
    }
    Ok(())
}

/// Nothing waits for ever: every state that is not final has a timer, every final one is forgotten.
fn exits(m: &Market) -> Checked {
    let timers: std::collections::BTreeSet<Timer> = m.index.timers().map(|(_, _, t)| *t).collect();
    let has = |all: &[Timer], of: String| {
        holds(all.iter().all(|t| timers.contains(t)), || {
            format!("{of} has no exit timer")
        })
    };
    for l in m.leases() {
        let needed = match l.state {
            LeaseState::Awarded { .. } => vec![Timer::LeaseStart(l.id)],
            LeaseState::Running { .. } => vec![Timer::LeaseSuspect(l.id), Timer::LeaseLimit(l.id)],
            LeaseState::Suspect { .. } => vec![Timer::LeaseLost(l.id)],
            LeaseState::Preempting { .. } => vec![Timer::LeaseLost(l.id), Timer::LeaseLimit(l.id)],
            LeaseState::Paused { .. } => vec![Timer::LeaseLimit(l.id)],
            LeaseState::Ended { .. } => vec![Timer::LeaseForget(l.id)],
        };
        has(&needed, l.id.to_string())?;
    }
    for o in m.orders_open() {
        let waiting = m.index.waiting.contains(&(o.seq, o.id));
        let listed = waiting != m.index.closing.contains(&(o.closes_at, o.seq, o.id));
        if waiting {
            has(&[Timer::OrderExpire(o.id)], o.id.to_string())?;
        }
        holds(listed, || {
            format!("order {} is neither closing nor waiting", o.id)
        })?;
    }
    for o in m.offers() {
        has(&[Timer::OfferExpire(o.id)], o.id.to_string())?;
    }
    for p in m.tables.payables.iter() {
        has(&[Timer::PayableDue(p.lease)], p.lease.to_string())?;
    }
    for r in m.tables.redemptions.iter() {
        has(&[Timer::RedemptionReturn(r.id)], r.id.to_string())?;
    }
    for j in m.tables.jobs.iter() {
        if matches!(j.state, JobState::Ended { .. }) {
            has(&[Timer::JobForget(j.id)], j.id.to_string())?;
        }
    }
    for machine in m.machines() {
        if machine.state == MachineState::Active && machine.last_beat.is_some() {
            has(&[Timer::MachineDown(machine.id)], machine.id.to_string())?;
        }
    }
    Ok(())
}

/// The derived state equals what the records give when read afresh.
fn derived(m: &Market) -> Checked {
    let mut index = Index::new(m.params().clone());
    let mut tables = Tables::default();
    for record in m.tables.records() {
        tables.write_record(&mut index, record);
    }
    index.refresh(&tables);
    holds(index == m.index, || {
        "the lived index differs from a rebuilt one".to_owned()
    })
}
