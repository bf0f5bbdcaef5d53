//! What became of questions, since the start. Counts only.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Answered from what is known here.
    Answered,
    /// The name is one of ours, and there is nothing by it.
    NotFound,
    /// It was no question that can be answered.
    Refused,
    /// Other name servers have answered it.
    Forwarded,
    /// Other name servers have not, or too many questions were under way.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Answered, Self::NotFound, Self::Refused, Self::Forwarded, Self::Failed];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Forwarded => "forwarded",
            Self::Failed => "failed",
        }
    }

    /// Of an answer that was made here: by its response code (RFC 1035 section 4.1.1).
    pub(super) fn of_answer(answer: &[u8]) -> Self {
        match answer.get(3).map(|flags| flags & 0x0f) {
            Some(0) => Self::Answered,
            Some(3) => Self::NotFound,
            _ => Self::Refused,
        }
    }
}

/// Questions by what became of them.
#[derive(Debug, Default)]
pub struct Questions([AtomicU64; Outcome::ALL.len()]);

impl Questions {
    /// How many.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
