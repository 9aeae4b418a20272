//! A published case, read from its file in `tests/cases/`. The README there explains the format.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::gate::GateStep;

/// The number of cases in each section of the document, from section 1 on.
pub(crate) const CASES_OF_SECTIONS: [u32; 9] = [7, 5, 17, 1, 1, 3, 6, 4, 2];

#[derive(Clone)]
pub(crate) struct Case {
    /// The section and the case number. Cases run in this order, which is the document's.
    pub(crate) number: (u32, u32),
    /// The file's name without `.json`, such as `3_8_unknown_store`.
    pub(crate) name: String,
    /// The document's heading.
    pub(crate) title: String,
    /// The rate limit of a connector that is started for this case only.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Whether all answers of the case must be identical, byte for byte.
    pub(crate) identical_answers: bool,
    /// The number of sessions expected afterwards.
    pub(crate) sessions: Option<Sessions>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone)]
pub(crate) enum Step {
    /// A request that is sent unchanged, once or several times.
    Request(RequestStep),
    /// A scan at a simulated gate, which sends the requests.
    Scan(GateStep),
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestStep {
    pub(crate) request: Value,
    #[serde(default)]
    pub(crate) repeat: Repeat,
    pub(crate) answer: Answer,
    /// If set, the request is sent twice as often as the connector's burst permits, and the surplus must get this
    /// answer.
    pub(crate) answer_beyond_limit: Option<Answer>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Repeat {
    pub(crate) times: usize,
    pub(crate) pace: Pace,
    pub(crate) event: Event,
}

impl Default for Repeat {
    fn default() -> Self {
        Self { times: 1, pace: Pace::Sequential, event: Event::Same }
    }
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Pace {
    Sequential,
    Concurrent,
}

/// Whether repeated requests are retries of one scan or separate scans.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Event {
    Same,
    New,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimit {
    pub(crate) requests_per_second: u32,
    pub(crate) burst: u32,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sessions {
    pub(crate) auth_event_id: String,
    pub(crate) opened: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseFile {
    number: String,
    title: String,
    rate_limit: Option<RateLimit>,
    #[serde(default)]
    identical_answers: bool,
    sessions: Option<Sessions>,
    #[serde(default)]
    steps: Vec<Value>,
    /// A case with one step may have the step's members here instead of a list.
    #[serde(flatten)]
    only_step: Map<String, Value>,
}

impl Case {
    pub(crate) fn trial_name(&self) -> String {
        format!("case_{}", self.name)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut file: CaseFile = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        file.only_step.remove("note"); // for readers only
        match (file.steps.is_empty(), file.only_step.is_empty()) {
            (true, false) => file.steps.push(Value::Object(file.only_step)),
            (false, true) => {}
            _ => return Err(format!("either `steps` or one step, not both: {:?}", file.only_step.keys())),
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if !name.starts_with(&format!("{}_", file.number.replace('.', "_"))) {
            return Err(format!("the file name does not begin with the number {}", file.number));
        }
        Ok(Self {
            number: parse_number(&file.number).ok_or_else(|| format!("{} is not the number of a case", file.number))?,
            name,
            title: file.title,
            rate_limit: file.rate_limit,
            identical_answers: file.identical_answers,
            sessions: file.sessions,
            steps: file.steps.into_iter().map(parse_step).collect::<Result<_, _>>()?,
        })
    }
}

fn parse_number(number: &str) -> Option<(u32, u32)> {
    let (section, case) = number.split_once('.')?;
    Some((section.parse().ok()?, case.parse().ok()?))
}

/// Not an untagged enum, since its errors would not name the wrong member.
fn parse_step(step: Value) -> Result<Step, String> {
    let parsed = if step.get("scan").is_some() {
        serde_json::from_value(step).map(Step::Scan)
    } else {
        serde_json::from_value(step).map(Step::Request)
    };
    parsed.map_err(|error| error.to_string())
}

/// All cases, in the document's order.
pub(crate) fn load_all() -> Result<Vec<Case>, String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"));
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            cases.push(Case::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    cases.sort_by_key(|case| case.number);
    Ok(cases)
}
