//! The reader: the real decision, stopped at each of its accesses.
//!
//! The model runs it from the beginning for each access. It repeats the answers that the reader already got;
//! the reader's next question is then the next access. A reader knows only these answers, so runs with the
//! same answers share one place in a tree.

use std::{cell::Cell, collections::HashMap};

use vipnat_common::{
    Count, Destination, Maps, Outlined, Range, Slot, Target, Verdict, VipKey, decide, rebind,
};

/// The call that a reader decides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    Decide(Destination),
    Rebind(Destination, Target),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Decided(Verdict),
    Rebound(Option<Target>),
}

/// One access of the decision to the maps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Range(VipKey),
    Slot(u32),
    Turn(u32),
}

/// The answer to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Range(Option<[u8; 8]>),
    Slot([u8; 24]),
    Turn(u64),
}

struct Replay<'a> {
    told: &'a [(Access, Told)],
    next: Cell<usize>,
    asked: Cell<Option<Access>>,
    key: Cell<Option<VipKey>>,
    ignore_owner: bool,
}

impl Replay<'_> {
    /// After the first new question, the answers do not matter.
    fn tell(&self, access: Access) -> Option<Told> {
        let next = self.next.get();
        self.next.set(next + 1);
        if self.asked.get().is_none() && next >= self.told.len() {
            self.asked.set(Some(access));
        }
        self.told.get(next).map(|(_, told)| *told)
    }
}

impl Maps for Replay<'_> {
    fn entry(&self, key: &VipKey) -> Option<Range> {
        self.key.set(Some(*key));
        match self.tell(Access::Range(*key)) {
            Some(Told::Range(range)) => range.map(Range::from_bytes),
            _ => None,
        }
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        let Some(Told::Slot(bytes)) = self.tell(Access::Slot(index)) else {
            return None;
        };
        let slot = Slot::from_bytes(bytes)?;
        let key = self.key.get().filter(|_| self.ignore_owner);
        Some(Slot { owner: key.unwrap_or(slot.owner), ..slot })
    }

    fn take_turn(&self, cursor: u32, _: Count) -> Option<u64> {
        match self.tell(Access::Turn(cursor)) {
            Some(Told::Turn(turn)) => Some(turn),
            _ => None,
        }
    }

    fn peek_turn(&self, _: u32, _: Count) -> Option<u64> {
        unreachable!("no reader asks for port 0")
    }

    fn random(&self) -> u32 {
        unreachable!("no list leaves it to chance")
    }
}

impl Outlined for Replay<'_> {}

/// All places that a reader can reach.
pub(super) struct Reader {
    pub(super) question: Question,
    ignore_owner: bool,
    nodes: Vec<Node>,
    children: HashMap<(u32, Told), u32>,
}

/// A place that a reader can reach. The first one is 0.
#[derive(Clone, Copy)]
struct Node {
    /// The place before it, and the access and answer that lead here.
    from: Option<(u32, Access, Told)>,
    next: Next,
}

#[derive(Clone, Copy)]
pub(super) enum Next {
    Access(Access),
    Done(Answer),
}

impl Reader {
    /// `ignore_owner`: the reader accepts each slot as one of the key that it looked up.
    pub(super) fn new(question: Question, ignore_owner: bool) -> Self {
        let mut reader = Self { question, ignore_owner, nodes: vec![], children: HashMap::new() };
        let next = reader.run(&[]);
        reader.nodes.push(Node { from: None, next });
        reader
    }

    pub(super) fn next(&self, node: u32) -> Next {
        self.nodes[node as usize].next
    }

    /// The accesses and answers that lead to a place.
    pub(super) fn told(&self, node: u32) -> Vec<(Access, Told)> {
        let from = |node: &Node| node.from.map(|(from, ..)| self.nodes[from as usize]);
        let ways = std::iter::successors(Some(self.nodes[node as usize]), from);
        let mut told: Vec<_> =
            ways.filter_map(|node| node.from.map(|(_, access, told)| (access, told))).collect();
        told.reverse();
        told
    }

    /// The place that the reader reaches with this answer.
    pub(super) fn tell(&mut self, node: u32, told: Told) -> u32 {
        if let Some(child) = self.children.get(&(node, told)) {
            return *child;
        }
        let Next::Access(access) = self.next(node) else {
            unreachable!("it has finished");
        };
        let mut all = self.told(node);
        all.push((access, told));
        let next = self.run(&all);
        let child = u32::try_from(self.nodes.len()).unwrap();
        self.nodes.push(Node { from: Some((node, access, told)), next });
        self.children.insert((node, told), child);
        child
    }

    fn run(&self, told: &[(Access, Told)]) -> Next {
        let maps = Replay {
            told,
            next: Cell::new(0),
            asked: Cell::new(None),
            key: Cell::new(None),
            ignore_owner: self.ignore_owner,
        };
        let answer = match &self.question {
            Question::Decide(to) => Answer::Decided(decide(&maps, to)),
            Question::Rebind(to, had) => Answer::Rebound(rebind(&maps, to, had)),
        };
        maps.asked.get().map_or(Next::Done(answer), Next::Access)
    }
}
