//! Property tests: rows that are written are read back unchanged in every format, and messages never repeat a value
//! that may be a key.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::TransferError;
use super::csv::{self, Csv};
use super::json::{Items, JsonLines, is_directory_file, write};
use super::record::{Line, Position, Record, RowKind};

/// Texts with a meaning in CSV, in JSON or on screen, and any other text. Never empty, as an empty cell is an absent
/// member.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "\"", "\"\"", ",", "\n", "\r\n", "\r", " ", ";", "[", "[]", "[\"a\"]", "\u{feff}", "#", "'", "=1+1", "null",
        "true", "7", "\\", "\u{2028}", "🛒", "a b", "a;b", "[a b",
    ]);
    prop_oneof![
        odd.prop_map(str::to_owned),
        vec(any::<char>(), 1..8).prop_map(String::from_iter),
        any::<char>().prop_map(|character| character.to_string().repeat(255)),
    ]
}

fn maybe(text: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    prop::option::of(text).prop_map(Value::from)
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn row() -> impl Strategy<Value = Value> {
    let store =
        (text(), any::<[bool; 2]>(), one_of(&["open", "closed"]), any::<u64>(), one_of(&["let_out", "check_account"]))
            .prop_map(|(id, [enabled, takes_cash], default, window, exit_policy)| {
                json!({ "store": {
                "id": id, "enabled": enabled, "takesCash": takes_cash, "defaultGateDecision": default,
                "scanKeyWindowSeconds": window, "exitPolicy": exit_policy,
            } })
            });
    let method = (maybe(text()), text()).prop_map(|(id, last_month)| json!({ "id": id, "lastMonth": last_month }));
    let shopper = (
        text(),
        one_of(&["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"]),
        one_of(&["active", "flagged"]),
        prop::option::of(method),
        vec(text(), 0..4),
    )
        .prop_map(|(id, kind, account, method, devices)| {
            json!({ "shopper": {
                "id": id, "type": kind, "account": account, "paymentMethod": method, "devices": devices,
            } })
        });
    let link = || (text(), maybe(text()), maybe(text()), any::<bool>());
    let key = (link(), prop::option::of(one_of(&["OPTICAL", "RADIO"]))).prop_map(
        |((digest, shopper, device, revoked), channel)| {
            json!({ "identityKey": {
                "digest": digest, "shopper": shopper, "device": device, "revoked": revoked, "channel": channel,
            } })
        },
    );
    let token = link().prop_map(|(digest, shopper, device, revoked)| {
        json!({ "recognitionToken": { "digest": digest, "shopper": shopper, "device": device, "revoked": revoked } })
    });
    let customer =
        (text(), text()).prop_map(|(digest, shopper)| json!({ "customer": { "digest": digest, "shopper": shopper } }));
    prop_oneof![store, shopper, key, token, customer]
}

fn as_records(rows: &[Value]) -> Vec<Record> {
    rows.iter().map(|row| serde_json::from_value(row.clone()).expect("a row")).collect()
}

fn as_values(records: &[Record]) -> Vec<Value> {
    records.iter().map(|record| serde_json::to_value(record).expect("JSON")).collect()
}

/// All rows of a file, and their positions.
fn read(mut next: impl FnMut() -> Result<Option<Line>, TransferError>) -> (Vec<Record>, Vec<Position>) {
    let lines = std::iter::from_fn(|| next().expect("a file"));
    lines.map(|(position, record)| (record.unwrap_or_else(|problem| panic!("{position}: {problem}")), position)).unzip()
}

/// The first row of an export. Only an export may have line breaks in cells.
fn export() -> Record {
    serde_json::from_value(json!({ "export": { "version": 1, "hashKeyCheck": "00" } })).expect("a row")
}

fn as_csv(records: &[Record]) -> Vec<u8> {
    let mut file = Vec::new();
    csv::write_header(&mut file).expect("the header is written");
    records.iter().for_each(|record| csv::write(&mut file, record).expect("the row is written"));
    file
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_survive_json_lines(rows in vec(row(), 0..6)) {
        let (records, mut file) = (as_records(&rows), Vec::new());
        records.iter().for_each(|record| write(&mut file, record).expect("the row is written"));
        let mut lines = JsonLines::new(file.as_slice());
        let (again, numbers) = read(|| lines.next());
        prop_assert_eq!(as_values(&again), as_values(&records));
        prop_assert_eq!(numbers, (1..).take(records.len()).map(Position::Line).collect::<Vec<_>>());
    }

    #[test]
    fn rows_survive_csv(rows in vec(row(), 0..6)) {
        let mut records = as_records(&rows);
        records.insert(0, export());
        let file = as_csv(&records);
        let mut table = Csv::new(file.as_slice()).expect("a header");
        let (again, _) = read(|| table.next());
        prop_assert_eq!(as_values(&again), as_values(&records));
    }

    #[test]
    fn rows_survive_a_directory_file(rows in vec(row(), 0..6), is_pretty in any::<bool>()) {
        let rows_of = |kind: &str| rows.iter().filter_map(|row| row.get(kind).cloned()).collect::<Vec<Value>>();
        let list = |kind: RowKind| (format!("{}s", kind.name()), Value::from(rows_of(kind.name())));
        let file = Value::from_iter(RowKind::ALL.map(list));
        let file = if is_pretty { format!(" {file:#}\n") } else { file.to_string() };
        prop_assert!(is_directory_file(file.as_bytes()));
        let mut items = Items::new(file.as_bytes());
        let (records, positions) = read(|| items.next());
        let again = as_values(&records);
        prop_assert_eq!(again.len(), rows.len());
        for (row, position) in again.iter().zip(positions) {
            let Position::Item(kind, number) = position else { panic!("{position} is in a list") };
            let name = kind.name();
            prop_assert_eq!(row, &as_values(&as_records(&[json!({ name: rows_of(name)[number as usize] })]))[0]);
        }
    }

    #[test]
    fn random_bytes_are_rows_or_refused(bytes in vec(any::<u8>(), 0..200), text in "[\"\\[{}:,a\\\\\r\n]{0,60}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let mut lines = JsonLines::new(bytes);
            while let Ok(Some(_)) = lines.next() {}
            let table = [b"record,id,devices\n".as_slice(), bytes].concat();
            let mut table = Csv::new(table.as_slice()).expect("a header");
            while let Ok(Some(_)) = table.next() {}
            for list in [b"".as_slice(), b"{", b"{\"stores\":", b"{\"stores\":["] {
                let file = [list, bytes].concat();
                let mut items = Items::new(file.as_slice());
                while let Ok(Some(_)) = items.next() {}
            }
        }
    }

    #[test]
    fn a_message_never_repeats_a_value(
        member in one_of(&["key", "shopper", "channel", "revoked", "device", "digest", "issuer", "subject", "hush-hush", "devices"]),
        value in prop::sample::select(vec![
            json!("hush-hush"), json!(["hush-hush"]), json!({ "hush-hush": 1 }), json!(", expected hush-hush"), json!("`hush-hush"),
        ]),
        kind in one_of(&["store", "shopper", "identityKey", "recognitionToken", "customer", "hush-hush"]),
        cut in any::<prop::sample::Index>(),
    ) {
        let line = json!({ kind: { member: value } }).to_string();
        for line in [line.clone(), line.get(..cut.index(line.len())).unwrap_or_default().to_owned(), format!("{line}hush")] {
            if let Ok(Some((_, Err(problem)))) = JsonLines::new(line.as_bytes()).next() {
                prop_assert!(!problem.to_string().contains("hush"), "{}: {}", line, problem);
            }
        }
    }
}

/// The first line of each row.
fn lines_of(file: &str) -> Vec<Position> {
    let mut table = Csv::new(file.as_bytes()).expect("a header");
    std::iter::from_fn(|| table.next().expect("a table")).map(|(position, _)| position).collect()
}

#[test]
fn lines_are_counted_with_any_line_ending() {
    let file = "record,id,version\nexport,,1\n\n,,\n\"store\",\"b\nb\",\nstore,c,";
    assert_eq!(lines_of(file), [2, 5, 7].map(Position::Line));
    assert_eq!(lines_of(&file.replace('\n', "\r\n")), [2, 5, 7].map(Position::Line));
    assert_eq!(
        lines_of(&format!("\n{}\n\n", file.replace("export,,1\n", "export,,1\r\n"))),
        [3, 6, 8].map(Position::Line)
    );
}

#[test]
fn a_row_that_is_too_long_is_not_read_into_memory() {
    let endless = "x".repeat(super::MAX_ROW_BYTES + 1);
    let line = format!("{{}}\n{endless}");
    let mut lines = JsonLines::new(line.as_bytes());
    assert!(lines.next().expect("the row is read").is_some());
    assert!(matches!(lines.next(), Err(TransferError::RowTooLong(2))));
    let table = format!("record,id\nstore,a\n\nstore,\"{endless}");
    let mut table = Csv::new(table.as_bytes()).expect("a header");
    assert!(table.next().expect("the row is read").is_some());
    assert!(matches!(table.next(), Err(TransferError::RowTooLong(4))));
}

#[test]
fn devices_are_separated_by_spaces_or_semicolons_or_are_a_json_array() {
    for (cell, expected) in [
        ("a b", json!(["a", "b"])),
        (" a;;b; ", json!(["a", "b"])),
        ("a\tb", json!(["a\tb"])),
        ("\"[\"\"a b\"\",\"\"c;d\"\"]\"", json!(["a b", "c;d"])),
    ] {
        let table = format!("record,id,type,devices\nshopper,s,SHOPPER,{cell}\n");
        let mut table = Csv::new(table.as_bytes()).expect("a header");
        let (records, _) = read(|| table.next());
        assert_eq!(as_values(&records)[0]["shopper"]["devices"], expected, "{cell}");
    }
}

#[test]
fn an_invalid_header_is_refused_without_repeating_it() {
    for header in ["", "id,record", "record,hush-hush", "record,id,id", "identityKey,hush-hush"] {
        let Err(TransferError::Header(message)) = Csv::new(header.as_bytes()).map(|_| ()) else { panic!("{header}") };
        assert!(!message.contains("hush"), "{message}");
    }
}
