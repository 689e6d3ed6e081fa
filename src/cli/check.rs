//! `check`: would `run` accept this configuration?

use serde_json::{Value, json};

use crate::config::{self, Config, Surroundings, key};
use crate::identity::Identity;

use super::settings;
use super::{Exit, Failure, output};

/// Check directory, environment, --set and key file without starting anything
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: settings::Args,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Everything that was found, good or bad.
struct Report {
    config: Option<Config>,
    identity: Option<Identity>,
    errors: Vec<(Exit, String)>,
}

/// Prints what differs from the defaults, or everything that is wrong.
///
/// # Errors
/// If anything is wrong, with the code that `run` would end with.
pub fn run(args: &Args) -> Result<(), Failure> {
    let report = Report::new(&args.settings);
    if args.json {
        output::json(&report.json())?;
    } else if let Some(config) = &report.config {
        output::line(report.text(config))?;
    }
    report.outcome()
}

impl Report {
    fn new(args: &settings::Args) -> Self {
        let surroundings = Surroundings::here();
        let config = match config::load(&args.request(), &surroundings) {
            Ok(config) => config,
            Err(errors) => {
                let all = errors.iter().map(|error| (Exit::Config, error.to_string())).collect();
                return Self { config: None, identity: None, errors: all };
            }
        };
        let (identity, errors) = match key::load(&config, &surroundings) {
            Ok(identity) => (identity, Vec::new()),
            Err(error) => (None, vec![(Exit::Permission, error.to_string())]),
        };
        Self { config: Some(config), identity, errors }
    }

    /// Everything that is wrong, a line each; the first one gives the code.
    fn outcome(&self) -> Result<(), Failure> {
        let Some((exit, _)) = self.errors.first() else { return Ok(()) };
        let lines: Vec<&str> = self.errors.iter().map(|(_, error)| error.as_str()).collect();
        Err(Failure::new(*exit, lines.join("\nmolia-router: ")))
    }

    fn text(&self, config: &Config) -> String {
        let mut lines = vec![
            format!("directory  {}{}", config.directory.display(), absent(config)),
            format!("identity   {}", self.identity_line(config)),
        ];
        let differences = config.values.differences();
        for difference in &differences {
            let (path, source_of) = (difference.attribute.path, difference.source_of);
            let (value, default) = (&difference.value, &difference.default);
            lines.push(format!("{path} = {value}  (default {default}; {source_of})"));
        }
        lines.extend(config.warnings().iter().map(|warning| format!("warning: {warning}")));
        if self.errors.is_empty() {
            let (n, all) = (differences.len(), tuning::ATTRIBUTES.len());
            lines.push(format!("ok: {n} of {all} attributes differ from their defaults"));
        }
        lines.join("\n")
    }

    fn identity_line(&self, config: &Config) -> String {
        let path = config.identity.display();
        match &self.identity {
            Some(identity) => format!("{path} (peer id {})", identity.peer_id()),
            None if self.errors.is_empty() => format!("{path} (none yet: `run` creates it)"),
            None => format!("{path} (cannot be used)"),
        }
    }

    fn json(&self) -> Value {
        let errors: Vec<&String> = self.errors.iter().map(|(_, error)| error).collect();
        let mut document = json!({"ok": errors.is_empty(), "errors": errors});
        let Some(config) = &self.config else { return document };
        let differences: Vec<Value> = config.values.differences().iter().map(difference).collect();
        document["directory"] = json!(config.directory.display().to_string());
        document["identity"] = json!({
            "file": config.identity.display().to_string(),
            "peer_id": self.identity.as_ref().map(|identity| identity.peer_id().to_string()),
        });
        document["differences"] = json!(differences);
        document["warnings"] = json!(config.warnings());
        document
    }
}

fn absent(config: &Config) -> &'static str {
    if config.directory_exists() { "" } else { " (not there: defaults)" }
}

fn difference(difference: &tuning::Difference<'_>) -> Value {
    json!({
        "attribute": difference.attribute.path,
        "value": difference.value,
        "default": difference.default,
        "source": difference.source_of.to_string(),
        "applies": difference.attribute.applies.label(),
    })
}
