//! The commands of one transaction up to DATA, and the replies to them (RFC 5321 §3.3, RFC 2920).
//!
//! Owns [`Exchange`]: the commands RSET (if the last transaction was left open), MAIL, RCPT for each
//! recipient and DATA as one sequence with two cursors, one for what was written and one for what
//! was answered. A group is what is written at a time: one command, or, with PIPELINING, everything
//! with at most [`WINDOW`] RCPT. The next group is written when all replies of the last are in, so
//! neither side can be stuck with a full buffer, and the n-th reply belongs to the n-th command.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::mail::{BodyType, EnhancedCode, Phase};
use crate::smtp::client::verdict::Verdicts;
use crate::smtp::client::{FaultKind, Transaction, Verdict};
use crate::smtp::{Capabilities, Reply};

/// RCPT commands in one group. Their replies are some 100 octets each: 7 KB, which any connection
/// holds while we are still writing the 34 KB of the longest group.
const WINDOW: usize = 64;

/// A transaction that has not come to its body.
pub(super) struct Exchange {
    transaction: Transaction,
    parameters: String,
    window: usize,
    starts_with_reset: bool,
    verdicts: Verdicts,
    written: usize,
    answered: usize,
}

/// One command of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reset,
    Mail,
    Recipient(usize),
    Data,
}

impl Command {
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Reset | Self::Mail => Phase::Mail,
            Self::Recipient(_) => Phase::Rcpt,
            Self::Data => Phase::Data,
        }
    }
}

/// Where a reply leads to.
pub(super) enum Progress {
    /// More replies are to come.
    Waits,
    /// All replies are in: write the next group.
    NextGroup,
    /// The body is wanted.
    Body,
    /// The body is wanted although nobody is left to get it.
    LoneDot,
    /// Nobody is left; there was no end of data.
    Done,
}

impl Exchange {
    /// A transaction that [`refusal`] has let through.
    pub(super) fn new(
        transaction: Transaction,
        capabilities: &Capabilities,
        starts_with_reset: bool,
    ) -> Self {
        Self {
            parameters: parameters(&transaction, capabilities),
            window: if capabilities.pipelining { WINDOW } else { 0 },
            starts_with_reset,
            verdicts: Verdicts::new(transaction.envelope.forward_paths.len()),
            written: 0,
            answered: 0,
            transaction,
        }
    }

    /// Writes the next commands.
    pub(super) fn write_group(&mut self, out: &mut BytesMut) {
        let mut recipients = 0;
        while let Some(command) = self.command(self.written) {
            let is_recipient = matches!(command, Command::Recipient(_));
            if is_recipient && recipients == self.window.max(1) {
                break;
            }
            recipients += usize::from(is_recipient);
            self.write(command, out);
            self.written += 1;
            if self.window == 0 {
                break;
            }
        }
    }

    /// Takes the reply to the command that has waited longest for one.
    pub(super) fn take_reply(&mut self, reply: Reply) -> Result<Progress, FaultKind> {
        let command = self.next_answered();
        match command {
            Command::Reset if reply.is_positive() => {}
            Command::Reset => return Err(FaultKind::unexpected("RSET was refused", &reply)),
            Command::Mail | Command::Recipient(_) if reply.is_positive() => {}
            Command::Data if reply.code() == 354 => {}
            _ if !(reply.is_transient() || reply.is_permanent()) => {
                return Err(FaultKind::of_reply(reply));
            }
            Command::Recipient(recipient) => {
                self.verdicts.decide(recipient, Verdict::Refused { phase: Phase::Rcpt, reply });
            }
            Command::Mail | Command::Data => {
                self.verdicts.decide_rest(&Verdict::Refused { phase: command.phase(), reply });
                if command == Command::Data {
                    return Ok(Progress::Done);
                }
            }
        }
        self.answered += 1;
        let nobody_is_left = self.verdicts.are_complete();
        Ok(match () {
            () if command == Command::Data && nobody_is_left => Progress::LoneDot,
            () if command == Command::Data => Progress::Body,
            () if self.answered < self.written => Progress::Waits,
            () if nobody_is_left => Progress::Done,
            () => Progress::NextGroup,
        })
    }

    /// The command whose reply comes next.
    pub(super) fn next_answered(&self) -> Command {
        self.command(self.answered).unwrap_or(Command::Data)
    }

    /// What is known of the recipients.
    pub(super) fn into_verdicts(self) -> Verdicts {
        self.verdicts
    }

    fn command(&self, at: usize) -> Option<Command> {
        let recipients = self.transaction.envelope.forward_paths.len();
        match at + usize::from(!self.starts_with_reset) {
            0 => Some(Command::Reset),
            1 => Some(Command::Mail),
            at if at - 2 < recipients => Some(Command::Recipient(at - 2)),
            at if at - 2 == recipients => Some(Command::Data),
            _ => None,
        }
    }

    fn write(&self, command: Command, out: &mut BytesMut) {
        let envelope = &self.transaction.envelope;
        let line = match command {
            Command::Reset => "RSET\r\n".to_owned(),
            Command::Mail => {
                format!("MAIL FROM:{}{}\r\n", envelope.reverse_path, self.parameters)
            }
            Command::Recipient(at) => match envelope.forward_paths.get(at) {
                Some(path) => format!("RCPT TO:{path}\r\n"),
                None => return,
            },
            Command::Data => "DATA\r\n".to_owned(),
        };
        out.put_slice(line.as_bytes());
    }
}

/// Why this transaction cannot be sent to a server that offers only that; the reply is ours.
pub(super) fn refusal(transaction: &Transaction, capabilities: &Capabilities) -> Option<Reply> {
    let envelope = &transaction.envelope;
    let limit = capabilities.max_message_octets();
    if let Some(limit) = limit.filter(|&limit| transaction.size > limit) {
        let text = format!("the message has {} octets, upstream takes {limit}", transaction.size);
        return Some(Reply::new(552, EnhancedCode::new(5, 3, 4), &text));
    }
    if envelope.has_wide_address() && !capabilities.smtputf8 {
        let text = "upstream does not take addresses outside of ASCII (no SMTPUTF8)";
        return Some(Reply::new(553, EnhancedCode::new(5, 6, 7), text));
    }
    if envelope.smtputf8 && !capabilities.smtputf8 {
        let text = "upstream does not take internationalised messages (no SMTPUTF8)";
        return Some(Reply::new(550, EnhancedCode::new(5, 6, 7), text));
    }
    if envelope.body == BodyType::EightBitMime && !capabilities.eight_bit_mime {
        let text = "upstream does not take 8-bit content (no 8BITMIME)";
        return Some(Reply::new(554, EnhancedCode::new(5, 6, 3), text));
    }
    None
}

/// The parameters of MAIL, each with a space before it.
fn parameters(transaction: &Transaction, capabilities: &Capabilities) -> String {
    let mut parameters = String::new();
    if capabilities.size.is_some() {
        let _ = write!(parameters, " SIZE={}", transaction.size);
    }
    if transaction.envelope.body == BodyType::EightBitMime {
        parameters.push_str(" BODY=8BITMIME");
    }
    if transaction.envelope.smtputf8 || transaction.envelope.has_wide_address() {
        parameters.push_str(" SMTPUTF8");
    }
    parameters
}
