//! The pricing file: what a provider wants, as YAML that people edit.
//!
//! ```yaml
//! prices:
//!   - device: any         # any, cpu, gpu, or a model such as h100; the most specific counts
//!     tier: on-demand     # spot, on-demand or reserved
//!     target: 0.10        # dollars per device and hour that the standing offer asks for
//!     floor: 0.08         # never less; left out, the target, and then there are no bids
//!     undercut: 10%       # how far below the target it bids
//!     storage: 0.0001     # dollars per GiB kept and hour
//!     egress: 0.01        # dollars per GiB sent out
//! ```
//!
//! Read as strictly as job files, by the same reader: a key that is not known, a value of another kind, or two prices for
//! the same thing are errors that name their line and column. Amounts are read from their digits, never through floating
//! point.

use std::fmt::Write as _;

use api::{
    jobfile::{
        Fault, nearest, quantity,
        tree::{self, Key, Mark, Node, Value},
    },
    view::text::Text as _,
};
use market::{BasisPoints, Money, PricePerGib, Rate, Tier};

use super::{DeviceKind, LINES_MAX, Line, Policy, UNDERCUT_DEFAULT};

pub use api::jobfile::{BadJobFile as BadPricing, FILE_BYTES_MAX};

/// Every key of a price.
const KEYS: [&str; 7] = [
    "device", "tier", "target", "floor", "undercut", "storage", "egress",
];
/// The words of the tiers.
const TIERS: [&str; 3] = ["spot", "on-demand", "reserved"];

/// Reads a pricing file.
///
/// # Errors
/// [`BadPricing`] at the first thing that is not understood.
pub fn parse(text: &str) -> Result<Policy, BadPricing> {
    let read = || {
        let root = tree::read(text)?;
        let priced = priced(&root)?;
        Ok(Policy::of_lines(
            priced.into_iter().map(|priced| priced.line).collect(),
        ))
    };
    read().map_err(|fault: Fault| fault.in_text(text))
}

/// Writes a policy as a pricing file.
pub fn write(policy: &Policy) -> String {
    let mut text = String::from(
        "# What this machine is lent for, in dollars per device and hour. Of the prices that speak of a device the most\n\
         # specific counts: a model such as h100, then gpu or cpu, then any. `tradewind provider price show` says what\n\
         # follows from it.\nprices:\n",
    );
    for line in &policy.lines {
        text.push_str(&item("  ", line));
    }
    text
}

/// Changes or adds one price in a file's text, and leaves everything else of it, comments too, as it is.
///
/// # Errors
/// [`BadPricing`] where the text is not understood, or written so that the change cannot be made in it.
pub fn set(
    text: &str,
    device: &DeviceKind,
    tier: Tier,
    target: Rate,
    floor: Option<Rate>,
) -> Result<String, BadPricing> {
    let edit = || {
        let root = tree::read(text)?;
        let before = priced(&root)?;
        let found = before
            .iter()
            .find(|p| p.line.device == *device && p.line.tier == tier);
        let wanted = Line {
            target,
            floor: floor.unwrap_or(target),
            ..found.map_or_else(
                || Line::new(device.clone(), tier, target, target),
                |p| p.line.clone(),
            )
        };
        let at = found.map_or(root.at, |p| p.node.at);
        if wanted.floor > target {
            return Err(Fault::new(at, "the floor would be above the target"));
        }
        let changed = match found {
            Some(found) => replaced(text, found.node, target, floor),
            None => added(text, before.first().map(|first| first.node), &wanted),
        };
        // The text is changed as text, so that comments stay; whether that came out as meant is read back.
        let says = changed.as_deref().and_then(|text| parse(text).ok());
        let mut lines: Vec<Line> = before.iter().map(|p| p.line.clone()).collect();
        match before
            .iter()
            .zip(&mut lines)
            .find(|(p, _)| p.line.device == *device && p.line.tier == tier)
        {
            Some((_, line)) => *line = wanted,
            None => lines.push(wanted),
        }
        match changed {
            Some(changed) if says.is_some_and(|policy| policy.lines == lines) => Ok(changed),
            _ => Err(
                Fault::new(at, "this is written in a way that only a hand can change").hint(
                    "write one key a line, as in the example of: tradewind help provider price",
                ),
            ),
        }
    };
    edit().map_err(|fault: Fault| fault.in_text(text))
}

/// A price and where it stands.
struct Priced<'a> {
    line: Line,
    node: &'a Node,
}

fn priced(root: &Node) -> Result<Vec<Priced<'_>>, Fault> {
    let mut list = None;
    for (key, node) in root.entries("a pricing file begins with prices:")? {
        if key.text != "prices" {
            let what = format!("a pricing file has no key {:?}", key.text);
            return Err(Fault::new(key.at, what).hint("it has: prices"));
        }
        list = Some(node);
    }
    let list = list.ok_or_else(|| Fault::new(Mark::START, "a pricing file begins with prices:"))?;
    let items = list.items("a list of prices is wanted here, each begun with a dash")?;
    if items.is_empty() {
        return Err(Fault::new(list.at, "at least one price is wanted here"));
    }
    if items.len() > LINES_MAX {
        return Err(Fault::new(
            list.at,
            format!("more than {LINES_MAX} prices stand here"),
        ));
    }
    let mut all: Vec<Priced<'_>> = Vec::new();
    for node in items {
        let line = line(node)?;
        let same = |p: &&Priced<'_>| (&p.line.device, p.line.tier) == (&line.device, line.tier);
        if let Some(first) = all.iter().find(same) {
            let what = format!(
                "{} in {} has a price already, in line {}",
                line.device,
                tier_word(line.tier),
                first.node.at.line
            );
            return Err(Fault::new(node.at, what));
        }
        all.push(Priced { line, node });
    }
    Ok(all)
}

fn line(node: &Node) -> Result<Line, Fault> {
    let entries = node.entries("a price has keys, as device: any")?;
    for (key, _) in entries {
        known(key)?;
    }
    let device = wanted(node, "device")?.parse(device)?;
    let tier = wanted(node, "tier")?.parse(tier)?;
    let target = wanted(node, "target")?.parse(quantity::rate)?;
    let mut line = Line::new(device, tier, target, target);
    if let Some(node) = found(node, "floor") {
        line.floor = node.parse(quantity::rate)?;
        if line.floor > target {
            return Err(Fault::new(node.at, "the floor is above the target"));
        }
    }
    if let Some(node) = found(node, "undercut") {
        line.undercut = node.parse(undercut)?;
    }
    if let Some(node) = found(node, "storage") {
        line.per_gib_hour = node.parse(quantity::rate)?;
    }
    if let Some(node) = found(node, "egress") {
        let amount = node.parse(quantity::money)?;
        line.per_gib_out = PricePerGib::from_micros_per_gib(amount.micros());
    }
    Ok(line)
}

fn known(key: &Key) -> Result<(), Fault> {
    let word = key.text.as_str();
    if KEYS.contains(&word) {
        return Ok(());
    }
    let fault = Fault::new(key.at, format!("a price has no key {word:?}"));
    Err(match nearest(word, KEYS) {
        Some(name) => fault.hint(format!("did you mean: {name}")),
        None => fault.hint(format!("it has: {}", KEYS.join(", "))),
    })
}

fn found<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    entries
        .iter()
        .find_map(|(key, value)| (key.text == name).then_some(value))
}

fn wanted<'a>(node: &'a Node, name: &str) -> Result<&'a Node, Fault> {
    found(node, name).ok_or_else(|| Fault::new(node.at, format!("this price has no {name}")))
}

fn device(text: &str) -> Result<DeviceKind, String> {
    DeviceKind::parse(text).ok_or_else(|| {
        format!("{text:?} is no kind of device; use any, cpu, gpu or a model such as h100")
    })
}

fn tier(text: &str) -> Result<Tier, String> {
    Tier::from_text(text).ok_or_else(|| format!("{text:?} is no tier; use {}", TIERS.join(", ")))
}

fn undercut(text: &str) -> Result<BasisPoints, String> {
    quantity::percent(text)
        .ok()
        .filter(|share| (1..10_000).contains(&share.bps()))
        .ok_or_else(|| format!("{text:?} is no share; use percent from 0.01 to 99.99, as 10%"))
}

/// Returns a tier's word.
pub fn tier_word(tier: Tier) -> String {
    tier.to_text()
}

fn dollars(rate: Rate) -> String {
    quantity::write_money(Money::from_micros(rate.micros_per_hour()))
}

/// Writes one price as an item of the list.
fn item(indent: &str, line: &Line) -> String {
    let Line {
        device,
        tier,
        target,
        floor,
        undercut,
        per_gib_hour,
        per_gib_out,
    } = line;
    let mut keys = vec![
        ("device", device.to_string()),
        ("tier", tier_word(*tier)),
        ("target", dollars(*target)),
    ];
    if floor != target {
        keys.push(("floor", dollars(*floor)));
    }
    if *undercut != UNDERCUT_DEFAULT {
        keys.push(("undercut", quantity::write_percent(*undercut)));
    }
    if *per_gib_hour != Rate::ZERO {
        keys.push(("storage", dollars(*per_gib_hour)));
    }
    if *per_gib_out != PricePerGib::ZERO {
        let amount = Money::from_micros(per_gib_out.micros_per_gib());
        keys.push(("egress", quantity::write_money(amount)));
    }
    let mut text = String::new();
    for (place, (name, value)) in keys.iter().enumerate() {
        let dash = if place == 0 { "- " } else { "  " };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{indent}{dash}{name}: {value}");
    }
    text
}

/// Returns the text with another target and floor in one of its prices.
fn replaced(text: &str, node: &Node, target: Rate, floor: Option<Rate>) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = |name: &str| entries.iter().find(|(key, _)| key.text == name);
    let (target_key, target_value) = entry("target")?;
    write_over(&mut lines, target_value.at, &dollars(target))?;
    match (entry("floor"), floor) {
        (Some((_, value)), Some(floor)) => write_over(&mut lines, value.at, &dollars(floor))?,
        (Some((key, _)), None) => {
            lines.remove(key.at.line.checked_sub(1)?);
        }
        (None, Some(floor)) => {
            let indent = " ".repeat(target_key.at.column.checked_sub(1)?);
            lines.insert(
                target_value.at.line,
                format!("{indent}floor: {}", dollars(floor)),
            );
        }
        (None, None) => {}
    }
    Some(joined(&lines))
}

/// Returns the text with one price more, after those that it has.
fn added(text: &str, first: Option<&Node>, line: &Line) -> Option<String> {
    let dash = first?.at.column.checked_sub("- x".len())?;
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines.push(item(&" ".repeat(dash), line).trim_end().to_owned());
    Some(joined(&lines))
}

fn joined(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn write_over(lines: &mut [String], at: Mark, value: &str) -> Option<()> {
    let line = lines.get_mut(at.line.checked_sub(1)?)?;
    let from = at.column.checked_sub(1)?;
    let before: String = line.chars().take(from).collect();
    let after: String = line.chars().skip(from.checked_add(at.length)?).collect();
    *line = format!("{before}{value}{after}");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# mine\nprices:\n  - device: any\n    tier: on-demand\n    target: 0.10 # a tenth\n\n  \
        # the big ones\n  - device: h100\n    tier: spot\n    target: \"1.900001\"\n    floor: 1\n    undercut: 5%\n    \
        storage: 0.0001\n    egress: 0.02\n";

    #[test]
    fn a_file_is_read_to_the_micro_dollar_and_written_back() {
        let policy = parse(GOOD).unwrap();
        let [all, big] = &policy.lines[..] else {
            panic!("{policy:?}")
        };
        assert_eq!(
            (all.target.micros_per_hour(), all.floor),
            (100_000, all.target)
        );
        assert_eq!(big.device.to_string(), "h100");
        assert_eq!(big.target.micros_per_hour(), 1_900_001);
        assert_eq!(big.floor.micros_per_hour(), 1_000_000);
        assert_eq!(
            (big.undercut.bps(), big.per_gib_out.micros_per_gib()),
            (500, 20_000)
        );
        assert_eq!(big.per_gib_hour.micros_per_hour(), 100);
        assert_eq!(parse(&write(&policy)).unwrap(), policy);
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        let price = "prices:\n- device: cpu\n  tier: spot\n";
        let table = [
            ("", "1:1: the file is empty"),
            ("prices: 3\n", "1:9: a list of prices"),
            ("prices: []\n", "1:9: at least one"),
            ("version: 1\n", "1:1: a pricing file has no key \"version\""),
            ("- 1\n", "1:1: a pricing file begins with prices:"),
            (&format!("{price}  target: x\n"), "4:11: \"x\" is no amount"),
            (
                &format!("{price}  target: 1e3\n"),
                "4:11: \"1e3\" is no amount",
            ),
            (
                &format!("{price}  target: -1\n"),
                "4:11: \"-1\" is no amount",
            ),
            (
                &format!("{price}  target: 0.0000001\n"),
                "4:11: \"0.0000001\" is no amount",
            ),
            (
                &format!("{price}  target: 1\n  floor: 2\n"),
                "5:10: the floor is above",
            ),
            (
                &format!("{price}  targt: 1\n"),
                "4:3: a price has no key \"targt\"",
            ),
            (price, "2:3: this price has no target"),
            (&price.replace("spot", "spott"), "3:9: \"spott\" is no tier"),
            (&price.replace("cpu", "H 100"), "2:11: \"H 100\" is no kind"),
            (
                &format!("{price}  target: 1\n  undercut: 100\n"),
                "5:13: \"100\" is no share",
            ),
            (
                &format!("{price}  target: 1\n- device: cpu\n  tier: spot\n  target: 2\n"),
                "5:3: cpu in spot has a price already, in line 2",
            ),
        ];
        for (text, says) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
        let meant = parse(&format!("{price}  targt: 1\n")).unwrap_err();
        assert_eq!(meant.hint.as_deref(), Some("did you mean: target"));
    }

    #[test]
    fn setting_a_price_keeps_the_rest_with_its_comments() {
        let model = DeviceKind::parse("h100").unwrap();
        let rate = Rate::from_micros_per_hour;
        let (two, half) = (rate(2_500_000), rate(2_000_000));
        let changed = set(GOOD, &model, Tier::Spot, two, Some(half)).unwrap();
        assert!(
            changed.starts_with("# mine\n") && changed.contains("# the big ones"),
            "{changed}"
        );
        let lines = parse(&changed).unwrap().lines;
        assert_eq!(
            (lines.len(), lines[1].target, lines[1].floor),
            (2, two, half)
        );
        assert_eq!(lines[1].undercut.bps(), 500);
        let added = set(
            &changed,
            &DeviceKind::Cpu,
            Tier::OnDemand,
            rate(50_000),
            None,
        )
        .unwrap();
        let lines = parse(&added).unwrap().lines;
        assert_eq!(
            (lines.len(), lines[2].target, lines[2].floor),
            (3, rate(50_000), rate(50_000))
        );
        let floored = set(&added, &DeviceKind::Any, Tier::OnDemand, two, Some(half)).unwrap();
        assert!(
            floored.contains("target: 2.5 # a tenth\n    floor: 2\n"),
            "{floored}"
        );
        let bare = set(&floored, &DeviceKind::Any, Tier::OnDemand, two, None).unwrap();
        assert_eq!(parse(&bare).unwrap().lines[0].floor, two);
        let above = set(GOOD, &model, Tier::Spot, rate(1), Some(rate(2)));
        assert!(above.unwrap_err().what.contains("above the target"));
        let flow = "prices: [{device: any, tier: spot, target: 1}]\n";
        let error = set(flow, &DeviceKind::Any, Tier::Spot, two, Some(half)).unwrap_err();
        assert_eq!(
            (error.line, error.what.contains("only a hand")),
            (1, true),
            "{error}"
        );
    }
}
