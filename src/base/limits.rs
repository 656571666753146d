//! Every bound of the program in one place, each with its unit, source and reason.
//!
//! A buffer, queue, table or wait that has no limit here has a bug. What an administrator may
//! change is a key of the configuration and has its default here.

use std::time::Duration;

// --- text -------------------------------------------------------------------------------------

/// Characters of a stranger's text that one log field or error shows.
pub const PRINTABLE_LENGTH: usize = 1_024;

// --- SMTP, as a server ------------------------------------------------------------------------

/// Octets of a command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512 and extensions add to
/// it; 4 KiB holds every parameter of every extension and long SMTPUTF8 addresses.
pub const COMMAND_LINE_OCTETS: usize = 4_096;

/// Octets of an AUTH line or response with its CRLF: RFC 4954 §4.
pub const AUTH_LINE_OCTETS: usize = 12_288;

/// Octets of a too long line that are read and thrown away before the session is closed, so that
/// an endless line costs its sender a connection and us nothing.
pub const DISCARDED_LINE_OCTETS: usize = 65_536;

/// Octets of a user name that a client may present (RFC 4616 leaves it open; an address is 254).
pub const USER_NAME_OCTETS: usize = 320;

/// Recipients of one transaction. RFC 5321 §4.5.3.1.8 asks for at least 100; Exchange Online
/// allows 1 to 1,000.
pub const RECIPIENTS: usize = 1_000;

/// Errors of one session before `421`: Postfix's hard error limit.
pub const SESSION_ERRORS: u32 = 20;

/// Refused logins of one session before `421`.
pub const SESSION_AUTH_FAILURES: u32 = 5;

/// Octets of a body event at most.
pub const CHUNK_OCTETS: usize = 65_536;

/// Octets that one read from a socket asks for: small enough for a thousand idle sessions.
pub const READ_OCTETS: usize = 8_192;

/// Wait for an orderly end of a connection that is over anyway.
pub const CLOSE: Duration = Duration::from_secs(2);

/// Wait for a command, a SASL response or the next bytes of a body: RFC 5321 §4.5.3.2.7.
pub const SERVER_IDLE: Duration = Duration::from_secs(300);

/// Octets of a body that have to come within [`SERVER_IDLE`], so that nobody holds a session open
/// for days with a byte now and then.
pub const BODY_PROGRESS_OCTETS: u64 = 4_096;

/// Wait for a client to take what we send, and for a TLS handshake to end.
pub const HANDSHAKE: Duration = Duration::from_secs(30);

/// Octets of the largest message that a listener takes, unless configured otherwise. Exchange
/// Online announces 157,286,400; the usual mailbox limit of 35 MB counts the encoded message.
pub const MESSAGE_OCTETS: u64 = 36_700_160;

/// The least that `max_message_size` may be: RFC 5321 §4.5.3.1.7.
pub const MESSAGE_OCTETS_LEAST: u64 = 65_536;

/// The most that `max_message_size` may be: no provider takes more than 150 MB.
pub const MESSAGE_OCTETS_MOST: u64 = 1 << 30;

/// Octets of a message's header that are searched for fields: Postfix's header_size_limit is
/// 102,400; more than this is content.
pub const HEADER_OCTETS: usize = 262_144;

/// `Received` lines after which a message is taken to be in a loop: RFC 5321 §6.3.
pub const RECEIVED_LINES: usize = 100;

/// Sessions of all listeners together; fewer where the system grants fewer file descriptors.
pub const SESSIONS: usize = 2_000;

/// File descriptors that sessions leave to upstream, the store and token endpoints.
pub const RESERVED_DESCRIPTORS: u64 = 200;

/// Clients of one listener that are told at a time that there is no room for them.
pub const FAREWELLS: usize = 32;

/// Password hashes that are computed at a time: each takes a core, and its memory is kept.
pub const CONCURRENT_PASSWORD_HASHES: usize = 2;

/// KiB that checking one password may take. New hashes take 7,168 (OWASP); hashes from elsewhere
/// are taken up to this.
pub const PASSWORD_HASH_MEMORY_KIB: u32 = 131_072;

/// Passes over its memory that checking one password may take.
pub const PASSWORD_HASH_PASSES: u32 = 10;

/// Lanes that a password hash may have.
pub const PASSWORD_HASH_LANES: u32 = 16;

/// Verified passwords that are remembered (as keyed digests) at a time.
pub const REMEMBERED_PASSWORDS: usize = 4_096;

// --- SMTP, as a client ------------------------------------------------------------------------

/// Octets of one line of a reply. RFC 5321 §4.5.3.1.5 says 512; some servers send more.
pub const REPLY_LINE_OCTETS: usize = 2_048;

/// Lines of one reply.
pub const REPLY_LINES: usize = 100;

/// Octets of one reply with all its lines: more than any server has to say.
pub const REPLY_OCTETS: usize = 65_536;

/// Octets of one AUTH command line with its CRLF up to which the initial response may be inline
/// (RFC 4954 §4 with RFC 5321 §4.5.3.1.4); Dovecot and Gmail enforce it.
pub const AUTH_INLINE_OCTETS: usize = 512;

/// Wait for the connection and the TLS handshake.
pub const CLIENT_CONNECT: Duration = Duration::from_secs(30);

/// Wait for one of several addresses of a host, at least.
pub const CLIENT_CONNECT_ONE: Duration = Duration::from_secs(2);

/// Wait for the reply of an upstream that no longer takes our bytes: its last words are the
/// diagnosis.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

/// Wait for the greeting: RFC 5321 §4.5.3.2.1.
pub const CLIENT_GREETING: Duration = Duration::from_secs(300);

/// Wait for the reply to EHLO, STARTTLS, AUTH, RSET and QUIT; RFC 5321 names none.
pub const CLIENT_COMMAND: Duration = Duration::from_secs(60);

/// Wait for the reply to MAIL and to RCPT: RFC 5321 §4.5.3.2.2 and .3.
pub const CLIENT_ENVELOPE: Duration = Duration::from_secs(300);

/// Wait for the 354: RFC 5321 §4.5.3.2.4.
pub const CLIENT_DATA: Duration = Duration::from_secs(120);

/// Wait for upstream to take the next piece of the body: RFC 5321 §4.5.3.2.5.
pub const CLIENT_BODY: Duration = Duration::from_secs(180);

/// Wait for the reply to the final dot: RFC 5321 §4.5.3.2.6.
pub const CLIENT_FINAL: Duration = Duration::from_secs(600);

/// An upstream session that has been idle for this long is closed by us. Exchange Online closes
/// after some minutes; a session that upstream has already closed costs a second attempt.
pub const CLIENT_KEEP_WARM: Duration = Duration::from_secs(60);

// --- tokens -----------------------------------------------------------------------------------

/// Bytes of an answer of a token endpoint.
pub const TOKEN_ANSWER_BYTES: usize = 1_048_576;

/// Octets of an access token: what fits an AUTH response of RFC 4954 with the rest of XOAUTH2.
pub const ACCESS_TOKEN_OCTETS: usize = 8_192;

/// Wait for a connection to a token endpoint.
pub const TOKEN_CONNECT: Duration = Duration::from_secs(10);

/// Wait for the whole answer of a token endpoint.
pub const TOKEN_TOTAL: Duration = Duration::from_secs(30);

/// An access token is renewed when this much of its life is left (or a fifth of its life, if that
/// is less): Exchange's HVE host refuses tokens with less than some minutes.
pub const TOKEN_AHEAD: Duration = Duration::from_secs(600);

/// An access token whose life the endpoint does not name is taken to live this long. RFC 6749 §5.1
/// leaves it open; an hour is usual, and one too early request costs little.
pub const TOKEN_UNSTATED_LIFE: Duration = Duration::from_secs(1_800);

/// An access token whose life is said to be zero or less is taken to live this long: nobody issues
/// dead tokens on purpose, and it must not become a request for every message.
pub const TOKEN_ZERO_LIFE: Duration = Duration::from_secs(60);

/// Between two polls of a sign-in on another device, however little the provider asks for.
pub const DEVICE_INTERVAL_LEAST: Duration = Duration::from_secs(1);

/// What `slow_down` adds to the interval for good: RFC 8628 §3.5.
pub const DEVICE_SLOW_DOWN: Duration = Duration::from_secs(5);

/// Longest wait after polls that got no answer; it doubles up to this. A code lives some minutes.
pub const DEVICE_BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// First wait after a token endpoint did not give a token; it doubles up to [`TOKEN_BACK_OFF_MAX`].
pub const TOKEN_BACK_OFF_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait: an outage is noticed to be over within this time.
pub const TOKEN_BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// First wait after a token endpoint refused the client registration; it doubles up to
/// [`TOKEN_MISCONFIGURED_MAX`]. Only an administrator can mend that, perhaps at the provider's
/// side, so we look again by ourselves: about 30 requests a day.
pub const TOKEN_MISCONFIGURED_FIRST: Duration = Duration::from_secs(60);

/// Longest such wait.
pub const TOKEN_MISCONFIGURED_MAX: Duration = Duration::from_secs(3_600);

/// A token that replaced a refused one and is refused within this time is not replaced again:
/// the token is not what upstream dislikes.
pub const TOKEN_FORCE_AGAIN: Duration = Duration::from_secs(900);

/// How much longer than [`TOKEN_TOTAL`] the right to renew an account's token is held, for the
/// store to do its part. A process that dies with it delays the others by both together.
pub const TOKEN_LEASE_MARGIN: Duration = Duration::from_secs(15);

/// A started consent is given up after this time.
pub const CONSENT: Duration = Duration::from_secs(600);

/// Octets of the head of a browser's request to the loopback redirect. Entra's codes have up to
/// about 2,000, and browsers add cookies of other local servers.
pub const CONSENT_REQUEST_OCTETS: usize = 16_384;

/// Connections to the loopback redirect at a time: browsers open some in advance.
pub const CONSENT_CONNECTIONS: usize = 8;

/// Wait for the request on such a connection.
pub const CONSENT_READ: Duration = Duration::from_secs(10);

// --- bodies, queue and store ------------------------------------------------------------------

/// Bytes of a body that are kept in memory; a larger one goes to a temporary file.
pub const BODY_IN_MEMORY_BYTES: usize = 262_144;

/// Bytes of one stored chunk of a body.
pub const STORED_CHUNK_BYTES: usize = 262_144;

/// How long a client in `confirm` mode waits for upstream's verdict, unless configured otherwise.
/// Old devices give up after 30 s to 60 s.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(20);

/// The least that `confirm_within` may be: upstream takes a second for a message.
pub const CONFIRM_WITHIN_LEAST: Duration = Duration::from_secs(1);

/// The most that `confirm_within` may be: RFC 5321 §4.5.3.2.6 has clients wait 10 minutes.
pub const CONFIRM_WITHIN_MOST: Duration = Duration::from_secs(600);

/// First wait after a deferral; it doubles up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_secs(60);

/// Longest wait between two attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// First wait of a lane after upstream could not be reached or did not let us log in; it doubles
/// up to [`REST_MAX`]. Messages are not charged for it.
pub const REST_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait: an outage is noticed to be over within this time.
pub const REST_MAX: Duration = Duration::from_secs(60);

/// Wait between two looks at a suspended account, in case somebody has mended it.
pub const PROBE_SUSPENDED: Duration = Duration::from_secs(600);

/// A lane with nothing to do looks at the store this often even if nobody wakes it.
pub const LANE_IDLE: Duration = Duration::from_secs(60);

/// Messages of one account that are known in memory at a time; the rest waits in the store.
pub const LANE_WINDOW: usize = 64;

/// How often a second process's changes to the store are looked for.
pub const STORE_POLL: Duration = Duration::from_millis(500);

/// How long sessions, and then attempts, may take to end when the relay is told to stop. Service
/// managers kill after 90 s by default.
pub const STOP_GRACE: Duration = Duration::from_secs(20);

/// Submissions that share one sync at most.
pub const GROUP_COMMIT: usize = 256;

/// Bytes of bodies that share one sync at most, so that a large message keeps small ones waiting
/// for itself only.
pub const GROUP_COMMIT_BYTES: u64 = 8_388_608;

// --- configuration ----------------------------------------------------------------------------

/// Bytes of a configuration file: thousands of credentials.
pub const CONFIG_FILE_BYTES: u64 = 4_194_304;

/// Bytes of a file that holds a secret.
pub const SECRET_FILE_BYTES: u64 = 8_192;

/// Bytes of a PEM file: the certificate authorities of a whole distribution have 250 KB.
pub const PEM_FILE_BYTES: u64 = 4_194_304;
