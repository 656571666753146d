//! How a command ends.
//!
//! Owns the exit codes of sysexits.h, so that scripts can tell a mistake in the configuration from a
//! passing trouble, and the form in which a failure is printed.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::daemon::StartError;
use crate::store::StoreError;

/// The exit codes that this program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything is well.
    Ok = 0,
    /// The command line is wrong: `EX_USAGE`.
    Usage = 64,
    /// What was given as input is wrong: `EX_DATAERR`.
    Data = 65,
    /// An input file is missing or unreadable: `EX_NOINPUT`.
    NoInput = 66,
    /// Something that is needed is not there: `EX_UNAVAILABLE`.
    Unavailable = 69,
    /// A bug of this program: `EX_SOFTWARE`.
    Software = 70,
    /// The operating system refused something: `EX_OSERR`.
    Os = 71,
    /// Reading or writing failed: `EX_IOERR`.
    Io = 74,
    /// Try again later: `EX_TEMPFAIL`.
    Temporary = 75,
    /// Not allowed: `EX_NOPERM`.
    Permission = 77,
    /// The configuration is wrong: `EX_CONFIG`.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: what a person reads and what a script sees.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Display) -> Self {
        Self { exit, text: text.to_string() }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn print(&self) {
        let text = self.text.trim_end();
        match text.contains('\n') {
            true => eprintln!("{text}"),
            false => eprintln!("mailbearer: {text}"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Full { .. } => Exit::Io,
            StoreError::Exposed { .. } => Exit::Permission,
            StoreError::Exists { .. } => Exit::Data,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Bind(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(Exit::Permission, error)
            }
            StartError::Bind(error) => Self::new(Exit::Unavailable, error),
            StartError::Certificate(error) => Self::new(Exit::Config, error),
            StartError::Token(error) => Self::new(Exit::Config, error),
            StartError::Upstream(error) => Self::new(Exit::Config, error),
            StartError::Access(error) => Self::new(Exit::Unavailable, error),
            StartError::Address(error) => Self::new(Exit::Os, error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Io, error)
    }
}
