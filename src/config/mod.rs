//! Floor 2: the configuration.
