//! What a listener does with a line end that is not CRLF.

/// What a listener does with a CR or LF that stands alone in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// Each becomes CRLF: old devices and scripts do send them.
    #[default]
    Normalize,
    /// The message is read to its true end and then refused.
    Reject,
}
