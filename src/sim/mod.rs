//! Floor 4: a simulated provider.
