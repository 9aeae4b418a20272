//! Reads single settings and collects every problem. (serde would stop at the first one.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use thiserror::Error;

use super::layers::sections;
use super::{Effective, Override};
use crate::cause::file_error;

/// The first IPv4-mapped IPv6 address, `::ffff:0.0.0.0`.
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
/// The length of the prefix of IPv4-mapped addresses.
const MAPPED_BITS: u8 = 96;

/// All problems of a configuration.
#[derive(Debug, Error)]
pub struct ConfigError(Vec<Problem>);

#[derive(Debug)]
pub struct Problem {
    pub setting: String,
    /// Its value; `None` if it is or may be a secret.
    pub value: Option<String>,
    /// The problem, and the valid values.
    pub message: String,
}

impl Problem {
    pub(super) fn new(setting: &str, message: impl Into<String>) -> Self {
        Self { setting: setting.to_owned(), value: None, message: message.into() }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, message } = self;
        match value {
            Some(value) => write!(f, "{setting} = {value:?}: {message}"),
            None => write!(f, "{setting}: {message}"),
        }
    }
}

/// Every setting by its full name, such as `server.bind`, with the value that takes effect, written as in the
/// environment. For an invalid setting, a method stores the problem and returns a placeholder; [`Reader::finish`] then
/// fails.
pub(super) struct Reader {
    pub(super) values: BTreeMap<String, String>,
    /// The defaults, without what overrides them.
    pub(super) defaults: BTreeMap<String, String>,
    /// The file or environment variable that sets a value.
    pub(super) origins: BTreeMap<String, String>,
    /// Unknown settings, and invalid values.
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    /// Returns `value`, or all problems.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(value) } else { Err(ConfigError(self.problems)) }
    }

    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Whether a setting or its `_file` variant has a problem.
    pub(super) fn has_problem(&self, setting: &str) -> bool {
        let names = [setting.to_owned(), format!("{setting}_file")];
        self.problems.iter().any(|problem| names.contains(&problem.setting))
    }

    /// Reports a problem of a setting, with its value.
    pub(super) fn refuse(&mut self, setting: &str, message: &str) {
        let value = Some(self.text(setting));
        self.problems.push(Problem { setting: setting.to_owned(), value, message: message.to_owned() });
    }

    /// Reports a problem of a secret, without its value.
    pub(super) fn refuse_secret(&mut self, setting: &str, message: &str) {
        self.problems.push(Problem::new(setting, message));
    }

    /// The names of the named sections of one kind.
    pub(super) fn sections(&self, kind: &str) -> BTreeSet<String> {
        sections(&self.values, kind)
    }

    /// Whether a named section may have this name. If not, reports it.
    pub(super) fn is_section_name(&mut self, kind: &str, name: &str) -> bool {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let is_valid = (1..=32).contains(&name.len()) && name.chars().all(is_allowed);
        if !is_valid {
            self.refuse_secret(
                &format!("{kind}{name}"),
                "must have a name of 1 to 32 lower-case letters, digits, - and _",
            );
        }
        is_valid
    }

    pub(super) fn list(&self, setting: &str) -> Vec<String> {
        let text = self.text(setting);
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn text(&self, setting: &str) -> String {
        self.values.get(setting).cloned().unwrap_or_default()
    }

    /// Every setting with the value that takes effect; secrets are hidden.
    pub(super) fn effective(&self) -> Vec<Effective> {
        // Only a secret has a `_file` variant. A database URL without user and password is no secret.
        let is_secret = |name: &str, text: &str| {
            self.defaults.contains_key(&format!("{name}_file")) && (name != "storage.url" || text.contains('@'))
        };
        let as_toml = |name: &str, text: &str| match text {
            "" => "\"\"".to_owned(),
            text if is_secret(name, text) => "(hidden)".to_owned(),
            text if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() => text.to_owned(),
            text => format!("{text:?}"),
        };
        let effective = |(name, value): (&String, &String)| {
            let default = self.defaults.get(name);
            let origin = self.origins.get(name).filter(|_| default != Some(value));
            Effective {
                name: name.clone(),
                value: as_toml(name, value),
                changed: origin.map(|origin| Override {
                    origin: origin.clone(),
                    default: default.map(|default| as_toml(name, default)),
                }),
            }
        };
        self.values.iter().map(effective).collect()
    }

    fn parse<T: FromStr>(&mut self, setting: &str, placeholder: T, wanted: &str, is_valid: impl Fn(&T) -> bool) -> T {
        match self.text(setting).parse() {
            Ok(value) if is_valid(&value) => value,
            _ => {
                self.refuse(setting, &format!("must be {wanted}"));
                placeholder
            }
        }
    }

    pub(super) fn integer<T>(&mut self, setting: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + FromStr + PartialOrd + fmt::Display,
    {
        let wanted = format!("a whole number, {} to {}", range.start(), range.end());
        self.parse(setting, *range.start(), &wanted, |value| range.contains(value))
    }

    pub(super) fn boolean(&mut self, setting: &str) -> bool {
        self.parse(setting, false, "true or false", |_| true)
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&mut self, setting: &str) -> f64 {
        self.parse(setting, 0.0, "a number, 0 to 1, such as 0.05", |value| (0.0..=1.0).contains(value))
    }

    pub(super) fn address(&mut self, setting: &str) -> SocketAddr {
        let placeholder = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let wanted = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
        let mut address: SocketAddr = self.parse(setting, placeholder, wanted, |_| true);
        address.set_ip(address.ip().to_canonical()); // ::ffff:127.0.0.1 is loopback too
        address
    }

    pub(super) fn duration(&mut self, setting: &str, range: RangeInclusive<Duration>) -> Duration {
        match humantime::parse_duration(&self.text(setting)) {
            Ok(duration) if range.contains(&duration) => duration,
            _ => {
                let [least, most] = [range.start(), range.end()].map(|end| format_duration(*end));
                self.refuse(setting, &format!("must be a duration with its unit, {least} to {most}"));
                *range.start()
            }
        }
    }

    /// One of several words.
    pub(super) fn one_of<T: Copy>(&mut self, setting: &str, placeholder: T, choices: &[(&str, T)]) -> T {
        let text = self.text(setting);
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return *choice;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(setting, &format!("must be {}", words.join(" or ")));
        placeholder
    }

    /// A list of networks. An address is a network of one address.
    pub(super) fn networks(&mut self, setting: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for part in self.list(setting) {
            match part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from)).map(canonical) {
                Ok(network) if network.prefix_len() == 0 || network.contains(&MAPPED) => {
                    self.refuse(
                        setting,
                        &format!("{part} covers every address, so any client could forge X-Forwarded-For"),
                    );
                }
                Ok(network) => networks.push(network),
                Err(_) => self.refuse(
                    setting,
                    &format!("{part:?} is neither an address nor a network such as 10.0.0.0/8 or 2001:db8::/32"),
                ),
            }
        }
        networks
    }

    /// A secret of characters that an HTTP header can contain, from the setting or from the file of its `_file`
    /// variant. `None` if it is empty.
    pub(super) fn secret(&mut self, setting: &str, at_least: usize) -> Option<SecretString> {
        let secret = self.secret_text(setting)?;
        let text = secret.expose_secret();
        if text.chars().count() < at_least || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let wanted =
                format!("must have at least {at_least} characters, all of them printable ASCII without spaces");
            self.refuse_secret(&self.source_of(setting), &wanted);
            return None;
        }
        Some(secret)
    }

    /// A list of keys in Base64 with this number of bytes each: from the setting, separated by commas, or from the file
    /// of its `_file` variant, one a line. Messages about invalid and duplicate keys name the position in the list.
    pub(super) fn secret_list(&mut self, setting: &str, bytes: &RangeInclusive<usize>) -> Vec<SecretSlice<u8>> {
        let Some(text) = self.secret_text(setting) else { return Vec::new() };
        let named = self.source_of(setting);
        let (least, most) = (*bytes.start(), *bytes.end());
        let wanted = match most {
            _ if most == least => format!("{least} bytes"),
            usize::MAX => format!("at least {least} bytes"),
            _ => format!("{least} to {most} bytes"),
        };
        let mut keys: Vec<SecretSlice<u8>> = Vec::new();
        let parts = text.expose_secret().split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        for (part, position) in parts.zip(1_usize..) {
            let key = BASE64_STANDARD.decode(part).ok().filter(|key| bytes.contains(&key.len()));
            let Some(key) = key else {
                let message =
                    format!("key {position} must be {wanted} in Base64: create it with `openssl rand -base64 {least}`");
                self.refuse_secret(&named, &message);
                keys.push(Vec::new().into()); // a placeholder, so that the positions stay right
                continue;
            };
            if let Some((_, same)) = keys.iter().zip(1_usize..).find(|(other, _)| other.expose_secret() == key) {
                self.refuse_secret(&named, &format!("key {position} is the same as key {same}"));
            }
            keys.push(key.into());
        }
        if keys.is_empty() {
            self.refuse_secret(&named, "contains no key");
        }
        keys
    }

    /// The name of the setting that gives a secret: its own, or that of its `_file` variant.
    fn source_of(&self, setting: &str) -> String {
        if self.text(setting).is_empty() { format!("{setting}_file") } else { setting.to_owned() }
    }

    /// The content of the file that a setting names, if it is set.
    pub(super) fn file(&mut self, setting: &str) -> Option<String> {
        let path = self.text(setting);
        if path.is_empty() {
            return None;
        }
        let content = std::fs::read_to_string(&path);
        content
            .map_err(|error| self.refuse(setting, &format!("cannot be read: {}", file_error(Path::new(&path), &error))))
            .ok()
    }

    /// A secret of any characters, from the setting or from the file of its `_file` variant, without white space at
    /// either end. The file overrides a default of the setting.
    pub(super) fn secret_text(&mut self, setting: &str) -> Option<SecretString> {
        let file_setting = format!("{setting}_file");
        let (mut text, file) = (self.text(setting), self.text(&file_setting));
        if !file.is_empty() && self.defaults.get(setting) == Some(&text) {
            text.clear();
        }
        match (text.is_empty(), file.is_empty()) {
            (true, true) => None,
            (false, true) => Some(text.into()),
            (true, false) => self.file(&file_setting).map(|content| content.trim().into()),
            (false, false) => {
                self.refuse_secret(setting, &format!("is set, and {file_setting} too: set only one of them"));
                None
            }
        }
    }
}

/// Converts an IPv4-mapped network such as `::ffff:10.0.0.0/104` to IPv4, because IPv4 peers are compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        (address @ IpAddr::V4(_), Some(bits)) => IpNet::new(address, bits).unwrap_or(network),
        _ => network,
    }
}

/// A duration in the largest unit that divides it.
fn format_duration(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, word)| format!("{}{word}", seconds.div_euclid(*unit)))
}
