//! The sessions of one account: how many there may be, and which are warm.
//!
//! Owns the seats, one for each session that the provider allows, handed out in the order in which
//! they were asked for. Whoever holds a seat may have one session; a session that is returned in
//! good order waits for the next holder. Invariant: there are never more sessions than seats, and a
//! session that is saying good-bye still counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits;
use crate::outbound::session::UpstreamSession;

pub(crate) struct Pool {
    seats: Arc<Semaphore>,
    warm: Mutex<Vec<UpstreamSession>>,
}

/// The right to one upstream session of an account. Given back when dropped.
pub struct Seat {
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(sessions: usize) -> Arc<Self> {
        let seats = Arc::new(Semaphore::new(sessions.max(1)));
        Arc::new(Self { seats, warm: Mutex::new(Vec::new()) })
    }

    /// Waits for a seat; first come, first served.
    pub(crate) async fn seat(self: &Arc<Self>) -> Seat {
        let permit = self.seats.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore of a pool is never closed");
        Seat { pool: self.clone(), _permit: permit }
    }

    /// Says QUIT to sessions that have been idle for too long, or to all of them. A session that is
    /// ending still takes its seat; where none is free it is left for the next time.
    pub(crate) async fn cool(self: &Arc<Self>, all: bool) {
        let now = Instant::now();
        let mut ending = Vec::new();
        while let Ok(permit) = self.seats.clone().try_acquire_owned() {
            let mut warm = self.lock();
            let is_cold = |session: &UpstreamSession| {
                all || now.duration_since(session.last_used) >= limits::CLIENT_KEEP_WARM
            };
            let Some(at) = warm.iter().position(is_cold) else { break };
            let session = warm.remove(at);
            drop(warm);
            let seat = Seat { pool: self.clone(), _permit: permit };
            ending.push(tokio::spawn(seat.end(session)));
        }
        for session in ending {
            let _ = session.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UpstreamSession>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The session that was used last, if there is one that still looks alive and that
    /// authenticated with the token of this generation. Others are ended first.
    pub(crate) async fn warm_session(&self, generation: u64) -> Option<UpstreamSession> {
        loop {
            let mut session = self.pool.lock().pop()?;
            let is_current =
                session.token.as_ref().is_some_and(|token| token.generation == generation);
            if is_current && session.is_usable().await {
                return Some(session);
            }
            session.quit().await;
        }
    }

    /// Gives the seat back, and keeps the session for the next holder if it is in good order.
    pub(crate) fn give_back(self, session: UpstreamSession) {
        match session.is_idle() {
            true => self.pool.lock().push(session),
            // Nobody has to wait for the good-bye but whoever wants this seat.
            false => drop(tokio::spawn(self.end(session))),
        }
    }

    async fn end(self, session: UpstreamSession) {
        session.quit().await;
    }
}
