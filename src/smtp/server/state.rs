//! The states of a session. Each owns exactly what is valid while it lasts, and the step from one
//! to the next consumes it.

use super::body::Receiving;
use crate::smtp::sasl::Exchange;

/// Where a session is.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing has been said.
    Start,
    /// The client has to say something.
    Commands(Seat),
    /// The client has to answer a prompt of AUTH.
    Exchange(Ready, Exchange),
    /// The body of a message is coming.
    Receiving(Receiving),
    /// The driver has to answer.
    Asked(Question),
    /// `220` to STARTTLS is out; the driver runs the handshake.
    Handshake,
    /// Over, apart from what is still to be written.
    Closed,
}

/// Which commands make sense.
#[derive(Debug)]
pub(super) enum Seat {
    /// Neither EHLO nor HELO has come, or TLS has made us forget it.
    Stranger,
    /// Between transactions.
    Ready(Ready),
    /// Behind an accepted MAIL.
    Transaction(Transaction),
}

/// A client that has said who it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// It has logged in.
    pub(super) is_authenticated: bool,
}

/// A message that is being addressed.
#[derive(Debug)]
pub(super) struct Transaction {
    /// What to return to.
    pub(super) ready: Ready,
    /// MAIL had SMTPUTF8.
    pub(super) smtputf8: bool,
    /// How many recipients have been taken.
    pub(super) recipients: usize,
}

/// What the driver has been asked, and what will be true after its answer.
#[derive(Debug)]
pub(super) enum Question {
    /// Are these credentials good?
    Login(Ready),
    /// May this transaction begin?
    Mail(Transaction),
    /// Is this recipient taken?
    Recipient(Transaction),
    /// May the body come?
    Data(Transaction),
    /// What becomes of the message?
    Verdict(Ready),
}

impl State {
    pub(super) fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Start | Self::Handshake | Self::Closed => None,
            Self::Commands(seat) => seat.ready(),
            Self::Exchange(ready, _) => Some(ready),
            Self::Receiving(receiving) => Some(&receiving.ready),
            Self::Asked(Question::Login(ready) | Question::Verdict(ready)) => Some(ready),
            Self::Asked(
                Question::Mail(transaction)
                | Question::Recipient(transaction)
                | Question::Data(transaction),
            ) => Some(&transaction.ready),
        }
    }

    /// The driver knows of a transaction that has not ended yet. `is_asked`: a question of this
    /// state has already been passed on to it.
    pub(super) fn is_in_transaction(&self, is_asked: bool) -> bool {
        match self {
            Self::Start | Self::Exchange(..) | Self::Handshake | Self::Closed => false,
            Self::Commands(seat) => matches!(seat, Seat::Transaction(_)),
            Self::Receiving(receiving) => !receiving.is_refused(),
            Self::Asked(Question::Login(_) | Question::Mail(_)) => false,
            Self::Asked(Question::Recipient(_) | Question::Data(_)) => true,
            // EndOfData is the end of it.
            Self::Asked(Question::Verdict(_)) => !is_asked,
        }
    }
}

impl Seat {
    pub(super) fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Stranger => None,
            Self::Ready(ready) => Some(ready),
            Self::Transaction(transaction) => Some(&transaction.ready),
        }
    }

    /// What to say to a verb at the wrong time.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Stranger => "EHLO or HELO",
            Self::Ready(_) => "MAIL",
            Self::Transaction(transaction) if transaction.recipients == 0 => "RCPT or RSET",
            Self::Transaction(_) => "RCPT, DATA or RSET",
        }
    }
}
