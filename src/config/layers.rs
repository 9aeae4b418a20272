//! The layers of settings, which the `config` crate combines, and the names of all settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::Path;

use config::{ConfigBuilder, Environment, File, FileFormat, Source, Value, ValueKind, builder::DefaultState};

use super::reader::{ConfigError, Problem, Reader};
use super::{DEFAULTS, Mode, Sources};
use crate::cause::file_error;

const DEMO: &str = include_str!("../../config/demo.toml");
/// The environment variable with which a container image sets the default of `server.bind` for `serve`. A configuration
/// file and `CONNECTOR__SERVER__BIND` override it.
const DEFAULT_BIND: &str = "CONNECTOR_DEFAULT_BIND";
const BIND: &str = "server.bind";
const PREFIX: &str = "CONNECTOR";
const SEPARATOR: &str = "__";
/// The prefix of the settings of identity providers; the name of the provider follows.
pub(super) const IDENTITY_PROVIDERS: &str = "commerce.identity_providers.";
/// The prefix of the settings of callers; the name of the caller follows.
pub(super) const CALLERS: &str = "server.callers.";
/// The kinds of sections that an operator names, of which there may be any number.
const NAMED: [&str; 2] = [IDENTITY_PROVIDERS, CALLERS];
/// The section name of the defaults of named sections.
const ANY: &str = "*";

impl Reader {
    pub(super) fn new(mode: Mode, sources: &Sources) -> Result<Self, ConfigError> {
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
        let defaults = defaults.iter().filter_map(|(name, value)| Some((name.clone(), to_text(value)?))).collect();
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
            match (known.contains_key(&pattern(name)), to_text(value)) {
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

/// The names of the named sections of one kind.
pub(super) fn sections(values: &BTreeMap<String, String>, kind: &str) -> BTreeSet<String> {
    let names = values.keys().filter_map(|name| name.strip_prefix(kind)?.rsplit_once('.'));
    names.map(|(section, _)| section.to_owned()).filter(|section| section != ANY).collect()
}

/// Splits the name of a setting in a named section: the kind, the name of the section, and the key.
fn in_section(name: &str) -> Option<(&'static str, &str, &str)> {
    NAMED.into_iter().find_map(|kind| {
        let (section, key) = name.strip_prefix(kind)?.rsplit_once('.')?;
        Some((kind, section, key))
    })
}

/// The name of a setting as in `config/default.toml`.
fn pattern(name: &str) -> String {
    in_section(name).map_or_else(|| name.to_owned(), |(kind, _, key)| format!("{kind}{ANY}.{key}"))
}

/// The default of `server.bind` that the container image sets, if any.
fn default_bind(sources: &Sources) -> Option<String> {
    let value = sources.environment.get(OsStr::new(DEFAULT_BIND))?.to_str()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// A layer of settings with their names.
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

/// Reads a TOML file. An error has the line and what is expected, but not the text of the line, which may be a secret.
fn read_file(path: &Path) -> Result<String, Problem> {
    let invalid = |message: String| Problem::new("configuration file", format!("{}: {message}", path.display()));
    let content = std::fs::read_to_string(path).map_err(|error| invalid(file_error(path, &error)))?;
    toml::from_str::<toml::Table>(&content).map_err(|error| {
        let before = error.span().and_then(|span| content.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        invalid(format!("line {line}: {}", error.message()))
    })?;
    Ok(content)
}

/// The environment variables that are settings. A variable whose name is similar to a setting's, or whose value is not
/// Unicode, is an error.
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
                problems.push(Problem::new(name, format!("unknown variable; did you mean {}?", name.to_uppercase())));
            }
            (false, Some(meant), _) => {
                problems.push(Problem::new(name, format!("unknown variable; did you mean {meant}?")));
            }
            (false, None, _) => {}
        }
    }
    variables
}

/// The problem of an unknown setting. Its value is not printed, because the name of a secret may be misspelt.
fn unknown(name: &str, known: &BTreeMap<String, Value>) -> Problem {
    if known.keys().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))) {
        return Problem::new(name, "is a section, not a setting");
    }
    let wanted = pattern(name);
    let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let similarity = |known: &String| strsim::jaro_winkler(&wanted, known);
    // The same key counts most, because the section may be misspelt or missing.
    let likeness = |known: &String| if key(known) == key(name) { 1.0 } else { similarity(known) };
    // Of several settings with this key, the one with the most similar section.
    let nearest = known
        .keys()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then_with(|| similarity(a).total_cmp(&similarity(b))));
    let nearest = nearest.filter(|nearest| likeness(nearest) > 0.85);
    let section = in_section(name).map_or(ANY, |(_, section, _)| section);
    let nearest =
        nearest.map_or_else(String::new, |nearest| format!("; did you mean {}?", nearest.replace(ANY, section)));
    Problem::new(name, format!("unknown setting{nearest}"))
}

fn text(toml: &str) -> File<config::FileSourceString, FileFormat> {
    File::from_str(toml, FileFormat::Toml)
}

/// The layers as one table. The error of the library is dropped, because it quotes values; a file that cannot be parsed
/// is refused before.
fn build(builder: ConfigBuilder<DefaultState>) -> Result<Value, Problem> {
    let built = builder
        .build()
        .map_err(|_| Problem::new("configuration", "the defaults, the file and the environment cannot be combined"))?;
    Ok(built.cache)
}

/// Replaces nested tables by names with dots. A list is one value.
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

/// A value as it is written in the environment.
fn to_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(to_text).collect();
            parts.map(|parts| parts.join(","))
        }
        _ => value.clone().into_string().ok(),
    }
}
