//! The layers of settings, laid over one another by the `config` crate, and the names that exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::Path;

use config::{ConfigBuilder, Environment, File, FileFormat, Source, Value, ValueKind, builder::DefaultState};

use super::reader::{ConfigError, Problem};
use super::{DEFAULTS, Mode, Sources};
use crate::cause::of_file;

const DEMO: &str = include_str!("../../config/demo.toml");
/// The variable with which an image sets the default of `server.bind` for `serve`: a file and `CONNECTOR__SERVER__BIND` override it.
const DEFAULT_BIND: &str = "CONNECTOR_DEFAULT_BIND";
const BIND: &str = "server.bind";
const PREFIX: &str = "CONNECTOR";
const SEPARATOR: &str = "__";
/// How the settings of identity providers begin, before the name of each.
pub(super) const IDENTITY_PROVIDERS: &str = "commerce.identity_providers.";
/// How those of callers begin.
pub(super) const CALLERS: &str = "server.callers.";
/// Sections that there may be any number of, each under a name of its own.
const NAMED: [&str; 2] = [IDENTITY_PROVIDERS, CALLERS];
/// The name under which the defaults stand of what is not set in such a section.
const ANY: &str = "*";

/// Every setting by its full name, such as `server.bind`, as one would write it in the environment.
pub(super) struct Layers {
    pub(super) values: BTreeMap<String, String>,
    /// The defaults, whatever overrides them.
    pub(super) defaults: BTreeMap<String, String>,
    /// Which file or environment variable sets a value.
    pub(super) origins: BTreeMap<String, String>,
    /// What is set but is no setting, or stands where none can.
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    pub(super) fn read(mode: Mode, sources: &Sources) -> Result<Self, ConfigError> {
        let mut known = BTreeMap::new();
        flatten("", build(config::Config::builder().add_source(text(DEFAULTS)))?, &mut known);
        let mut problems = Vec::new();
        let mut layers = config::Config::builder().add_source(text(DEFAULTS));
        let mut origins = BTreeMap::new();
        if mode.is_demo() {
            layers = layers.add_source(text(DEMO));
        }
        layers = layers.add_source(settings(sources.defaults.clone()));
        let mut defaults = BTreeMap::new();
        flatten("", build(layers.clone())?, &mut defaults);
        let defaults = defaults.iter().filter_map(|(name, value)| Some((name.clone(), written(value)?))).collect();
        if let (Mode::Serve, Some(bind)) = (mode, default_bind(sources)) {
            layers = layers.add_source(settings([(BIND.to_owned(), bind)]));
            origins.insert(BIND.to_owned(), DEFAULT_BIND.to_owned());
        }
        if let Some(path) = &sources.file {
            let file = text(&read_file(path)?);
            origins.extend(names(&file)?.into_iter().map(|name| (name, path.display().to_string())));
            layers = layers.add_source(file);
        }
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(variables(sources, &known, &mut problems)));
        origins.extend(names(&environment)?.into_iter().map(|name| (name.clone(), variable(&name))));
        let mut all = BTreeMap::new();
        flatten("", build(layers.add_source(environment))?, &mut all);

        let mut values = BTreeMap::new();
        for (name, value) in &all {
            match (known.contains_key(&pattern(name)), written(value)) {
                (true, Some(value)) => drop(values.insert(name.clone(), value.trim().to_owned())),
                (true, None) => problems.push(Problem::new(name, "must be one value, or a list of values")),
                (false, _) => problems.push(unknown(name, &known)),
            }
        }
        for name in known.keys().filter(|name| !all.contains_key(*name)) {
            let is_below = |other: &String| name.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('.'));
            if !all.keys().any(is_below) {
                problems.push(Problem::new(name, "is a setting, not a section"));
            }
        }
        for kind in NAMED {
            for section in sections(&values, kind) {
                for (name, value) in values.clone() {
                    if let Some(key) = name.strip_prefix(kind).and_then(|name| name.strip_prefix("*.")) {
                        values.entry(format!("{kind}{section}.{key}")).or_insert(value);
                    }
                }
            }
        }
        Ok(Self { values, defaults, origins, problems })
    }
}

/// The names of the sections of one kind that there may be any number of.
pub(super) fn sections(values: &BTreeMap<String, String>, kind: &str) -> BTreeSet<String> {
    let names = values.keys().filter_map(|name| name.strip_prefix(kind)?.rsplit_once('.'));
    names.map(|(section, _)| section.to_owned()).filter(|section| section != ANY).collect()
}

/// A setting's name in a section of which there may be any number: of which kind, the section's name, and the key in it.
fn in_section(name: &str) -> Option<(&'static str, &str, &str)> {
    NAMED.into_iter().find_map(|kind| {
        let (section, key) = name.strip_prefix(kind)?.rsplit_once('.')?;
        Some((kind, section, key))
    })
}

/// A setting's name as it stands in the defaults.
fn pattern(name: &str) -> String {
    in_section(name).map_or_else(|| name.to_owned(), |(kind, _, key)| format!("{kind}{ANY}.{key}"))
}

/// The default of `server.bind` that the image sets, if it does.
fn default_bind(sources: &Sources) -> Option<String> {
    let value = sources.environment.get(OsStr::new(DEFAULT_BIND))?.to_str()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// A layer of settings by their names.
fn settings(settings: impl IntoIterator<Item = (String, String)>) -> Environment {
    let settings = settings.into_iter().map(|(name, value)| (name.replace('.', SEPARATOR), value)).collect();
    Environment::default().separator(SEPARATOR).source(Some(settings))
}

/// The names of the settings that one layer sets.
fn names(layer: &(impl Source + Clone + Send + Sync + 'static)) -> Result<BTreeSet<String>, Problem> {
    let mut set = BTreeMap::new();
    flatten("", build(config::Config::builder().add_source(layer.clone()))?, &mut set);
    Ok(set.into_keys().collect())
}

/// The environment variable of a setting.
fn variable(name: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", name.to_uppercase().replace('.', SEPARATOR))
}

/// Reads a TOML file. Of a mistake it tells the line and what was expected, not what stands there: it may be a secret.
fn read_file(path: &Path) -> Result<String, Problem> {
    let refuse = |what: String| Problem::new("configuration file", format!("{}: {what}", path.display()));
    let content = std::fs::read_to_string(path).map_err(|error| refuse(of_file(path, &error)))?;
    toml::from_str::<toml::Table>(&content).map_err(|error| {
        let before = error.span().and_then(|span| content.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        refuse(format!("line {line}: {}", error.message()))
    })?;
    Ok(content)
}

/// The variables that are settings. One that is nearly named like a setting, or is not Unicode, is a mistake.
fn variables(
    sources: &Sources,
    known: &BTreeMap<String, Value>,
    problems: &mut Vec<Problem>,
) -> HashMap<String, String> {
    let fold = |name: &str| name.to_uppercase().replace('_', "");
    let settings: HashMap<String, String> =
        known.keys().map(|name| variable(name)).map(|variable| (fold(&variable), variable)).collect();
    let mut variables = HashMap::new();
    for (name, value) in &sources.environment {
        let Some(name) = name.to_str() else { continue };
        let meant = settings.get(&fold(name));
        let is_ours = name.starts_with("CONNECTOR__") && name.to_uppercase() == name;
        match (is_ours, meant, value.to_str()) {
            (true, _, Some(value)) if value.trim().is_empty() => {} // not set
            (true, _, Some(value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
            (true, _, None) => problems.push(Problem::new(name, "must be text in UTF-8")),
            (false, None, _) if name.to_uppercase().starts_with("CONNECTOR__") => {
                problems.push(Problem::new(name, format!("is not read; write {}", name.to_uppercase())));
            }
            (false, Some(meant), _) => problems.push(Problem::new(name, format!("is not read; write {meant}"))),
            (false, None, _) => {}
        }
    }
    variables
}

/// A name that is no setting. Its value stays hidden: a misspelt secret is still one.
fn unknown(name: &str, known: &BTreeMap<String, Value>) -> Problem {
    if known.keys().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))) {
        return Problem::new(name, "is a section, not a setting");
    }
    // A section may be misspelt, or left out.
    let asked = pattern(name);
    let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let similarity = |known: &String| strsim::jaro_winkler(&asked, known);
    let likeness = |known: &String| if key(known) == key(name) { 1.0 } else { similarity(known) };
    // Of several that end alike, the one that begins alike.
    let nearest = known
        .keys()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then_with(|| similarity(a).total_cmp(&similarity(b))));
    let nearest = nearest.filter(|nearest| likeness(nearest) > 0.85);
    let section = in_section(name).map_or(ANY, |(_, section, _)| section);
    let nearest =
        nearest.map_or_else(String::new, |nearest| format!("; did you mean {}?", nearest.replace(ANY, section)));
    Problem::new(name, format!("is no setting{nearest}"))
}

fn text(toml: &str) -> File<config::FileSourceString, FileFormat> {
    File::from_str(toml, FileFormat::Toml)
}

/// The layers as one table. What cannot be read was refused before, so the error's own words, which quote, are not needed.
fn build(builder: ConfigBuilder<DefaultState>) -> Result<Value, Problem> {
    let built = builder.build().map_err(|_| Problem::new("configuration", "its layers do not fit together"))?;
    Ok(built.cache)
}

/// Names with dots instead of tables within tables; a list is one value.
fn flatten(name: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    if let ValueKind::Table(table) = value.kind {
        for (key, value) in table {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            flatten(&name, value, into);
        }
    } else {
        into.insert(name.to_owned(), value);
    }
}

/// A value as one would write it in the environment.
fn written(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(written).collect();
            parts.map(|parts| parts.join(","))
        }
        _ => value.clone().into_string().ok(),
    }
}
