//! `tradewind config`: what counts, and where it comes from.

use api::Page;

use crate::context::{Context, Setting};
use crate::error::{Result, exit};
use crate::table::{Column, Keep, Table, text};

/// What counts here, and where it comes from
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Show(Show),
}

/// Show every setting
///
/// A flag wins over a variable, a variable over the stored context, and that over what is built in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind config show --origin")]
struct Show {
    /// Where each comes from, too
    #[arg(long)]
    origin: bool,
}

const COLUMNS: &[Column] = &[text("SETTING", Keep::Always), text("VALUE", Keep::Always)];

const COLUMNS_WITH_ORIGIN: &[Column] = &[
    text("SETTING", Keep::Always),
    text("VALUE", Keep::Always),
    text("ORIGIN", Keep::Always),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let Verb::Show(Show { origin }) = &args.verb;
    let page = Page::only(context.settings());
    let table = table(&page.items, *origin);
    context.output.list(&page, &page.items, &table)?;
    Ok(exit::DONE)
}

fn table(settings: &[Setting], origin: bool) -> Table {
    let columns = if origin { COLUMNS_WITH_ORIGIN } else { COLUMNS };
    let mut table = Table::new(columns, "nothing is set");
    for setting in settings {
        let value = setting.value.clone().unwrap_or_else(|| "–".to_owned());
        let mut cells = vec![setting.name.to_owned(), value];
        if origin {
            cells.push(setting.origin.clone());
        }
        table.row(setting.name, cells);
    }
    table
}
