//! The sessions of one account: how many there may be, and which are warm.
//!
//! Owns the seats, one for each session that the provider allows, handed out in the order in which
//! they were asked for. Whoever holds a seat may have one session; a session that is returned in
//! good order waits for the next holder. There are never more sessions than seats.

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

    /// Says QUIT to sessions that have been idle for too long, or to all of them.
    pub(crate) async fn cool(&self, all: bool) {
        let now = Instant::now();
        let cold: Vec<_> = {
            let mut warm = self.lock();
            let is_cold = |session: &UpstreamSession| {
                all || now.duration_since(session.last_used) >= limits::CLIENT_KEEP_WARM
            };
            let (cold, kept) = warm.drain(..).partition(is_cold);
            *warm = kept;
            cold
        };
        for session in cold {
            session.quit().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<UpstreamSession>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The session that was used last, if there is one that still looks alive and that
    /// authenticated with the token of this generation.
    pub(crate) async fn warm_session(&self, generation: u64) -> Option<UpstreamSession> {
        loop {
            let mut session = self.pool.lock().pop()?;
            if session.generation == generation && session.is_usable().await {
                return Some(session);
            }
            tokio::spawn(session.quit());
        }
    }

    /// Keeps a session for the next holder of a seat.
    pub(crate) fn keep(&self, session: UpstreamSession) {
        match session.is_idle() {
            true => self.pool.lock().push(session),
            false => drop(tokio::spawn(session.quit())),
        }
    }
}
