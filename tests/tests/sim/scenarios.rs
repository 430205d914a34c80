//! Single faults, told exactly.
