//! `tradewind man`: manual pages, from the same definition as the help.

use std::path::PathBuf;

use crate::app;
use crate::commands::help;
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::output::Style;

/// Print a manual page, or write all of them to a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind man run | man -l -\n  \
    tradewind man --to ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// The command; without one, tradewind itself
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "words")]
    to: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let Some(folder) = &args.to else {
        let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
        let command = help::find_command(&words)?;
        context.output.bytes(&page(command)?.1);
        return Ok(exit::DONE);
    };
    std::fs::create_dir_all(folder).map_err(io_failure("create", folder))?;
    let mut tree = app::command();
    tree.build();
    let mut pages = Vec::new();
    collect(&tree, &mut pages)?;
    for (name, text) in &pages {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(io_failure("write", &path))?;
    }
    let output = &context.output;
    let mark = output.mark(Style::Good);
    output.say(&format!(
        "{mark} wrote {} pages to {}",
        pages.len(),
        folder.display()
    ));
    Ok(exit::DONE)
}

fn collect(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    pages.push(page(command.clone())?);
    for child in command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
    {
        collect(child, pages)?;
    }
    Ok(())
}

/// Returns a command's page under its file name, as `tradewind-job-show.1`.
fn page(command: clap::Command) -> Result<(String, Vec<u8>)> {
    let page = clap_mangen::Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)
        .map_err(|error| Failure::new("bug", "could not write a manual page").causes(&error))?;
    Ok((page.get_filename(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let mut tree = app::command();
        tree.build();
        let mut pages = Vec::new();
        collect(&tree, &mut pages).unwrap();
        let names: std::collections::BTreeSet<&str> =
            pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), pages.len());
        assert!(
            names.contains("tradewind.1") && names.contains("tradewind-job-show.1"),
            "{names:?}"
        );
        let (_, run) = pages
            .iter()
            .find(|(name, _)| name == "tradewind-run.1")
            .unwrap();
        let run = String::from_utf8_lossy(run);
        assert!(
            run.contains(".TH tradewind-run 1") && run.contains("max\\-price"),
            "{run}"
        );
    }
}
