//! Quantities as people type them, which job files share, and as they read them.

pub(crate) use api::jobfile::quantity::{
    GpuNeed, canonical_model, cores, duration, gpu, label, money, name, on_budget, on_partition,
    percent, rate, size, variable, variable_name,
};
use market::{Millis, Money};

/// Writes a duration with its two largest units: `1 h 30 m`, `2.4 s`, `850 ms`.
pub(crate) fn show_duration(duration: Millis) -> String {
    let ms = duration.millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} m {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// Writes a size in GiB, or in MiB where it is below one.
pub(crate) fn show_size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes < GIB {
        return format!("{} MiB", bytes >> 20);
    }
    let tenths = u128::from(bytes) * 10 / u128::from(GIB);
    match tenths % 10 {
        0 => format!("{} GiB", tenths / 10),
        tenth => format!("{}.{tenth} GiB", tenths / 10),
    }
}

/// Writes an amount with four significant digits and at least two decimals, for tables: `1.320`, `0.05`, `0.0004120`.
pub(crate) fn show_amount(amount: Money) -> String {
    let micros = amount.micros();
    let exact = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let lead = exact.bytes().position(|c| matches!(c, b'1'..=b'9'));
    let Some(lead) = lead else {
        return "0.00".to_owned();
    };
    let point = exact.find('.').unwrap_or(0);
    // Position after the fourth significant digit, the point not counted, but never before the second decimal.
    let significant = if lead > point {
        lead + 4
    } else {
        lead + 4 + usize::from(lead + 4 > point)
    };
    let end = significant.clamp(point + 3, exact.len());
    exact.chars().take(end).collect()
}

/// Writes processor time as cores: `2`, `0.5`.
pub(crate) fn show_cores(milli: u32) -> String {
    match milli % 1000 {
        0 => format!("{}", milli / 1000),
        part => format!(
            "{}.{}",
            milli / 1000,
            format!("{part:03}").trim_end_matches('0')
        ),
    }
}

/// Writes how long ago an instant was, or how far ahead it is.
pub(crate) fn show_age(at: market::Timestamp, now: market::Timestamp) -> String {
    let coarse = |ms: u64| match ms {
        0..60_000 => format!("{}s", ms / 1_000),
        60_000..3_600_000 => format!("{}m", ms / 60_000),
        3_600_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    };
    if at > now {
        return format!("in {}", coarse(at.since(now).millis()));
    }
    format!("{} ago", coarse(now.since(at).millis()))
}

#[cfg(test)]
mod tests {
    use market::Timestamp;

    use super::*;

    #[test]
    fn amounts_keep_four_digits_and_two_decimals() {
        let cases = [
            (1_320_000, "1.320"),
            (12_340_000, "12.34"),
            (999_990_000, "999.99"),
            (50_000, "0.05000"),
            (412, "0.000412"),
            (0, "0.00"),
            (123_456_789_000, "123456.78"),
            (1_000_000_000, "1000.00"),
        ];
        for (micros, text) in cases {
            assert_eq!(show_amount(Money::from_micros(micros)), text);
        }
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(show_duration(Millis::from_millis(2_450)), "2.4 s");
        assert_eq!(show_duration(Millis::from_secs(5_400)), "1 h 30 m");
        assert_eq!(show_size(80 << 30), "80 GiB");
        assert_eq!(show_size(3 << 29), "1.5 GiB");
        assert_eq!(show_size(512 << 20), "512 MiB");
        assert_eq!(show_cores(1500), "1.5");
        let now = Timestamp::from_unix_millis(10_000_000);
        assert_eq!(show_age(now.before(Millis::from_secs(240)), now), "4m ago");
        assert_eq!(show_age(now.after(Millis::from_secs(30)), now), "in 30s");
    }
}
