mod properties;

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
    for good in [" ", "~", "a b/c", &"x".repeat(100)] {
        assert_eq!(Sku::parse(good).map(|sku| sku.as_str().to_owned()), Ok(good.to_owned()));
    }
    for bad in ["", "\u{1f}", "\u{7f}", "ä", &"x".repeat(101)] {
        assert_eq!(Sku::parse(bad), Err(CartRefusal::Sku), "{bad:?}");
    }
    for bad in [0, 1000, u64::MAX] {
        assert_eq!(Quantity::new(bad), Err(CartRefusal::Quantity));
    }
    assert_eq!([1, 999].map(|good| quantity(good).number()), [1, 999]);
    assert!(CartName::parse(&"ß".repeat(100)).is_ok() && Market::parse(&"ß".repeat(50)).is_ok());
    for bad in ["", "a\0", "\u{85}", "a\n", &"ß".repeat(101)] {
        assert_eq!(CartName::parse(bad), Err(CartRefusal::Name), "{bad:?}");
        assert_eq!(Market::parse(bad), Err(CartRefusal::Market), "{bad:?}");
    }
    assert_eq!(Market::parse(&"m".repeat(51)), Err(CartRefusal::Market));
    let long = "€".repeat(11);
    assert!(Currency::new(&"€".repeat(10), &"€".repeat(10)).is_ok() && Currency::new("EUR", "").is_ok());
    for (code, symbol) in [("", "€"), (&long, "€"), ("EUR", &long), ("E\0R", "€"), ("EUR", "\t")] {
        assert_eq!(Currency::new(code, symbol), Err(CartRefusal::Currency), "{code:?} {symbol:?}");
    }
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
    let mut number = 0;
    let refused = loop {
        number += 1;
        match carts.clone().add_lines(id(1), vec![(long(number), quantity(1))], at(1)) {
            Ok(_) => drop(carts.add_lines(id(1), vec![(long(number), quantity(1))], at(1))),
            Err(refusal) => break refusal,
        }
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
fn cart_expires_exactly_30_days_after_its_last_change() {
    let mut carts = with_lines(1);
    open(&mut carts, "Wishes", 2, at(1)).expect("the cart opens");
    let month = 30 * 24;
    let just_before = at(month).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
    assert_eq!(carts.clone().without_expired(just_before), carts);
    let left = carts.clone().without_expired(at(month));
    assert_eq!(left.all().iter().map(|cart| cart.id).collect::<Vec<_>>(), [id(2)]);
    assert!(carts.without_expired(at(month + 1)).is_empty());
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
