//! Floor 3: the listeners.
