//! Quantities as people type and read them: `$1.80`, `6h`, `64G`, `h100:2`.

use market::{ByteSize, DeviceNeed, MilliCpu, Millis, Money, Name, Rate};

/// Milliseconds of each unit of time, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads dollars with up to six decimals: `5`, `$0.50`, `0.000001`.
pub(crate) fn money(text: &str) -> Result<Money, String> {
    let number = text.strip_prefix('$').unwrap_or(text);
    decimal(number, 6).map(Money::from_micros).ok_or_else(|| {
        format!("{text:?} is no amount; use dollars with up to six decimals, as 0.50")
    })
}

/// Reads a price per device-hour in dollars.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    money(text).map(|amount| Rate::from_micros_per_hour(amount.micros()))
}

/// Reads a duration: `30s`, `90m`, `1h30m`, `2d`.
pub(crate) fn duration(text: &str) -> Result<Millis, String> {
    let bad = || format!("{text:?} is no duration; use 30s, 10m, 6h, 2d or 1h30m");
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let each = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, each)| *each);
        let part = number
            .parse::<u64>()
            .ok()
            .zip(each)
            .and_then(|(n, each)| n.checked_mul(each));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
        rest = after;
    }
    if total == 0 {
        return Err(bad());
    }
    Ok(Millis::from_millis(total))
}

/// Reads a size: `512M`, `64G`, `1.5G`, `2T`; the units are binary.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    let bad = || format!("{text:?} is no size; use 512M, 64G or 1.5G");
    let letters = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let (number, unit) = text.split_at(text.len() - letters.len());
    let shift = match unit
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    // Three decimals are enough for any size that people type.
    let milli = decimal(number, 3).ok_or_else(bad)?;
    let bytes = (u128::from(milli) << shift) / 1000;
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .map(ByteSize::from_bytes)
        .ok_or_else(bad)
}

/// Reads processor cores with up to three decimals: `4`, `0.5`.
pub(crate) fn cores(text: &str) -> Result<MilliCpu, String> {
    let milli = decimal(text, 3)
        .and_then(|milli| u32::try_from(milli).ok())
        .filter(|m| *m > 0);
    milli
        .map(MilliCpu::from_milli)
        .ok_or_else(|| format!("{text:?} is no number of cores; use 4 or 0.5"))
}

/// Reads a name as the ledger takes it.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| {
        format!(
            "{text:?} is no name; use 1 to {} printable ASCII characters",
            Name::LEN_MAX
        )
    })
}

/// Reads one variable: `NAME=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no variable; use NAME=VALUE")),
    }
}

/// GPUs of a model, or of any, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GpuNeed {
    /// The canonical model; `None` is any.
    pub(crate) model: Option<Name>,
    /// How many.
    pub(crate) count: u8,
}

impl GpuNeed {
    /// Returns the need as the ledger takes it.
    pub(crate) fn device(&self, vram_min: ByteSize) -> DeviceNeed {
        DeviceNeed::Gpu {
            models: self.model.iter().cloned().collect(),
            vram_min,
            interface: None,
            one_fabric: false,
        }
    }
}

/// Reads GPUs: `h100`, `h100:8`, `any`, `"RTX 4090"`, `4090:2`.
pub(crate) fn gpu(text: &str) -> Result<GpuNeed, String> {
    let (model, count) = match text.rsplit_once(':') {
        Some((model, count)) => (model, count.parse().ok().filter(|count| *count > 0)),
        None => (text, Some(1)),
    };
    let count =
        count.ok_or_else(|| format!("{text:?}: after the colon comes how many, 1 to 255"))?;
    let model = canonical_model(model);
    if model.is_empty() {
        return Err(format!(
            "{text:?} names no GPU model; use h100, h100:8 or any"
        ));
    }
    let model = match model.as_str() {
        "any" => None,
        model => Some(name(model)?),
    };
    Ok(GpuNeed { model, count })
}

/// Returns the network's word for a GPU model: lower case, no spaces or signs, no maker's name.
fn canonical_model(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let plain: String = lower
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-'))
        .collect();
    let plain = ["nvidia", "amd", "geforce", "tesla"]
        .iter()
        .fold(plain.as_str(), |rest, maker| {
            rest.strip_prefix(maker).unwrap_or(rest)
        });
    // People say 4090 and mean the card of the series.
    let series = plain.len() == 4 && plain.bytes().all(|c| c.is_ascii_digit());
    if series && matches!(plain.as_bytes().first(), Some(b'2'..=b'5')) {
        return format!("rtx{plain}");
    }
    plain.to_owned()
}

/// Reads a decimal number with at most `places` decimals, as a count of the smallest place.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    let fits = !whole.is_empty() && digits(whole) && digits(fraction) && fraction.len() <= places;
    let complete = !text.ends_with('.');
    (fits && complete)
        .then(|| format!("{whole}{fraction:0<places$}").parse().ok())
        .flatten()
}

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
    fn money_is_read_to_the_micro_and_no_further() {
        let cases = [
            ("5", 5_000_000),
            ("$0.50", 500_000),
            ("0.000001", 1),
            ("1.80", 1_800_000),
        ];
        for (text, micros) in cases {
            assert_eq!(money(text).unwrap().micros(), micros, "{text}");
        }
        for bad in [
            "",
            "$",
            "-1",
            "1e3",
            "0.0000001",
            "1.",
            ".5",
            "1,5",
            "99999999999999999999",
            "NaN",
        ] {
            assert!(money(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_in_parts() {
        assert_eq!(duration("1h30m").unwrap().millis(), 5_400_000);
        assert_eq!(duration("2d").unwrap().millis(), 172_800_000);
        assert_eq!(duration("250ms").unwrap().millis(), 250);
        for bad in [
            "",
            "h",
            "10",
            "-1h",
            "1.5h",
            "1w",
            "0s",
            "18446744073709551615d",
            "1h 30m",
            "é",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("64G").unwrap(), ByteSize::from_gib(64));
        assert_eq!(size("512MiB").unwrap(), ByteSize::from_mib(512));
        assert_eq!(size("1.5g").unwrap(), ByteSize::from_mib(1536));
        for bad in [
            "",
            "G",
            "64",
            "-1G",
            "0G",
            "64X",
            "1e9G",
            "99999999999999999999T",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn gpu_models_are_forgiving() {
        let model = |text: &str| {
            gpu(text)
                .unwrap()
                .model
                .map(|name| name.as_str().to_owned())
        };
        for text in [
            "rtx 4090",
            "RTX_4090",
            "4090",
            "rtx4090",
            "NVIDIA GeForce RTX 4090",
        ] {
            assert_eq!(model(text).as_deref(), Some("rtx4090"), "{text}");
        }
        assert_eq!(
            gpu("h100:8").unwrap(),
            GpuNeed {
                model: Name::parse("h100"),
                count: 8
            }
        );
        assert_eq!(
            gpu("any:2").unwrap(),
            GpuNeed {
                model: None,
                count: 2
            }
        );
        for bad in ["", ":", ":2", "h100:", "h100:0", "h100:999", "h100:x", "é"] {
            assert!(gpu(bad).is_err(), "{bad}");
        }
    }

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
