//! Imports into a directory in memory: what is written, what is refused, and with which message. The command `import`
//! prints the report.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Ended, Format, Import, Report, TransferError, export};
use crate::clock::Clock;
use crate::digest::HashKey;
use crate::directory::Directory;
use crate::transfer::RowKind;

const TABLE: &str =
    "record,id,type,paymentMethodLastMonth,devices,key,token,shopper,device,channel,revoked,issuer,subject
store,STORE-001,,,,,,,,,,,
identityKey,,,,,hush-badge,,clerk,,RADIO,,,
customer,,,,,,,shopper-1,,,,https://hush,hush-subject
shopper,shopper-1,SHOPPER,2029-06,phone-1 phone-2,,,,,,,,
identityKey,,,,,hush-lost,,,,,TRUE,,
recognitionToken,,,,,,hushhushhushhushhushhushhushhush,shopper-1,phone-2,,,,
shopper,clerk,ASSOCIATE,,,,,,,,,,
";

/// The rows of [`TABLE`] as JSON lines, in another order.
fn json_lines() -> String {
    let rows = [
        json!({ "recognitionToken": { "token": "hush".repeat(8), "shopper": "shopper-1", "device": "phone-2" } }),
        json!({ "shopper": { "id": "clerk", "type": "ASSOCIATE" } }),
        json!({ "identityKey": { "key": "hush-lost", "revoked": true } }),
        json!({ "identityKey": { "key": "hush-badge", "shopper": "clerk", "channel": "RADIO", "device": null } }),
        json!({ "shopper": {
            "id": "shopper-1", "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-1", "phone-2"],
        } }),
        json!({ "store": { "id": "STORE-001" } }),
        json!({ "customer": { "issuer": "https://hush", "subject": "hush-subject", "shopper": "shopper-1" } }),
    ];
    rows.map(|row| format!("{row}\n")).concat()
}

/// The rows of [`TABLE`] as a directory file.
fn directory_file() -> String {
    format!(
        r#"{{
  "recognitionTokens": [{{ "token": "{}", "shopper": "shopper-1", "device": "phone-2" }}],
  "stores": [{{ "id": "STORE-001" }}],
  "customers": [ {{ "issuer": "https://hush", "subject": "hush-subject", "shopper": "shopper-1" }} ],
  "identityKeys": [
    {{ "key": "hush-lost", "revoked": true }},
    {{ "key": "hush-badge", "shopper": "clerk", "channel": "RADIO" }}
  ],
  "shoppers": [
    {{ "id": "clerk", "type": "ASSOCIATE" }},
    {{ "id": "shopper-1", "type": "SHOPPER", "paymentMethod": {{ "lastMonth": "2029-06" }}, "devices": ["phone-1", "phone-2"] }}
  ]
}}
"#,
        "hush".repeat(8)
    )
}

fn empty() -> Directory {
    Directory::in_memory(HashKey::new(&[7; 32]))
}

/// The report of an import, which never repeats a key.
async fn import(directory: &Directory, format: Format, content: impl AsRef<[u8]>, skip_bad_rows: bool) -> Report {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(content.as_ref()).expect("the file is written");
    let import = Import { directory, clock: &Clock::System, format, skip_bad_rows, check_only: false };
    let report = import.run(&file, &mut |_| std::ops::ControlFlow::Continue(())).await;
    let text = format!("{}{}{}", report.bad, report.warnings, error(&report));
    assert!(!text.contains("hush"), "a message repeats a key: {text}");
    report
}

fn error(report: &Report) -> String {
    if let Ended::Failed(error) = &report.ended { error.to_string() } else { String::new() }
}

/// Imports a file without bad rows, and returns how many rows were written and changed.
async fn written(directory: &Directory, format: Format, content: impl AsRef<[u8]>) -> (u64, u64) {
    let report = import(directory, format, content, false).await;
    assert!(matches!(report.ended, Ended::Done), "{:?}: {}", report.ended, report.bad);
    (report.imported.total(), report.changed)
}

async fn exported(directory: &Directory, format: Format) -> String {
    let mut out = Vec::new();
    export(directory, format, &mut out, &mut |_| std::ops::ControlFlow::Continue(())).await.expect("it is written");
    String::from_utf8(out).expect("UTF-8")
}

/// A directory with the rows of [`TABLE`].
async fn with_table() -> Directory {
    let directory = empty();
    assert_eq!(written(&directory, Format::Csv, TABLE).await, (7, 7));
    directory
}

/// A table with one shopper and this many keys. The first key is on line 3.
fn keys(many: usize) -> String {
    let rows = (0..many).map(|number| format!("identityKey,,,,hush-{number},clerk\n"));
    format!("record,id,type,devices,key,shopper\nshopper,clerk,ASSOCIATE,,,\n{}", rows.collect::<String>())
}

#[tokio::test]
async fn every_format_imports_the_same_rows_in_any_order() {
    let directory = with_table().await;
    let (lines, table) = (exported(&directory, Format::JsonLines).await, exported(&directory, Format::Csv).await);
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for (format, content) in [
        (Format::Csv, windows(TABLE)),
        (Format::Csv, TABLE.replace(',', ";").replacen("record", "\"record\"", 1)),
        (Format::Csv, TABLE.replace(',', "\t")),
        (Format::Csv, table.clone()),
        (Format::JsonLines, json_lines()),
        (Format::JsonLines, windows(&json_lines())),
        (Format::JsonLines, lines.clone()),
        (Format::JsonLines, directory_file()),
        (Format::JsonLines, format!("\u{feff}{}", directory_file())),
    ] {
        assert_eq!(written(&directory, format, &content).await, (7, 0), "nothing is new: {content}");
        let other = empty();
        assert_eq!(written(&other, format, &content).await, (7, 7), "{content}");
        assert_eq!(exported(&other, Format::JsonLines).await, lines, "{content}");
        assert_eq!(exported(&other, Format::Csv).await, table, "{content}");
    }
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&String> = rows.iter().flat_map(|row| row.as_object().expect("a row").keys()).collect();
    let sorted =
        ["export", "store", "shopper", "shopper", "identityKey", "identityKey", "recognitionToken", "customer"];
    assert_eq!(kinds, sorted);
    assert_eq!(rows[2]["shopper"]["id"], "clerk");
    let more = "record,id,type,key,shopper\nidentityKey,,,hush-new,clerk\nshopper,clerk,SHOPPER,,\n,,,,\n,,\n\"\",\n\n";
    assert_eq!(written(&directory, Format::Csv, more).await, (2, 2), "rows of empty cells are ignored");
    assert_eq!(written(&directory, Format::Csv, keys(1).replace("hush-0", "\"hush, \"\"0\"\"\"")).await.0, 2);
}

#[tokio::test]
async fn a_file_with_bad_rows_is_imported_only_if_they_are_skipped() {
    let directory = with_table().await;
    let bad = "record,id,type,key,shopper,device,scanKeyWindowSeconds,enabled,issuer,subject
shopper,new,SHOPPER,,,,,,,
shopper,,SHOPPER,,,,,,,
shopper,vip,VIP,,,,,,,
store,S,,,,,29,,,
identityKey,,,hush-1,unknown-shopper,,,,,
identityKey,,,hush-2,shopper-1,not-theirs,,,,
identityKey,,,hush-3,new,phone-1,,,,
identityKey,,,hush-4,new,,,,,
identityKey,,,hush-4,new,,,,,
identityKey,,,hush-\u{e9},new,,,,,
,,,,,,,,,
hush,,,,,,,,,
identityKey,,,,new,,,,,
identityKey,hush,,,,,,,,
store,T
identityKey,,,hush-6,vip,,,,,
customer,,,,unknown-shopper,,,,hush,hush-1
customer,,,,shopper-1,,,,hush,hush-2
customer,,,,clerk,,,,hush,hush-2
customer,,,,clerk,,,,hush,
customer,,,,,,,,,hush-3
";
    let lines = [
        "line 3: shopper.id: is empty",
        "line 4: shopper.type: unknown variant",
        "line 5: store.scanKeyWindowSeconds: must be 30 to 90",
        "line 6: identityKey.shopper: no such shopper in the file or the directory",
        "line 7: identityKey.device: not one of that shopper's devices",
        "line 8: identityKey.device: not one of that shopper's devices",
        "line 10: identityKey: duplicate of line 9",
        "line 11: identityKey.key: must be 1 to 750 printable ASCII characters",
        "line 13: record: must be store, shopper, identityKey, recognitionToken or customer",
        "line 14: identityKey.key: is missing",
        "line 15: identityKey.id: unknown field",
        "line 16: row: has 2 cells, but the header has 10",
        "line 17: identityKey.shopper: no such shopper",
        "line 18: customer.shopper: no such shopper in the file or the directory",
        "line 20: customer: duplicate of line 19",
        "line 21: customer.subject: is missing",
        "line 22: customer.issuer: is missing",
        "line 22: customer.shopper: is missing",
    ];
    let before = exported(&directory, Format::JsonLines).await;
    for skip_bad_rows in [false, true] {
        let report = import(&directory, Format::Csv, bad, skip_bad_rows).await;
        let text = report.bad.to_string();
        assert!(lines.iter().all(|line| text.contains(line)), "{text}");
        assert_eq!((report.bad.len(), text.lines().count()), (17, lines.len()), "{text}");
        assert_eq!(matches!(report.ended, Ended::Refused), !skip_bad_rows, "{:?}", report.ended);
        assert_eq!(report.changed, if skip_bad_rows { 3 } else { 0 });
        assert_eq!(exported(&directory, Format::JsonLines).await == before, !skip_bad_rows);
    }
}

/// A key's device is checked against the shopper's row in the file, before or after the key; without one, against the
/// directory.
#[tokio::test]
async fn a_key_is_checked_against_the_devices_of_its_shopper_in_the_file() {
    let directory = with_table().await;
    let key = "{\"identityKey\":{\"key\":\"hush\",\"shopper\":\"shopper-1\",\"device\":\"phone-1\"}}\n";
    let changed = "{\"shopper\":{\"id\":\"shopper-1\",\"type\":\"SHOPPER\",\"devices\":[\"phone-2\",\"phone-3\"]}}\n";
    for (content, line) in [(format!("{key}{changed}"), 1), (format!("{changed}{key}"), 2)] {
        let bad = import(&directory, Format::JsonLines, content, false).await.bad.to_string();
        assert!(bad.contains(&format!("line {line}: identityKey.device")), "{bad}");
    }
    assert_eq!(written(&directory, Format::JsonLines, key).await, (1, 1));
    let other_row = key.replace("phone-1", "phone-3").replace("hush", "hush-hush");
    assert_eq!(written(&directory, Format::JsonLines, format!("{other_row}{changed}")).await, (2, 2));
}

#[tokio::test]
async fn single_mistakes_are_reported_with_their_line() {
    let directory = empty();
    let head = "record,id,enabled,takesCash,scanKeyWindowSeconds\n";
    let flags = ["WAHR", "yes", "1", "0", "ja", "true ", "hush"].map(|word| {
        (format!("{head}store,S,True,{word},\n"), "line 2: takesCash: must be true or false, or empty for its default")
    });
    let numbers = ["60s", "45.0", "-1", "hush"].map(|number| {
        (format!("{head}store,S,,,{number}\n"), "line 2: scanKeyWindowSeconds: must be a whole number, digits only")
    });
    let quotes = [
        ("\"hush-7", "has a quote that is not closed"),
        ("\"", "has a quote that is not closed"),
        ("\"hush\"\"7", "has a quote that is not closed"),
        ("\"hush-7\"x", "has text after a closing quote"),
        ("\"hush-7\" ", "has text after a closing quote"),
        ("\"hush\"7\"", "has text after a closing quote"),
        ("hush\"7", "has a quote in a cell that does not begin with one"),
        ("hush-7\"", "has a quote in a cell that does not begin with one"),
        (" \"hush-7\"", "has a quote in a cell that does not begin with one"),
    ]
    .map(|(cell, what)| (keys(100).replacen("hush-7,", &format!("{cell},"), 1), what));
    // Two rows with one quote each: the second quote closes the first.
    let two =
        "record,id,type,devices\nshopper,s1,SHOPPER,\"phone\nshopper,s2,SHOPPER,phone\nshopper,s3,SHOPPER,phone\"\n";
    let rows = [
        (two.to_owned(), "line 2: row: has a quote that is not closed"),
        (format!("\u{feff}{}", "record,id\nstore,S\n\nstore,\n".replace('\n', "\r\n")), "line 4: store"),
    ];
    for (content, what) in flags.into_iter().chain(numbers).chain(rows) {
        let bad = import(&directory, Format::Csv, &content, false).await.bad.to_string();
        assert!(bad.contains(what), "{what} is not in {bad} of {content}");
    }
    for (content, what) in quotes {
        let report = import(&empty(), Format::Csv, &content, true).await;
        let bad = report.bad.to_string();
        assert!(bad.starts_with(&format!("  line 10: row: {what}")), "{what} is not in {bad} of {content}");
        assert_eq!(
            (report.bad.len(), report.imported.of(RowKind::IdentityKey)),
            (1, 99),
            "the quote affects only its row"
        );
    }
    assert_eq!(written(&directory, Format::Csv, format!("{head}store,S,FALSE,True,45\n")).await, (1, 1));
    let later = import(&directory, Format::Csv, two, true).await;
    assert_eq!((later.bad.len(), later.imported.of(RowKind::Shopper)), (2, 1));

    let invalid_rows = directory_file().replace("\"RADIO\"", "\"HUSH\"").replace("\"ASSOCIATE\"", "\"\"");
    let unknown = format!("[{{ \"token\": \"{}\", \"shopper\": \"unknown\" }}, {{ \"token\"", "h".repeat(32));
    let invalid_rows = invalid_rows.replacen("[{ \"token\"", &unknown, 1);
    let bad = import(&directory, Format::JsonLines, invalid_rows, false).await.bad.to_string();
    for what in [
        "  shoppers[0]: shopper.type: unknown variant, expected",
        "  identityKeys[1]: identityKey.channel: unknown variant, expected",
        "  recognitionTokens[0]: recognitionToken.shopper: no such shopper in",
    ] {
        assert!(bad.contains(what) && bad.lines().count() == 3, "{what} is not in {bad}");
    }
}

#[tokio::test]
async fn values_that_a_spreadsheet_may_have_changed_are_imported_with_a_warning() {
    let rows = "record,id,type,devices,key,shopper,issuer,subject
shopper, clerk,ASSOCIATE,,,,,
shopper,vip\u{a0},SHOPPER,\"[\"\"a b\"\",\"\"c \"\"]\",,,,
identityKey,,,,4.71E+12,vip\u{a0},,
identityKey,,,,\"4,71E+12\",vip\u{a0},,
identityKey,,,,hush ,vip\u{a0},,
identityKey,,,,4711000000000,vip\u{a0},,
identityKey,,,,E+12,vip\u{a0},,
customer,,,,,vip\u{a0},https://hush,2E+15
";
    let directory = empty();
    let report = import(&directory, Format::Csv, rows, false).await;
    assert_eq!((report.changed, report.warnings.len()), (8, 8));
    let warnings = report.warnings.to_string();
    let (blank, number) = ("begins or ends with whitespace", "looks like a long number that a spreadsheet has rounded");
    for (field, what) in [
        ("line 2: shopper.id", blank),
        ("line 3: shopper.id", blank),
        ("line 3: shopper.devices[1]", blank),
        ("line 4: identityKey.key", number),
        ("line 5: identityKey.key", number),
        ("line 6: identityKey.key", blank),
        ("line 9: customer.subject", number),
    ] {
        assert!(warnings.contains(&format!("  {field}: {what}")), "{field} is not in {warnings}");
    }
    assert!(!warnings.contains("4.71"), "a key is not repeated: {warnings}");
    assert!(!warnings.contains("line 7: identityKey.key") && !warnings.contains("line 8: identityKey.key"));
    // JSON lines get the same warning. An export gets none, since no spreadsheet has changed it.
    let lines = import(&directory, Format::JsonLines, "{\"store\":{\"id\":\"S \"}}\n", false).await;
    assert!(lines.warnings.to_string().starts_with("  line 1: store.id: begins"), "{}", lines.warnings);
    let export = import(&empty(), Format::Csv, exported(&directory, Format::Csv).await, false).await;
    assert!(export.warnings.is_empty() && export.changed == 9, "{}", export.warnings);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_as_a_whole() {
    let directory = with_table().await;
    let (lines, table) = (exported(&directory, Format::JsonLines).await, exported(&directory, Format::Csv).await);
    let file = directory_file();
    let store = "{\"store\":{\"id\":\"S\\nT\"}}\n{\"store\":{\"id\":\"U\"}}\n";
    let stores = empty();
    assert_eq!(written(&stores, Format::JsonLines, store).await, (2, 2));
    let quoted = exported(&stores, Format::Csv).await;
    let (not_closed, after) = (quoted.replacen("S\nT\"", "S\nT", 1), quoted.replacen(",U,", ",U\",", 1));
    assert!(not_closed != quoted && after != quoted);
    for (format, content, what) in [
        (Format::JsonLines, file.replacen("\"stores\"", "\"shops\"", 1), "line 3: must be one of stores, shoppers"),
        (Format::JsonLines, file.replacen("\"stores\"", "\"shoppers\"", 1), "line 9: must be one of stores, shoppers"),
        (Format::JsonLines, file.replacen("],", "]", 1), "line 3: this directory file is not a JSON object with lists"),
        (Format::JsonLines, file.trim_end().trim_end_matches('}').to_owned(), "line 13: this directory file is not"),
        (Format::JsonLines, format!("{file}{{}}"), "line 14: this directory file is not"),
        (Format::JsonLines, lines.replace("\"version\":1", "\"version\":2,\"hush\":true"), "version 2"),
        (Format::Csv, TABLE.replacen("record,", "", 1), "line 1, the header: the first column must be record"),
        (Format::Csv, TABLE.replace('\n', "\r"), "lines end in CR alone"),
        (Format::Csv, "\u{feff}".to_owned(), "line 1, the header: "),
        (Format::Csv, format!("{TABLE}store,{}", "hush".repeat(300_000)), "line 9: this row is longer than 1 MiB"),
        (Format::Csv, not_closed, "; nothing of this export was imported"),
        (Format::Csv, after, ": row: has a quote in a cell"),
    ] {
        let report = import(&directory, format, &content, true).await;
        assert!(error(&report).contains(what), "{what} is not in {:?}", report.ended);
        assert_eq!(report.changed, 0, "{what}");
    }
    let utf_16 = import(&directory, Format::Csv, b"\xff\xfer\0e\0c\0o\0r\0d\0", true).await;
    assert!(matches!(utf_16.ended, Ended::Failed(TransferError::Encoding)), "{:?}", utf_16.ended);
    assert_eq!(exported(&directory, Format::Csv).await, table);
}

#[tokio::test]
async fn digests_are_valid_only_with_the_hash_key_that_made_them() {
    let directory = with_table().await;
    let (lines, table) = (exported(&directory, Format::JsonLines).await, exported(&directory, Format::Csv).await);
    let other = Directory::in_memory(HashKey::new(&[1; 32]));
    for (format, content) in [(Format::JsonLines, &lines), (Format::Csv, &table)] {
        let report = import(&other, format, content, true).await;
        assert!(matches!(report.ended, Ended::Failed(TransferError::OtherHashKey)), "{:?}", report.ended);
    }
    let (_, without) = lines.split_once('\n').expect("a first row");
    let digest = format!("{{\"customer\":{{\"digest\":\"{}\",\"shopper\":\"clerk\"}}}}\n", "0".repeat(64));
    let first_row =
        "requires the first row of the export (the \"export\" row), because that row identifies the hash key";
    for directory in [&directory, &other] {
        for (content, what) in [
            (without, "line 4: identityKey.digest: ".to_owned()),
            (&digest, format!("line 1: customer.digest: {first_row}: add it back")),
        ] {
            let bad = import(directory, Format::JsonLines, content, false).await.bad.to_string();
            assert!(bad.contains(&what), "{what} is not in {bad}");
        }
    }
    let twice = import(&directory, Format::JsonLines, format!("{lines}{lines}"), false).await.bad.to_string();
    assert!(twice.contains("line 9: export: is allowed in the first row only"), "{twice}");
}
