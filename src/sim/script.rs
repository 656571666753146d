//! What a test makes a simulated provider do instead of what it would do by itself.
//!
//! Owns [`Script`], a cloneable handle, and its words: at a [`Point`] of a dialog, under the
//! conditions of a [`Cue`], a [`Fault`] happens, once, some times or always. Cues are tried in the
//! order in which they were given; a delay lets the next one have its turn as well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::sim::fault::{Answer, BadCertificate, Fault, Point};
use crate::sim::observe::{Book, Overdue, Pages};

/// What is known at a point, for the conditions of cues.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) recipients: &'a [String],
    pub(super) is_tls: bool,
    pub(super) octets: u64,
}

/// What is due at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

impl Due {
    pub(super) fn is_nothing(&self) -> bool {
        self.delay.is_zero() && self.fault.is_none()
    }

    /// Something that no client takes for a reply is said where one is due.
    pub(super) fn is_in_place_of_a_reply(&self) -> bool {
        matches!(
            self.fault,
            Some(Fault::Garbage(_) | Fault::Answer(_) | Fault::Slow { answer: Some(_), .. })
        )
    }
}

/// The script of one simulated provider. A handle; clones write the same script.
#[derive(Clone, Debug)]
pub struct Script(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Mutex<Lines>,
    /// Moves with every release.
    releases: watch::Sender<u64>,
    book: Book,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Lines {
    next_id: u64,
    cues: Vec<ActiveCue>,
    fired: Vec<(u64, u64)>,
    hanging: usize,
}

#[derive(Clone, Debug)]
struct ActiveCue {
    id: u64,
    point: Point,
    when: Conditions,
    skips: u64,
    /// `None` is for ever.
    left: Option<u64>,
    fault: Fault,
}

#[derive(Clone, Debug, Default)]
struct Conditions {
    recipient: Option<String>,
    user: Option<String>,
    is_tls: Option<bool>,
    octets: u64,
}

impl Conditions {
    fn hold(&self, moment: Moment<'_>) -> bool {
        let is_same = |wanted: &String, seen: &str| wanted.eq_ignore_ascii_case(seen);
        self.recipient
            .as_ref()
            .is_none_or(|wanted| moment.recipients.iter().any(|seen| is_same(wanted, seen)))
            && self
                .user
                .as_ref()
                .is_none_or(|wanted| moment.user.is_some_and(|seen| is_same(wanted, seen)))
            && self.is_tls.is_none_or(|wanted| wanted == moment.is_tls)
            && self.octets <= moment.octets
    }
}

impl Script {
    pub(super) fn new(book: Book, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            lines: Mutex::default(),
            releases: watch::Sender::new(0),
            book,
            patience,
        }))
    }

    /// Starts a cue at this point. It happens once, unless told otherwise, and is written down only
    /// when one of the methods that name a fault is called.
    pub fn at(&self, point: Point) -> Cue {
        Cue { script: self.clone(), point, when: Conditions::default(), skips: 0, left: Some(1) }
    }

    /// Forgets every cue, and releases what hangs.
    pub fn clear(&self) {
        self.lines().cues.clear();
        self.release();
    }

    /// Lets everything that hangs now go on.
    pub fn release(&self) {
        self.0.releases.send_modify(|releases| *releases = releases.wrapping_add(1));
    }

    /// How many sessions and requests hang now.
    pub fn hanging(&self) -> usize {
        self.lines().hanging
    }

    /// Waits until at least so many sessions and requests hang.
    pub async fn until_hanging(&self, count: usize) -> Result<(), Overdue> {
        let look = |_: &Pages| (self.hanging() >= count).then_some(());
        self.0.book.until(&format!("{count} to hang"), self.0.patience, look).await
    }

    /// The delays and the fault that are due, which are thereby used up.
    pub(super) fn due(&self, point: Point, moment: Moment<'_>) -> Due {
        let mut lines = self.lines();
        let mut due = Due::default();
        let mut fired = Vec::new();
        for cue in &mut lines.cues {
            if cue.point != point || cue.left == Some(0) || !cue.when.hold(moment) {
                continue;
            }
            if cue.skips > 0 {
                cue.skips -= 1;
                continue;
            }
            cue.left = cue.left.map(|left| left - 1);
            fired.push(cue.id);
            match &cue.fault {
                Fault::Delay(more) => due.delay += *more,
                fault => {
                    due.fault = Some(fault.clone());
                    break;
                }
            }
        }
        lines.cues.retain(|cue| cue.left != Some(0));
        for id in &fired {
            match lines.fired.iter_mut().find(|(known, _)| known == id) {
                Some((_, times)) => *times += 1,
                None => lines.fired.push((*id, 1)),
            }
        }
        drop(lines);
        if !fired.is_empty() {
            self.0.book.touch();
        }
        due
    }

    /// True if a cue may be due at this point, whatever its conditions.
    pub(super) fn names(&self, point: Point) -> bool {
        self.lines().cues.iter().any(|cue| cue.point == point)
    }

    /// Hangs until the next release.
    pub(super) async fn hang(&self) {
        let mut releases = self.0.releases.subscribe();
        let _counted = Hanging::new(self.clone());
        // The sender lives in `self`, so this ends only with a release.
        let _ = releases.changed().await;
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one that hangs, for as long as it lives.
struct Hanging(Script);

impl Hanging {
    fn new(script: Script) -> Self {
        script.lines().hanging += 1;
        script.0.book.touch();
        Self(script)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.lines().hanging -= 1;
        self.0.0.book.touch();
    }
}

/// A cue that is being written: its conditions first, then what happens.
#[derive(Debug)]
#[must_use = "nothing happens before one of the methods that name a fault is called"]
pub struct Cue {
    script: Script,
    point: Point,
    when: Conditions,
    skips: u64,
    left: Option<u64>,
}

impl Cue {
    /// The next `count` times.
    pub fn times(mut self, count: u64) -> Self {
        self.left = Some(count);
        self
    }

    /// Every time, until it is withdrawn.
    pub fn always(mut self) -> Self {
        self.left = None;
        self
    }

    /// Not the first `count` times.
    pub fn skip(mut self, count: u64) -> Self {
        self.skips = count;
        self
    }

    /// Only for this recipient: at RCPT the one being named, later any of the transaction.
    pub fn for_recipient(mut self, address: &str) -> Self {
        self.when.recipient = Some(address.to_owned());
        self
    }

    /// Only in sessions of this mailbox, or for tokens of it.
    pub fn for_user(mut self, mailbox: &str) -> Self {
        self.when.user = Some(mailbox.to_owned());
        self
    }

    /// Only inside TLS.
    pub fn inside_tls(mut self) -> Self {
        self.when.is_tls = Some(true);
        self
    }

    /// Only outside TLS.
    pub fn outside_tls(mut self) -> Self {
        self.when.is_tls = Some(false);
        self
    }

    /// For [`Point::Body`]: only once so many octets of the body were read.
    pub fn after_octets(mut self, octets: u64) -> Self {
        self.when.octets = octets;
        self
    }

    /// This happens. All the methods below are short for it.
    pub fn does(self, fault: Fault) -> Cued {
        let mut lines = self.script.lines();
        let id = lines.next_id;
        lines.next_id += 1;
        let Self { point, ref when, skips, left, .. } = self;
        lines.cues.push(ActiveCue { id, point, when: when.clone(), skips, left, fault });
        drop(lines);
        Cued { script: self.script, id }
    }

    /// [`Fault::Reply`].
    pub fn replies(self, text: &str) -> Cued {
        self.does(Fault::Reply(text.to_owned()))
    }

    /// [`Fault::ReplyAndClose`].
    pub fn replies_and_closes(self, text: &str) -> Cued {
        self.does(Fault::ReplyAndClose(text.to_owned()))
    }

    /// [`Fault::Replies`] with two.
    pub fn replies_twice(self, first: &str, second: &str) -> Cued {
        self.does(Fault::Replies(vec![first.to_owned(), second.to_owned()]))
    }

    /// [`Fault::Half`].
    pub fn says_half(self, text: &str) -> Cued {
        self.does(Fault::Half(text.to_owned()))
    }

    /// [`Fault::Garbage`].
    pub fn says_garbage(self, bytes: &[u8]) -> Cued {
        self.does(Fault::Garbage(bytes.to_vec()))
    }

    /// [`Fault::Close`].
    pub fn closes(self) -> Cued {
        self.does(Fault::Close)
    }

    /// [`Fault::Reset`].
    pub fn resets(self) -> Cued {
        self.does(Fault::Reset)
    }

    /// [`Fault::Hang`].
    pub fn hangs(self) -> Cued {
        self.does(Fault::Hang)
    }

    /// [`Fault::Delay`].
    pub fn delays(self, by: Duration) -> Cued {
        self.does(Fault::Delay(by))
    }

    /// [`Fault::Certificate`].
    pub fn shows(self, certificate: BadCertificate) -> Cued {
        self.does(Fault::Certificate(certificate))
    }

    /// [`Fault::Answer`].
    pub fn answers(self, answer: Answer) -> Cued {
        self.does(Fault::Answer(answer))
    }

    /// [`Fault::Slow`] with the usual answer.
    pub fn dribbles(self, bytes: usize, pause: Duration) -> Cued {
        self.does(Fault::Slow { answer: None, bytes, pause })
    }

    /// [`Fault::Decline`]: the person does not consent.
    pub fn declines(self) -> Cued {
        self.does(Fault::Decline {
            error: "access_denied".to_owned(),
            description: "AADSTS65004: User declined to consent to access the app.".to_owned(),
        })
    }
}

/// A cue that was written down.
#[derive(Clone, Debug)]
pub struct Cued {
    script: Script,
    id: u64,
}

impl Cued {
    /// How often it has happened.
    pub fn fired(&self) -> u64 {
        let lines = self.script.lines();
        lines.fired.iter().find(|(id, _)| *id == self.id).map_or(0, |(_, times)| *times)
    }

    /// Waits until it has happened so many times.
    pub async fn until_fired(&self, times: u64) -> Result<(), Overdue> {
        let inner = &self.script.0;
        let look = |_: &Pages| (self.fired() >= times).then_some(());
        inner.book.until(&format!("a cue to fire {times} times"), inner.patience, look).await
    }

    /// Takes it back.
    pub fn withdraw(&self) {
        self.script.lines().cues.retain(|cue| cue.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        Script::new(Book::new(0, 0), Duration::from_secs(5))
    }

    #[test]
    fn cues_fire_in_order_as_often_as_told() {
        let script = script();
        let moment = Moment::default();
        let first = script.at(Point::Mail).times(2).skip(1).replies("451 4.0.0 one");
        let second = script.at(Point::Mail).always().closes();
        let third = script.at(Point::Rcpt).resets();
        let seen: Vec<_> = (0..5).map(|_| script.due(Point::Mail, moment).fault).collect();
        let reply = Some(Fault::Reply("451 4.0.0 one".to_owned()));
        let close = Some(Fault::Close);
        assert_eq!(seen, [close.clone(), reply.clone(), reply, close.clone(), close]);
        assert_eq!((first.fired(), second.fired(), third.fired()), (2, 3, 0));
        second.withdraw();
        assert_eq!(script.due(Point::Mail, moment).fault, None);
        script.clear();
        assert_eq!(script.due(Point::Rcpt, moment).fault, None);
    }

    #[test]
    fn conditions_and_delays() {
        let script = script();
        let recipients = ["a@b".to_owned(), "c@d".to_owned()];
        let moment = Moment { recipients: &recipients, user: Some("U@x"), is_tls: true, octets: 9 };
        script.at(Point::Final).for_recipient("z@z").closes();
        script.at(Point::Final).for_user("other@x").closes();
        script.at(Point::Final).outside_tls().closes();
        script.at(Point::Final).after_octets(10).closes();
        assert!(script.due(Point::Final, moment).is_nothing());
        script.at(Point::Final).delays(Duration::from_secs(1));
        script.at(Point::Final).delays(Duration::from_secs(2));
        let cue = script.at(Point::Final).for_recipient("C@D").for_user("u@X").inside_tls();
        cue.after_octets(9).hangs();
        let due = Due { delay: Duration::from_secs(3), fault: Some(Fault::Hang) };
        assert_eq!(script.due(Point::Final, moment), due);
        assert!(script.names(Point::Final) && !script.names(Point::Mail));
    }

    #[tokio::test]
    async fn what_hangs_is_counted_and_released() {
        let script = script();
        let hung = tokio::spawn({
            let script = script.clone();
            async move { script.hang().await }
        });
        script.until_hanging(1).await.unwrap();
        script.release();
        hung.await.unwrap();
        assert_eq!(script.hanging(), 0);
    }
}
