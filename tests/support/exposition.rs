//! The reference parser of both text formats of metrics: Python's `prometheus_client`, if it is installed. Tests use it
//! to read the metrics of every connector before it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::Value;

/// Reads scrapes, each after a line with its format and length. Writes one line for each: the metric families, or the
/// error.
const SCRIPT: &str = r#"
import json, sys
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics
print("ready", flush=True)
for line in sys.stdin.buffer:
    form, length = line.split()
    text = sys.stdin.buffer.read(int(length)).decode()
    parser = openmetrics if form == b"openmetrics" else plain
    try:
        families = [[f.name, f.type, sorted({s.name for s in f.samples})] for f in parser.text_string_to_metric_families(text)]
        print(json.dumps(families), flush=True)
    except Exception as error:
        print(json.dumps(repr(error)), flush=True)
"#;

/// A process that ends with this one.
struct Parser {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

static PARSER: LazyLock<Option<Mutex<Parser>>> = LazyLock::new(|| Parser::start().map(Mutex::new));

impl Parser {
    fn start() -> Option<Self> {
        // Debian's package is installed for Debian's Python, which may not be the first one in PATH.
        let debians = "/usr/bin/python3";
        let python = if Path::new(debians).is_file() { debians } else { "python3" };
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (input, output) = (child.stdin.take()?, child.stdout.take()?);
        let mut parser = Self { _child: child, input, output: BufReader::new(output) };
        (parser.line() == "ready\n").then_some(parser)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

/// Returns what must be installed to read metrics; `None` if nothing is missing.
pub(crate) fn missing() -> Option<String> {
    PARSER.is_none().then(|| "prometheus_client is not installed (Debian: python3-prometheus-client)".to_owned())
}

/// The families of a scrape, each with its name, its type and the names of its samples; or the parser's error.
pub(crate) fn read(format: &str, text: &str) -> Option<Value> {
    let mut parser = PARSER.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    parser.input.write_all(format!("{format} {}\n{text}", text.len()).as_bytes()).unwrap();
    parser.input.flush().unwrap();
    serde_json::from_str(&parser.line()).ok()
}

/// The families of a scrape with this content type.
#[track_caller]
pub(crate) fn families(content_type: &str, text: &str) -> Vec<Value> {
    let format = if content_type.starts_with("application/openmetrics-text") { "openmetrics" } else { "plain" };
    match read(format, text) {
        Some(Value::Array(families)) => families,
        error => panic!("prometheus_client: {error:?} in {content_type}:\n{text}"),
    }
}

/// Reads a scrape in OpenMetrics if the parser is installed.
#[track_caller]
pub(crate) fn assert_readable(text: &str) {
    let is_readable = missing().is_some() || read("openmetrics", text).is_some_and(|families| families.is_array());
    // A second panic would end all tests.
    assert!(is_readable || std::thread::panicking(), "prometheus_client cannot read:\n{text}");
}
