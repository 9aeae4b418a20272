//! CSV tables as people and spreadsheets write them. Mistakes are reported with the line, and no row is left out
//! without a message.

use crate::command_line::import::{Database, TABLE};
use crate::trials::{apply, test};

/// A table with one shopper and this many keys. The first key is on line 3.
fn keys(many: usize) -> String {
    let rows = (0..many).map(|number| format!("identityKey,,,,hush-{number},clerk\n"));
    format!("record,id,type,devices,key,shopper\nshopper,clerk,ASSOCIATE,,,\n{}", rows.collect::<String>())
}

#[apply(test)]
fn a_wrong_quote_affects_only_its_row() {
    let not_closed = "line 10: row: has a quote that is not closed";
    let text_after = "line 10: row: has text after a closing quote";
    let bare = "line 10: row: has a quote in a cell that does not begin with one";
    for (cell, what) in [
        ("\"hush-7", not_closed),
        ("\"", not_closed),
        ("\"hush\"\"7", not_closed),
        ("\"hush-7\"x", text_after),
        ("\"hush-7\" ", text_after),
        ("\"hush\"7\"", text_after),
        ("hush\"7", bare),
        ("hush-7\"", bare),
        (" \"hush-7\"", bare),
    ] {
        let database = Database::new();
        let table = keys(5000).replacen("hush-7,", &format!("{cell},"), 1);
        database.assert_import_refused("a.csv", &table, 1, what);
        let ended = database.import("a.csv", &table, &["--skip-bad-rows"]);
        assert_eq!(ended.code, Some(0), "{cell}: {}", ended.stderr);
        assert!(ended.stderr.contains("1 row cannot be imported") && ended.stderr.contains(what), "{}", ended.stderr);
        assert!(ended.stdout.contains("4999 identity keys") && ended.stdout.contains("1 skipped"), "{}", ended.stdout);
    }
    // Two rows with one quote each: the second quote closes the first.
    let database = Database::new();
    let table =
        "record,id,type,devices\nshopper,s1,SHOPPER,\"phone\nshopper,s2,SHOPPER,phone\nshopper,s3,SHOPPER,phone\"\n";
    database.assert_import_refused("a.csv", table, 1, "line 2: row: has a quote that is not closed");
    let ended = database.import("a.csv", table, &["--skip-bad-rows"]);
    assert!(ended.stdout.contains("1 shopper, ") && ended.stdout.contains("2 skipped"), "{}", ended.stdout);
    // A cell with correct quotes.
    database.import_successfully("a.csv", keys(1).replace("hush-0", "\"hush, \"\"0\"\"\""));
}

#[apply(test)]
fn an_export_with_a_wrong_quote_is_refused_as_a_whole() {
    let database = Database::new();
    database.import_successfully("a.jsonl", "{\"store\":{\"id\":\"S\\nT\"}}\n{\"store\":{\"id\":\"U\"}}\n");
    let export = database.export(&["--format", "csv"]);
    Database::new().import_successfully("a.csv", &export);
    for broken in [export.replacen("S\nT\"", "S\nT", 1), export.replacen(",U,", ",U\",", 1)] {
        assert_ne!(broken, export);
        let ended = Database::new().import("a.csv", broken, &["--skip-bad-rows"]);
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(": row: has ") && ended.stderr.contains("nothing of this export"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "");
    }
}

#[apply(test)]
fn semicolons_and_tabs_are_accepted_as_separators() {
    let by_commas = Database::new();
    by_commas.import_successfully("a.csv", TABLE);
    for separator in [";", "\t"] {
        let table = TABLE.replace(',', separator).replacen("record", "\"record\"", 1);
        let database = Database::new();
        database.import_successfully("a.csv", table);
        assert_eq!(database.export(&[]), by_commas.export(&[]), "{separator:?}");
    }
    by_commas.assert_import_refused("a.csv", TABLE.replace('\n', "\r"), 64, "lines end in CR alone");
}

#[apply(test)]
fn a_row_of_empty_cells_is_ignored() {
    let database = Database::new();
    let output =
        database.import_successfully("a.csv", keys(2).replace("identityKey", ",,,,,\n,,\n\"\",\n\nidentityKey"));
    assert!(output.contains("3 changed"), "{output}");
}

#[apply(test)]
fn an_invalid_flag_or_number_is_reported_with_valid_values() {
    let database = Database::new();
    let head = "record,id,enabled,takesCash,scanKeyWindowSeconds\n";
    for word in ["WAHR", "yes", "1", "0", "ja", "true ", "hush"] {
        let what = "line 2: takesCash: must be true or false, or empty for its default";
        database.assert_import_refused("a.csv", format!("{head}store,S,True,{word},\n"), 1, what);
    }
    for number in ["60s", "45.0", "-1", "hush"] {
        let what = "line 2: scanKeyWindowSeconds: must be a whole number, digits only";
        database.assert_import_refused("a.csv", format!("{head}store,S,,,{number}\n"), 1, what);
    }
    database.import_successfully("a.csv", format!("{head}store,S,FALSE,True,45\n"));
}

#[apply(test)]
fn values_that_a_spreadsheet_may_have_changed_are_imported_with_a_warning() {
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
    let database = Database::new();
    let ended = database.import("a.csv", rows, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("8 changed"), "{}", ended.stdout);
    let (blank, number) = ("begins or ends with whitespace", "looks like a long number that a spreadsheet has rounded");
    assert!(ended.stderr.contains("8 rows may contain a mistake"), "{}", ended.stderr);
    for (field, what) in [
        ("line 2: shopper.id", blank),
        ("line 3: shopper.id", blank),
        ("line 3: shopper.devices[1]", blank),
        ("line 4: identityKey.key", number),
        ("line 5: identityKey.key", number),
        ("line 6: identityKey.key", blank),
        ("line 9: customer.subject", number),
    ] {
        assert!(ended.stderr.contains(&format!("  {field}: {what}")), "{field} is not in {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("4.71"), "a key is not repeated: {}", ended.stderr);
    assert!(!ended.stderr.contains("line 7: identityKey.key") && !ended.stderr.contains("line 8: identityKey.key"));
    // JSON lines get the same warning. An export gets none, since no spreadsheet has changed it.
    let ended = database.import("a.jsonl", "{\"store\":{\"id\":\"S \"}}\n", &[]);
    assert!(ended.stderr.contains("1 row may contain a mistake:\n  line 1: store.id: begins"), "{}", ended.stderr);
    Database::new().import_successfully("b.csv", database.export(&["--format", "csv"]));
}

#[apply(test)]
fn a_directory_file_is_recognised() {
    let table = Database::new();
    table.import_successfully("a.csv", TABLE);
    let file = format!(
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
    );
    for (name, file) in [("directory.json", file.clone()), ("a.jsonl", format!("\u{feff}{file}"))] {
        let database = Database::new();
        assert!(database.import_successfully(name, file).contains("7 changed"));
        assert_eq!(database.export(&[]), table.export(&[]));
    }
    let token_of_unknown_shopper =
        format!("[{{ \"token\": \"{}\", \"shopper\": \"unknown-shopper\" }}, {{ \"token\"", "h".repeat(32));
    let invalid_rows = file.replace("\"RADIO\"", "\"HUSH\"").replace("\"ASSOCIATE\"", "\"\"").replacen(
        "[{ \"token\"",
        &token_of_unknown_shopper,
        1,
    );
    for what in [
        "3 rows cannot be imported",
        "  shoppers[0]: shopper.type: unknown variant, expected",
        "  identityKeys[1]: identityKey.channel: unknown variant, expected",
        "  recognitionTokens[0]: recognitionToken.shopper: no such shopper in",
    ] {
        table.assert_import_refused("directory.json", &invalid_rows, 1, what);
    }
    for (broken, what) in [
        (file.replacen("\"stores\"", "\"shops\"", 1), "line 3: must be one of stores, shoppers"),
        (file.replacen("\"stores\"", "\"shoppers\"", 1), "line 9: must be one of stores, shoppers"),
        (file.replacen("],", "]", 1), "line 3: this directory file is not a JSON object with lists of rows"),
        (file.trim_end().trim_end_matches('}').to_owned(), "line 13: this directory file is not"),
        (format!("{file}{{}}"), "line 14: this directory file is not"),
    ] {
        table.assert_import_refused("directory.json", broken, 64, what);
    }
}
