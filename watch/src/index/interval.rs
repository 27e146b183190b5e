//! Arbitrary half-open ranges, also without an end, found by a key that lies in them.
//!
//! Owns: a treap ordered by (lower, upper) in which each node knows the largest upper bound below it.
//! Called by: `RangeIndex`. Invariants: heap order of priorities; `reach` of a node is the node with the largest upper
//! bound in its subtree. Priorities come from a counter through a mixer, so that equal histories give equal trees.
//! Source: interval tree as in Cormen et al., "Introduction to Algorithms", ch. 14.3; treap by Seidel and Aragon.

use std::cmp::Ordering;

use super::Ranges;
use crate::key_range::{WatchedRange, upper_order};
use crate::slab::Slab;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    id: u32,
    left: u32,
    right: u32,
    /// Id of the range with the largest upper bound in this subtree.
    reach: u32,
    priority: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct IntervalTree {
    nodes: Slab<Node>,
    root: u32,
    inserted: u64,
}

impl Default for IntervalTree {
    fn default() -> Self {
        IntervalTree { nodes: Slab::default(), root: NONE, inserted: 0 }
    }
}

impl IntervalTree {
    pub(crate) fn find(&self, ranges: &impl Ranges, range: &WatchedRange) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at];
            at = match range.interval_order(ranges.range(node.id)) {
                Ordering::Equal => return Some(node.id),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    pub(crate) fn insert(&mut self, ranges: &impl Ranges, id: u32) {
        self.inserted += 1;
        let priority = mix(self.inserted);
        let node = self.nodes.insert(Node { id, left: NONE, right: NONE, reach: id, priority });
        let (less, more) = self.split(ranges, self.root, ranges.range(id));
        let less = self.merge(ranges, less, node);
        self.root = self.merge(ranges, less, more);
    }

    pub(crate) fn remove(&mut self, ranges: &impl Ranges, id: u32) {
        self.root = self.remove_below(ranges, self.root, id);
    }

    /// Appends the ids of all ranges that hold `key`, in order of their lower bounds.
    pub(crate) fn stab(&self, ranges: &impl Ranges, key: &[u8], out: &mut Vec<u32>) {
        self.stab_below(ranges, self.root, key, out);
    }

    fn stab_below(&self, ranges: &impl Ranges, at: u32, key: &[u8], out: &mut Vec<u32>) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at];
        if !is_below(key, ranges.range(node.reach)) {
            return;
        }
        self.stab_below(ranges, node.left, key, out);
        let range = ranges.range(node.id);
        if key < range.lower() {
            return;
        }
        if is_below(key, range) {
            out.push(node.id);
        }
        self.stab_below(ranges, node.right, key, out);
    }

    /// Two trees: ranges ordered before `pivot`, and the others.
    fn split(&mut self, ranges: &impl Ranges, at: u32, pivot: &WatchedRange) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let node = &self.nodes[at];
        let (left, right) = (node.left, node.right);
        if ranges.range(node.id).interval_order(pivot) == Ordering::Less {
            let (less, more) = self.split(ranges, right, pivot);
            self.nodes[at].right = less;
            self.update(ranges, at);
            (at, more)
        } else {
            let (less, more) = self.split(ranges, left, pivot);
            self.nodes[at].left = more;
            self.update(ranges, at);
            (less, at)
        }
    }

    /// One tree of two, all of `left` being ordered before all of `right`.
    fn merge(&mut self, ranges: &impl Ranges, left: u32, right: u32) -> u32 {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        if self.nodes[left].priority > self.nodes[right].priority {
            let below = self.merge(ranges, self.nodes[left].right, right);
            self.nodes[left].right = below;
            self.update(ranges, left);
            left
        } else {
            let below = self.merge(ranges, left, self.nodes[right].left);
            self.nodes[right].left = below;
            self.update(ranges, right);
            right
        }
    }

    fn remove_below(&mut self, ranges: &impl Ranges, at: u32, id: u32) -> u32 {
        assert!(at != NONE, "the range is indexed");
        let node = &self.nodes[at];
        let (left, right) = (node.left, node.right);
        match ranges.range(id).interval_order(ranges.range(node.id)) {
            Ordering::Equal => {
                assert_eq!(node.id, id, "the range is indexed under this id");
                self.nodes.remove(at);
                return self.merge(ranges, left, right);
            }
            Ordering::Less => {
                let below = self.remove_below(ranges, left, id);
                self.nodes[at].left = below;
            }
            Ordering::Greater => {
                let below = self.remove_below(ranges, right, id);
                self.nodes[at].right = below;
            }
        }
        self.update(ranges, at);
        at
    }

    fn update(&mut self, ranges: &impl Ranges, at: u32) {
        let node = &self.nodes[at];
        let mut reach = node.id;
        for child in [node.left, node.right] {
            if child != NONE {
                let other = self.nodes[child].reach;
                if upper_order(ranges.range(other).upper(), ranges.range(reach).upper()) == Ordering::Greater
                {
                    reach = other;
                }
            }
        }
        self.nodes[at].reach = reach;
    }
}

fn is_below(key: &[u8], range: &WatchedRange) -> bool {
    range.upper().is_none_or(|upper| key < upper)
}

/// SplitMix64's finaliser: neighbouring numbers become unrelated priorities.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_mvcc::types::KeyRange;

    #[test]
    fn depth_stays_logarithmic_for_sorted_insertions() {
        let ranges: Vec<Option<WatchedRange>> = (0..4096u32)
            .map(|number| {
                let key = format!("{number:08}");
                let end = format!("{:08}x", number + 2);
                WatchedRange::new(&KeyRange { key: key.into(), end: end.into() })
            })
            .collect();
        let mut tree = IntervalTree::default();
        for id in 0..4096 {
            tree.insert(&ranges, id);
        }
        fn depth(tree: &IntervalTree, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            1 + depth(tree, tree.nodes[at].left).max(depth(tree, tree.nodes[at].right))
        }
        assert!(depth(&tree, tree.root) < 48, "depth {}", depth(&tree, tree.root));
        let mut found = Vec::new();
        tree.stab(&ranges, b"00001000y", &mut found);
        assert_eq!(found, vec![999, 1000]);
    }
}
