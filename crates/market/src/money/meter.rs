//! What time and storage cost. Every line of a bill sums its units first and rounds once, down, in the tenant's favour,
//! so that any split of the time gives the same total.

use crate::{
    records::{Lease, Run},
    tx::{JobSpec, OnBudget},
    units::{ByteSize, MILLIS_PER_HOUR, Millis, Money, Rate, Timestamp},
};

/// Bytes in the unit of storage prices.
const BYTES_PER_GIB: u128 = 1 << 30;

/// Returns the charge for keeping `size` at `rate` for `elapsed`, rounded down; the largest amount on overflow.
pub(crate) fn storage_charge(rate: Rate, size: ByteSize, elapsed: Millis) -> Money {
    if rate.is_zero() || size.is_zero() || elapsed.is_zero() {
        return Money::ZERO;
    }
    let byte_time = u128::from(size.bytes()).checked_mul(u128::from(elapsed.millis()));
    let product = byte_time.and_then(|p| p.checked_mul(u128::from(rate.micros_per_hour())));
    let unit = BYTES_PER_GIB.saturating_mul(u128::from(MILLIS_PER_HOUR));
    let micros = product.and_then(|p| p.checked_div(unit));
    let micros = micros.and_then(|m| u64::try_from(m).ok());
    micros.map_or(Money::MAX, Money::from_micros)
}

/// Returns how many devices a lease has.
pub(crate) fn device_count(devices: &[u8]) -> u32 {
    u32::try_from(devices.len()).unwrap_or(u32::MAX)
}

/// Returns how long a job may stay paused for lack of funds.
pub(crate) fn pause_grace(spec: &JobSpec) -> Millis {
    match spec.on_budget {
        OnBudget::End => Millis::ZERO,
        OnBudget::Pause { grace } => grace,
    }
}

/// Returns the instant up to which a stretch is funded that begins at `since`, after `ran_before` of running and
/// `paused_before` of pauses. Storage for the pauses, and for one more of full grace, is set aside first.
pub(crate) fn funded_until(lease: &Lease, spec: &JobSpec, run: &Run) -> Timestamp {
    let paused = run.paused_before.saturating_add(pause_grace(spec));
    let storage = storage_charge(lease.prices.per_gib_hour, spec.storage_kept, paused);
    let compute = lease.funds.saturating_sub(storage);
    let units = device_count(&lease.devices);
    let total = lease.prices.per_device_hour.affords(units, compute);
    run.since.after(total.saturating_sub(run.ran_before))
}

/// Returns the instant at which the longest duration is reached.
pub(crate) fn duration_until(lease: &Lease, run: &Run) -> Timestamp {
    run.since
        .after(lease.duration_max.saturating_sub(run.ran_before))
}
