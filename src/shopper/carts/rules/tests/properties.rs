//! Random sequences of changes to carts.

use proptest::prelude::*;

use crate::shopper::carts::rules::tests::*;

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
