//! Group commit: what waits together is taken together.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A queue that gives all that waits in it at once, within limits.
pub struct Gather<T> {
    waiting: mpsc::Receiver<T>,
    /// Did not fit in with what was taken before.
    held: Option<T>,
    bytes_of: fn(&T) -> usize,
    max_bytes: usize,
    max: usize,
}

impl<T> Gather<T> {
    /// Takes at most `max` at once, of at most `max_bytes` together unless the first alone is larger.
    pub fn new(waiting: mpsc::Receiver<T>, bytes_of: fn(&T) -> usize, max_bytes: usize, max: usize) -> Self {
        Self { waiting, held: None, bytes_of, max_bytes, max }
    }

    /// Waits for something and takes what is there; `None` from `stop` on. Not cancel-safe.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Vec<T>> {
        let first = match self.held.take() {
            Some(held) => held,
            None => tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return None,
                // Cancel-safe: a message that was not returned stays in the queue.
                first = self.waiting.recv() => first?,
            },
        };
        // Callers whose write has just been answered get to send their next one.
        tokio::task::yield_now().await;
        let mut bytes = (self.bytes_of)(&first);
        let mut taken = vec![first];
        while taken.len() < self.max {
            let Ok(next) = self.waiting.try_recv() else { break };
            bytes += (self.bytes_of)(&next);
            if bytes > self.max_bytes {
                self.held = Some(next);
                break;
            }
            taken.push(next);
        }
        Some(taken)
    }

    /// Takes nothing any more; gives what is still there.
    pub async fn close(mut self) -> Vec<T> {
        self.waiting.close();
        let mut left: Vec<T> = self.held.take().into_iter().collect();
        while let Some(waiting) = self.waiting.recv().await {
            left.push(waiting);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_waits_is_taken_together_within_the_limits_and_in_order() {
        let (send, waiting) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let mut gather = Gather::new(waiting, |bytes: &usize| *bytes, 10, 3);
        for bytes in [4, 6, 1, 25, 1, 1, 1, 1] {
            send.send(bytes).await.unwrap();
        }
        for wanted in [vec![4, 6], vec![1], vec![25], vec![1, 1, 1]] {
            assert_eq!(gather.next(&stop).await, Some(wanted));
        }
        stop.cancel();
        assert_eq!(gather.next(&stop).await, None);
        assert_eq!(gather.close().await, [1]);
    }
}
