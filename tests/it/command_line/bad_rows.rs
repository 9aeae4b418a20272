//! Rows that cannot be imported: `import` reports each with its line and member. It imports nothing, unless
//! `--skip-bad-rows` leaves these rows out.

use crate::command_line::import::{Database, TABLE};
use crate::trials::{apply, test};

#[apply(test)]
fn a_file_with_bad_rows_is_imported_only_with_skip_bad_rows() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let bad = "record,id,type,key,shopper,device,scanKeyWindowSeconds
shopper,new,SHOPPER,,,,
shopper,,SHOPPER,,,,
shopper,vip,VIP,,,,
store,S,,,,,29
identityKey,,,hush-1,unknown-shopper,,
identityKey,,,hush-2,shopper-1,not-theirs,
identityKey,,,hush-3,new,phone-1,
identityKey,,,hush-4,new,,
identityKey,,,hush-4,new,,
identityKey,,,hush-\u{e9},new,,
,,,,,,
hush,,,,,,
identityKey,,,,new,,
identityKey,hush,,,,,
store,T
identityKey,,,hush-6,vip,,
";
    let errors = [
        "line 3: shopper.id: is empty",
        "line 4: shopper.type: ",
        "line 5: store.scanKeyWindowSeconds: must be 30 to 90",
        "line 6: identityKey.shopper: no such shopper",
        "line 7: identityKey.device: not one of that shopper's devices",
        "line 8: identityKey.device: not one of that shopper's devices",
        "line 10: identityKey: duplicate of line 9",
        "line 11: identityKey.key: must be 1 to 750 printable ASCII characters",
        "line 13: record: must be store, shopper, identityKey, recognitionToken or customer",
        "line 14: identityKey.key: is missing",
        "line 15: identityKey.id: unknown field",
        "line 16: row: has 2 cells, but the header has 7",
        "line 17: identityKey.shopper: no such shopper",
    ];
    for error in errors {
        database.assert_import_refused("b.csv", bad, 1, error);
    }
    database.assert_import_refused("b.csv", bad, 1, "13 rows cannot be imported");
    let ended = database.import("b.csv", bad, &["--skip-bad-rows"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains(errors[0]) && ended.stderr.contains(errors[12]), "{}", ended.stderr);
    assert!(ended.stdout.contains("0 stores, 1 shopper, 1 identity key, "), "{}", ended.stdout);
    assert!(ended.stdout.contains("2 changed, 0 unchanged, 13 skipped"), "{}", ended.stdout);
    assert!(database.export(&[]).contains("\"new\""));
}

#[apply(test)]
fn only_the_first_20_bad_rows_are_shown() {
    let database = Database::new();
    let lines: String = (1..=5000)
        .map(|number| format!("{{\"identityKey\":{{\"key\":\"hush-{number}\",\"shopper\":\"x\"}}}}\n"))
        .collect();
    let ended = database.import("a.jsonl", lines, &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("5000 rows") && ended.stderr.contains("and 4980 more rows"), "{}", ended.stderr);
    assert!(ended.stderr.contains("line 20: ") && !ended.stderr.contains("line 21: "), "{}", ended.stderr);
}

/// A key's device is checked against the shopper's row in the file, before or after the key; without one, against the
/// directory.
#[apply(test)]
fn a_key_is_checked_against_the_devices_of_its_shopper_in_the_file() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let key = "{\"identityKey\":{\"key\":\"hush\",\"shopper\":\"shopper-1\",\"device\":\"phone-1\"}}\n";
    let changed = "{\"shopper\":{\"id\":\"shopper-1\",\"type\":\"SHOPPER\",\"devices\":[\"phone-2\",\"phone-3\"]}}\n";
    database.assert_import_refused("b.jsonl", format!("{key}{changed}"), 1, "line 1: identityKey.device");
    database.assert_import_refused("b.jsonl", format!("{changed}{key}"), 1, "line 2: identityKey.device");
    database.import_successfully("b.jsonl", key);
    let other_row = key.replace("phone-1", "phone-3").replace("hush", "hush-hush");
    database.import_successfully("b.jsonl", format!("{other_row}{changed}"));
}

#[apply(test)]
fn a_customer_needs_an_existing_shopper_and_may_occur_once() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let customers = "record,issuer,subject,shopper
customer,hush,hush-1,unknown-shopper
customer,hush,hush-2,shopper-1
customer,hush,hush-2,clerk
customer,hush,,clerk
customer,,hush-3,
";
    for what in [
        "line 2: customer.shopper: no such shopper in the file or the directory",
        "line 4: customer: duplicate of line 3",
        "line 5: customer.subject: is missing",
        "line 6: customer.issuer: is missing",
        "line 6: customer.shopper: is missing",
    ] {
        database.assert_import_refused("b.csv", customers, 1, what);
    }
    let digest = format!("{{\"customer\":{{\"digest\":\"{}\",\"shopper\":\"clerk\"}}}}\n", "0".repeat(64));
    database.assert_import_refused(
        "b.jsonl",
        digest,
        1,
        "line 1: customer.digest: requires the first row of the export (the \"export\" row), because that row identifies \
         the hash key: add it back",
    );
}
