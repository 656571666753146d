//! The session core that plays the server.
