//! Which crate may depend on which, and on how much.

use super::Finding;
use super::repo::{Kind, Repo};

/// What a crate may depend on among our own.
#[derive(Debug, Clone, Copy)]
enum Reach {
    These(&'static [&'static str]),
    All,
}

/// The house, from the ground up. A crate may depend on those named beside it and on no other;
/// for its tests too, since a test that needs more belongs to a crate further up.
const HOUSE: &[(&str, Reach)] = &[
    ("market", Reach::These(&[])),
    ("runtime", Reach::These(&[])),
    ("workload", Reach::These(&[])),
    ("xtask", Reach::These(&[])),
    ("api", Reach::These(&["market"])),
    ("light", Reach::These(&["market"])),
    ("net", Reach::These(&["market", "api"])),
    ("node", Reach::These(&["market", "light"])),
    (
        "agent",
        Reach::These(&["market", "api", "light", "net", "runtime"]),
    ),
    ("gateway", Reach::These(&["market", "api", "node", "net"])),
    ("cli", Reach::All),
    ("fuzz", Reach::All),
];

/// Crates that may know the engine: the node runs it, the light client checks what it signs.
const ENGINE_USERS: [&str; 2] = ["node", "light"];

/// What `market` may use from outside, each pure arithmetic on bytes it is given.
const MARKET_NEEDS: [&str; 6] = [
    "borsh",
    "sha2",
    "ed25519-dalek",
    "thiserror",
    "hex",
    "zeroize",
];

/// More packages than this and nobody knows any more what runs (DESIGN, issue 2).
const PACKAGES_MAX: usize = 750;

/// Checks that our crates depend on each other in the agreed directions only.
pub(crate) fn directions(repo: &Repo) -> Vec<Finding> {
    let ours = |name: &str| HOUSE.iter().any(|(member, _)| *member == name);
    let mut findings = Vec::new();
    for member in &repo.crates {
        let Some((_, reach)) = HOUSE.iter().find(|(name, _)| *name == member.name) else {
            let what = "not in the table of the house (xtask/src/tidy/arrows.rs)";
            findings.push(Finding::failure("arrows", &member.name, what));
            continue;
        };
        for need in member.needs.iter().filter(|need| ours(&need.name)) {
            let allowed = match reach {
                Reach::All => true,
                Reach::These(names) => names.contains(&need.name.as_str()),
            };
            if !allowed {
                let what = format!("may not depend on {}", need.name);
                findings.push(Finding::failure("arrows", &member.name, what));
            }
        }
    }
    findings
}

/// Checks that the engine's types can appear in few crates only.
pub(crate) fn engine_stays_inside(repo: &Repo) -> Vec<Finding> {
    let outside = repo
        .crates
        .iter()
        .filter(|it| !ENGINE_USERS.contains(&it.name.as_str()));
    outside
        .flat_map(|member| {
            let engine = member
                .needs
                .iter()
                .filter(|need| need.name.starts_with("commonware-"));
            engine.map(|need| {
                let what = format!("uses {}; only {ENGINE_USERS:?} may", need.name);
                Finding::failure("engine", &member.name, what)
            })
        })
        .collect()
}

/// Checks that `market` takes nothing from outside that could bring in a clock or a socket.
pub(crate) fn market_stays_small(repo: &Repo) -> Vec<Finding> {
    let market = repo.crates.iter().filter(|member| member.name == "market");
    market
        .flat_map(|market| market.needs.iter())
        .filter(|need| need.kind != Kind::Tests && !MARKET_NEEDS.contains(&need.name.as_str()))
        .map(|need| {
            let what = format!(
                "{} is not among what it may use: {MARKET_NEEDS:?}",
                need.name
            );
            Finding::failure("market-needs", "market", what)
        })
        .collect()
}

/// Checks that the number of locked packages stays within its bound.
pub(crate) fn packages_are_few(repo: &Repo) -> Vec<Finding> {
    let lock = repo.file("Cargo.lock").map_or("", |file| file.text());
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    if count <= PACKAGES_MAX {
        return Vec::new();
    }
    let what = format!("{count} packages, {PACKAGES_MAX} at most");
    vec![Finding::failure("packages", "Cargo.lock", what)]
}

#[cfg(test)]
mod tests {
    use super::super::repo::made_up::{files, one_crate};
    use super::*;

    #[test]
    fn downward_arrow_is_found() {
        let found = directions(&one_crate("market", &[("api", Kind::Normal)]));
        assert_eq!(
            found,
            [Finding::failure(
                "arrows",
                "market",
                "may not depend on api"
            )]
        );
        assert_eq!(
            directions(&one_crate("agent", &[("node", Kind::Tests)])).len(),
            1
        );
    }

    #[test]
    fn upward_arrows_and_strangers_pass() {
        let repo = one_crate("api", &[("market", Kind::Normal), ("serde", Kind::Normal)]);
        assert_eq!(directions(&repo), []);
        assert_eq!(directions(&one_crate("cli", &[("node", Kind::Normal)])), []);
    }

    #[test]
    fn crate_without_a_place_is_found() {
        assert_eq!(directions(&one_crate("attic", &[])).len(), 1);
    }

    #[test]
    fn engine_outside_is_found() {
        let need = [("commonware-storage", Kind::Normal)];
        assert_eq!(engine_stays_inside(&one_crate("market", &need)).len(), 1);
        assert_eq!(engine_stays_inside(&one_crate("node", &need)), []);
    }

    #[test]
    fn market_with_a_runtime_is_found() {
        let needs = [
            ("tokio", Kind::Normal),
            ("borsh", Kind::Normal),
            ("proptest", Kind::Tests),
        ];
        let found = market_stays_small(&one_crate("market", &needs));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("tokio"), "{found:?}");
    }

    #[test]
    fn too_many_packages_are_found() {
        let entry = "[[package]]\nname = \"x\"\n";
        let repo = |count| files(&[("Cargo.lock", &entry.repeat(count))]);
        assert_eq!(packages_are_few(&repo(PACKAGES_MAX)), []);
        assert_eq!(packages_are_few(&repo(PACKAGES_MAX + 1)).len(), 1);
    }
}
