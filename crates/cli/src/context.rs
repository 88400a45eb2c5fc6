//! Where things are: the home folder, the network spoken to, the key that signs. The only place that reads the
//! environment; a flag wins over a variable, a variable over what is stored.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use market::NetworkName;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result, io_failure};
use crate::files;
use crate::output::{ColorChoice, Format, Output, Settings, Surroundings};
use crate::shape::Shape;
use crate::wallet::Wallet;

/// The folder that holds everything: keys, contexts, data and logs of what `up` starts.
pub(crate) const TRADEWIND_HOME: &str = "TRADEWIND_HOME";
/// The context to use: a network, an endpoint and a key under one name.
pub(crate) const TRADEWIND_CONTEXT: &str = "TRADEWIND_CONTEXT";
/// The address of a node, as `http://127.0.0.1:7070`.
pub(crate) const TRADEWIND_ENDPOINT: &str = "TRADEWIND_ENDPOINT";
/// The file of the key that signs.
pub(crate) const TRADEWIND_KEY_FILE: &str = "TRADEWIND_KEY_FILE";
/// The output format: `table`, `wide`, `json`, `jsonl`, `yaml`, `csv` or `name`.
pub(crate) const TRADEWIND_OUTPUT: &str = "TRADEWIND_OUTPUT";
/// Set to anything but `0`: no lines of progress.
pub(crate) const TRADEWIND_NO_PROGRESS: &str = "TRADEWIND_NO_PROGRESS";
/// What long-running roles log, as a filter: `info`, `agent=debug,net=trace`.
pub(crate) const TRADEWIND_LOG: &str = "TRADEWIND_LOG";

/// Every variable of ours with what it does, as `tradewind help environment` prints them.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    (
        TRADEWIND_HOME,
        "the folder that holds keys, contexts, data and logs",
    ),
    (TRADEWIND_CONTEXT, "the context to use"),
    (
        TRADEWIND_ENDPOINT,
        "the address of a node, as http://127.0.0.1:7070",
    ),
    (TRADEWIND_KEY_FILE, "the file of the key that signs"),
    (
        TRADEWIND_OUTPUT,
        "the output format: table, wide, json, jsonl, yaml, csv or name",
    ),
    (
        TRADEWIND_NO_PROGRESS,
        "anything but 0: no lines of progress",
    ),
    (
        TRADEWIND_LOG,
        "what long-running roles log: info, or agent=debug,net=trace",
    ),
];

/// The context that `up` writes and that is used where none is named.
pub(crate) const LOCAL: &str = "local";

/// Flags that every command takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// What standard output gets
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        long_help = "What standard output gets: table, wide, json, jsonl, yaml, csv or name"
    )]
    pub(crate) output: Option<Format>,
    /// Only ids, and no talk but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// No header line above tables
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_headers: bool,
    /// Columns to show, or keys of JSON, as job,state
    #[arg(
        long,
        global = true,
        value_name = "FIELD",
        value_delimiter = ',',
        hide_short_help = true
    )]
    pub(crate) fields: Vec<String>,
    /// Column or key to sort by; with a dash before it the largest first, as --sort=-cost
    #[arg(
        long,
        global = true,
        value_name = "FIELD",
        allow_hyphen_values = true,
        hide_short_help = true
    )]
    pub(crate) sort: Option<String>,
    /// Most rows of a list
    #[arg(long, global = true, value_name = "N", hide_short_help = true)]
    pub(crate) limit: Option<usize>,
    /// When to colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) color: ColorChoice,
    /// No lines of progress
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_progress: bool,
    /// The stored network, endpoint and key to use
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) context: Option<String>,
    /// The node to speak to
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) endpoint: Option<String>,
    /// The key that signs
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) key_file: Option<PathBuf>,
}

/// A network, an endpoint and a key under one name, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// The network's name.
    pub(crate) network: String,
    /// The network's group key in hexadecimal, which proofs are checked against.
    pub(crate) group_key: Option<String>,
    /// The node's address.
    pub(crate) endpoint: String,
    /// The key that signs.
    pub(crate) key_file: PathBuf,
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where to print.
    pub(crate) output: Arc<Output>,
    /// The folder that holds everything.
    pub(crate) home: PathBuf,
    /// What long-running roles log.
    pub(crate) log_filter: Option<String>,
    name: String,
    stored: Option<Stored>,
    endpoint: Option<String>,
    key_file: Option<PathBuf>,
    settings: Vec<Setting>,
}

/// A setting, as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What counts; `None` where nothing does.
    pub(crate) value: Option<String>,
    /// A flag, a variable, a file, or built in.
    pub(crate) origin: String,
}

/// Reads only what printing needs, so that even a wrong home folder gets a proper error.
pub(crate) fn output(global: &Global) -> Result<Output> {
    let format = match (global.output, text(TRADEWIND_OUTPUT)) {
        (Some(format), _) => format,
        (None, None) => Format::default(),
        (None, Some(word)) => clap::ValueEnum::from_str(&word, true).map_err(|_| {
            Failure::new(
                "usage",
                format!("{TRADEWIND_OUTPUT} is {word:?}, which is no format"),
            )
            .hint("use table, wide, json, jsonl, yaml, csv or name")
        })?,
    };
    Ok(Output::new(Settings {
        format,
        quiet: global.quiet,
        no_headers: global.no_headers,
        shape: Shape {
            fields: global.fields.clone(),
            sort: global.sort.clone(),
            limit: global.limit,
        },
        color: global.color,
        no_progress: global.no_progress || is_on(TRADEWIND_NO_PROGRESS),
        around: surroundings(),
    }))
}

/// Returns the output for a command line that could not be read.
pub(crate) fn output_without_flags() -> Output {
    let format = text(TRADEWIND_OUTPUT)
        .and_then(|word| <Format as clap::ValueEnum>::from_str(&word, true).ok())
        .unwrap_or_default();
    Output::new(Settings {
        format,
        around: surroundings(),
        ..Settings::default()
    })
}

impl Context {
    /// Finds the home folder and the stored context.
    pub(crate) fn find(global: &Global, output: Output) -> Result<Self> {
        let home = home()?;
        let named = global.context.clone().or_else(|| text(TRADEWIND_CONTEXT));
        let named = named.or_else(|| current(&home));
        let name = named.unwrap_or_else(|| LOCAL.to_owned());
        let stored = read_stored(&stored_path(&home, &name)?)?;
        Ok(Self {
            output: Arc::new(output),
            log_filter: text(TRADEWIND_LOG),
            endpoint: global.endpoint.clone().or_else(|| text(TRADEWIND_ENDPOINT)),
            key_file: global.key_file.clone().or_else(|| path(TRADEWIND_KEY_FILE)),
            settings: settings(global, &home, &name, stored.as_ref()),
            home,
            name,
            stored,
        })
    }

    /// Returns every setting with its origin.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    /// Returns the node's address that a flag or the environment names.
    pub(crate) fn given_endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Returns the context's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the stored context, if there is one.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// Returns the node's address.
    pub(crate) fn endpoint(&self) -> Result<&str> {
        let stored = || self.stored.as_ref().map(|stored| stored.endpoint.as_str());
        self.endpoint
            .as_deref()
            .or_else(stored)
            .ok_or_else(|| self.missing())
    }

    fn missing(&self) -> Failure {
        if self.name == LOCAL {
            return Failure::new(
                "no-network",
                "no network is set up here, and none was named",
            );
        }
        Failure::new("no-network", format!("there is no context {:?}", self.name)).detail(format!(
            "looked in {}",
            self.home.join("contexts").display()
        ))
    }

    /// Speaks to this node from now on.
    pub(crate) fn use_endpoint(&mut self, endpoint: String) {
        self.endpoint = Some(endpoint);
    }

    /// Returns the network's name where it is known before asking the node: what is signed for one is void elsewhere.
    pub(crate) fn network(&self) -> Result<Option<NetworkName>> {
        let Some(stored) = &self.stored else {
            return Ok(None);
        };
        let parsed = NetworkName::parse(&stored.network);
        parsed.map(Some).ok_or_else(|| {
            Failure::new(
                "bad-context",
                format!("{:?} is no network's name", stored.network),
            )
        })
    }

    /// Opens the wallet that signs.
    pub(crate) fn wallet(&self) -> Result<Wallet> {
        let stored = || self.stored.as_ref().map(|stored| stored.key_file.clone());
        let file = self.key_file.clone().or_else(stored);
        let file = file.ok_or_else(|| {
            if self.endpoint.is_none() {
                return self.missing();
            }
            Failure::new("no-key-file", "there is no key to sign with")
                .detail("none is stored and none was named")
        })?;
        Wallet::open(&file)
    }

    /// Returns the key file that a flag or the environment names.
    pub(crate) fn given_key_file(&self) -> Option<PathBuf> {
        self.key_file.clone()
    }

    /// Stores the context under its name, for later commands.
    pub(crate) fn store(&mut self, stored: Stored) -> Result<()> {
        store(&self.home, &self.name, &stored)?;
        self.stored = Some(stored);
        Ok(())
    }

    /// Returns the folder of demo and provider keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.home.join("keys")
    }
}

/// The file that names the context in use.
const CURRENT: &str = "current";
/// Contexts listed: more are no list that anybody reads.
const CONTEXTS_MAX: usize = 500;

/// Stores a context under a name.
pub(crate) fn store(home: &Path, name: &str, stored: &Stored) -> Result<()> {
    let path = stored_path(home, name)?;
    let text = serde_json::to_vec_pretty(stored)
        .map_err(|error| Failure::new("bug", "could not write the context").causes(&error))?;
    files::create_private_folder(&home.join("contexts"))?;
    files::write_private(&path, &text)
}

/// Tells whether there is a context of this name.
pub(crate) fn exists(home: &Path, name: &str) -> Result<bool> {
    Ok(stored_path(home, name)?.exists())
}

/// Returns all contexts, by name.
pub(crate) fn list(home: &Path) -> Result<Vec<(String, Stored)>> {
    let folder = home.join("contexts");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_failure("read", &folder)(error)),
    };
    let mut all = Vec::new();
    for entry in entries.flatten().take(CONTEXTS_MAX) {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let json = path.extension().is_some_and(|end| end == "json");
        if let (Some(name), true) = (stem, json)
            && let Some(stored) = read_stored(&path)?
        {
            all.push((name.to_owned(), stored));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

/// Uses a context from now on.
pub(crate) fn set_current(home: &Path, name: &str) -> Result<()> {
    files::write_private(&home.join("contexts").join(CURRENT), name.as_bytes())
}

/// Returns the context that was chosen for all commands, if one was.
fn current(home: &Path) -> Option<String> {
    let text = fs::read_to_string(home.join("contexts").join(CURRENT)).ok()?;
    let name = text.trim();
    stored_path(home, name).is_ok().then(|| name.to_owned())
}

/// Forgets a context; where it was in use, the local one is from now on.
pub(crate) fn remove(home: &Path, name: &str) -> Result<()> {
    let path = stored_path(home, name)?;
    if current(home).is_some_and(|current| current == name) {
        let path = home.join("contexts").join(CURRENT);
        fs::remove_file(&path).map_err(io_failure("remove", &path))?;
    }
    fs::remove_file(&path).map_err(io_failure("remove", &path))
}

/// Returns every setting with its origin: the first place that says something counts.
fn settings(global: &Global, home: &Path, name: &str, stored: Option<&Stored>) -> Vec<Setting> {
    let mut all = places(global, home, name, stored);
    let word = |format: Format| {
        clap::ValueEnum::to_possible_value(&format).map(|v| v.get_name().to_owned())
    };
    let on = |set: bool| set.then(|| "yes".to_owned());
    all.extend([
        setting(
            "output",
            &[
                (global.output.and_then(word), "--output"),
                (text(TRADEWIND_OUTPUT), TRADEWIND_OUTPUT),
                (word(Format::default()), BUILT_IN),
            ],
        ),
        setting(
            "no-progress",
            &[
                (on(global.no_progress), "--no-progress"),
                (on(is_on(TRADEWIND_NO_PROGRESS)), TRADEWIND_NO_PROGRESS),
                (Some("no".to_owned()), BUILT_IN),
            ],
        ),
        setting("log", &[(text(TRADEWIND_LOG), TRADEWIND_LOG)]),
    ]);
    all
}

/// Origin of what nothing else says.
const BUILT_IN: &str = "built in";

/// Returns the settings that say where things are.
fn places(global: &Global, home: &Path, name: &str, stored: Option<&Stored>) -> Vec<Setting> {
    let folder = home.join("contexts");
    let file = folder.join(format!("{name}.json")).display().to_string();
    let chosen = folder.join(CURRENT).display().to_string();
    let shown = |path: &Path| Some(path.display().to_string());
    let flag = global.key_file.as_deref().and_then(shown);
    let variable = path(TRADEWIND_KEY_FILE).as_deref().and_then(shown);
    vec![
        setting(
            "home",
            &[
                (text(TRADEWIND_HOME).and(shown(home)), TRADEWIND_HOME),
                (text("XDG_DATA_HOME").and(shown(home)), "XDG_DATA_HOME"),
                (shown(home), BUILT_IN),
            ],
        ),
        setting(
            "context",
            &[
                (global.context.clone(), "--context"),
                (text(TRADEWIND_CONTEXT), TRADEWIND_CONTEXT),
                (current(home), &chosen),
                (Some(LOCAL.to_owned()), BUILT_IN),
            ],
        ),
        setting("network", &[(stored.map(|s| s.network.clone()), &file)]),
        setting(
            "endpoint",
            &[
                (global.endpoint.clone(), "--endpoint"),
                (text(TRADEWIND_ENDPOINT), TRADEWIND_ENDPOINT),
                (stored.map(|s| s.endpoint.clone()), &file),
            ],
        ),
        setting(
            "key-file",
            &[
                (flag, "--key-file"),
                (variable, TRADEWIND_KEY_FILE),
                (stored.and_then(|s| shown(&s.key_file)), &file),
            ],
        ),
    ]
}

fn setting(name: &'static str, places: &[(Option<String>, &str)]) -> Setting {
    let first = places.iter().find(|(value, _)| value.is_some());
    let (value, origin) = first.map_or((None, "not set"), |(value, origin)| {
        (value.clone(), *origin)
    });
    Setting {
        name,
        value,
        origin: origin.to_owned(),
    }
}

fn stored_path(home: &Path, name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty()
        && name.len() <= 48
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    if !plain {
        return Err(
            Failure::new("usage", format!("{name:?} is no context's name"))
                .hint("use letters, digits, - and _"),
        );
    }
    Ok(home.join("contexts").join(format!("{name}.json")))
}

fn read_stored(path: &Path) -> Result<Option<Stored>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_failure("read", path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Failure::new("bad-context", format!("could not read {}", path.display())).causes(&error)
    })
}

fn home() -> Result<PathBuf> {
    let user = || path("HOME").map(|home| home.join(".local/share"));
    let given = path(TRADEWIND_HOME);
    let home = given
        .or_else(|| {
            path("XDG_DATA_HOME")
                .or_else(user)
                .map(|data| data.join("tradewind"))
        })
        .ok_or_else(|| {
            Failure::new(
                "usage",
                "there is no home folder: neither TRADEWIND_HOME nor HOME is set",
            )
            .hint("say where: TRADEWIND_HOME=/PATH tradewind …")
        })?;
    std::path::absolute(&home).map_err(io_failure("resolve", &home))
}

fn surroundings() -> Surroundings {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text);
    Surroundings {
        no_color: text("NO_COLOR").is_some(),
        force_color: is_on("CLICOLOR_FORCE"),
        dumb: text("TERM").is_some_and(|term| term == "dumb"),
        utf8: locale.is_some_and(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        }),
    }
}

fn is_on(name: &str) -> bool {
    text(name).is_some_and(|value| value != "0")
}

/// Returns a variable that a job takes over from here, as a secret.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// Returns the variable as text; an empty one is as good as none.
fn text(name: &str) -> Option<String> {
    env::var_os(name)
        .and_then(|value| value.into_string().ok())
        .filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
