//! What a release holds: the program, the demo's program, both licences, one checksum.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shop::{Shop, Usage, create_folder, output, say, step};
use crate::workload;

/// Files of the repository that go along as they are.
const PAPERS: [&str; 3] = ["LICENSE-MIT", "LICENSE-APACHE", "README.md"];

/// Builds the archive below the target folder and says where it is.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    if !words.is_empty() {
        return Err(Usage("dist takes nothing".to_owned()).into());
    }
    step(&mut shop.cargo(&["build", "--profile=dist", "--locked", "--package=cli"]))?;
    let demo = workload::build(shop)?;

    let name = format!(
        "tradewind-{}-{}",
        env!("CARGO_PKG_VERSION"),
        workload::host_triple()?
    );
    let target = shop.target()?;
    let shelf = target.join("archive");
    let folder = shelf.join(&name);
    create_folder(&folder)?;
    copy(&target.join("dist/tradewind"), &folder.join("tradewind"))?;
    copy(&demo, &folder.join("tradewind-demo-static"))?;
    for paper in PAPERS {
        copy(&shop.root.join(paper), &folder.join(paper))?;
    }

    let archive = format!("{name}.tar.gz");
    // The same files give the same archive: no owner, no time, names in order.
    let order = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
    ];
    step(
        Command::new("tar")
            .args(order)
            .args(["-czf", &archive, &name])
            .current_dir(&shelf),
    )?;
    let sum = output(Command::new("sha256sum").arg(&archive).current_dir(&shelf))?;
    let sum_path = shelf.join(format!("{archive}.sha256"));
    fs::write(&sum_path, &sum)
        .with_context(|| format!("could not write {}", sum_path.display()))?;
    say(&format!(
        "{}\n{}",
        shelf.join(archive).display(),
        sum.trim_end()
    ));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(|_bytes| ())
        .with_context(|| format!("could not copy {} to {}", from.display(), to.display()))
}
