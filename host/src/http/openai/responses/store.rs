//! Answers that were given, for those who want them again or go on from them. In memory, bounded by their number and
//! their bytes: the oldest goes first. Nothing outlives the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chat::Message;

/// What was said in one turn: a request's input and its answer. Shared by all that go on from it.
pub(super) type Turn = Arc<Vec<Message>>;

/// A response that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// What clients read.
    pub(super) json: Arc<str>,
    /// What was said up to its end, instructions aside.
    pub(super) history: Vec<Turn>,
}

/// Responses by their ids.
#[derive(Debug)]
pub(crate) struct Store {
    most: usize,
    most_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// With the bytes of each.
    kept: HashMap<String, (Kept, usize)>,
    /// Ids in order of arrival; those of what was deleted are gone.
    order: VecDeque<String>,
    bytes: usize,
}

impl Store {
    /// An empty one for so many responses of so many bytes together.
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Store { most, most_bytes, inner: Mutex::default() }
    }

    /// Whether anything at all is kept.
    pub(super) fn keeps(&self) -> bool {
        self.most > 0
    }

    /// Keeps a response. One that alone is larger than everything may be is not kept.
    pub(super) fn put(&self, id: String, response: Kept) {
        let bytes = bytes(&id, &response);
        if bytes > self.most_bytes || !self.keeps() {
            tracing::debug!(response = id, bytes, "too large to be kept");
            return;
        }
        let mut inner = self.lock();
        while inner.kept.len() >= self.most || inner.bytes + bytes > self.most_bytes {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.forget(&oldest);
        }
        inner.bytes += bytes;
        inner.order.push_back(id.clone());
        inner.kept.insert(id, (response, bytes));
    }

    /// A response.
    pub(super) fn get(&self, id: &str) -> Option<Kept> {
        self.lock().kept.get(id).map(|(response, _)| response.clone())
    }

    /// Forgets a response; whether there was one.
    pub(super) fn delete(&self, id: &str) -> bool {
        let mut inner = self.lock();
        inner.order.retain(|other| other != id);
        inner.forget(id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nobody panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, id: &str) -> bool {
        let gone = self.kept.remove(id);
        self.bytes -= gone.as_ref().map_or(0, |(_, bytes)| *bytes);
        gone.is_some()
    }
}

/// What a response takes. Turns are counted by each response that shares them, so that the bound holds whoever is
/// forgotten first.
fn bytes(id: &str, response: &Kept) -> usize {
    let of_message = |message: &Message| {
        let extra: usize = message.extra.iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
        size_of::<Message>() + message.role.len() + message.content.as_ref().map_or(0, String::len) + extra
    };
    let history: usize = response.history.iter().flat_map(|turn| turn.iter()).map(of_message).sum();
    size_of::<Kept>() + 2 * id.len() + response.json.len() + history
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> Kept {
        Kept { json: text.into(), history: vec![Arc::new(vec![Message::new("user", text)])] }
    }

    fn ids(store: &Store) -> Vec<&'static str> {
        ["a", "b", "c", "d"].into_iter().filter(|id| store.get(id).is_some()).collect()
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let store = Store::new(2, usize::MAX);
        for id in ["a", "b", "c"] {
            store.put(id.to_owned(), response("x"));
        }
        assert_eq!(ids(&store), ["b", "c"]);
        assert!(store.delete("b") && !store.delete("b"));
        store.put("d".to_owned(), response("x"));
        assert_eq!(ids(&store), ["c", "d"]);
    }

    #[test]
    fn the_oldest_go_when_they_are_too_large() {
        let one = bytes("a", &response(&"x".repeat(1000)));
        let store = Store::new(100, 2 * one);
        for id in ["a", "b", "c"] {
            store.put(id.to_owned(), response(&"x".repeat(1000)));
        }
        assert_eq!(ids(&store), ["b", "c"]);
        store.put("d".to_owned(), response(&"x".repeat(2 * one)));
        assert_eq!(ids(&store), ["b", "c"], "what can never be kept pushes nothing out");
        store.put("d".to_owned(), response(&"x".repeat(1200)));
        assert_eq!(ids(&store), ["d"]);
        assert!(store.delete("d"));
        assert_eq!(store.lock().bytes, 0);
    }

    #[test]
    fn none_are_kept_where_none_may() {
        let store = Store::new(0, usize::MAX);
        store.put("a".to_owned(), response("x"));
        assert!(!store.keeps() && ids(&store).is_empty());
    }
}
