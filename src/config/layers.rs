//! The layers of settings, laid over one another by the `config` crate, and the names that exist.

use std::collections::{BTreeMap, HashMap};

use config::{ConfigBuilder, Environment, File, FileFormat, Value, ValueKind, builder::DefaultState};

use super::reader::{ConfigError, Problem};
use super::{Mode, Sources};

const DEFAULTS: &str = include_str!("../../config/default.toml");
const DEMO: &str = include_str!("../../config/demo.toml");
const PREFIX: &str = "CONNECTOR";
const SEPARATOR: &str = "__";

/// Every setting by its full name, such as `server.bind`.
pub(super) struct Layers {
    pub(super) values: BTreeMap<String, Value>,
    /// Names that are set somewhere but are no settings.
    pub(super) unknown: Vec<String>,
}

impl Layers {
    pub(super) fn read(mode: Mode, sources: &Sources) -> Result<Self, ConfigError> {
        let known = flatten(build(config::Config::builder().add_source(text(DEFAULTS)))?);
        let mut layers = config::Config::builder().add_source(text(DEFAULTS));
        if mode == Mode::Demo {
            layers = layers.add_source(text(DEMO));
        }
        if let Some(path) = &sources.file {
            let content = std::fs::read_to_string(path)
                .map_err(|error| Problem::new("--config", format!("{}: {error}", path.display())))?;
            let file = build(config::Config::builder().add_source(text(&content)))
                .map_err(|error| Problem::new("--config", format!("{}: {error}", path.display())))?;
            layers = layers.add_source(file);
        }
        let ours: HashMap<String, String> = sources
            .environment
            .iter()
            .filter(|(name, _)| name.starts_with("CONNECTOR__"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let environment =
            Environment::with_prefix(PREFIX).prefix_separator(SEPARATOR).separator(SEPARATOR).source(Some(ours));
        let all = flatten(build(layers.add_source(environment))?);
        let (values, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(name, _)| known.contains_key(name));
        Ok(Self { values, unknown: unknown.into_keys().collect() })
    }
}

fn text(toml: &str) -> File<config::FileSourceString, FileFormat> {
    File::from_str(toml, FileFormat::Toml)
}

fn build(builder: ConfigBuilder<DefaultState>) -> Result<config::Config, Problem> {
    builder.build().map_err(|error| Problem::new("configuration", error.to_string()))
}

/// Names with dots instead of tables within tables; a list is one value.
fn flatten(config: config::Config) -> BTreeMap<String, Value> {
    fn walk(name: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        if let ValueKind::Table(table) = value.kind {
            for (key, value) in table {
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                walk(&name, value, into);
            }
        } else {
            into.insert(name.to_owned(), value);
        }
    }
    let mut into = BTreeMap::new();
    walk("", config.cache, &mut into);
    into
}
