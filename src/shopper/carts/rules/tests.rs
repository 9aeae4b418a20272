//! The rules for changing carts, one by one and in random sequences of changes.

use proptest::prelude::*;

use crate::shopper::carts::rules::*;

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::hours(hours)).expect("in range")
}

fn sku(number: usize) -> Sku {
    Sku::parse(&format!("sku-{number}")).expect("a SKU")
}

fn quantity(number: u64) -> Quantity {
    Quantity::new(number).expect("a quantity")
}

fn id(number: u64) -> CartId {
    CartId::new(number).expect("an id")
}

fn euros() -> Currency {
    Currency::new("EUR", "€").expect("a currency")
}

/// Opens a cart in one market; `number` is its id if it is new.
fn open(carts: &mut Carts, name: &str, number: u64, now: DateTime<Utc>) -> Result<CartId, CartRefusal> {
    let (name, market) = (CartName::parse(name).expect("a name"), Market::parse("DE").expect("a market"));
    carts.open(name, market, euros(), id(number), now).map(|cart| cart.id)
}

/// One cart with this many lines, of quantity 10 each.
fn with_lines(lines: usize) -> Carts {
    let mut carts = Carts::default();
    open(&mut carts, "Default", 1, at(0)).expect("the cart opens");
    carts
        .add_lines(id(1), (0..lines).map(|number| (sku(number), quantity(10))).collect(), at(0))
        .expect("the lines are added");
    carts
}

/// The line ids, SKUs and quantities of a cart.
fn content(cart: &Cart) -> Vec<(u64, &str, u16)> {
    cart.lines.iter().map(|line| (line.id.0, line.sku.as_str(), line.quantity.number())).collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    carts: &Carts,
    refusal: CartRefusal,
    change: impl FnOnce(&mut Carts) -> Result<T, CartRefusal>,
) {
    let mut after = carts.clone();
    assert_eq!(change(&mut after).expect_err("the change is refused"), refusal);
    assert_eq!(after, *carts, "nothing has changed");
}

#[test]
fn values_outside_their_limits_are_refused() {
    type Parse = fn(&str) -> Result<String, CartRefusal>;
    let sku: Parse = |text| Ok(Sku::parse(text)?.as_str().to_owned());
    let name: Parse = |text| Ok(CartName::parse(text)?.as_str().to_owned());
    let market: Parse = |text| Ok(Market::parse(text)?.as_str().to_owned());
    let code: Parse = |text| Ok(Currency::new(text, "€")?.code().to_owned());
    let symbol: Parse = |text| Ok(Currency::new("EUR", text)?.symbol().to_owned());
    let [x_100, x_101] = [100, 101].map(|length| "x".repeat(length));
    let [of_10, of_11, of_50, of_51, of_100, of_101] = [10, 11, 50, 51, 100, 101].map(|length| "€".repeat(length));
    let control = ["a\0", "\u{1f}", "\u{7f}", "\u{85}", "\u{9f}", "a\nb"];
    let mut failures = Vec::new();
    for (parse, refusal, good, bad) in [
        (sku, CartRefusal::Sku, vec![" ", "~", "a b/c", &x_100], vec!["", "é", "a\u{a0}b", "＂", &x_101]),
        (name, CartRefusal::Name, vec!["a", "\u{202e}<script>'; --", &of_100], vec!["", &of_101]),
        (market, CartRefusal::Market, vec!["a", "\u{202e}<script>'; --", &of_50], vec!["", &of_51]),
        (code, CartRefusal::Currency, vec!["a", &of_10], vec!["", &of_11]),
        (symbol, CartRefusal::Currency, vec!["", &of_10], vec![&of_11]),
    ] {
        let expected = good.into_iter().map(|text| (text, Ok(text.to_owned())));
        for (text, expected) in expected.chain(bad.into_iter().chain(control).map(|text| (text, Err(refusal)))) {
            let result = parse(text);
            if result != expected {
                failures.push(format!("{refusal:?} {text:?}: {result:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("; "));
    assert_eq!([1, 999].map(|good| quantity(good).number()), [1, 999]);
    assert_eq!([0, 1000, 65537, u64::MAX].map(Quantity::new), [Err(CartRefusal::Quantity); 4]);
}

#[test]
fn cart_id_is_an_integer_that_javascript_reads_exactly() {
    let greatest = 9_007_199_254_740_991;
    assert_eq!([0, greatest + 1, u64::MAX].map(CartId::new), [None; 3]);
    assert_eq!([1, greatest].map(|number| id(number).number()), [1, greatest]);
    assert_eq!(CartId::from_random_bytes([0; 8]), id(1));
    assert_eq!(CartId::from_random_bytes([0xff; 8]), id(greatest));
}

#[test]
fn existing_cart_is_returned_unchanged() {
    let mut carts = with_lines(2);
    let before = carts.clone();
    assert_eq!(open(&mut carts, "Default", 7, at(5)), Ok(id(1)));
    let dollars = Currency::new("USD", "$").expect("a currency");
    let [name, other] = ["Default", "default"].map(|name| CartName::parse(name).expect("a name"));
    let [market, elsewhere] = ["DE", "AT"].map(|market| Market::parse(market).expect("a market"));
    let same = carts.open(name.clone(), market.clone(), dollars.clone(), id(8), at(5)).expect("the cart opens");
    assert_eq!((same.id, &same.currency), (id(1), &euros()));
    assert_eq!(carts, before);
    carts.open(name, elsewhere, dollars.clone(), id(2), at(5)).expect("the cart opens");
    let new = carts.open(other, market, dollars, id(2), at(6)).expect("the cart opens");
    assert_eq!((new.id, new.currency.code(), new.changed_at), (id(3), "USD", at(6)), "an id is never given twice");
    assert_eq!(carts.all().len(), 3);
}

#[test]
fn ids_wrap_around_after_the_largest() {
    let mut carts = Carts::default();
    let greatest = MAX_SAFE_NUMBER;
    let ids = ["a", "b", "c"].map(|name| open(&mut carts, name, greatest, at(0)));
    assert_eq!(ids, [Ok(id(greatest)), Ok(id(1)), Ok(id(2))]);
}

#[test]
fn owner_has_at_most_20_carts() {
    let mut carts = Carts::default();
    for number in 1..=20 {
        assert_eq!(open(&mut carts, &format!("cart {number}"), number, at(0)), Ok(id(number)));
    }
    assert_refused(&carts, CartRefusal::TooManyCarts, |carts| open(carts, "one more", 21, at(1)));
    assert_eq!(open(&mut carts, "cart 20", 21, at(1)), Ok(id(20)), "an existing cart is returned");
    assert_eq!(carts.delete(id(7)).map(|cart| cart.id), Ok(id(7)));
    assert_eq!(open(&mut carts, "one more", 21, at(1)), Ok(id(21)));
}

#[test]
fn missing_cart_or_line_is_not_found() {
    let carts = with_lines(2);
    let none = CartRefusal::NoSuchCart;
    assert_eq!(carts.find(id(2)), Err(none));
    assert_refused(&carts, none, |carts| carts.delete(id(2)));
    assert_refused(&carts, none, |carts| carts.add_lines(id(2), Vec::new(), at(1)).cloned());
    assert_refused(&carts, none, |carts| carts.set_lines(id(2), Vec::new(), at(1)).cloned());
    assert_refused(&carts, none, |carts| carts.remove_line(id(2), &sku(0), at(1)).cloned());
    assert_refused(&carts, CartRefusal::NoSuchLine, |carts| carts.remove_line(id(1), &sku(2), at(1)).cloned());
}

#[test]
fn quantities_of_one_sku_add_up() {
    let mut carts = with_lines(1);
    let more = vec![(sku(1), quantity(500)), (sku(0), quantity(1)), (sku(1), quantity(499))];
    let cart = carts.add_lines(id(1), more, at(1)).expect("the lines are added");
    assert_eq!(content(cart), [(1, "sku-0", 11), (2, "sku-1", 999)]);
    assert_eq!(cart.changed_at, at(1));
    let too_much = vec![(sku(2), quantity(1)), (sku(1), quantity(1))];
    assert_refused(&carts, CartRefusal::TooMuchOfOneSku, |carts| carts.add_lines(id(1), too_much, at(2)).cloned());
    let too_much_in_one = vec![(sku(2), quantity(500)), (sku(2), quantity(500))];
    assert_refused(&carts, CartRefusal::TooMuchOfOneSku, |carts| {
        carts.add_lines(id(1), too_much_in_one, at(2)).cloned()
    });
}

#[test]
fn owner_has_at_most_2000_lines_in_all_carts() {
    let mut carts = with_lines(1998);
    open(&mut carts, "Wishes", 2, at(0)).expect("the cart opens");
    carts.add_lines(id(2), vec![(sku(0), quantity(1))], at(0)).expect("the lines are added");
    let added_lines = vec![(sku(1), quantity(1)), (sku(2), quantity(1))];
    assert_refused(&carts, CartRefusal::TooManyLines, |carts| carts.add_lines(id(2), added_lines, at(1)).cloned());
    carts.add_lines(id(2), vec![(sku(1), quantity(1)), (sku(0), quantity(1))], at(1)).expect("the lines are added");
    let added_line = vec![(sku(5000), quantity(1))];
    assert_refused(&carts, CartRefusal::TooManyLines, |carts| carts.add_lines(id(1), added_line, at(1)).cloned());
    carts.add_lines(id(1), vec![(sku(7), quantity(1))], at(1)).expect("an existing line can take more");
}

#[test]
fn owner_keeps_at_most_256_kb_in_all_carts() {
    let long = |number: usize| Sku::parse(&format!("{number:\"<100}")).expect("a SKU whose quotes are escaped");
    let mut carts = with_lines(0);
    let lines = (0..900).map(|number| (long(number), quantity(1))).collect();
    carts.add_lines(id(1), lines, at(1)).expect("the lines are added");
    let mut number = 900;
    let refused = loop {
        let mut after = carts.clone();
        match after.add_lines(id(1), vec![(long(number), quantity(1))], at(1)) {
            Ok(_) => carts = after,
            Err(refusal) => break refusal,
        }
        number += 1;
    };
    assert_eq!(refused, CartRefusal::TooManyBytes);
    assert!((900..1100).contains(&number), "{number} lines of 260 bytes");
    assert_refused(&carts, CartRefusal::TooManyBytes, |carts| {
        carts.add_lines(id(1), vec![(long(number), quantity(1))], at(1)).cloned()
    });
}

#[test]
fn line_is_found_by_id_and_sku_or_by_sku() {
    let mut carts = with_lines(3);
    let set = vec![(Some(LineId(2)), sku(1), quantity(7)), (None, sku(2), quantity(5)), (None, sku(2), quantity(999))];
    let cart = carts.set_lines(id(1), set, at(1)).expect("the lines are set");
    assert_eq!(content(cart), [(1, "sku-0", 10), (2, "sku-1", 7), (3, "sku-2", 999)], "the last quantity is used");
    assert_eq!(cart.changed_at, at(1));
    for (line, number) in [(Some(LineId(2)), 0), (Some(LineId(4)), 0), (Some(LineId(0)), 0), (None, 3)] {
        let set = vec![(None, sku(0), quantity(1)), (line, sku(number), quantity(1))];
        assert_refused(&carts, CartRefusal::NoSuchLine, |carts| carts.set_lines(id(1), set, at(2)).cloned());
    }
}

#[test]
fn id_of_a_removed_line_is_free() {
    let mut carts = with_lines(3);
    assert_eq!(
        content(carts.remove_line(id(1), &sku(1), at(1)).expect("the line is removed")),
        [(1, "sku-0", 10), (3, "sku-2", 10)]
    );
    assert_eq!(carts.changed_at(), Some(at(1)));
    let cart = carts.add_lines(id(1), vec![(sku(9), quantity(1))], at(1)).expect("the lines are added");
    assert_eq!(content(cart), [(1, "sku-0", 10), (3, "sku-2", 10), (2, "sku-9", 1)]);
    assert_refused(&carts, CartRefusal::NoSuchLine, |carts| {
        carts.set_lines(id(1), vec![(Some(LineId(2)), sku(1), quantity(1))], at(2)).cloned()
    });
}

#[test]
fn change_without_effect_keeps_the_change_time() {
    let mut carts = with_lines(2);
    let before = carts.clone();
    carts.add_lines(id(1), Vec::new(), at(1)).expect("nothing to add");
    carts.set_lines(id(1), vec![(None, sku(0), quantity(10))], at(1)).expect("set to what it is");
    carts.merge(Carts::default(), at(1)).expect("nothing to merge");
    let mut empty = Carts::default();
    open(&mut empty, "Default", 5, at(1)).expect("the cart opens");
    carts.merge(empty, at(1)).expect("an empty cart to merge");
    assert_eq!(carts, before);
}

#[test]
fn merge_matches_carts_by_name_and_market() {
    let mut carts = with_lines(2);
    let mut other = Carts::default();
    open(&mut other, "Default", 9, at(1)).expect("the cart opens");
    other.add_lines(id(9), vec![(sku(5), quantity(1)), (sku(1), quantity(2))], at(2)).expect("the lines are added");
    open(&mut other, "Wishes", 8, at(3)).expect("the cart opens");
    other.add_lines(id(8), vec![(sku(6), quantity(3))], at(4)).expect("the lines are added");
    open(&mut other, "Gifts", 1, at(5)).expect("the cart opens");
    let wishes = other.find(id(8)).expect("the cart exists").clone();
    carts.merge(other, at(10)).expect("the carts are merged");
    assert_eq!(carts.all().iter().map(|cart| cart.id).collect::<Vec<_>>(), [id(1), id(8), id(2)]);
    let cart = carts.find(id(1)).expect("the cart exists");
    assert_eq!(content(cart), [(1, "sku-0", 10), (2, "sku-1", 12), (3, "sku-5", 1)]);
    assert_eq!(cart.changed_at, at(10));
    assert_eq!(carts.find(id(8)), Ok(&wishes));
    assert_eq!(carts.find(id(2)).expect("moved under the next free id").name.as_str(), "Gifts");
}

#[test]
fn merge_beyond_a_limit_is_refused_and_changes_nothing() {
    let carts_with = |name: &str, lines: std::ops::Range<usize>| {
        let mut carts = Carts::default();
        open(&mut carts, name, 51, at(1)).expect("the cart opens");
        let lines = lines.map(|number| (sku(number), quantity(600))).collect();
        carts.add_lines(id(51), lines, at(1)).expect("the lines are added");
        carts
    };
    let mut carts = carts_with("Default", 0..1000);
    carts.merge(carts_with("Default", 500..2000), at(2)).expect("2000 lines");
    assert_eq!(carts.all()[0].lines[500].quantity, Quantity::MAX);
    assert_refused(&carts, CartRefusal::TooManyLines, |carts| carts.merge(carts_with("Default", 2000..2001), at(3)));
    assert_refused(&carts, CartRefusal::TooManyLines, |carts| carts.merge(carts_with("another", 0..1), at(3)));
    let mut carts = Carts::default();
    for number in 1..=MAX_CARTS {
        carts.merge(carts_with(&format!("cart {number}"), 0..1), at(4)).expect("the carts are merged");
    }
    assert_refused(&carts, CartRefusal::TooManyCarts, |carts| carts.merge(carts_with("one more", 0..1), at(5)));
    carts.merge(carts_with("cart 1", 1..2), at(5)).expect("the existing cart takes the line");
}

#[test]
fn stored_carts_with_duplicates_are_refused() {
    let cart = with_lines(2).delete(id(1)).expect("the cart exists");
    let renamed = Cart { name: CartName::parse("Other").expect("a name"), ..cart.clone() };
    let renumbered = Cart { id: id(2), ..cart.clone() };
    let both = Cart { id: id(2), ..renamed.clone() };
    assert!(Carts::from_stored(vec![cart.clone(), both]).is_some());
    assert_eq!(Carts::from_stored(vec![cart.clone(), renamed]), None);
    assert_eq!(Carts::from_stored(vec![cart.clone(), renumbered]), None);
    for (number, sku) in [(2, sku(9)), (9, sku(0))] {
        let mut twice = cart.clone();
        twice.lines.push(Line { id: LineId(number), sku, quantity: quantity(1) });
        assert_eq!(Carts::from_stored(vec![twice]), None);
    }
}

/// A change to carts. Names, SKUs and ids come from small ranges, so that changes often concern the same cart.
#[derive(Clone, Debug)]
enum Step {
    Open(u8, u64),
    Delete(u64),
    Add(u64, Vec<(usize, u64)>),
    Set(u64, Vec<(Option<u64>, usize, u64)>),
    Remove(u64, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (carts, skus, quantities) = (1..6_u64, 0..5_usize, 1..500_u64);
    let step = prop_oneof![
        3 => (0..4_u8, carts.clone()).prop_map(|(name, id)| Step::Open(name, id)),
        1 => carts.clone().prop_map(Step::Delete),
        4 => (carts.clone(), prop::collection::vec((skus.clone(), quantities.clone()), 0..4))
            .prop_map(|(id, lines)| Step::Add(id, lines)),
        2 => (carts.clone(), prop::collection::vec((prop::option::of(1..5_u64), skus.clone(), quantities), 0..4))
            .prop_map(|(id, lines)| Step::Set(id, lines)),
        1 => (carts, skus).prop_map(|(id, number)| Step::Remove(id, number)),
    ];
    prop::collection::vec(step, 0..30)
}

fn apply(carts: &mut Carts, step: &Step, now: DateTime<Utc>) -> Result<(), CartRefusal> {
    match step {
        Step::Open(name, number) => open(carts, &format!("cart {name}"), *number, now).map(drop),
        Step::Delete(number) => carts.delete(id(*number)).map(drop),
        Step::Add(number, lines) => {
            let lines = lines.iter().map(|(number, pieces)| (sku(*number), quantity(*pieces))).collect();
            carts.add_lines(id(*number), lines, now).map(drop)
        }
        Step::Set(number, lines) => {
            let line =
                |(line, number, pieces): &(Option<u64>, _, _)| (line.map(LineId), sku(*number), quantity(*pieces));
            carts.set_lines(id(*number), lines.iter().map(line).collect(), now).map(drop)
        }
        Step::Remove(number, sku_number) => carts.remove_line(id(*number), &sku(*sku_number), now).map(drop),
    }
}

fn after(steps: &[Step]) -> Carts {
    let mut carts = Carts::default();
    for (step, hours) in steps.iter().zip(0..) {
        let _ = apply(&mut carts, step, at(hours));
    }
    carts
}

/// The quantity of each SKU in each cart, by name.
fn amounts(carts: &Carts) -> std::collections::BTreeMap<(CartName, Sku), u32> {
    let lines = carts.all().iter().flat_map(|cart| cart.lines.iter().map(|line| (cart.name.clone(), line)));
    lines.map(|(name, line)| ((name, line.sku.clone()), line.quantity.number().into())).collect()
}

proptest! {
    #[test]
    fn refused_step_changes_nothing_and_other_steps_leave_valid_carts(steps in steps()) {
        let mut carts = Carts::default();
        for (step, hours) in steps.iter().zip(0..) {
            let before = carts.clone();
            if apply(&mut carts, step, at(hours)).is_err() {
                prop_assert_eq!(&carts, &before, "{:?}", step);
            }
            prop_assert_eq!(Carts::from_stored(carts.all().to_vec()), Some(carts.clone()), "{:?}", step);
            prop_assert!(carts.all().len() <= MAX_CARTS);
        }
    }

    #[test]
    fn merging_keeps_all_carts_and_adds_quantities_up_to_the_limit(one in steps(), other in steps()) {
        let (before, other) = (after(&one), after(&other));
        let mut merged = before.clone();
        let mut sums = amounts(&before);
        for (sku, amount) in amounts(&other) {
            let sum = sums.entry(sku).or_default();
            *sum = sum.saturating_add(amount).min(MAX_QUANTITY.into());
        }
        prop_assert_eq!(merged.merge(other.clone(), at(100)), Ok(()));
        prop_assert_eq!(amounts(&merged), sums);
        for cart in before.all().iter().chain(other.all()) {
            prop_assert!(merged.all().iter().any(|own| own.name == cart.name), "{:?} is gone", cart.name);
        }
        for own in before.all() {
            prop_assert_eq!(&merged.find(own.id).expect("it stays").name, &own.name);
        }
        prop_assert_eq!(Carts::from_stored(merged.all().to_vec()), Some(merged.clone()));
    }
}
