//! Floor 4: the machine.
