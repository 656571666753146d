//! What an answer of upstream means.
//!
//! Owns the table from phase, code and text to one of the six classes. A row is chosen by its
//! most specific mark; an answer that no row knows is judged by its first digit. Sources: the
//! providers' pages on SMTP submission and its errors (Exchange Online "SMTP submission
//! improvements" and "Non-delivery reports"; Gmail "SMTP errors and codes").

use crate::mail::{Class, Phase};
use crate::smtp::Reply;

/// One known answer.
struct Row {
    /// Codes that it comes with; empty means any.
    codes: &'static [u16],
    /// The enhanced code, as text; empty means any.
    enhanced: &'static str,
    /// A part of the text, compared without regard to case; empty means any.
    text: &'static str,
    /// What it means.
    class: Class,
}

const fn row(
    codes: &'static [u16],
    enhanced: &'static str,
    text: &'static str,
    class: Class,
) -> Row {
    Row { codes, enhanced, text, class }
}

/// The first row that fits decides, so the more specific one stands first.
const ROWS: &[Row] = &[
    // Quotas that heal by themselves within a day.
    row(&[554], "5.2.0", "SubmissionQuotaExceeded", Class::Hold),
    row(&[550], "5.1.90", "", Class::Hold),
    row(&[], "5.2.2", "Submission quota exceeded", Class::Hold),
    row(&[554], "5.2.2", "", Class::Hold),
    row(&[550], "5.7.232", "", Class::Hold),
    row(&[550], "5.7.233", "", Class::Hold),
    row(&[550], "5.7.236", "", Class::Hold),
    row(&[550], "5.4.5", "", Class::Hold),
    row(&[550], "5.7.1", "Daily SMTP relay limit exceeded", Class::Hold),
    row(&[550], "5.7.1", "quota exceeded", Class::Hold),
    // The account needs a person.
    row(&[530, 534, 535, 538], "", "", Class::Suspend),
    row(&[], "5.7.139", "", Class::Suspend),
    row(&[550], "5.7.30", "", Class::Suspend),
    row(&[550], "5.1.8", "", Class::Suspend),
    row(&[550], "5.7.501", "", Class::Suspend),
    row(&[550], "5.7.502", "", Class::Suspend),
    row(&[550], "5.7.503", "", Class::Suspend),
    row(&[550], "5.7.705", "", Class::Suspend),
    row(&[550], "5.7.708", "", Class::Suspend),
    row(&[550], "5.7.0", "Mail relay denied", Class::Suspend),
    row(&[550], "5.7.0", "Mail Sending denied", Class::Suspend),
    row(&[550], "5.7.1", "Invalid credentials for relay", Class::Suspend),
    // The daily recipient count is per transaction here: the rest goes in a later one.
    row(&[552], "5.5.3", "", Class::Defer),
];

/// The class of a refusal. Never [`Class::Delivered`] and never [`Class::Uncertain`].
pub fn classify(phase: Phase, reply: &Reply) -> Class {
    let text = reply.text().to_ascii_lowercase();
    let enhanced = reply.enhanced().map(|code| code.to_string()).unwrap_or_default();
    let known = ROWS.iter().find(|row| {
        (row.codes.is_empty() || row.codes.contains(&reply.code()))
            && (row.enhanced.is_empty() || row.enhanced == enhanced)
            && text.contains(&row.text.to_ascii_lowercase())
    });
    if let Some(row) = known {
        return row.class;
    }
    match (phase, reply.is_permanent()) {
        // Nobody but the administrator can mend a login that is refused for good.
        (Phase::Auth, true) => Class::Suspend,
        // Refusing the session says nothing of the message.
        (Phase::Greeting | Phase::Ehlo | Phase::StartTls, _) => Class::Defer,
        (_, true) => Class::Fail,
        (_, false) => Class::Defer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(phase: Phase, code: u16, enhanced: &str, text: &str) -> Class {
        let enhanced = enhanced.parse().ok();
        classify(phase, &Reply::from_lines(code, enhanced, vec![text.to_owned()]))
    }

    #[test]
    fn known_answers_have_their_class() {
        let send_as = "SendAsDenied; a@x not allowed to send as b@x; STOREDRV.Submission";
        for (phase, code, enhanced, text, expected) in [
            (Phase::Final, 554, "5.2.252", send_as, Class::Fail),
            (Phase::Final, 432, "4.3.2", "Concurrent connections limit exceeded.", Class::Defer),
            (
                Phase::Final,
                554,
                "5.2.0",
                "STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Class::Hold,
            ),
            (Phase::Auth, 535, "5.7.3", "Authentication unsuccessful", Class::Suspend),
            (Phase::Auth, 535, "5.7.139", "SmtpClientAuthentication is disabled", Class::Suspend),
            (Phase::Auth, 454, "4.7.0", "Temporary authentication failure", Class::Defer),
            (Phase::Mail, 530, "5.7.57", "Client not authenticated to send mail.", Class::Suspend),
            (Phase::Rcpt, 550, "5.1.1", "no such user", Class::Fail),
            (Phase::Rcpt, 452, "4.5.3", "Too many recipients", Class::Defer),
            (Phase::Greeting, 554, "5.3.2", "closed", Class::Defer),
            (Phase::Final, 599, "", "never heard of", Class::Fail),
        ] {
            assert_eq!(class(phase, code.min(559), enhanced, text), expected, "{code} {text}");
        }
    }
}
