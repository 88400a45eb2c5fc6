//! Quantities as people type them, in job files and on command lines alike: `1.80`, `6h`, `64G`, `h100:2`; and written
//! back so that reading gives the same.

use market::{
    BasisPoints, ByteSize, DeviceNeed, MilliCpu, Millis, Money, Name, OnBudget, OnPartition, Rate,
};

/// Milliseconds of each unit of time, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads dollars with up to six decimals: `5`, `$0.50`, `0.000001`.
pub fn money(text: &str) -> Result<Money, String> {
    let number = text.strip_prefix('$').unwrap_or(text);
    decimal(number, 6).map(Money::from_micros).ok_or_else(|| {
        format!("{text:?} is no amount; use dollars with up to six decimals, as 0.50")
    })
}

/// Reads a price per device-hour in dollars.
pub fn rate(text: &str) -> Result<Rate, String> {
    money(text).map(|amount| Rate::from_micros_per_hour(amount.micros()))
}

/// Reads a duration: `30s`, `90m`, `1h30m`, `2d`.
pub fn duration(text: &str) -> Result<Millis, String> {
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
pub fn size(text: &str) -> Result<ByteSize, String> {
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
pub fn cores(text: &str) -> Result<MilliCpu, String> {
    let milli = decimal(text, 3)
        .and_then(|milli| u32::try_from(milli).ok())
        .filter(|m| *m > 0);
    milli
        .map(MilliCpu::from_milli)
        .ok_or_else(|| format!("{text:?} is no number of cores; use 4 or 0.5"))
}

/// Reads a name as the ledger takes it.
pub fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| {
        format!(
            "{text:?} is no name; use 1 to {} printable ASCII characters",
            Name::LEN_MAX
        )
    })
}

/// Reads one variable: `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no variable; use NAME=VALUE")),
    }
}

/// GPUs of a model, or of any, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuNeed {
    /// The canonical model; `None` is any.
    pub model: Option<Name>,
    /// How many.
    pub count: u8,
}

impl GpuNeed {
    /// Returns the need as the ledger takes it.
    pub fn device(&self, vram_min: ByteSize) -> DeviceNeed {
        DeviceNeed::Gpu {
            models: self.model.iter().cloned().collect(),
            vram_min,
            interface: None,
            one_fabric: false,
        }
    }
}

/// Reads GPUs: `h100`, `h100:8`, `any`, `"RTX 4090"`, `4090:2`.
pub fn gpu(text: &str) -> Result<GpuNeed, String> {
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
pub fn canonical_model(text: &str) -> String {
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

/// Reads a share in percent with up to two decimals: `99.5`, `99.5%`, `>=99.5`.
pub fn percent(text: &str) -> Result<BasisPoints, String> {
    let number = text.strip_prefix(">=").unwrap_or(text).trim();
    let number = number.strip_suffix('%').unwrap_or(number).trim_end();
    let bps = decimal(number, 2).and_then(|bps| u16::try_from(bps).ok());
    bps.filter(|bps| *bps <= 10_000)
        .map(BasisPoints::from_bps)
        .ok_or_else(|| {
            format!("{text:?} is no share; use percent with up to two decimals, as 99.5")
        })
}

/// Reads what happens when a budget is reached: `end`, `pause:1h`.
pub fn on_budget(text: &str) -> Result<OnBudget, String> {
    let pause = |grace| OnBudget::Pause { grace };
    pause_or(text, "end", OnBudget::End, pause)
}

/// Reads what happens when a machine does not hear from the ledger: `keep`, `pause:10m`.
pub fn on_partition(text: &str) -> Result<OnPartition, String> {
    let pause = |after| OnPartition::Pause { after };
    pause_or(text, "keep", OnPartition::Keep, pause)
}

fn pause_or<T>(
    text: &str,
    word: &str,
    otherwise: T,
    pause: impl FnOnce(Millis) -> T,
) -> Result<T, String> {
    if text == word {
        return Ok(otherwise);
    }
    let time = text.strip_prefix("pause:").map(duration);
    match time {
        Some(Ok(time)) => Ok(pause(time)),
        _ => Err(format!(
            "{text:?} is neither {word} nor a pause, as pause:10m"
        )),
    }
}

/// Reads the name of a variable.
pub fn variable_name(text: &str) -> Result<String, String> {
    let plain = |c: char| !c.is_control() && c != '=';
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no variable's name"))
}

/// Reads the name of a label.
pub fn label_name(text: &str) -> Result<String, String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_./".contains(&c);
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no label's name; use 1 to 64 letters, digits and -_./"
    ))
}

/// Reads one label: `team=vision`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no label; use NAME=VALUE"))?;
    Ok((label_name(name)?, value.to_owned()))
}

/// Splits a command into words as a shell does, but for its expansions: blanks part, quotes and backslashes keep.
pub fn command_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = letters.next();
                let next = next.ok_or_else(|| "the command ends in a backslash".to_owned())?;
                word.get_or_insert_default().push(next);
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote of the command is not closed".to_owned());
    }
    words.extend(word);
    if words.is_empty() {
        return Err("the command has no words".to_owned());
    }
    Ok(words)
}

/// Writes dollars exactly: `1.8`, `25`, `0.000001`.
pub fn write_money(amount: Money) -> String {
    write_decimal(u128::from(amount.micros()), 6)
}

/// Writes what happens when a budget is reached, as [`on_budget`] reads it.
pub fn write_on_budget(policy: OnBudget) -> String {
    match policy {
        OnBudget::End => "end".to_owned(),
        OnBudget::Pause { grace } => format!("pause:{}", write_duration(grace)),
    }
}

/// Writes what happens in a silence of the ledger, as [`on_partition`] reads it.
pub fn write_on_partition(policy: OnPartition) -> String {
    match policy {
        OnPartition::Keep => "keep".to_owned(),
        OnPartition::Pause { after } => format!("pause:{}", write_duration(after)),
    }
}

/// Writes cores exactly: `8`, `0.5`.
pub fn write_cores(cores: MilliCpu) -> String {
    write_decimal(u128::from(cores.milli()), 3)
}

/// Writes a share in percent exactly: `99.5`.
pub fn write_percent(share: BasisPoints) -> String {
    write_decimal(u128::from(share.bps()), 2)
}

/// Writes a duration exactly, as [`duration`] reads it: `1h30m`.
pub fn write_duration(duration: Millis) -> String {
    let mut rest = duration.millis();
    let parts = UNITS.into_iter().filter_map(|(unit, each)| {
        let count = rest / each;
        rest %= each;
        (count > 0).then(|| format!("{count}{unit}"))
    });
    parts.collect()
}

/// Writes a size as [`size`] reads it; what is below a MiB is rounded up to whole KiB.
pub fn write_size(size: ByteSize) -> String {
    let kib = size.bytes().div_ceil(1 << 10);
    match kib {
        kib if kib.is_multiple_of(1 << 20) => format!("{}G", kib >> 20),
        kib if kib.is_multiple_of(1 << 10) => format!("{}M", kib >> 10),
        kib => format!("{kib}K"),
    }
}

fn write_decimal(smallest: u128, places: u32) -> String {
    let one = 10_u128.pow(places);
    let fraction = format!("{:0width$}", smallest % one, width = places as usize);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}", smallest / one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn shares_are_read_to_a_hundredth_of_a_percent() {
        for (text, bps) in [
            ("99.5", 9950),
            (">= 99.5%", 9950),
            ("100", 10_000),
            ("0.01", 1),
        ] {
            assert_eq!(percent(text).unwrap().bps(), bps, "{text}");
        }
        for bad in ["", "%", "100.01", "99.555", "<99", "-1", ">=>=1"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_are_split_as_a_shell_splits_them() {
        let split = |text| command_words(text).unwrap();
        assert_eq!(
            split("python train.py --epochs  3"),
            ["python", "train.py", "--epochs", "3"]
        );
        assert_eq!(
            split(r#"sh -c 'echo "a b"' "c\"d" e\ f ''"#),
            ["sh", "-c", "echo \"a b\"", "c\"d", "e f", ""]
        );
        for bad in ["", "  ", "'a", "a\\", "\"a\\"] {
            assert!(command_words(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in any::<u64>(), ms in 1_u64.., kib in 1_u64..1 << 50, milli in 1_u32.., bps in 0_u16..=10_000) {
            let amount = Money::from_micros(micros);
            prop_assert_eq!(money(&write_money(amount)), Ok(amount));
            let time = Millis::from_millis(ms);
            prop_assert_eq!(duration(&write_duration(time)), Ok(time));
            let bytes = ByteSize::from_bytes(kib << 10);
            prop_assert_eq!(size(&write_size(bytes)), Ok(bytes));
            let cpu = MilliCpu::from_milli(milli);
            prop_assert_eq!(cores(&write_cores(cpu)), Ok(cpu));
            let share = BasisPoints::from_bps(bps);
            prop_assert_eq!(percent(&write_percent(share)), Ok(share));
        }
    }
}
