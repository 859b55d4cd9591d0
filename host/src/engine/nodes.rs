//! The nodes of the prefix tree: runs of cells, who holds them, and how many cells that makes. Pure; it knows slots only
//! by name.

use crate::plugins::model::{SeqId, Token};

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// Places in `nodes` that are free.
    vacant: Vec<usize>,
    /// Nodes without a parent. Two may begin alike: whoever computed the same twice holds it twice.
    roots: Vec<usize>,
    cells: usize,
    pinned: usize,
}

/// A run of cells.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) tokens: Vec<Token>,
    /// Position of the first token.
    pub(super) start: usize,
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    /// Slots that end here.
    pub(super) ends: Vec<SeqId>,
    /// Slots whose path leads through here, and how many of them run. Never none: a node that nobody holds is gone.
    pub(super) holders: usize,
    pub(super) running: usize,
}

impl Nodes {
    /// Cells in use.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// Of these, the ones that running slots hold.
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    pub(super) fn roots(&self) -> &[usize] {
        &self.roots
    }

    pub(super) fn get(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    pub(super) fn add_end(&mut self, at: usize, slot: SeqId) {
        self.nodes[at].ends.push(slot);
    }

    pub(super) fn remove_end(&mut self, at: usize, slot: SeqId) {
        self.nodes[at].ends.retain(|&other| other != slot);
    }

    /// A running slot that ends at `end` holds these tokens too: there where it is alone, else in a node of its own. Gives
    /// the node where it ends now.
    pub(super) fn extend(&mut self, end: Option<usize>, slot: SeqId, tokens: &[Token]) -> usize {
        self.cells += tokens.len();
        self.pinned += tokens.len();
        if let Some(at) = end {
            let node = &mut self.nodes[at];
            if node.holders == 1 {
                node.tokens.extend_from_slice(tokens);
                return at;
            }
            self.remove_end(at, slot);
        }
        let child = self.insert(Node {
            tokens: tokens.to_vec(),
            start: end.map_or(0, |at| self.nodes[at].end()),
            parent: end,
            ends: vec![slot],
            holders: 1,
            running: 1,
            ..Node::default()
        });
        self.siblings(end).push(child);
        child
    }

    /// A slot that holds this node whole. Every node has one at or below it.
    pub(super) fn any_end(&self, mut at: usize) -> SeqId {
        loop {
            let node = &self.nodes[at];
            match (node.ends.first(), node.children.first()) {
                (Some(&slot), _) => return slot,
                (None, Some(&child)) => at = child,
                (None, None) => unreachable!("a leaf where no slot ends: this is a bug"),
            }
        }
    }

    /// Cuts a node in two before position `at_token`; the upper part is new and is given back.
    pub(super) fn split(&mut self, at: usize, at_token: usize) -> usize {
        let node = &mut self.nodes[at];
        let rest = node.tokens.split_off(at_token - node.start);
        let upper = Node {
            tokens: std::mem::replace(&mut node.tokens, rest),
            start: std::mem::replace(&mut node.start, at_token),
            parent: node.parent,
            children: vec![at],
            ends: Vec::new(),
            holders: node.holders,
            running: node.running,
        };
        let parent = upper.parent;
        let upper = self.insert(upper);
        self.nodes[at].parent = Some(upper);
        let siblings = self.siblings(parent);
        siblings.retain(|&other| other != at);
        siblings.push(upper);
        upper
    }

    /// One slot's path leads through this node no more.
    pub(super) fn leave(&mut self, at: usize, was_running: bool) {
        let node = &mut self.nodes[at];
        node.holders -= 1;
        if was_running {
            node.running -= 1;
            if node.running == 0 {
                self.pinned -= node.tokens.len();
            }
        }
        if node.holders == 0 {
            self.cells -= node.tokens.len();
            let parent = node.parent;
            self.nodes[at] = Node::default();
            self.siblings(parent).retain(|&other| other != at);
            self.vacant.push(at);
        }
    }

    /// Sets holders and running of a node and of all above it.
    pub(super) fn count(&mut self, from: usize, counts: impl Fn(&Node) -> (usize, usize)) {
        let mut next = Some(from);
        while let Some(at) = next {
            let node = &mut self.nodes[at];
            let (holders, running) = counts(node);
            match (node.running, running) {
                (0, 1..) => self.pinned += node.tokens.len(),
                (1.., 0) => self.pinned -= node.tokens.len(),
                _ => {}
            }
            (node.holders, node.running) = (holders, running);
            next = node.parent;
        }
    }

    fn insert(&mut self, node: Node) -> usize {
        if let Some(at) = self.vacant.pop() {
            self.nodes[at] = node;
            return at;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn siblings(&mut self, parent: Option<usize>) -> &mut Vec<usize> {
        match parent {
            Some(parent) => &mut self.nodes[parent].children,
            None => &mut self.roots,
        }
    }
}

impl Node {
    /// The position behind the last token.
    pub(super) fn end(&self) -> usize {
        self.start + self.tokens.len()
    }
}
