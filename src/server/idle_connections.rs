//! The idle connections of a port, grouped by network, with the one to evict next.
//!
//! Every operation takes logarithmic time: it runs for every request, and during a flood for every connection.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A number that is assigned once; a later event gets a greater number.
pub(super) type Sequence = u64;
/// The number of idle connections of a network, the idle-start number of the longest-idle one, and the network. The
/// connection of the greatest rank is evicted next.
type Rank = (usize, Reverse<Sequence>, IpAddr);

#[derive(Default)]
pub(super) struct IdleConnections {
    /// For each network, the ids of its idle connections by the number assigned when they became idle.
    networks: HashMap<IpAddr, BTreeMap<Sequence, u64>>,
    ranks: BTreeSet<Rank>,
}

impl IdleConnections {
    pub(super) fn insert(&mut self, network: IpAddr, since: Sequence, id: u64) {
        self.change(network, |idle| {
            idle.insert(since, id);
        });
    }

    pub(super) fn remove(&mut self, network: IpAddr, since: Sequence) {
        self.change(network, |idle| {
            idle.remove(&since);
        });
    }

    /// The longest-idle connection of the network with the most idle connections. Among networks with equally many, the
    /// longest-idle one.
    pub(super) fn next_to_evict(&self) -> Option<u64> {
        let (_, Reverse(since), network) = self.ranks.last()?;
        self.networks.get(network)?.get(since).copied()
    }

    fn change(&mut self, network: IpAddr, change: impl FnOnce(&mut BTreeMap<Sequence, u64>)) {
        let idle = self.networks.entry(network).or_default();
        if let Some(rank) = rank(network, idle) {
            self.ranks.remove(&rank);
        }
        change(idle);
        match rank(network, idle) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.networks.remove(&network)),
        }
    }
}

fn rank(network: IpAddr, idle: &BTreeMap<Sequence, u64>) -> Option<Rank> {
    idle.keys().next().map(|longest| (idle.len(), Reverse(*longest), network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl IdleConnections {
        fn pop(&mut self) -> Option<u64> {
            let (_, Reverse(since), network) = *self.ranks.last()?;
            let evicted = self.next_to_evict();
            self.remove(network, since);
            evicted
        }
    }

    fn network(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_longest_idle_connection_of_the_network_with_the_most_is_evicted_first() {
        let mut idle = IdleConnections::default();
        for (since, from) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 2), (6, 3)] {
            idle.insert(network(from), since, since);
        }
        idle.remove(network(2), 3);
        // Networks 2 and 3 have two each, and network 2 the longest-idle one. Then network 3 has the most; then all
        // have one.
        let evicted: Vec<_> = std::iter::from_fn(|| idle.pop()).collect();
        assert_eq!(evicted, [2, 4, 1, 5, 6]);
        assert!(idle.networks.is_empty() && idle.ranks.is_empty(), "a removed connection leaves nothing behind");
    }

    proptest! {
        /// Compares with a list that is searched from end to end, over any order of insertions, removals and evictions.
        #[test]
        fn evictions_match_a_linear_search(moves in prop::collection::vec((0_u8..4, any::<bool>()), 0..200)) {
            let (mut idle, mut list) = (IdleConnections::default(), Vec::<(IpAddr, u64)>::new());
            for ((from, inserts), since) in moves.into_iter().zip(0_u64..) {
                let next = list.iter().copied().max_by_key(|(network, since)| {
                    (list.iter().filter(|(other, _)| other == network).count(), Reverse(*since))
                });
                if inserts {
                    idle.insert(network(from), since, since);
                    list.push((network(from), since));
                } else if from == 0 {
                    let removed = list.first().copied();
                    removed.into_iter().for_each(|(network, since)| idle.remove(network, since));
                    list.retain(|entry| Some(*entry) != removed);
                } else {
                    prop_assert_eq!(idle.pop(), next.map(|(_, id)| id));
                    list.retain(|entry| Some(*entry) != next);
                }
                prop_assert_eq!(idle.networks.values().map(BTreeMap::len).sum::<usize>(), list.len());
                prop_assert_eq!(idle.ranks.len(), idle.networks.len());
            }
        }
    }
}
