//! Floor 3: sockets and TLS.
