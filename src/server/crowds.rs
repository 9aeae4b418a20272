//! Who waits, in crowds: of one network each, in the order in which they began to.
//!
//! Everything takes a time that grows with the logarithm of how many there are, since it is done for every request, and under attack
//! for every connection.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A moment: later ones are greater.
pub(super) type Turn = u64;
/// How great a crowd is, who of it has waited longest, and where it is from: the greatest of these is the one that makes room.
type Rank = (usize, Reverse<Turn>, IpAddr);

#[derive(Default)]
pub(super) struct Crowds {
    /// By network, who has waited since when.
    networks: HashMap<IpAddr, BTreeMap<Turn, u64>>,
    ranks: BTreeSet<Rank>,
}

impl Crowds {
    pub(super) fn join(&mut self, network: IpAddr, since: Turn, who: u64) {
        self.change(network, |crowd| {
            crowd.insert(since, who);
        });
    }

    pub(super) fn leave(&mut self, network: IpAddr, since: Turn) {
        self.change(network, |crowd| {
            crowd.remove(&since);
        });
    }

    /// Whoever has waited longest of the greatest crowd; of crowds that are equal, of all.
    pub(super) fn longest(&self) -> Option<u64> {
        let (_, Reverse(since), network) = self.ranks.last()?;
        self.networks.get(network)?.get(since).copied()
    }

    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut BTreeMap<Turn, u64>)) {
        let crowd = self.networks.entry(network).or_default();
        if let Some(rank) = rank(network, crowd) {
            self.ranks.remove(&rank);
        }
        change(crowd);
        match rank(network, crowd) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.networks.remove(&network)),
        }
    }
}

fn rank(network: IpAddr, crowd: &BTreeMap<Turn, u64>) -> Option<Rank> {
    crowd.keys().next().map(|longest| (crowd.len(), Reverse(*longest), network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Crowds {
        fn pop(&mut self) -> Option<u64> {
            let (_, Reverse(since), network) = *self.ranks.last()?;
            let longest = self.longest();
            self.leave(network, since);
            longest
        }
    }

    fn network(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_greatest_crowd_makes_room_and_of_equals_the_longest_wait() {
        let mut crowds = Crowds::default();
        for (since, from) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 2), (6, 3)] {
            crowds.join(network(from), since, since);
        }
        crowds.leave(network(2), 3);
        // Of 2 and 3, who are two each, 2 has one who waited longer; then 3 is the greatest; then all are alone.
        let gone: Vec<_> = std::iter::from_fn(|| crowds.pop()).collect();
        assert_eq!(gone, [2, 4, 1, 5, 6]);
        assert!(crowds.networks.is_empty() && crowds.ranks.is_empty(), "nothing is kept of who is gone");
    }

    proptest! {
        /// Against the rule as one would say it, whoever comes and goes.
        #[test]
        fn it_is_the_rule_and_nothing_is_left(moves in prop::collection::vec((0_u8..4, any::<bool>()), 0..200)) {
            let (mut crowds, mut plain) = (Crowds::default(), Vec::<(IpAddr, u64)>::new());
            for ((from, joins), turn) in moves.into_iter().zip(0_u64..) {
                let longest = plain.iter().copied().max_by_key(|(network, since)| {
                    (plain.iter().filter(|(other, _)| other == network).count(), Reverse(*since))
                });
                if joins {
                    crowds.join(network(from), turn, turn);
                    plain.push((network(from), turn));
                } else if from == 0 {
                    let gone = plain.first().copied();
                    gone.into_iter().for_each(|(network, since)| crowds.leave(network, since));
                    plain.retain(|one| Some(*one) != gone);
                } else {
                    prop_assert_eq!(crowds.pop(), longest.map(|(_, who)| who));
                    plain.retain(|one| Some(*one) != longest);
                }
                prop_assert_eq!(crowds.networks.values().map(BTreeMap::len).sum::<usize>(), plain.len());
                prop_assert_eq!(crowds.ranks.len(), crowds.networks.len());
            }
        }
    }
}
