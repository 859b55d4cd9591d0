//! A few threads that read what strangers wrote, for whoever waits for it: one that takes its time holds up only its own
//! thread, and what nobody waits for any more is not read at all.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::message::{Command, RequestId};
use crate::sampling::constraint::STACK_BYTES;

/// The threads. They end when these are dropped.
pub(super) struct Readers<Q, A> {
    orders: Sender<Order<Q>>,
    results: Receiver<(RequestId, A)>,
}

/// Held by who waits for an answer: an order whose claim was dropped before its turn is passed over.
pub(super) struct Claim(#[expect(dead_code, reason = "it is counted, not read")] Arc<()>);

struct Order<Q> {
    id: RequestId,
    question: Q,
    claim: Weak<()>,
}

impl<Q: Send + 'static, A: Send + 'static> Readers<Q, A> {
    /// Starts `threads` of them, each of which reads by `read`; `wake` hears of each answer.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        threads: usize,
        wake: &Sender<Command>,
        read: impl Fn(Q) -> A + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let (result, results) = channel();
        let (ordered, read) = (Arc::new(Mutex::new(ordered)), Arc::new(read));
        for _ in 0..threads.max(1) {
            let (ordered, read) = (Arc::clone(&ordered), Arc::clone(&read));
            let (result, wake) = (result.clone(), wake.clone());
            let body = move || {
                while let Some(Order { id, question, .. }) = next(&ordered) {
                    let _ = result.send((id, read(question)));
                    let _ = wake.send(Command::Wake);
                }
            };
            std::thread::Builder::new().name("schemas".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        }
        Ok(Readers { orders, results })
    }

    /// Asks for an answer to this.
    ///
    /// # Errors
    /// When all threads are gone.
    pub(super) fn order(&self, id: RequestId, question: Q) -> Result<Claim, ReadersGone> {
        let claim = Arc::new(());
        let order = Order { id, question, claim: Arc::downgrade(&claim) };
        self.orders.send(order).map_err(|_| ReadersGone)?;
        Ok(Claim(claim))
    }

    /// An answer that is there, also where nobody waits for it any more.
    pub(super) fn take(&self) -> Option<(RequestId, A)> {
        self.results.try_recv().ok()
    }
}

/// There is no thread that could read.
#[derive(Debug)]
pub(super) struct ReadersGone;

/// The next order that somebody waits for.
fn next<Q>(orders: &Mutex<Receiver<Order<Q>>>) -> Option<Order<Q>> {
    let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let order = orders.recv().ok()?;
        if order.claim.strong_count() > 0 {
            return Some(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Readers of gates, each of which is read when it is opened; and what tells that one is being read.
    fn gated(
        threads: usize,
    ) -> (Readers<Receiver<&'static str>, &'static str>, Receiver<Command>, Receiver<()>) {
        let ((wake, woken), (begun, beginnings)) = (channel(), channel());
        let read = move |gate: Receiver<&'static str>| {
            let _ = begun.send(());
            gate.recv().unwrap_or("never opened")
        };
        (Readers::start(threads, &wake, read).unwrap(), woken, beginnings)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_takes_its_time_holds_up_nobody_else() {
        let (readers, woken, beginnings) = gated(2);
        let ((slow, slow_gate), (quick, quick_gate)) = (channel(), channel());
        let _slow = readers.order(RequestId(1), slow_gate).unwrap();
        beginnings.recv_timeout(LONG).unwrap();
        quick.send("quick").unwrap();
        let _quick = readers.order(RequestId(2), quick_gate).unwrap();
        woken.recv_timeout(LONG).unwrap();
        assert_eq!(readers.take(), Some((RequestId(2), "quick")));
        slow.send("slow").unwrap();
        woken.recv_timeout(LONG).unwrap();
        assert_eq!(readers.take(), Some((RequestId(1), "slow")));
    }

    #[test]
    fn what_nobody_waits_for_is_not_read() {
        let (readers, woken, beginnings) = gated(1);
        let (gate, first) = channel();
        let _first = readers.order(RequestId(0), first).unwrap();
        beginnings.recv_timeout(LONG).unwrap();
        // Each of these would never end: their gates stay shut.
        let gates: Vec<_> = (1..9)
            .map(|id| {
                let (open, shut) = channel();
                drop(readers.order(RequestId(id), shut).unwrap());
                open
            })
            .collect();
        let (last, last_gate) = channel();
        last.send("last").unwrap();
        let _last = readers.order(RequestId(9), last_gate).unwrap();
        gate.send("first").unwrap();
        let mut read = Vec::new();
        while read.len() < 2 {
            woken.recv_timeout(LONG).unwrap();
            read.extend(readers.take().map(|(id, _)| id.0));
        }
        assert_eq!(read, [0, 9]);
        drop(gates);
    }
}
