//! Registered prefixes in a path-compressed tree: one walk along a key finds all of its registered prefixes.
//!
//! Owns: the nodes. Called by: `RangeIndex`.
//! Invariants: every node except the root has an id or at least two children, so the number of nodes is below twice
//! the number of prefixes; children of a node differ in their first byte and are sorted by it.
//! Source: the textbook radix tree (Morrison's PATRICIA, 1968).

use crate::slab::Slab;

#[derive(Debug, Default)]
struct Node {
    label: Box<[u8]>,
    /// First byte of the child's label, and the child.
    children: Vec<(u8, u32)>,
    id: Option<u32>,
}

impl Node {
    fn place(&self, byte: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&byte, |(first, _)| *first)
    }
}

/// See the module. The root has no label and never an id: an empty prefix is not a prefix but "all keys".
#[derive(Debug, Default)]
pub(crate) struct RadixTree {
    nodes: Slab<Node>,
    top: Node,
}

impl RadixTree {
    pub(crate) fn find(&self, prefix: &[u8]) -> Option<u32> {
        let mut node = &self.top;
        let mut rest = prefix;
        while !rest.is_empty() {
            let place = node.place(rest[0]).ok()?;
            node = &self.nodes[node.children[place].1];
            rest = rest.strip_prefix(&*node.label)?;
        }
        node.id
    }

    /// Appends the ids of all registered prefixes of `key`, shortest first.
    pub(crate) fn walk(&self, key: &[u8], out: &mut Vec<u32>) {
        let mut node = &self.top;
        let mut rest = key;
        loop {
            out.extend(node.id);
            let Some(first) = rest.first() else { return };
            let Ok(place) = node.place(*first) else { return };
            node = &self.nodes[node.children[place].1];
            let Some(after) = rest.strip_prefix(&*node.label) else { return };
            rest = after;
        }
    }

    pub(crate) fn insert(&mut self, prefix: &[u8], id: u32) {
        assert!(!prefix.is_empty(), "a prefix has at least one byte");
        let mut parent = None;
        let mut rest = prefix;
        loop {
            let node = self.node(parent);
            let place = match node.place(rest[0]) {
                Ok(place) => place,
                Err(place) => {
                    let leaf = Node { label: rest.into(), children: Vec::new(), id: Some(id) };
                    let leaf = self.nodes.insert(leaf);
                    self.node_mut(parent).children.insert(place, (rest[0], leaf));
                    return;
                }
            };
            let child = node.children[place].1;
            let common = common_len(&self.nodes[child].label, rest);
            if common < self.nodes[child].label.len() {
                self.split(parent, place, common);
                // The new node in the middle is the child now.
                continue;
            }
            rest = &rest[common..];
            if rest.is_empty() {
                let previous = self.nodes[child].id.replace(id);
                assert!(previous.is_none(), "a prefix is registered once");
                return;
            }
            parent = Some(child);
        }
    }

    pub(crate) fn remove(&mut self, prefix: &[u8], id: u32) {
        let mut path: Vec<u32> = Vec::new();
        let mut rest = prefix;
        while !rest.is_empty() {
            let node = self.node(path.last().copied());
            let place = node.place(rest[0]).expect("the prefix is registered");
            let child = node.children[place].1;
            rest = rest.strip_prefix(&*self.nodes[child].label).expect("the prefix is registered");
            path.push(child);
        }
        let target = path.pop().expect("a prefix has at least one byte");
        let removed = self.nodes[target].id.take();
        assert_eq!(removed, Some(id), "the prefix is registered under this id");
        match self.nodes[target].children.len() {
            0 => {
                let first = self.nodes[target].label[0];
                let parent = path.pop();
                let node = self.node_mut(parent);
                let place = node.place(first).expect("a child is listed in its parent");
                node.children.remove(place);
                self.nodes.remove(target);
                // The parent may have become a node with one child and no id.
                if let Some(parent) = parent {
                    self.merge_with_only_child(parent);
                }
            }
            1 => self.merge_with_only_child(target),
            _ => {}
        }
    }

    /// Puts a node in front of the child at `place`, holding the first `common` bytes of its label.
    fn split(&mut self, parent: Option<u32>, place: usize, common: usize) {
        let child = self.node(parent).children[place].1;
        let label = std::mem::take(&mut self.nodes[child].label);
        let (head, tail) = label.split_at(common);
        self.nodes[child].label = tail.into();
        let middle = Node { label: head.into(), children: vec![(tail[0], child)], id: None };
        let middle = self.nodes.insert(middle);
        self.node_mut(parent).children[place].1 = middle;
    }

    /// Restores the invariant of a node that has no id and one child: the child moves up into it.
    fn merge_with_only_child(&mut self, slot: u32) {
        let node = &self.nodes[slot];
        if node.id.is_some() || node.children.len() != 1 {
            return;
        }
        let child = self.nodes.remove(node.children[0].1).expect("a child is live");
        let node = &mut self.nodes[slot];
        node.label = [&*node.label, &*child.label].concat().into();
        node.children = child.children;
        node.id = child.id;
    }

    fn node(&self, slot: Option<u32>) -> &Node {
        slot.map_or(&self.top, |slot| &self.nodes[slot])
    }

    fn node_mut(&mut self, slot: Option<u32>) -> &mut Node {
        match slot {
            Some(slot) => &mut self.nodes[slot],
            None => &mut self.top,
        }
    }
}

fn common_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(tree: &RadixTree, key: &[u8]) -> Vec<u32> {
        let mut out = Vec::new();
        tree.walk(key, &mut out);
        out
    }

    #[test]
    fn nested_prefixes_are_found_shortest_first() {
        let mut tree = RadixTree::default();
        for (id, prefix) in
            ["/registry/pods/", "/registry/", "/registry/pods/default/", "/reg", "/x"].iter().enumerate()
        {
            tree.insert(prefix.as_bytes(), id as u32);
        }
        assert_eq!(walk(&tree, b"/registry/pods/default/a"), vec![3, 1, 0, 2]);
        assert_eq!(walk(&tree, b"/registry"), vec![3]);
        assert_eq!(walk(&tree, b"/registry/pods"), vec![3, 1]);
        assert_eq!(walk(&tree, b"/y"), Vec::<u32>::new());
    }

    #[test]
    fn removal_leaves_no_superfluous_node() {
        let mut tree = RadixTree::default();
        tree.insert(b"abc", 0);
        tree.insert(b"abd", 1);
        assert_eq!(tree.nodes.len(), 3);
        tree.remove(b"abd", 1);
        assert_eq!(tree.nodes.len(), 1);
        assert_eq!(tree.find(b"abc"), Some(0));
        tree.remove(b"abc", 0);
        assert_eq!(tree.nodes.len(), 0);
    }
}
