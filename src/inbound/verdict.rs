//! What a client is told.
//!
//! Owns the step from the queue's verdict, or a fault of ours, to a reply. The text is public: what
//! upstream said, or a plain sentence; never a path, an account's trouble or a secret.

use crate::base::QueueId;
use crate::mail::{EnhancedCode, Phase, Status};
use crate::queue::Verdict;
use crate::smtp::Reply;
use crate::store::StoreError;

/// The reply to the end of data.
pub(crate) fn reply_to(verdict: &Verdict, id: QueueId) -> Reply {
    match verdict {
        Verdict::Delivered(status) => upstreams_words(status, 250, EnhancedCode::new(2, 0, 0)),
        Verdict::Queued => {
            let text = format!("queued as {id}");
            Reply::new(250, EnhancedCode::new(2, 0, 0), &text)
        }
        Verdict::Refused(status) => upstreams_words(status, 554, EnhancedCode::new(5, 0, 0)),
        Verdict::NotNow(status) if is_about_the_message(status) => {
            upstreams_words(status, 451, EnhancedCode::new(4, 0, 0))
        }
        Verdict::NotNow(_) => {
            let text = "no verdict from upstream, and this listener keeps nothing: try again later";
            Reply::new(451, EnhancedCode::new(4, 4, 1), text)
        }
    }
}

/// The reply when the message could not be kept.
pub(crate) fn reply_to_fault(error: &StoreError) -> Reply {
    match error {
        StoreError::Full { .. } => {
            Reply::new(452, EnhancedCode::new(4, 3, 1), "no room left here: try again later")
        }
        _ => {
            Reply::new(451, EnhancedCode::new(4, 3, 0), "not kept, a local fault: try again later")
        }
    }
}

/// True if upstream said "not now" to the message itself, and not to this relay's login.
fn is_about_the_message(status: &Status) -> bool {
    let is_transient = status.code.is_some_and(|code| code / 100 == 4);
    is_transient && matches!(status.phase, Phase::Mail | Phase::Rcpt | Phase::Data | Phase::Final)
}

/// Upstream's own code, enhanced code and text, where they fit the verdict.
fn upstreams_words(status: &Status, code: u16, enhanced: EnhancedCode) -> Reply {
    let fits = |candidate: &u16| candidate / 100 == code / 100;
    let code = status.code.filter(fits).unwrap_or(code);
    let fits = |candidate: &EnhancedCode| u16::from(candidate.class()) == code / 100;
    let enhanced = status.enhanced.filter(fits).unwrap_or(enhanced);
    Reply::new(code, enhanced, &one_line(&status.text))
}

/// What an old device can read: ASCII, and short enough for the line of RFC 5321 §4.5.3.1.5.
fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_ascii() { c } else { '?' }).take(TEXT_OCTETS + 1).collect();
    if line.len() > TEXT_OCTETS {
        line.replace_range(TEXT_OCTETS - 3.., "...");
    }
    line
}

/// Octets of a reply's text that leave room for both codes within 512.
const TEXT_OCTETS: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_own_words_reach_the_client() {
        let id: QueueId = "01ARZ3NDEKTSV4RR".parse().unwrap();
        let status = |code: u16, enhanced: &str, text: &str| Status {
            phase: Phase::Final,
            code: Some(code),
            enhanced: enhanced.parse().ok(),
            text: text.to_owned(),
        };
        for (verdict, expected) in [
            (Verdict::Delivered(status(250, "2.0.0", "OK <1@x>")), "250 2.0.0 OK <1@x>"),
            (Verdict::Delivered(status(250, "", "taken")), "250 2.0.0 taken"),
            (Verdict::Queued, "250 2.0.0 queued as 01ARZ3NDEKTSV4RR"),
            (Verdict::Refused(status(554, "5.2.252", "SendAsDenied")), "554 5.2.252 SendAsDenied"),
            (Verdict::Refused(status(550, "4.0.0", "odd")), "550 5.0.0 odd"),
            (Verdict::NotNow(status(432, "4.3.2", "busy")), "432 4.3.2 busy"),
        ] {
            assert_eq!(reply_to(&verdict, id).to_string(), expected);
        }
        let secret = Verdict::NotNow(Status::event(Phase::Token, "client secret expired"));
        assert!(!reply_to(&secret, id).to_string().contains("secret"));
        let login = Status { phase: Phase::Auth, ..status(454, "4.7.0", "login trouble") };
        assert!(!reply_to(&Verdict::NotNow(login), id).to_string().contains("login"));
        let long = reply_to(&Verdict::Refused(status(550, "5.7.1", &"ä".repeat(9_000))), id);
        assert!(long.to_string().len() < 510 && long.to_string().ends_with("?..."), "{long}");
    }
}
