//! The session core that plays the client.
