//! What is to be sent, and what became of it.

use crate::mail::{Envelope, Phase};
use crate::smtp::Reply;

/// One message for one upstream session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// From whom, to whom.
    pub envelope: Envelope,
    /// Octets of everything that goes through [`super::ClientSession::body`] (RFC 1870 §2).
    pub size: u64,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Upstream has taken the message.
    Accepted(Reply),
    /// Upstream has refused it with this reply. With [`Phase::Local`] the reply is ours and nothing
    /// was sent.
    Refused {
        /// The step that was refused.
        phase: Phase,
        /// The reply.
        reply: Reply,
    },
    /// There is no reply for this recipient, and for sure the message was not taken.
    Lost {
        /// How far it came.
        phase: Phase,
        /// What happened. Text of strangers in it is escaped.
        text: String,
    },
    /// The final dot was handed out and no reply came: the message may have been taken.
    Uncertain {
        /// What happened. Text of strangers in it is escaped.
        text: String,
    },
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One for each forward-path, in their order.
    pub verdicts: Vec<Verdict>,
}

/// The verdicts so far; a recipient that has none yet has not been refused.
#[derive(Debug)]
pub(super) struct Verdicts(Vec<Option<Verdict>>);

impl Verdicts {
    pub(super) fn new(recipients: usize) -> Self {
        Self(vec![None; recipients])
    }

    /// Decides one recipient, unless that was done before.
    pub(super) fn decide(&mut self, recipient: usize, verdict: Verdict) {
        if let Some(place) = self.0.get_mut(recipient) {
            place.get_or_insert(verdict);
        }
    }

    /// Decides all who have no verdict yet.
    pub(super) fn decide_rest(&mut self, verdict: &Verdict) {
        for place in &mut self.0 {
            place.get_or_insert_with(|| verdict.clone());
        }
    }

    /// True if every recipient has been refused.
    pub(super) fn are_complete(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }

    /// The report, in which `rest` is the verdict of all who have none yet.
    pub(super) fn into_report(self, rest: &Verdict) -> Report {
        let verdicts = self.0.into_iter();
        Report { verdicts: verdicts.map(|one| one.unwrap_or_else(|| rest.clone())).collect() }
    }
}

/// The verdict where nobody is left who could get it.
pub(super) fn unanswered(phase: Phase) -> Verdict {
    Verdict::Lost { phase, text: "upstream did not decide".to_owned() }
}
