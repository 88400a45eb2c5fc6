//! Quantities as types: private fields, named constructors, checked arithmetic.
//!
//! [`Money`], [`Rate`], [`Millis`], [`Timestamp`], [`ByteSize`], [`MilliCpu`], [`BasisPoints`], [`Height`]. There is no
//! `From<u64>`: a bare number never becomes a quantity by accident.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $from:ident, $get:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name($inner);

        impl $name {
            /// The zero quantity.
            pub const ZERO: Self = Self(0);
            /// The largest representable quantity.
            pub const MAX: Self = Self(<$inner>::MAX);

            /// Makes the quantity from a number in the unit that the constructor's name says.
            pub const fn $from(value: $inner) -> Self {
                Self(value)
            }

            /// Returns the number in the unit that the method's name says.
            pub const fn $get(self) -> $inner {
                self.0
            }

            /// Returns whether the quantity is zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// Returns the sum, or `None` on overflow.
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// Returns the difference, or `None` when `other` is larger.
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// Returns the sum, or the largest quantity on overflow.
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// Returns the difference, or zero when `other` is larger.
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

quantity!(
    /// An amount of US dollars in micro-dollars; never negative.
    Money, u64, from_micros, micros
);
quantity!(
    /// A price in micro-dollars per hour of one unit (a device, or a GiB kept).
    Rate, u64, from_micros_per_hour, micros_per_hour
);
quantity!(
    /// A price in micro-dollars per GiB moved out of a machine.
    PricePerGib, u64, from_micros_per_gib, micros_per_gib
);
quantity!(
    /// A duration in milliseconds.
    Millis, u64, from_millis, millis
);
quantity!(
    /// An instant in milliseconds since the Unix epoch (UTC).
    Timestamp, u64, from_unix_millis, unix_millis
);
quantity!(
    /// A size in bytes.
    ByteSize, u64, from_bytes, bytes
);
quantity!(
    /// Processor time share in thousandths of one core.
    MilliCpu, u32, from_milli, milli
);
quantity!(
    /// A share in hundredths of a percent; 10,000 is the whole.
    BasisPoints, u16, from_bps, bps
);
quantity!(
    /// The number of a block; genesis is 0.
    Height, u64, from_number, number
);

/// Milliseconds in an hour, the time unit of every [`Rate`].
pub const MILLIS_PER_HOUR: u64 = 3_600_000;

impl Money {
    /// Makes an amount from whole dollars, saturating.
    pub const fn from_dollars(dollars: u64) -> Self {
        Self(dollars.saturating_mul(1_000_000))
    }

    /// Returns `bps` of the amount, rounded down.
    pub fn share(self, bps: BasisPoints) -> Self {
        let product = u128::from(self.0).saturating_mul(u128::from(bps.0));
        Self(u64::try_from(product.checked_div(10_000).unwrap_or(0)).unwrap_or(u64::MAX))
    }
}

impl Rate {
    /// Returns the charge for `units` of one unit each held for `elapsed`, rounded down.
    ///
    /// Rounding down is in the tenant's favour. Round once per lease: sum the elapsed time first.
    /// # Errors
    /// `None` when the result exceeds [`Money::MAX`].
    pub fn charge(self, units: u32, elapsed: Millis) -> Option<Money> {
        let product = u128::from(self.0)
            .checked_mul(u128::from(units))?
            .checked_mul(u128::from(elapsed.0))?;
        let micros = product.checked_div(u128::from(MILLIS_PER_HOUR))?;
        u64::try_from(micros).ok().map(Money)
    }

    /// Returns the longest time for which `units` units cost no more than `budget`; [`Millis::MAX`] when free.
    pub fn affords(self, units: u32, budget: Money) -> Millis {
        let per_hour = u128::from(self.0).saturating_mul(u128::from(units));
        if per_hour == 0 {
            return Millis::MAX;
        }
        // The charge is floor(rate*t/H) <= budget for every t with rate*t < (budget+1)*H; the plain floor keeps the
        // exact product within the budget as well, so the last instant is fully funded.
        let total = u128::from(budget.0).saturating_mul(u128::from(MILLIS_PER_HOUR));
        let ms = total.checked_div(per_hour).unwrap_or(0);
        Millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

impl Millis {
    /// Makes a duration from whole seconds, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }
}

impl Timestamp {
    /// Returns the instant `by` later, saturating.
    pub const fn after(self, by: Millis) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// Returns the instant `by` earlier, saturating at the epoch.
    pub const fn before(self, by: Millis) -> Self {
        Self(self.0.saturating_sub(by.0))
    }

    /// Returns the time from `earlier` to this instant; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl ByteSize {
    /// Makes a size from MiB, saturating.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Makes a size from GiB, saturating.
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }
}

impl Height {
    /// Returns the next block's number.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Money {
    /// Writes dollars with all six decimals, as `$1.320000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.0.checked_div(1_000_000).unwrap_or(0);
        let micros = self.0.checked_rem(1_000_000).unwrap_or(0);
        write!(f, "${dollars}.{micros:06}")
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
